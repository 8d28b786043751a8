"""What a library's model hands its layers besides the states, and the rows of it that belong to some positions.

Rotary tables, position numbers, masks: recorded from a pass with the layers stubbed, so that a layer can be run alone on states of
any position. Which axis of a tensor counts tokens is seen by recording two lengths. Knows no family.

Axes: G group, S row of a group, T token, C context token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from duo_oracle.models.hf.calls import main_output
from duo_oracle.oracle.base.errors import InputError

_LEAST = 256  # positions that are recorded at once; then twice as many


@dataclass(frozen=True)
class Call:
    """A layer's arguments: the states are the first positional one, or `hidden_states`."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def run(self, layer: Any, x: Tensor) -> Tensor:
        if self.args:
            return main_output(layer(x, *self.args[1:], **self.kwargs))
        return main_output(layer(**{**self.kwargs, "hidden_states": x}))


class Tokens:
    """A tensor with token axes: one (a table by position) or two (a mask, by position and context token)."""

    def __init__(self, tensor: Tensor, axes: tuple[int, ...]) -> None:
        self.tensor, self.axes = tensor, axes

    @property
    def batched(self) -> bool:
        """(1, T, ...): rows of several groups can be taken together."""
        return self.axes == (1,) and self.tensor.shape[0] == 1

    def first(self, n_tokens: int) -> Tensor | None:
        tensor = self.tensor
        for axis in self.axes:
            tensor = tensor.narrow(axis, 0, n_tokens)
        return tensor

    def step(self, position: int) -> Tensor:
        """What belongs to the one token at a position behind its context: of a table by context token, all up to it."""
        *rest, last = self.axes
        shape = self.tensor.shape
        by_context = bool(rest) or (last == len(shape) - 1 > 1 and shape[last - 1] == 1)
        if not by_context:
            return self.tensor.narrow(last, position, 1)
        tensor = self.tensor.narrow(last, 0, position + 1)
        return tensor.narrow(rest[0], position, 1) if rest else tensor

    def at(self, position_GS: Tensor) -> Tensor | None:
        if len(self.axes) > 1:
            return None  # a mask: what it hides is asked for apart
        if self.batched:
            return self.tensor[0, position_GS]
        return self.tensor.index_select(self.axes[0], position_GS[0])


Record = Callable[[int], Sequence[Call]]
"""The calls of all layers in a pass over so many tokens."""


class Arguments:
    """The layers' arguments at any positions, recorded when they are first needed."""

    def __init__(self, record: Record, n_positions: int, n_letters: int) -> None:
        self._record, self._n_positions, self._n_layers = record, n_positions, n_letters
        self._n_tokens = 0
        self._calls: list[Call] = []
        self._hidden: dict[int, Tensor | None] = {}
        self._last: Tensor | None = None
        self.one_group = False
        """Whether some table can be taken for one group's positions alone."""

    def causal(self, layer: int, n_tokens: int) -> Call:
        """For whole sequences of so many tokens."""
        self._reach(n_tokens)
        call = self._calls[layer]
        args, kwargs = map_tokens((call.args, call.kwargs), lambda tokens: tokens.first(n_tokens))
        return Call(args, kwargs)

    def at(self, layer: int, position_GS: Tensor) -> Call:
        """For states at these positions (each axis may be 1, and is then broadcast)."""
        self._reach_all(position_GS)
        call = self._calls[layer]
        args, kwargs = map_tokens((call.args, call.kwargs), lambda tokens: tokens.at(position_GS))
        return Call(args, kwargs)

    def hidden(self, layer: int, position_GS: Tensor, n_context: int) -> Tensor | None:
        """hidden_GSC: the earlier tokens that the layer's own mask hides from these positions; None where it hides none."""
        self._reach_all(position_GS)
        if layer not in self._hidden:
            self._hidden[layer] = _hidden_by(self._calls[layer], layer)
        hidden_TT = self._hidden[layer]
        return None if hidden_TT is None else hidden_TT[position_GS][..., :n_context]

    def _reach_all(self, position_GS: Tensor) -> None:
        """All layers of a walk are asked for the same tensor of positions: a device is waited for once, not at each of them."""
        if position_GS is not self._last:
            self._reach(int(position_GS.max()) + 1)
            self._last = position_GS

    def _reach(self, n_tokens: int) -> None:
        if n_tokens <= self._n_tokens:
            return
        n = max(2, min(max(_LEAST, 1 << (n_tokens - 1).bit_length()), self._n_positions), n_tokens)
        shorter, calls = self._record(n - 1), self._record(n)
        seen: dict[int, Any] = {}
        self._calls = [
            Call(*paired((call.args, call.kwargs), (less.args, less.kwargs), n, seen))
            for call, less in zip(calls, shorter, strict=True)
        ]
        plain: dict[int, bool] = {}
        self._calls = [_without_plain_mask(call, plain) for call in self._calls]
        found: list[Tokens] = []
        map_tokens([(call.args, call.kwargs) for call in self._calls], found.append)
        self.one_group = any(len(tokens.axes) == 1 and not tokens.batched for tokens in found)
        self._hidden = {}
        self._n_tokens = n


def _hidden_by(call: Call, layer: int) -> Tensor | None:
    """hidden_TT of a layer's mask; None where it hides no earlier token. Raises InputError for a mask that does more than hide."""
    found: list[Tokens] = []
    map_tokens((call.args, call.kwargs), found.append)
    masks = {id(tokens.tensor): tokens for tokens in found if len(tokens.axes) > 1}
    if not masks:
        return None
    if len(masks) > 1:
        raise InputError(f"layer {layer} is given {len(masks)} masks; one is understood")
    (tokens,) = masks.values()
    mask = tokens.tensor
    if tokens.axes != (mask.dim() - 2, mask.dim() - 1) or mask.numel() != mask.shape[-1] ** 2:
        raise InputError(f"layer {layer} is given a mask of shape {list(mask.shape)}; one for all heads is understood")
    mask_TT = mask.reshape(mask.shape[-2:])
    hidden_TT = ~mask_TT if mask.dtype == torch.bool else mask_TT < -1e4
    if mask.dtype != torch.bool and (mask_TT[~hidden_TT] != 0).any():
        raise InputError(f"layer {layer} is given a mask that adds to scores; one that hides tokens is understood")
    earlier_TT = torch.ones_like(hidden_TT).tril()
    if (~hidden_TT & ~earlier_TT).any():
        raise InputError(f"layer {layer} shows a token what comes after it")
    return hidden_TT if (hidden_TT & earlier_TT).any() else None


def _without_plain_mask(call: Call, plain: dict[int, bool]) -> Call:
    """The call with None for a mask that hides only what comes after: attention does that unasked. `plain` remembers which."""

    def kept(tokens: Tokens) -> Tokens | None:
        if len(tokens.axes) == 1:
            return tokens
        if id(tokens) not in plain:
            try:
                plain[id(tokens)] = _hidden_by(Call((tokens,), {}), 0) is None
            except InputError:  # no mask that is understood; where it matters that is said
                plain[id(tokens)] = False
        return None if plain[id(tokens)] else tokens

    args, kwargs = map_tokens((call.args, call.kwargs), kept)
    return Call(args, kwargs)


def paired(value: Any, shorter: Any, n_tokens: int, seen: dict[int, Any]) -> Any:
    """The value with its token tensors marked, by comparing it with the one of a pass one token shorter."""
    if isinstance(value, Tensor) and isinstance(shorter, Tensor):
        axes = tuple(a for a, (n, m) in enumerate(zip(value.shape, shorter.shape, strict=True)) if n == n_tokens and m == n - 1)
        if not axes:
            return value
        return seen.setdefault(id(value), Tokens(value, axes))
    if isinstance(value, tuple | list):
        return type(value)(paired(v, s, n_tokens, seen) for v, s in zip(value, shorter, strict=True))
    if isinstance(value, dict):
        return {key: paired(v, shorter[key], n_tokens, seen) for key, v in value.items()}
    return value


def map_tokens(value: Any, take: Callable[[Tokens], Any]) -> Any:
    if isinstance(value, Tokens):
        return take(value)
    if isinstance(value, tuple | list):
        return type(value)(map_tokens(v, take) for v in value)
    if isinstance(value, dict):
        return {key: map_tokens(v, take) for key, v in value.items()}
    return value
