"""Lets a router route a model over sequences: its choices as routing masks, by plain forward passes.

Knows no router in particular, and nothing of training or runs.

Axes: B batch, T token, L layer, D hidden, K the router's branches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, islice

import numpy as np
import torch
from torch import Tensor

from duo_oracle.models.routable import RoutableModule
from duo_oracle.models.router import Router, TokenBatch
from duo_oracle.models.text.windows import Window
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.layers import format_layers
from duo_oracle.oracle.model import OracleModel, check_small
from duo_oracle.oracle.patterns import Branch

BATCH = 16
"""Sequences of one length that are routed together. A causal router chooses the same for any number."""


@dataclass(frozen=True)
class Routes:
    """A router's choices for every token of one sequence: all-big where it is warm, and without the last where some are."""

    sequence: Window
    mask_TL: np.ndarray  # uint8
    logits_TLK: np.ndarray | None  # float32; None where they were not asked for, or the router has none


def check_router(router: Router, model: RoutableModule | OracleModel, skip: SkipReading, fingerprint: str) -> None:
    """Raises InputError, one line, where the router is not for this model, its routed layers, and this reading of skip."""
    needs = (("layers", router.n_letters, model.n_letters), ("hidden values", router.n_hidden, model.n_hidden))
    for what, needed, found in needs:
        if needed is not None and needed != found:
            raise InputError(f"router {router.spec} is for a model of {needed} {what}; this model has {found}")
    if router.layers is not None and router.layers != model.routed_layers:
        raise InputError(
            f"router {router.spec} routes layers {format_layers(router.layers)}; got {format_layers(model.routed_layers)}"
        )
    check_small(router.branches, model.routed_layers, model.small_layers)
    if router.fingerprint is not None and router.fingerprint != fingerprint:
        raise InputError(
            f"router {router.spec} was trained on the model of fingerprint {router.fingerprint[:12]}; this is {fingerprint[:12]}"
        )
    if router.skip is not None and router.skip is not skip:
        raise InputError(f"router {router.spec} was trained with `skip={router.skip}`; got `skip={skip}`")


def route(
    router: Router, module: RoutableModule, sequences: Iterable[Window], skip: SkipReading, fingerprint: str
) -> Iterator[np.ndarray]:
    """mask_TL (uint8) of every sequence in order, as in `Routes`: what the router chose.

    `fingerprint` is the model's, as its checkpoint gives it. Raises InputError for a router of another model or skip reading, and
    for one that chooses among all tokens of a sequence where some are warm.
    """
    for routes in route_with_logits(router, module, sequences, skip, fingerprint, logits=False):
        yield routes.mask_TL


@torch.no_grad()
def route_with_logits(
    router: Router, module: RoutableModule, sequences: Iterable[Window], skip: SkipReading, fingerprint: str, logits: bool = True
) -> Iterator[Routes]:
    """As `route`, with the sequence and (where `logits`) what the choices were made from."""
    check_router(router, module, skip, fingerprint)
    for batch in batches_of(sequences):
        n_warm = batch[0].n_warm
        if n_warm and not router.causal:
            raise InputError(
                f"router {router.spec} chooses among all tokens of a sequence, and its warm ones (`bos`, `stride`) are not routed; "
                "give `bos='none'` and no `stride`, or take a causal router"
            )
        ids = [sequence.token_ids[:-1] if n_warm else sequence.token_ids for sequence in batch]
        token_id_BT = torch.from_numpy(np.stack(ids).astype(np.int64))
        tokens = TokenBatch(token_id_BT.to(module.unembedding_VD.device), tuple(sequence.index for sequence in batch))
        mask_LBT: list[Tensor] = []
        logits_LBTK: list[Tensor] = []
        choose = router.routing(tokens, module.n_letters)

        def recorded(layer: int, x_BTD: Tensor) -> Tensor:
            if logits and (logits_BTK := router.logits(tokens, layer, x_BTD)) is not None:  # noqa: B023 - called in this iteration alone
                logits_LBTK.append(logits_BTK.float().cpu())  # noqa: B023
            branch_BT = choose(layer, x_BTD)  # noqa: B023
            if n_warm:  # noqa: B023
                branch_BT = branch_BT.clone()
                branch_BT[:, :n_warm] = int(Branch.BIG)  # noqa: B023
            mask_LBT.append(branch_BT.to(torch.uint8).cpu())  # noqa: B023
            return branch_BT

        module(tokens.token_id_BT, recorded, skip)
        mask_BTL = torch.stack(mask_LBT, dim=-1).numpy()
        logits_BTLK = torch.stack(logits_LBTK, dim=2).numpy() if logits_LBTK else None
        for row, sequence in enumerate(batch):
            yield Routes(sequence, mask_BTL[row], None if logits_BTLK is None else logits_BTLK[row])


def batches_of(sequences: Iterable[Window], size: int = BATCH) -> Iterator[list[Window]]:
    """Neighbouring sequences of equal length and equally many warm tokens, at most `size` together: no row is padded."""
    for _, equals in groupby(sequences, key=lambda sequence: (len(sequence.token_ids), sequence.n_warm)):
        while batch := list(islice(equals, size)):
            yield batch


def big_per_token(mask_NL: np.ndarray) -> float:
    """The hard budget: mean B's per token."""
    return float((mask_NL == Branch.BIG).sum(axis=-1).mean())
