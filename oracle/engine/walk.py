"""Walking states down a tree of prefixes: attention once per state, then each branch once per state that takes it.

Knows how states descend, not what they score. The context comes in as `Attend`, one of three:
`FixedContext` and `CommittedContext` hold keys and values of the tokens before each position; `SameContext` runs every
prefix over the whole sequence. A sequence's first tokens may be warm: they take all-big in every context, and no tree is walked
there.

Where only some layers are routed, the tree's levels are those, and a walk starts from the state before the first of them:
no pattern changes that state, so it is computed once per token. The layers between two levels and after the last run on
every state that there is, big.

Axes: S states of a level, N positions (or lanes) that descend side by side, T token, L routed layer, G group, K key/value head,
C context token, d head dimension, D hidden.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.engine.device import resident
from duo_oracle.oracle.engine.trie import Level, Trie, root_of_states
from duo_oracle.oracle.model import OracleModel, SharesExperts
from duo_oracle.oracle.patterns import Branch, RoutingPattern

Attend = Callable[[int, Tensor], Tensor]
"""(layer, x_SND) -> x_SND plus the layer's attention."""


def descend(
    model: OracleModel, levels: tuple[Level, ...], first_level: int, x_SND: Tensor, attend: Attend, skip: SkipReading
) -> Tensor:
    """The states after the levels, x_PND, in the order of the tree's leaves; after the last one, those after the whole model."""
    sharing = model if isinstance(model, SharesExperts) else None
    for number, level in enumerate(levels, start=first_level):
        layer = model.routed_layers[number]
        if number:
            x_SND = run_big(model, range(model.routed_layers[number - 1] + 1, layer), x_SND, attend)
        attended_SND = attend(layer, x_SND)
        children = []
        if sharing is not None and any(map(sharing.shares, level.parents)):
            x_SND = sharing.ffn_branches(layer, attended_SND, level.parents, x_SND)
            continue
        for branch, parent in level.parents.items():
            source_SND = x_SND if branch is Branch.SKIP and skip is SkipReading.LAYER else attended_SND
            child_SND = _take(source_SND, parent)
            if branch is not Branch.SKIP:
                child_SND = model.ffn(layer, branch, child_SND, _take(x_SND, parent) if model.ffn_reads_input else None)
            children.append(child_SND)
        x_SND = torch.cat(children) if len(children) > 1 else children[0]
    if first_level + len(levels) == model.n_letters:
        x_SND = run_big(model, range(model.routed_layers[-1] + 1, model.depth), x_SND, attend)
    return x_SND


Choose = Callable[[int, Tensor], np.ndarray]
"""(letter, states x_ND after the layer's attention) -> branch_N (uint8): what each of N states takes there."""


def descend_choosing(
    model: OracleModel, x_ND: Tensor, attend: Attend, choose: Choose, skip: SkipReading
) -> tuple[np.ndarray, Tensor]:
    """branches_NL (uint8) of N states that choose layer by layer, each as it is by what it chose before; and the states x_ND after
    the whole model. `x_ND` are those before the first routed layer."""
    chosen_LN: list[np.ndarray] = []
    for layer in range(model.routed_layers[0], model.depth):
        attended_ND = attend(layer, x_ND[None])[0]
        branch_N = np.full(len(x_ND), Branch.BIG, dtype=np.uint8)
        if layer in model.routed_layers:
            branch_N = choose(len(chosen_LN), attended_ND)
            chosen_LN.append(branch_N)
        x_ND = each_its_own(model, layer, branch_N, x_ND, attended_ND, skip)
    return np.stack(chosen_LN, axis=1), x_ND


def run_big(model: OracleModel, layers: range, x_SND: Tensor, attend: Attend) -> Tensor:
    """The states after layers that are not routed."""
    for layer in layers:
        x_SND = model.ffn(layer, Branch.BIG, attend(layer, x_SND), x_SND)
    return x_SND


def _take(x_SND: Tensor, index_S: np.ndarray) -> Tensor:
    if len(index_S) == len(x_SND):  # ascending indices, so these are all the states
        return x_SND
    return x_SND.index_select(0, resident(index_S, x_SND.device))


class SameContext:
    """The `same` context: N is the sequence behind its warm tokens, and every prefix attends to its own earlier tokens.

    `start_ND` are the N tokens' states before the first routed layer.
    """

    def __init__(self, model: OracleModel, token_id_T: Tensor, n_warm: int = 0) -> None:
        self._model = model
        x_TD = model.embed(token_id_T, torch.arange(len(token_id_T), device=model.device))
        x_1TD = run_big(model, range(model.routed_layers[0]), x_TD[None], model.attend_causal)
        self.start_ND = x_1TD[0, n_warm:]
        self._warm: dict[int, Tensor] = {}  # by layer, the warm tokens' states before it, all-big
        if n_warm:
            x_1WD = x_1TD[:, :n_warm]
            for layer in range(model.routed_layers[0], model.depth):
                self._warm[layer] = x_1WD
                x_1WD = run_big(model, range(layer, layer + 1), x_1WD, model.attend_causal)

    def attend(self, layer: int, x_SND: Tensor) -> Tensor:
        """Attention of every prefix over the whole sequence, whose warm tokens are the same for all."""
        x_1WD = self._warm.get(layer)
        if x_1WD is None:
            return self._model.attend_causal(layer, x_SND)
        x_STD = torch.cat([x_1WD.expand(len(x_SND), -1, -1), x_SND], dim=1)
        return self._model.attend_causal(layer, x_STD)[:, x_1WD.shape[1] :]


def attend_forest(trie: Trie, attend: Attend, routed_layers: tuple[int, ...]) -> Attend:
    """Attention for the states of a forest, x_S1D, by an `attend` whose N groups are the forest's roots.

    The states of a root are gathered into its group; groups are padded to the longest with the first state.
    """
    gather, scatter = [], []
    for root_S in root_of_states(trie):
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
        level = bisect_left(routed_layers, layer)  # how many levels the states have behind them
        x_SND = x_S1D[gather[level].to(x_S1D.device), 0]
        return attend(layer, x_SND).reshape(-1, 1, x_S1D.shape[-1])[scatter[level].to(x_S1D.device)]

    return attend_states


class FixedContext:
    """One sequence whose earlier tokens took `routing`: one pattern, or mask_TL, each its own; the first `n_warm` all-big.

    `start_TD` are its states before the first routed layer, `end_TD` those after the last layer.
    """

    def __init__(
        self,
        model: OracleModel,
        token_id_T: Tensor,
        routing: RoutingPattern | np.ndarray,
        skip: SkipReading,
        n_warm: int = 0,
    ) -> None:
        self._model, self.n_warm = model, n_warm
        position_1T = torch.arange(len(token_id_T), device=model.device)[None]
        x_1TD = model.embed(token_id_T, position_1T[0])[None]
        self.start_TD = x_1TD[0]
        self._kv: list[tuple[Tensor, Tensor]] = []
        mask_TL = np.broadcast_to(
            routing.branches if isinstance(routing, RoutingPattern) else routing, (len(token_id_T), model.n_letters)
        )
        if n_warm:
            mask_TL = np.concatenate([np.full((n_warm, model.n_letters), Branch.BIG), mask_TL[n_warm:]])
        for layer in range(model.depth):
            if layer == model.routed_layers[0]:
                self.start_TD = x_1TD[0]
            self._kv.append(model.key_value(layer, x_1TD, position_1T))
            branch_T = branches_at(model, layer, mask_TL)
            taken = np.unique(branch_T)
            if len(taken) > 1:
                attended_TD = model.attend_causal(layer, x_1TD)[0]
                x_1TD = each_its_own(model, layer, branch_T, x_1TD[0], attended_TD, skip)[None]
                continue
            branch = Branch(int(taken[0]))
            if branch is Branch.SKIP and skip is SkipReading.LAYER:
                continue
            before_1TD, x_1TD = x_1TD, model.attend_causal(layer, x_1TD)
            if branch is not Branch.SKIP:
                x_1TD = model.ffn(layer, branch, x_1TD, before_1TD)
        self.end_TD = x_1TD[0]

    def keys_and_values(self, layer: int) -> tuple[Tensor, Tensor]:
        """What every token wrote at the layer, k_GKTd and v_GKTd of one group."""
        return self._kv[layer]

    def attend(self, position_N: Tensor) -> Attend:
        """Attention for N positions of the sequence, each a group of states over the tokens before it."""
        n, longest = len(position_N), int(position_N.max())  # the one answer that a walk waits for
        position_N1 = position_N[:, None]
        hidden_N1C = None
        if n > 1:
            hidden_N1C = (torch.arange(longest, device=position_N.device) >= position_N[:, None])[:, None]

        def attend(layer: int, x_SND: Tensor) -> Tensor:
            k_GKCd, v_GKCd = (kv[:, :, :longest].expand(n, -1, -1, -1) for kv in self._kv[layer])
            x_NSD = x_SND.transpose(0, 1)
            return self._model.attend(layer, x_NSD, position_N1, k_GKCd, v_GKCd, hidden_N1C).transpose(0, 1)

        return attend


class CommittedContext:
    """N lanes (sequences) decided side by side, left to right: keys and values of the tokens already decided."""

    def __init__(self, model: OracleModel, n_lanes: int, n_tokens: int, skip: SkipReading) -> None:
        self._model, self._skip = model, skip
        self.n_letters = model.n_letters
        shape = (model.depth, n_lanes, model.n_kv_heads, n_tokens, model.n_head_dim)
        self._k_LNKCd = torch.zeros(shape, dtype=model.dtype, device=model.device)
        self._v_LNKCd = torch.zeros_like(self._k_LNKCd)

    def attend(self, position: int, lanes: slice | Tensor) -> Attend:
        """Attention for the states of one position in some of the lanes."""
        position_11 = torch.full((1, 1), position, device=self._model.device)

        def attend(layer: int, x_SND: Tensor) -> Tensor:
            k_GKCd, v_GKCd = (kv[layer, lanes, :, :position] for kv in (self._k_LNKCd, self._v_LNKCd))
            return self._model.attend(layer, x_SND.transpose(0, 1), position_11, k_GKCd, v_GKCd).transpose(0, 1)

        return attend

    def keep(self, lane_N: Tensor) -> None:
        """Lane n goes on from what lane_N[n] wrote so far; of the lanes behind those, nothing is kept."""
        for kv in (self._k_LNKCd, self._v_LNKCd):
            kv[:, : len(lane_N)] = kv[:, lane_N]

    def begin(self, position: int, token_id_N: Tensor) -> Tensor:
        """The states x_ND of the first lanes' tokens before the first routed layer; keeps those layers' keys and values."""
        model = self._model
        x_ND = model.embed(token_id_N, torch.full((1,), position, device=model.device))
        all_big_NL = np.full((len(x_ND), model.n_letters), Branch.BIG, dtype=np.uint8)
        return self._run(position, range(model.routed_layers[0]), x_ND, all_big_NL)

    def commit(self, position: int, x_ND: Tensor, branches_NL: np.ndarray) -> None:
        """Run each lane's token, from what `begin` gave, along its chosen pattern and keep the keys and values that it writes."""
        self._run(position, range(self._model.routed_layers[0], self._model.depth), x_ND, branches_NL)

    def _run(self, position: int, layers: range, x_ND: Tensor, branches_NL: np.ndarray) -> Tensor:
        position_11 = torch.full((1, 1), position, device=self._model.device)
        lanes = slice(0, len(x_ND))
        attend = self.attend(position, lanes)
        for layer in layers:
            k_NK1d, v_NK1d = self._model.key_value(layer, x_ND[:, None], position_11)
            self._k_LNKCd[layer, lanes, :, position] = k_NK1d[:, :, 0]
            self._v_LNKCd[layer, lanes, :, position] = v_NK1d[:, :, 0]
            attended_ND = attend(layer, x_ND[None])[0]
            branch_N = branches_at(self._model, layer, branches_NL)
            x_ND = each_its_own(self._model, layer, branch_N, x_ND, attended_ND, self._skip)
        return x_ND


def branches_at(model: OracleModel, layer: int, branches_NL: np.ndarray) -> np.ndarray:
    """The branch that each row's pattern takes at a layer: big where the layer is not routed."""
    if layer not in model.routed_layers:
        return np.full(len(branches_NL), Branch.BIG, dtype=np.uint8)
    return branches_NL[:, model.routed_layers.index(layer)]


def each_its_own(
    model: OracleModel, layer: int, branch_N: np.ndarray, x_ND: Tensor, attended_ND: Tensor, skip: SkipReading
) -> Tensor:
    """The states after a layer where each row takes its own branch."""
    after_ND = (x_ND if skip is SkipReading.LAYER else attended_ND).clone()
    for branch in map(Branch, np.unique(branch_N).tolist()):
        if branch is not Branch.SKIP:
            takes = torch.from_numpy(np.flatnonzero(branch_N == branch)).to(x_ND.device)
            after_ND[takes] = model.ffn(layer, branch, attended_ND[takes], x_ND[takes])
    return after_ND
