"""A library's causal language model taken apart without knowing it: its layers, what comes before them, and its head.

What a pass hands to the first layer and what it makes of the last one's states are found by running the model's own forward with
the layers stubbed. Knows no family.

Axes: B batch, T token, D hidden, R rows, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from duo_oracle.models.hf.arguments import Call
from duo_oracle.models.hf.calls import Forward, NoMasks, Reached, during, first_state, in_form, patched
from duo_oracle.oracle.base.errors import InputError

_SOFTCAPS = ("final_logit_softcapping", "logits_soft_cap")  # what configs call the bound of softly capped logits
_UNBOUNDED = 1 << 20  # positions of a model that sets no end
_LINEAR = 1e-4  # greatest relative error of a head that is taken to be the linear map that it seems


def text_config(config: Any) -> Any:
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def find_layers(model: Any) -> nn.ModuleList:
    """The decoder layers: the list of as many modules as the config has layers. Raises InputError where there is none."""
    n_layers = text_config(model.config).num_hidden_layers
    found = [each for each in model.modules() if isinstance(each, nn.ModuleList) and len(each) == n_layers > 0]
    if not found:
        raise InputError(f"no list of {n_layers} layers in a {model.config.model_type} model of transformers")
    return max(found, key=lambda each: sum(parameter.numel() for parameter in each.parameters()))


def positions_of(config: Any) -> int:
    """How many positions the model has. Rotary positions whose frequencies change beyond a length are used up to it."""
    text = text_config(config)
    names = ("max_position_embeddings", "max_seq_len", "n_positions", "seq_length")
    said = {name: getattr(text, name) for name in names if isinstance(getattr(text, name, None), int)}
    for name, n in said.items():
        if n < 1:
            raise InputError(f"config.json: {name} must be at least 1; got {n}")
    n_positions = next(iter(said.values()), _UNBOUNDED)
    ropes = getattr(text, "rope_parameters", None) or {}
    for rope in (ropes, *(each for each in ropes.values() if isinstance(each, dict))):
        if rope.get("rope_type") == "longrope":
            first = rope.get("original_max_position_embeddings") or getattr(text, "original_max_position_embeddings", None)
            n_positions = min(n_positions, first or n_positions)
    return n_positions


@dataclass(frozen=True)
class HeadForm:
    """logits = cap(unembedding @ (scale h) + bias), where h is what the head's module reads."""

    scale: float = 1.0
    bias_V: Tensor | None = None
    softcap: float | None = None


class Trunk:
    """The model around its layers."""

    def __init__(self, model: Any) -> None:
        self.model, self.layers = model, find_layers(model)
        self.depth = len(self.layers)
        self.n_vocabulary = int(text_config(model.config).vocab_size)
        self.n_positions = positions_of(model.config)
        head = model.get_output_embeddings()
        if head is None:
            raise InputError(f"a {model.config.model_type} model of transformers has no vocabulary head that can be found")
        self.head: Any = head
        self.n_outputs = [0] * self.depth  # of each layer's tuple; 0 for no tuple
        self.form = HeadForm()
        self._by_position: bool | None = None

    def probe_ids(self, n_tokens: int) -> Tensor:
        """Token ids (1, T) that say nothing; of embeddings and layers alone what depends on positions is looked at."""
        return ((torch.arange(n_tokens, device=self.head.weight.device) * 7 + 3) % self.n_vocabulary)[None]

    def run(self, token_id_BT: Tensor, cached: bool = False) -> Tensor:
        """logits_BTV of the model's own forward."""
        return self.model(token_id_BT, use_cache=cached).logits

    def calls(self, n_tokens: int, n_rows: int = 1, cached: bool = False) -> list[Call]:
        """What each layer is called with in a pass over so many tokens, the layers stubbed; with an empty cache where `cached`."""
        found: list[Call] = []

        def stub(number: int) -> Forward:
            def forward(*args: Any, **kwargs: Any) -> Any:
                found.append(Call(args, kwargs))
                if number == self.depth - 1:
                    raise Reached(None)
                return in_form(first_state(args, kwargs), self.n_outputs[number])

            return forward

        with patched((layer, stub(number)) for number, layer in enumerate(self.layers)):
            self._until_reached(self.probe_ids(n_tokens).expand(n_rows, -1), cached)
        return found

    def embed(self, token_id_BT: Tensor) -> Tensor:
        """The first layer's states of tokens at positions 0 to T - 1."""

        def stop(*args: Any, **kwargs: Any) -> Any:
            raise Reached(first_state(args, kwargs))

        with patched([(self.layers[0], stop)]), during(NoMasks()):
            return self._until_reached(token_id_BT)

    def embed_at(self, token_id: Tensor, position: Tensor) -> Tensor:
        """The first layer's states of tokens at any positions, which are broadcast against them."""
        if self._by_position is None:
            same = self.embed(torch.full((1, 3), 3 % self.n_vocabulary, device=token_id.device))[0]
            self._by_position = not torch.equal(same[0].expand_as(same), same)
        flat_N = token_id.reshape(-1)
        if not self._by_position:
            return self.embed(flat_N[:, None])[:, 0].view(*token_id.shape, -1)
        position_N = (position.reshape(()) if position.numel() == 1 else position).expand(token_id.shape).reshape(-1)
        if torch.equal(position_N, torch.arange(len(flat_N), device=position_N.device)):
            return self.embed(flat_N[None])[0].view(*token_id.shape, -1)
        out_ND: Tensor | None = None
        for at in position_N.unique().tolist():
            rows = (position_N == at).nonzero()[:, 0]
            before = torch.zeros(len(rows), at, dtype=flat_N.dtype, device=flat_N.device)
            x_RD = self.embed(torch.cat((before, flat_N[rows, None]), dim=1))[:, -1]
            if out_ND is None:
                out_ND = x_RD.new_empty(len(flat_N), x_RD.shape[-1])
            out_ND[rows] = x_RD
        assert out_ND is not None
        return out_ND.view(*token_id.shape, -1)

    def head_input(self, x: Tensor) -> Tensor:
        """What the vocabulary head's module reads, times its scale, of states (..., D) after the last layer."""

        def stop(*args: Any, **kwargs: Any) -> Any:
            raise Reached(args[0] if args else kwargs["input"])

        h_R1D = self._tail(x.reshape(-1, 1, x.shape[-1]), [(self.head, stop)])
        h = h_R1D.reshape(*x.shape[:-1], h_R1D.shape[-1])
        return h if self.form.scale == 1.0 else h * self.form.scale

    def logits(self, x: Tensor) -> Tensor:
        """The model's own logits of states (..., D) after the last layer."""
        return self._tail(x.reshape(-1, 1, x.shape[-1]), []).reshape(*x.shape[:-1], -1)

    def _tail(self, x_R1D: Tensor, more: list[tuple[nn.Module, Forward]]) -> Tensor:
        def stub(number: int) -> Forward:
            return lambda *_, **__: in_form(x_R1D, self.n_outputs[number])

        stubs = [(layer, stub(number)) for number, layer in enumerate(self.layers)]
        with patched([*stubs, *more]), during(NoMasks()):
            return self._until_reached(self.probe_ids(1).expand(len(x_R1D), 1))

    def _until_reached(self, token_id_BT: Tensor, cached: bool = False) -> Any:
        try:
            return self.run(token_id_BT, cached)
        except Reached as reached:
            return reached.value

    def find_head_form(self, x_RD: Tensor) -> None:
        """Finds scale, bias and softcap of the head from the model's own logits. Raises InputError for a head of another form."""
        h_RD, logits_RV = self.head_input(x_RD), self.logits(x_RD).double()
        if not torch.isfinite(logits_RV).all():
            raise InputError(
                f"logits are finite numbers; those of this {self.model.config.model_type} model, by transformers' own pass in "
                f"{x_RD.dtype}, are not"
            )
        plain_RV = F.linear(h_RD, self.head.weight).double()
        bias_V = getattr(self.head, "bias", None)
        if bias_V is not None:
            plain_RV = plain_RV + bias_V.double()
        text = text_config(self.model.config)
        softcap = next((cap for cap in (getattr(text, name, None) for name in _SOFTCAPS) if cap), None)
        bare_RV = logits_RV if softcap is None else torch.atanh((logits_RV / softcap).clamp(-1 + 1e-12, 1 - 1e-12)) * softcap
        clear_RV = torch.ones_like(bare_RV) if softcap is None else (logits_RV.abs() < 0.9 * softcap).double()
        scale = float((plain_RV * bare_RV * clear_RV).sum() / (plain_RV.square() * clear_RV).sum().clamp_min(1e-300))
        if abs(scale - 1) < 1e-5:
            scale = 1.0
        form = HeadForm(scale, None if bias_V is None else bias_V.detach() * scale, softcap)
        ours_RV = plain_RV * scale
        ours_RV = ours_RV if softcap is None else softcap * torch.tanh(ours_RV / softcap)
        bound = _LINEAR if logits_RV.dtype == h_RD.dtype or h_RD.dtype == torch.float32 else 0.02
        error = float((ours_RV - logits_RV).abs().max() / logits_RV.abs().max().clamp_min(1e-300))
        if not error < bound:
            raise InputError(
                f"the logits of a {self.model.config.model_type} model of transformers are no linear map of its last states, with "
                f"or without a scale, a bias or a softcap: they differ by {error:.2g} of the greatest"
            )
        self.form = form
