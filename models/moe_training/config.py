"""The options of `duo-oracle train-moe`, each declared once. Imports nothing heavy, so that the command line starts at once."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from duo_oracle.models.training.config import NewModelOptions
from duo_oracle.oracle.base.choices import check_choice
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.ranges import at_least, within

VARIANTS: dict[str, tuple[str, str, str]] = {
    "dense": ("dense", "none", "batch"),
    "token_choice": ("token_choice", "none", "batch"),
    "token_choice_aux": ("token_choice", "aux", "batch"),
    "token_choice_loss_free": ("token_choice", "loss_free", "batch"),
    "expert_choice": ("expert_choice", "none", "batch"),
    "expert_choice_sequence": ("expert_choice", "none", "sequence"),
    "expert_threshold": ("expert_threshold", "none", "batch"),
}
"""The rules of routing by name: router, balance, and the pool that expert choice takes its tokens from."""
ALL = "all"


@dataclass(frozen=True)
class MoeTrainConfig(NewModelOptions):
    """Trains a mixture of experts from scratch, or one by each rule of routing.

    Args:
        text: training documents (files, folders or globs of text, .jsonl, .parquet or .arrow), equally many windows of every one
            that is named; every 20th document is held out of training, to be evaluated on
        # experts
        router: dense, token_choice, token_choice_aux, token_choice_loss_free, expert_choice, expert_choice_sequence,
            expert_threshold; or all, each into OUT/ROUTER, with the same weights to begin with and the same batches
        granularity: G, by which experts are narrower than a dense FFN; a token takes G on average, the shared one among them
        expansion: E, how many dense FFNs the routed experts are together; there are G x E
        shared_expert: have an expert that is always on
        dense_layers: how many first layers have a dense FFN
        ffn: inner width of a dense FFN
        capacity: C; expert threshold's experts take between (1 - C) k and (1 + C) k tokens in training
        beta: decay of the cutoffs' average; default 1 - 40 / steps, at most 0.999
        expert_warmup: share of the steps in which expert threshold routes by expert choice, while its cutoffs settle
        alpha: weight of token_choice_aux's balance loss
        u: step of token_choice_loss_free's bias; default 10 / steps
        # model
        tokenizer: model whose tokenizer is taken, a directory or a shipped name
        vocabulary: tokens of the byte-level BPE tokenizer that is made from the training text, where `tokenizer` names none
        store: number format of the weights in the finished model; routers are stored in float32
        # optimiser
        # evaluation
        holdouts: sources that the model is evaluated on at the end, beside the documents held out
        # machine
        device: cpu, or cuda (where autocast runs in bfloat16)
    """

    tokens: int = 3_000_000
    layers: int = 5
    hidden: int = 96
    router: str = "expert_threshold"
    granularity: int = 2
    expansion: int = 4
    shared_expert: bool = True
    dense_layers: int = 1
    ffn: int = 512
    capacity: float = 0.5
    beta: float | None = None
    expert_warmup: float = 0.4
    alpha: float = 0.001
    u: float | None = None
    tokenizer: str | None = field(default=None, metadata={"uri": True})

    def check(self) -> None:
        """Raises InputError, one line that states the law and the value, for an option outside its range."""
        super().check()
        check_choice("router", self.router, (*VARIANTS, ALL))
        at_least(self, ffn=1, granularity=1, expansion=1, dense_layers=0, capacity=0, alpha=0)
        within(self, expert_warmup=(0, 1))
        if self.beta is not None and not 0 <= self.beta < 1:
            raise InputError(f"`beta` must lie between 0 and 1, 1 excluded; got {self.beta}")
        if self.u is not None and self.u <= 0:
            raise InputError(f"`u` must be above 0; got {self.u}")
        if self.ffn % self.granularity:
            raise InputError(f"`ffn` must be a multiple of `granularity`; got {self.ffn} and {self.granularity}")
        if self.shared_expert and self.granularity < 2:
            raise InputError("`granularity` must be at least 2 with `shared_expert`, which is one of a token's experts; got 1")
        if self.dense_layers >= self.layers and self.router != "dense":
            raise InputError(f"`dense_layers` must leave a layer for the experts; got {self.dense_layers} of {self.layers} layers")
        n_experts = self.granularity * self.expansion
        if self.batch * self.positions < n_experts or ("sequence" in self.router and self.positions < n_experts):
            raise InputError(f"every expert must find a token in its pool; got {n_experts} experts and windows of {self.positions}")

    def one_by_one(self) -> tuple[MoeTrainConfig, ...]:
        """The trainings that the options ask for: one, or one by each rule, which share their tokenised text."""
        if self.router != ALL:
            return (self,)
        work = self.work or f"{self.out}/work"
        return tuple(replace(self, router=name, out=f"{self.out}/{name}", work=work) for name in VARIANTS)
