"""A mixture in training: its weights, what its gates keep, and what every step's routing was, all of it in a checkpoint.

Axes: B batch, T token, E expert, L layer with experts, S step.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from duo_oracle.models.experts.rules import capacity_bounds, default_beta, default_u
from duo_oracle.models.moe_llm.config import MoeLlamaConfig
from duo_oracle.models.moe_llm.module import MoeLlama
from duo_oracle.models.moe_llm.routing import balance_loss, move_gate, training_choice
from duo_oracle.models.moe_training.config import VARIANTS, MoeTrainConfig
from duo_oracle.models.training.beginning import freshen

RECORDED = ("used", "passed", "held")


def model_config(config: MoeTrainConfig, n_vocabulary: int) -> MoeLlamaConfig:
    """The architecture that the options describe."""
    router, balance, pool = VARIANTS[config.router]
    return MoeLlamaConfig(
        vocab_size=n_vocabulary,
        hidden_size=config.hidden,
        intermediate_size=config.ffn,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.kv_heads,
        max_position_embeddings=config.positions,
        head_dim=config.hidden // config.heads,
        router=router,
        granularity=config.granularity,
        expansion=config.expansion,
        shared_expert=config.shared_expert,
        dense_layers=config.dense_layers,
        balance=balance,
        routing_pool=pool,
        capacity=config.capacity,
        tie_word_embeddings=config.tie,
    )


def new_module(config: MoeTrainConfig, n_vocabulary: int) -> MoeLlama:
    """A model with fresh weights, of the config's seed: of one seed, models that differ in their rule of routing begin alike."""
    module = MoeLlama(model_config(config, n_vocabulary))
    freshen(module, config.layers, config.seed)
    return module


class Learner(nn.Module):
    """Runs training steps of a mixture by its rule.

    Of every step, layer and expert it records which share of the tokens took the expert (`used`), which share was over its cutoff
    before warm-up and capacity changed that (`passed`), and whether that was fewer (-1) or more (1) than the capacity (`held`); NaN
    where there is no such thing.
    """

    def __init__(self, module: MoeLlama, config: MoeTrainConfig) -> None:
        super().__init__()
        self.module, self.config = module, config
        rule, n_steps = module.config, config.n_steps
        self.beta = default_beta(n_steps) if config.beta is None else config.beta
        self.u = default_u(n_steps) if config.u is None else config.u
        self.n_warmup = max(1, round(config.expert_warmup * n_steps))
        shape = (n_steps, len(rule.expert_layers), rule.n_experts)
        self.used, self.passed, self.held = (nn.Parameter(torch.full(shape, torch.nan), requires_grad=False) for _ in range(3))
        self._routed: dict[int, tuple[Tensor, Tensor]] = {}

    def loss(self, token_id_BT: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """The step's cross-entropy in nats per token, and what is added to it."""
        self._routed.clear()

        def choose(layer: int, logit_BTE: Tensor) -> Tensor:
            chosen_BTE = training_choice(self.module.mixture(layer), logit_BTE, warming=step < self.n_warmup)
            self._routed[layer] = (logit_BTE, chosen_BTE)
            return chosen_BTE

        logits_BTV = self.module.mixed_logits(token_id_BT[:, :-1], choose)
        loss = F.cross_entropy(logits_BTV.float().flatten(0, 1), token_id_BT[:, 1:].flatten())
        if self.module.config.balance != "aux":
            return loss, torch.zeros_like(loss)
        return loss, self.config.alpha * torch.stack([balance_loss(*routed) for routed in self._routed.values()]).sum()

    @torch.no_grad()
    def finish(self, step: int) -> None:
        """After the optimiser's step: records its routing, then moves what the gates keep."""
        for place, (layer, (logit_BTE, chosen_BTE)) in enumerate(self._routed.items()):
            mixture = self.module.mixture(layer)
            self.used[step, place] = chosen_BTE.float().mean(dim=(0, 1))
            if mixture.gate.n_averaged.item() > 0:
                self._record_passed(step, place, logit_BTE > mixture.gate.cutoff)
            move_gate(mixture, logit_BTE.detach(), chosen_BTE, self.beta, self.u)
        self._routed.clear()

    def _record_passed(self, step: int, place: int, over_BTE: Tensor) -> None:
        rule, n_tokens = self.module.config, over_BTE.shape[0] * over_BTE.shape[1]
        n_E = over_BTE.sum(dim=(0, 1))
        self.passed[step, place] = n_E / n_tokens
        if rule.router == "expert_threshold":
            least, most = capacity_bounds(rule.k_of(n_tokens), rule.capacity, n_tokens)
            self.held[step, place] = (n_E > most).float() - (n_E < least).float()
