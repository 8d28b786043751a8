"""The options of `duo-oracle train-moe`, each declared once. Imports nothing heavy, so that the command line starts at once."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from duo_oracle.models.training.config import StoredDtype, check_new_model, steps_for
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
class MoeTrainConfig:
    """Trains a mixture of experts from scratch, or one by each rule of routing.

    Args:
        text: training documents (files, folders or globs of text, .jsonl, .parquet or .arrow), equally many windows of every one
            that is named; every 20th document is held out of training, to be evaluated on
        out: directory for the model, its progress and its loss history; training resumes where that progress ends
        router: dense, token_choice, token_choice_aux, token_choice_loss_free, expert_choice, expert_choice_sequence,
            expert_threshold; or all, each into OUT/ROUTER, with the same weights to begin with and the same batches
        tokens: how many tokens to train on; schedules end with them
        seed: seed of the weights and the order of windows
        granularity: G, by which experts are narrower than a dense FFN; a token takes G on average, the shared one among them
        expansion: E, how many dense FFNs the routed experts are together; there are G x E
        shared_expert: have an expert that is always on
        dense_layers: how many first layers have a dense FFN
        capacity: C; expert threshold's experts take between (1 - C) k and (1 + C) k tokens in training
        beta: decay of the cutoffs' average; default 1 - 40 / steps, at most 0.999
        expert_warmup: share of the steps in which expert threshold routes by expert choice, while its cutoffs settle
        alpha: weight of token_choice_aux's balance loss
        u: step of token_choice_loss_free's bias; default 10 / steps
        layers: number of layers
        hidden: width of the residual stream
        heads: query heads
        kv_heads: key and value heads
        ffn: inner width of a dense FFN
        vocabulary: tokens of the byte-level BPE tokenizer that is made from the training text, where `tokenizer` names none
        tokenizer: model whose tokenizer is taken, a directory or a shipped name
        positions: length of a training window, and the most positions that the model has
        tie: share one matrix between embedding and vocabulary head
        batch: windows per step
        learning_rate: learning rate of AdamW, reached after the warm-up; a cosine then lowers it to a tenth
        warmup: share of the steps in which the learning rate rises
        weight_decay: weight decay of AdamW, for matrices only
        clip: greatest norm of a step's gradient
        checkpoint_minutes: minutes between checkpoints
        holdouts: sources that the model is evaluated on at the end, beside the documents held out
        holdout_tokens: the most tokens of each that are evaluated
        device: cpu, or cuda (where autocast runs in bfloat16)
        threads: threads of torch on a CPU, 0 for torch's own choice
        store: number format of the weights in the finished model; routers are stored in float32
        work: directory for the tokenised text; default OUT/work
        track: also send losses to a tracker, by name: wandb (extra `tracking`)
    """

    text: tuple[str, ...] = field(metadata={"uri": True})
    out: str
    router: str = "expert_threshold"
    tokens: int = 3_000_000
    seed: int = 0
    granularity: int = 2
    expansion: int = 4
    shared_expert: bool = True
    dense_layers: int = 1
    capacity: float = 0.5
    beta: float | None = None
    expert_warmup: float = 0.4
    alpha: float = 0.001
    u: float | None = None
    layers: int = 5
    hidden: int = 96
    heads: int = 4
    kv_heads: int = 2
    ffn: int = 512
    vocabulary: int = 4096
    tokenizer: str | None = field(default=None, metadata={"uri": True})
    positions: int = 256
    tie: bool = True
    batch: int = 16
    learning_rate: float = 2e-3
    warmup: float = 0.02
    weight_decay: float = 0.1
    clip: float = 1.0
    checkpoint_minutes: float = 3.0
    holdouts: tuple[str, ...] = field(default=("holdout:prose", "holdout:code"), metadata={"uri": True})
    holdout_tokens: int = 50_000
    device: str = "cpu"
    threads: int = 0
    store: StoredDtype = StoredDtype.FLOAT16
    work: str | None = None
    track: str | None = None

    def check(self) -> None:
        """Raises InputError, one line that states the law and the value, for an option outside its range."""
        check_new_model(self)
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

    @property
    def n_steps(self) -> int:
        return steps_for(self.tokens, self.batch * self.positions)
