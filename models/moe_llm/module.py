"""The mixture of experts: Llama-2 layers whose FFN is a shared expert, always on, and routed experts, each behind a sigmoid gate.

A chosen expert adds sigmoid(its logit) times its output; nothing is normalised, forward or backward. At evaluation its experts
follow from a token's own state alone: its best ones (token choice), or those whose logit is above the expert's cutoff (expert
choice and threshold). Training chooses by an argument, `Choose`; its rules are `routing.py`. Branch `B` is the model's own
routing, `s` the shared expert alone. The parameter names are the checkpoint's tensor names.

Axes: B batch, T token, N tokens, R rows, E expert, L layer with experts, D hidden, F expert inner.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from duo_oracle.models.duo_llm.module import FeedForward, Llama, LlamaLayer
from duo_oracle.models.moe_llm.config import MoeLlamaConfig
from duo_oracle.oracle.patterns import Branch

Choose = Callable[[int, Tensor], Tensor]
"""(layer, logit_BTE) -> chosen_BTE: which experts a batch's tokens take."""
Weigh = Callable[[int, Tensor, Tensor], Tensor]
"""(layer, logit_BTE, chosen_BTE) -> weight_BTE: what each of them counts."""


class Gate(nn.Module):
    """A layer's router: a linear map without bias, and what its rule keeps, which no gradient reaches.

    Without the cutoffs a mixture trained by expert choice or threshold cannot be evaluated, so they are part of the checkpoint, as
    is how many pools they are an average of.
    """

    def __init__(self, config: MoeLlamaConfig) -> None:
        super().__init__()
        n = config.n_experts
        self.weight = nn.Parameter(torch.empty(n, config.hidden_size))
        self.bias, self.cutoff, self.cutoff_average = (nn.Parameter(torch.zeros(n), requires_grad=False) for _ in range(3))
        self.n_averaged = nn.Parameter(torch.zeros(()), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)


class Experts(nn.Module):
    """The routed experts of a layer, fused as in transformers: SwiGLU, gate and up side by side."""

    def __init__(self, config: MoeLlamaConfig) -> None:
        super().__init__()
        n, d, f = config.n_experts, config.hidden_size, config.expert_size
        self.gate_up_proj, self.down_proj = nn.Parameter(torch.empty(n, 2 * f, d)), nn.Parameter(torch.empty(n, d, f))

    def one(self, expert: int, x_RD: Tensor) -> Tensor:
        """What an expert gives, before its weight."""
        gate_RF, up_RF = F.linear(x_RD, self.gate_up_proj[expert]).chunk(2, dim=-1)
        return F.linear(F.silu(gate_RF) * up_RF, self.down_proj[expert])

    def forward(self, x_RD: Tensor, chosen_RE: Tensor, weight_RE: Tensor) -> Tensor:
        """The sum of the chosen experts' outputs, each times its weight."""
        out_RD = torch.zeros_like(x_RD)
        for expert in range(chosen_RE.shape[1]):
            rows = chosen_RE[:, expert].nonzero().squeeze(1)
            if len(rows):
                part_rD = self.one(expert, x_RD.index_select(0, rows)) * weight_RE[:, expert].index_select(0, rows)[:, None]
                out_RD = out_RD.index_add(0, rows, part_rD)
        return out_RD


class Mixture(nn.Module):
    """The FFN of a layer with experts."""

    def __init__(self, config: MoeLlamaConfig) -> None:
        super().__init__()
        self.config = config
        self.gate, self.experts = Gate(config), Experts(config)
        self.shared_experts = FeedForward(config.hidden_size, config.expert_size) if config.shared_expert else None

    def order(self, logit: Tensor) -> Tensor:
        """By what the router orders experts, (..., E): a token's own experts are its `n_active` largest (token choice), or those
        above 0, the margins over the cutoffs."""
        return logit + self.gate.bias if self.config.router == "token_choice" else logit - self.gate.cutoff

    def own_choice(self, logit: Tensor) -> Tensor:
        """Which experts a token takes by its own state, (..., E): what evaluation does."""
        if self.config.router != "token_choice":
            return logit > self.gate.cutoff
        best = self.order(logit).topk(self.config.n_active, dim=-1).indices
        return torch.zeros_like(logit, dtype=torch.bool).scatter_(-1, best, True)

    def forward(self, x: Tensor, logit: Tensor, chosen: Tensor, weight: Tensor | None = None) -> Tensor:
        """What the layer adds to tokens (..., D) that take the chosen experts (..., E), by default at their gates' weights."""
        x_RD, n_experts = x.flatten(0, -2), self.config.n_experts
        weight = torch.sigmoid(logit) if weight is None else weight
        routed_RD = self.experts(x_RD, chosen.reshape(-1, n_experts), weight.reshape(-1, n_experts))
        routed = routed_RD.view(x.shape)
        return routed if self.shared_experts is None else routed + self.shared_experts(x)


class MoeLayer(LlamaLayer):
    def __init__(self, config: MoeLlamaConfig, layer: int) -> None:
        super().__init__(config)
        has_experts = layer in config.expert_layers
        self.mlp: nn.Module = Mixture(config) if has_experts else FeedForward(config.hidden_size, config.intermediate_size)


class MoeLlama(Llama):
    """The trainable module. A layer without experts has no branch `s`."""

    def __init__(self, config: MoeLlamaConfig) -> None:
        super().__init__(config, lambda layer: MoeLayer(config, layer))
        self.config = config

    @property
    def small_layers(self) -> tuple[int, ...]:
        return self.config.expert_layers if self.config.shared_expert else ()

    def ffn(self, layer: int, branch: Branch, normed: Tensor) -> Tensor:
        mlp = self.layer(layer).mlp
        if not isinstance(mlp, Mixture):
            return mlp(normed)
        if branch is Branch.BIG:
            logit = mlp.gate(normed)
            return mlp(normed, logit, mlp.own_choice(logit))
        assert mlp.shared_experts is not None
        return mlp.shared_experts(normed)

    def mixed_logits(self, token_id_BT: Tensor, choose: Choose | None = None, weigh: Weigh | None = None) -> Tensor:
        """logits_BTV of a pass in which `choose` says who takes which experts, and `weigh` what they count; by default each token's
        own choice, at the gates' weights."""
        x_BTD = self.embed(token_id_BT)
        for layer in range(self.depth):
            attended_BTD = self.attend(layer, x_BTD)
            normed_BTD, mlp = self.ffn_input(layer, attended_BTD, x_BTD), self.layer(layer).mlp
            if isinstance(mlp, Mixture):
                logit_BTE = mlp.gate(normed_BTD)
                chosen_BTE = mlp.own_choice(logit_BTE) if choose is None else choose(layer, logit_BTE)
                weight_BTE = None if weigh is None else weigh(layer, logit_BTE, chosen_BTE)
                x_BTD = attended_BTD + mlp(normed_BTD, logit_BTE, chosen_BTE, weight_BTE)
            else:
                x_BTD = attended_BTD + mlp(normed_BTD)
        return self.logits(x_BTD)

    def layer(self, layer: int) -> MoeLayer:
        part = super().layer(layer)
        assert isinstance(part, MoeLayer)
        return part

    def mixture(self, layer: int) -> Mixture:
        """The FFN of a layer with experts."""
        mlp = self.layer(layer).mlp
        assert isinstance(mlp, Mixture)
        return mlp
