"""One letter changed at a time: what a token's branch at one layer does to its own loss, and to those of the tokens after it.

A letter changes the token's state after its layer; from there on it changes the keys and values that later tokens read. So all
flips of one token run side by side as groups, each over the token and those after it, from the layer that it touches: the tokens
before it and the layers below are those of the base. What a flip does not touch is exactly as it was. Equal, by brute force, to
one plain pass per flip. Knows nothing of runs and files.

Axes: F flips, G group (the base, then a flip each), S the token and those after it, T token, L letter, C context token, K
key/value head, d head dimension, D hidden, V vocabulary, R rows (group x token) of the vocabulary head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from duo_oracle.oracle.base.chunks import chunks
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.engine.head import Distributions, Head
from duo_oracle.oracle.engine.walk import FixedContext, branches_at, each_its_own
from duo_oracle.oracle.model import OracleModel, finite
from duo_oracle.oracle.patterns import Branch
from duo_oracle.oracle.reference import Reference

_LOGITS = 1 << 20  # logits that are held in float64 at once


@dataclass(frozen=True)
class Flips:
    """What the flips of one token change, flip minus base; column 0 is the token itself, column j the j-th token after it."""

    letter_F: np.ndarray  # int16: place in the pattern
    before_F: np.ndarray  # uint8: the base's branch there
    after_F: np.ndarray  # uint8: the branch instead of it
    loss_FS: np.ndarray  # float64, nats: how much more the flip loses
    kl_FS: np.ndarray  # float64, nats: KL of the base's distribution to the flip's; NaN where it was not asked for
    expected_FS: np.ndarray  # float64, nats: how much more the flip loses as the reference expects it; NaN without one


class FlippedSequence:
    """A sequence whose tokens take `mask_TL` (uint8, a row for each of the T tokens that are run): the base of all flips.

    `token_id_T` holds T + 1 tokens, the last only a target. Warm tokens are rows like others, which nobody flips. `reference` is
    of the last of the T tokens, as many as it has positions.

    >>> from duo_oracle.models.families.toy import random_toy
    >>> all_big_TL = np.full((3, 4), Branch.BIG, dtype=np.uint8)
    >>> base = FlippedSequence(random_toy(seed=0, n_letters=4), torch.tensor([3, 1, 4, 1]), all_big_TL, SkipReading.FFN)
    >>> base.flips(0, (Branch.SMALL, Branch.BIG), ahead=2).loss_FS.shape  # four letters, the token and two after it
    (4, 3)
    """

    def __init__(
        self,
        model: OracleModel,
        token_id_T: Tensor,
        mask_TL: np.ndarray,
        skip: SkipReading,
        reference: Reference | None = None,
    ) -> None:
        self._model, self._skip, self._head, self._reference = model, skip, Head(model), reference
        self._token_id_T, self._mask_TL = token_id_T, mask_TL
        self._context = FixedContext(model, token_id_T[:-1], mask_TL, skip)

    @torch.no_grad()
    def flips(self, position: int, branches: Sequence[Branch], ahead: int, kl: bool = True) -> Flips:
        """Every letter of the token at `position` changed to every other of `branches`, measured on it and the next `ahead` tokens
        (as many as the sequence has)."""
        model, stop = self._model, min(position + ahead + 1, len(self._mask_TL))
        position_1S = torch.arange(position, stop, device=model.device)[None]
        x_GSD = model.embed(self._token_id_T[position:stop], position_1S[0])[None]
        named: list[tuple[int, int, int]] = []
        for layer in range(model.depth):
            attended_GSD = self._attend(layer, x_GSD, position_1S)
            branch_S = branches_at(model, layer, self._mask_TL[position:stop])
            after_GSD = self._each(layer, branch_S, x_GSD, attended_GSD)
            if layer in model.routed_layers:
                letter, base = model.routed_layers.index(layer), int(branch_S[0])
                others = [branch for branch in branches if branch != base]
                named += [(letter, base, int(branch)) for branch in others]
                first = (x_GSD[:1, :1], attended_GSD[:1, :1])
                flipped = [self._each(layer, np.array([branch], np.uint8), *first) for branch in others]
                after_GSD = torch.cat([after_GSD, *(torch.cat([own, after_GSD[:1, 1:]], dim=1) for own in flipped)])
            x_GSD = after_GSD
        letter_F, before_F, after_F = np.array(named, dtype=np.int16).reshape(-1, 3).T
        compared = self._compared(x_GSD, self._token_id_T[position + 1 : stop + 1], self._distributions(position, stop), kl)
        return Flips(letter_F, before_F.astype(np.uint8), after_F.astype(np.uint8), *compared)

    def _distributions(self, start: int, stop: int) -> Distributions | None:
        """The reference's, of tokens start to stop."""
        if self._reference is None:
            return None
        before = len(self._mask_TL) - len(self._reference.offset_N)
        return self._head.distributions(self._reference.at(slice(start - before, stop - before)))

    def _attend(self, layer: int, x_GSD: Tensor, position_1S: Tensor) -> Tensor:
        """Each group's tokens see the base's tokens before them all, and the group's own before each."""
        n_groups, n_rows, _ = x_GSD.shape
        k_GKCd, v_GKCd = (
            kv[:, :, : int(position_1S[0, 0])].expand(n_groups, -1, -1, -1) for kv in self._context.keys_and_values(layer)
        )
        hidden_1SC = None
        if n_rows > 1:
            own = self._model.key_value(layer, x_GSD[:, :-1], position_1S[:, :-1])  # no token sees the last
            k_GKCd, v_GKCd = (torch.cat(both, dim=2) for both in zip((k_GKCd, v_GKCd), own, strict=True))
            place_C = torch.arange(k_GKCd.shape[2], device=x_GSD.device)
            hidden_1SC = (place_C >= position_1S[0, :, None])[None]
        return self._model.attend(layer, x_GSD, position_1S, k_GKCd, v_GKCd, hidden_1SC)

    def _each(self, layer: int, branch_S: np.ndarray, x_GSD: Tensor, attended_GSD: Tensor) -> Tensor:
        """The states after the layer where row s of every group takes branch_S[s]."""
        n_groups, n_hidden = len(x_GSD), x_GSD.shape[-1]
        x_RD, attended_RD = (x.reshape(-1, n_hidden) for x in (x_GSD, attended_GSD))
        after_RD = each_its_own(self._model, layer, np.tile(branch_S, n_groups), x_RD, attended_RD, self._skip)
        return after_RD.view(x_GSD.shape)

    def _compared(
        self, x_GSD: Tensor, target_S: Tensor, expects: Distributions | None, kl: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """loss_FS, kl_FS and expected_FS of the groups behind the first against the first."""
        n_flips, n_rows = len(x_GSD) - 1, x_GSD.shape[1]
        touched_FS = (x_GSD[1:] != x_GSD[:1]).any(dim=-1).cpu().numpy()
        loss_FS, kl_FS, expected_FS = (np.zeros((n_flips, n_rows)) for _ in range(3))
        for columns in chunks(n_rows, max(1, _LOGITS // self._model.n_vocabulary)):
            place_s = torch.arange(columns.start, columns.stop, device=x_GSD.device)
            base_sV, base_s = self._said(x_GSD[0, columns], place_s, expects)
            own_s = base_sV.gather(1, target_S[columns, None])[:, 0]
            p_sV = base_sV.exp() if kl else None
            for flip in np.flatnonzero(touched_FS[:, columns].any(axis=1)).tolist():
                row_r = np.flatnonzero(touched_FS[flip, columns])
                index_r = torch.from_numpy(row_r).to(x_GSD.device)
                flip_rV, flip_r = self._said(x_GSD[1 + flip, columns][index_r], place_s[index_r], expects)
                row_r = row_r + columns.start  # anew: index_r is the same memory
                target_r1 = target_S[columns][index_r, None]
                loss_FS[flip, row_r] = (own_s[index_r] - flip_rV.gather(1, target_r1)[:, 0]).cpu().numpy()
                if p_sV is not None:
                    kl_FS[flip, row_r] = (p_sV[index_r] * (base_sV[index_r] - flip_rV)).sum(dim=1).cpu().numpy()
                if flip_r is not None and base_s is not None:
                    expected_FS[flip, row_r] = (flip_r - base_s[index_r]).cpu().numpy()
        nothing = np.full((n_flips, n_rows), np.nan)
        return loss_FS, kl_FS if kl else nothing, nothing if expects is None else expected_FS

    def _said(self, x_RD: Tensor, place_R: Tensor, expects: Distributions | None) -> tuple[Tensor, Tensor | None]:
        """Log-probabilities of the states, and their losses as the reference expects them, both in float64."""
        h_RD = self._head.states(x_RD)
        logits_RV = self._head.logits(h_RD).double()
        lse_R = finite(torch.logsumexp(logits_RV, dim=1), "a loss")
        expected_R = None if expects is None else lse_R - self._head.expected_logit(h_RD, expects, place_R)
        return logits_RV - lse_R[:, None], expected_R
