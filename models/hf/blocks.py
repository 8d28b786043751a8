"""A decoder layer of the library, run in parts: its attention, then its FFN, for states that branch between the two.

Which child is which is seen in one pass: the attention is the child that called it, the FFN what else holds matrices. The layer's
own forward then does all the work, with one of the two replaced. A layer is of one of four plans, and is held to its own whole:

    serial     y = a + FFN(norm a), a = x + attention: the FFN reads `a` alone
    parallel   y = a + FFN(norm x): the FFN reads the layer's input too
    opaque     the sum of x and attention is no state (a norm is put upon the sum): the FFN cannot be left out, the layer can
    whole      the attention is not asked through the library's interface: only the layer as a whole is run (`whole.py`)

Axes: G group, S row, B batch, T token, D hidden, K key/value head, C context token, d head dimension.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn

from duo_oracle.models.hf.arguments import Arguments, Call
from duo_oracle.models.hf.calls import (
    Candidates,
    Forward,
    Listening,
    Reached,
    Writing,
    during,
    first_state,
    in_form,
    main_output,
    patched,
)
from duo_oracle.models.hf.trunk import Trunk
from duo_oracle.oracle.base.errors import InputError

Pairs = list[tuple[nn.Module, Forward]]


class Plan(StrEnum):
    SERIAL = "serial"
    PARALLEL = "parallel"
    OPAQUE = "opaque"
    WHOLE = "whole"


@dataclass
class Parts:
    """The children of a layer that a pass was seen to call, in their order."""

    attention: nn.Module | None = None
    attention_outputs: int = 0
    ffn: dict[str, nn.Module] = field(default_factory=dict)
    ffn_outputs: dict[str, int] = field(default_factory=dict)
    before_attention: list[nn.Module] = field(default_factory=list)
    before_ffn: nn.Module | None = None
    shapes: list[tuple[int, int, int, int]] = field(default_factory=list)
    """Of each attention call: key heads and their dimension, value heads and theirs."""


def _same(x: Tensor, *_: Any, **__: Any) -> Tensor:
    return x


def _no_matrix(module: nn.Module) -> bool:
    return not any(parameter.dim() > 1 for parameter in module.parameters())


class Blocks:
    """The layers of a model, to be run in parts."""

    def __init__(self, trunk: Trunk) -> None:
        self.trunk = trunk
        self.parts: list[Parts] = [Parts() for _ in trunk.layers]
        self.arguments = Arguments(trunk.calls, trunk.n_positions, trunk.depth)
        self.states = self._discover()
        self.n_hidden = int(self.states[0].shape[-1])
        self.plan = Plan.SERIAL
        self._skips_norms = (False, False)  # the norm before the attention, where the FFN runs; and the other way round
        self._adds_directly = False  # y = a + FFN(norm a) and nothing else, by one child each: no need of the layer's forward
        self._find_plan()

    # --- what is what ---------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _discover(self) -> list[Tensor]:
        """Fills `parts` from one pass. Returns the states x_1TD that entered each layer, and those after the last."""
        order: list[list[tuple[str, nn.Module]]] = [[] for _ in self.parts]
        attends: dict[int, str] = {}
        states: list[Tensor] = []
        pairs: Pairs = []

        def heard(number: int, name: str, key: Tensor, value: Tensor) -> None:
            attends.setdefault(number, name)
            self.parts[number].shapes.append((key.shape[1], key.shape[3], value.shape[1], value.shape[3]))

        def child_forward(number: int, name: str, child: nn.Module, own: Forward) -> Forward:
            def forward(*args: Any, **kwargs: Any) -> Any:
                order[number].append((name, child))
                with during(Listening(lambda key, value: heard(number, name, key, value))):
                    out = own(*args, **kwargs)
                self.parts[number].ffn_outputs[name] = len(out) if isinstance(out, tuple) else 0
                return out

            return forward

        def layer_forward(number: int, own: Forward) -> Forward:
            def forward(*args: Any, **kwargs: Any) -> Any:
                states.append(first_state(args, kwargs))
                out = own(*args, **kwargs)
                self.trunk.n_outputs[number] = len(out) if isinstance(out, tuple) else 0
                if number == self.trunk.depth - 1:
                    states.append(main_output(out))
                return out

            return forward

        for number, layer in enumerate(self.trunk.layers):
            pairs.append((layer, layer_forward(number, layer.forward)))
            pairs += [(child, child_forward(number, name, child, child.forward)) for name, child in layer.named_children()]
        with patched(pairs):
            self.trunk.run(self.trunk.probe_ids(min(8, self.trunk.n_positions)))
        for number, parts in enumerate(self.parts):
            self._sort(parts, attends.get(number), order[number])
        return states

    @staticmethod
    def _sort(parts: Parts, attention: str | None, order: list[tuple[str, nn.Module]]) -> None:
        if attention is None:
            return
        before: nn.Module | None = None
        for name, child in order:
            if name == attention:
                parts.attention, parts.attention_outputs = child, parts.ffn_outputs[name]
            elif not _no_matrix(child):
                if not parts.ffn:
                    parts.before_ffn = before
                parts.ffn[name] = child
            elif parts.attention is None:
                parts.before_attention.append(child)
            before = child if parts.attention is not None and name != attention and _no_matrix(child) else None

    def _find_plan(self) -> None:
        """The first plan by which every layer, run in parts, is the layer itself on the probe's states."""
        if any(parts.attention is None or not parts.ffn for parts in self.parts) or not self._masks_hide():
            self.plan = Plan.WHOLE
            return
        for plan, norms in (
            (Plan.SERIAL, (True, True)),
            (Plan.SERIAL, (True, False)),
            (Plan.SERIAL, (False, True)),
            (Plan.SERIAL, (False, False)),
            (Plan.PARALLEL, (False, False)),
            (Plan.OPAQUE, (False, False)),
        ):
            self.plan, self._skips_norms = plan, norms
            if all(self._fits(number) for number in range(self.trunk.depth)):
                self._adds_directly = norms[1] and all(len(parts.ffn) == 1 and parts.before_ffn for parts in self.parts)
                self._adds_directly = self._adds_directly and all(self._fits(number) for number in range(self.trunk.depth))
                return
        self.plan = Plan.WHOLE

    def _masks_hide(self) -> bool:
        try:
            for number in range(self.trunk.depth):
                self.arguments.hidden(number, torch.zeros(1, 1, dtype=torch.int64, device=self.states[0].device), 0)
        except InputError:
            return False
        return True

    @torch.no_grad()
    def _fits(self, number: int) -> bool:
        x_1TD = self.states[number]
        bound = 1e-5 if x_1TD.dtype in (torch.float32, torch.float64) else 0.05
        call = self.arguments.causal(number, x_1TD.shape[1])
        whole_1TD = call.run(self.trunk.layers[number], x_1TD)
        scale = float(whole_1TD.abs().max())
        try:
            attended_1TD = self.attended(number, x_1TD, call)
            found = [(self.finished(number, attended_1TD, x_1TD, call), whole_1TD)]
            found.append((self._as_candidate(number, x_1TD), attended_1TD[:, -1:]))
            alone_11D = self.finished(number, attended_1TD[:, -1:], x_1TD[:, -1:], self.arguments.causal(number, 1))
            found.append((alone_11D, whole_1TD[:, -1:]))  # an FFN knows no other token
            if self.plan is not Plan.OPAQUE:
                with patched(self._ffn_is_nothing(number)):
                    found.append((attended_1TD, call.run(self.trunk.layers[number], x_1TD)))
                with patched([*self._attention_gives(number, None), *self._ffn_is_nothing(number)]):
                    found.append((call.run(self.trunk.layers[number], x_1TD), x_1TD))
        except (RuntimeError, TypeError, AttributeError, IndexError, KeyError, ValueError):
            return False  # a replaced part was not what the layer's code wants: not this plan
        return all(ours.shape == theirs.shape and float((ours - theirs).abs().max()) <= bound * scale for ours, theirs in found)

    def _as_candidate(self, number: int, x_1TD: Tensor) -> Tensor:
        """The last state after the attention, as that of a candidate over what the others leave."""
        position_1T = torch.arange(x_1TD.shape[1], device=x_1TD.device)[None]
        last, position_11 = x_1TD.shape[1] - 1, position_1T[:, -1:]
        kv = [(k[:, :, :last], v[:, :, :last]) for k, v in self.keys_values(number, x_1TD, self.arguments.at(number, position_1T))]
        hidden_11C = self.arguments.hidden(number, position_11, last)
        return self.candidates(number, x_1TD[:, -1:], self.arguments.at(number, position_11), kv, hidden_11C)

    # --- running a layer in parts ---------------------------------------------------------------------------------

    def attended(self, number: int, x: Tensor, call: Call) -> Tensor:
        """The layer's states after its attention; of an opaque layer what its attention gives."""
        parts, layer = self.parts[number], self.trunk.layers[number]
        if self.plan is Plan.OPAQUE:
            attention = parts.attention
            assert attention is not None
            own = attention.forward

            def give(*args: Any, **kwargs: Any) -> Any:
                raise Reached(main_output(own(*args, **kwargs)))

            return self._reach(call, layer, x, [(attention, give)])
        if self._skips_norms[1] and parts.before_ffn is not None:
            return self._reach(call, layer, x, [(parts.before_ffn, _stop_at_input)]).view(x.shape)
        with patched(self._ffn_is_nothing(number)):
            return call.run(layer, x)

    def finished(
        self, number: int, attended: Tensor, before: Tensor | None, call: Call, ffn: Mapping[str, nn.Module] | None = None
    ) -> Tensor:
        """The states after the layer, of what `attended` gave; by another FFN where one is given."""
        layer = self.trunk.layers[number]
        if self._adds_directly:
            parts = self.parts[number]
            assert parts.before_ffn is not None
            (child,) = (parts.ffn if ffn is None else ffn).values()
            return attended + main_output(child(parts.before_ffn(attended)))
        if self.plan is Plan.SERIAL:
            x, given = attended, None
        else:
            assert before is not None, "this layer's FFN reads what was before the layer"
            x, given = before, attended if self.plan is Plan.OPAQUE else attended - before
        with patched([*self._attention_gives(number, given), *self._ffn_by(number, ffn)]):
            return call.run(layer, x)

    def ffn_input(self, number: int, attended: Tensor, before: Tensor, call: Call) -> Tensor:
        """What the layer's FFN reads."""
        parts = self.parts[number]
        if self._skips_norms[1] and parts.before_ffn is not None:
            return parts.before_ffn(attended)
        first = next(iter(parts.ffn.values()))
        x = attended if self.plan is Plan.SERIAL else before
        return self._reach(
            call, self.trunk.layers[number], x, [*self._attention_gives(number, None), (first, _stop_at_input)]
        ).view(x.shape)

    def ffn_adds(self, number: int, normed: Tensor, call: Call, ffn: Mapping[str, nn.Module] | None = None) -> Tensor:
        """What the layer's FFN, or another in its place, adds to the states when it reads `normed`."""
        first = next(iter(self.parts[number].ffn.values()))

        def read(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
            if args:
                return (normed, *args[1:]), kwargs
            return args, {**kwargs, next(iter(kwargs)): normed}

        handle = first.register_forward_pre_hook(read, prepend=True, with_kwargs=True)
        try:
            with patched([*self._attention_gives(number, None), *self._ffn_by(number, ffn)]):
                return call.run(self.trunk.layers[number], torch.zeros_like(normed))
        finally:
            handle.remove()

    def keys_values(self, number: int, x: Tensor, call: Call) -> list[tuple[Tensor, Tensor]]:
        """Keys and values (G, K, S, d) that each of the layer's attention calls is given."""
        with during(Writing(len(self.parts[number].shapes))):
            return self._reach(call, self.trunk.layers[number], x, [])

    def candidates(self, number: int, x: Tensor, call: Call, kv: list[tuple[Tensor, Tensor]], hidden: Tensor | None) -> Tensor:
        """As `attended`, of rows that are alternatives over a stored context."""
        with during(Candidates(kv, hidden)):
            return self.attended(number, x, call)

    @staticmethod
    def _reach(call: Call, layer: nn.Module, x: Tensor, pairs: Pairs) -> Any:
        try:
            with patched(pairs):
                call.run(layer, x)
        except Reached as reached:
            return reached.value
        raise RuntimeError("the layer's pass does not come where it did")

    def _attention_gives(self, number: int, value: Tensor | None) -> Pairs:
        """The attention replaced by a value, None for nothing; norms that only it reads are left out where that was seen to fit."""
        parts = self.parts[number]
        assert parts.attention is not None

        def give(*args: Any, **kwargs: Any) -> Any:
            x = first_state(args, kwargs)
            return in_form(x.new_zeros(1).expand_as(x) if value is None else value, parts.attention_outputs)

        skipped: Pairs = [(norm, _same) for norm in parts.before_attention] if self._skips_norms[0] and value is None else []
        return [(parts.attention, give), *skipped]

    def _ffn_is_nothing(self, number: int) -> Pairs:
        return no_ffn(self.parts[number], self.parts[number].ffn, self.n_hidden)

    def _ffn_by(self, number: int, ffn: Mapping[str, nn.Module] | None) -> Pairs:
        return [] if ffn is None else other_ffn(self.parts[number], self.parts[number].ffn, ffn)


def no_ffn(parts: Parts, children: Mapping[str, nn.Module], n_hidden: int) -> Pairs:
    """The children that make an FFN, replaced by nothing: zeros of the states' width."""

    def nothing(n_outputs: int) -> Forward:
        def forward(*args: Any, **kwargs: Any) -> Any:
            x = first_state(args, kwargs)
            return in_form(x.new_zeros(1).expand(*x.shape[:-1], n_hidden), n_outputs)

        return forward

    return [(child, nothing(parts.ffn_outputs[name])) for name, child in children.items()]


def other_ffn(parts: Parts, children: Mapping[str, nn.Module], ffn: Mapping[str, nn.Module]) -> Pairs:
    """The children that make an FFN, each replaced by another of its kind."""

    def by(other: nn.Module, n_outputs: int) -> Forward:
        return lambda *args, **kwargs: in_form(main_output(other(*args, **kwargs)), n_outputs)

    return [(child, by(ffn[name], parts.ffn_outputs[name])) for name, child in children.items()]


def _stop_at_input(*args: Any, **kwargs: Any) -> Any:
    raise Reached(first_state(args, kwargs))
