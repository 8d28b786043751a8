"""Walking states down a tree of prefixes: attention once per state, then each branch once per state that takes it.

Knows how states descend, not what they score. The context comes in as `Attend`, one of three:
`FixedContext` and `CommittedContext` hold keys and values of the tokens before each position; `same_context` runs every
prefix over the whole sequence.

Axes: S states of a level, N positions (or lanes) that descend side by side, T token, L layer, G group, K key/value head,
C context token, d head dimension, D hidden.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from oracle.contexts import SkipReading
from oracle.model import RoutedModel
from oracle.patterns import Branch, RoutingPattern
from oracle.trie import Level, Trie, root_of_states

Attend = Callable[[int, Tensor], Tensor]
"""(layer, x_SND) -> x_SND plus the layer's attention."""


def descend(
    model: RoutedModel, levels: tuple[Level, ...], first_layer: int, x_SND: Tensor, attend: Attend, skip: SkipReading
) -> Tensor:
    """The states after the levels, x_PND, in the order of the tree's leaves."""
    for layer, level in enumerate(levels, start=first_layer):
        attended_SND = attend(layer, x_SND)
        children = []
        for branch, parent in level.parents.items():
            source_SND = x_SND if branch is Branch.SKIP and skip is SkipReading.LAYER else attended_SND
            child_SND = _take(source_SND, parent)
            children.append(child_SND if branch is Branch.SKIP else model.ffn(layer, branch, child_SND))
        x_SND = torch.cat(children) if len(children) > 1 else children[0]
    return x_SND


def _take(x_SND: Tensor, index_S: np.ndarray) -> Tensor:
    if len(index_S) == len(x_SND):  # ascending indices, so these are all the states
        return x_SND
    return x_SND.index_select(0, torch.from_numpy(index_S).to(x_SND.device))


def attend_same(model: RoutedModel) -> Attend:
    """The `same` context: N is the sequence itself, and every prefix attends to its own earlier tokens."""
    return model.attend_causal


def attend_forest(trie: Trie, attend: Attend) -> Attend:
    """Attention for the states of a forest, x_S1D, by an `attend` whose N groups are the forest's roots.

    The states of a root are gathered into its group; groups are padded to the longest with the first state.
    """
    gather, scatter = [], []
    for root_S in root_of_states(trie)[:-1]:
        order_S = np.argsort(root_S, kind="stable")
        counts_N = np.bincount(root_S, minlength=trie.n_roots)
        slot_S = np.arange(len(root_S)) - np.repeat(np.cumsum(counts_N) - counts_N, counts_N)
        index_SN = np.zeros((counts_N.max(), trie.n_roots), dtype=np.int64)
        index_SN[slot_S, root_S[order_S]] = order_S
        place_S = np.empty_like(order_S)
        place_S[order_S] = slot_S * trie.n_roots + root_S[order_S]
        gather.append(torch.from_numpy(index_SN))
        scatter.append(torch.from_numpy(place_S))

    def attend_states(layer: int, x_S1D: Tensor) -> Tensor:
        x_SND = x_S1D[gather[layer].to(x_S1D.device), 0]
        return attend(layer, x_SND).reshape(-1, 1, x_S1D.shape[-1])[scatter[layer].to(x_S1D.device)]

    return attend_states


class FixedContext:
    """One sequence whose earlier tokens took `routing`: one pattern, or mask_TL, each its own."""

    def __init__(self, model: RoutedModel, token_id_T: Tensor, routing: RoutingPattern | np.ndarray, skip: SkipReading) -> None:
        self._model = model
        self.embedded_TD = model.embed(token_id_T)
        position_1T = torch.arange(len(token_id_T), device=model.device)[None]
        x_1TD = self.embedded_TD[None]
        self._kv: list[tuple[Tensor, Tensor]] = []
        mask_TL = np.broadcast_to(
            routing.branches if isinstance(routing, RoutingPattern) else routing, (len(token_id_T), model.n_layers)
        )
        for layer in range(model.n_layers):
            self._kv.append(model.key_value(layer, x_1TD, position_1T))
            taken = np.unique(mask_TL[:, layer])
            if len(taken) > 1:
                attended_TD = model.attend_causal(layer, x_1TD)[0]
                x_1TD = _each_its_own(model, layer, mask_TL[:, layer], x_1TD[0], attended_TD, skip)[None]
                continue
            branch = Branch(int(taken[0]))
            if branch is Branch.SKIP and skip is SkipReading.LAYER:
                continue
            x_1TD = model.attend_causal(layer, x_1TD)
            if branch is not Branch.SKIP:
                x_1TD = model.ffn(layer, branch, x_1TD)

    def attend(self, position_N: Tensor) -> Attend:
        """Attention for N positions of the sequence, each a group of states over the tokens before it."""
        n, longest = len(position_N), int(position_N.max())
        hidden_N1C = None
        if n > 1:
            hidden_N1C = (torch.arange(longest, device=position_N.device) >= position_N[:, None])[:, None]

        def attend(layer: int, x_SND: Tensor) -> Tensor:
            k_GKCd, v_GKCd = (kv[:, :, :longest].expand(n, -1, -1, -1) for kv in self._kv[layer])
            x_NSD = x_SND.transpose(0, 1)
            return self._model.attend(layer, x_NSD, position_N[:, None], k_GKCd, v_GKCd, hidden_N1C).transpose(0, 1)

        return attend


class CommittedContext:
    """N lanes (sequences) decided side by side, left to right: keys and values of the tokens already decided."""

    def __init__(self, model: RoutedModel, n_lanes: int, n_tokens: int, skip: SkipReading) -> None:
        self._model, self._skip = model, skip
        shape = (model.n_layers, n_lanes, model.n_kv_heads, n_tokens, model.n_head_dim)
        self._k_LNKCd = torch.zeros(shape, dtype=model.dtype, device=model.device)
        self._v_LNKCd = torch.zeros_like(self._k_LNKCd)

    def attend(self, position: int, lanes: slice | Tensor) -> Attend:
        """Attention for the states of one position in some of the lanes."""
        position_11 = torch.full((1, 1), position, device=self._model.device)

        def attend(layer: int, x_SND: Tensor) -> Tensor:
            k_GKCd, v_GKCd = (kv[layer, lanes, :, :position] for kv in (self._k_LNKCd, self._v_LNKCd))
            return self._model.attend(layer, x_SND.transpose(0, 1), position_11, k_GKCd, v_GKCd).transpose(0, 1)

        return attend

    def commit(self, position: int, x_ND: Tensor, branches_NL: np.ndarray) -> None:
        """Run each lane's token along its chosen pattern and keep the keys and values that it writes."""
        position_11 = torch.full((1, 1), position, device=self._model.device)
        lanes = slice(0, len(x_ND))
        attend = self.attend(position, lanes)
        for layer in range(self._model.n_layers):
            k_NK1d, v_NK1d = self._model.key_value(layer, x_ND[:, None], position_11)
            self._k_LNKCd[layer, lanes, :, position] = k_NK1d[:, :, 0]
            self._v_LNKCd[layer, lanes, :, position] = v_NK1d[:, :, 0]
            attended_ND = attend(layer, x_ND[None])[0]
            x_ND = _each_its_own(self._model, layer, branches_NL[:, layer], x_ND, attended_ND, self._skip)


def _each_its_own(
    model: RoutedModel, layer: int, branch_N: np.ndarray, x_ND: Tensor, attended_ND: Tensor, skip: SkipReading
) -> Tensor:
    """The states after a layer where each row takes its own branch."""
    after_ND = (x_ND if skip is SkipReading.LAYER else attended_ND).clone()
    for branch in (Branch.SMALL, Branch.BIG):
        takes = torch.from_numpy(np.flatnonzero(branch_N == branch)).to(x_ND.device)
        if len(takes):
            after_ND[takes] = model.ffn(layer, branch, attended_ND[takes])
    return after_ND
