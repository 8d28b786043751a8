"""The options of `duo-oracle train`, each declared once. Imports nothing heavy, so that the command line starts at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from duo_oracle.models.tracker import check_tracker
from duo_oracle.oracle.base.choices import check_choice
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.ranges import above, at_least, within


class TrainOrder(StrEnum):
    JOINT = "joint"
    BIG_THEN_SMALL = "big-then-small"


class Autocast(StrEnum):
    AUTO = "auto"  # bfloat16 on a GPU
    NONE = "none"
    BFLOAT16 = "bfloat16"


class StoredDtype(StrEnum):
    FLOAT16 = "float16"
    FLOAT32 = "float32"


@dataclass(frozen=True)
class TrainConfig:
    """Stage 1: trains a Duo-LLM with random routing per token and layer.

    Args:
        text: training documents (files, folders or globs of text, .jsonl, .parquet or .arrow); each step draws equally
            many windows from every one that is named
        out: directory for the model, its progress and its loss history; training resumes where that progress ends
        tokens: how many tokens to train on; the learning rate's schedule ends with them
        seed: seed of the weights, the order of windows and the routing
        p_big: probability with which a token takes the big FFN at a layer
        order: joint trains all FFNs at once; big-then-small all layers big for two thirds of the tokens, then only the small FFNs
        layers: number of layers
        hidden: width of the residual stream
        heads: query heads
        kv_heads: key and value heads
        big: inner width of the big FFN
        small: inner width of the small FFN
        vocabulary: tokens of the byte-level BPE tokenizer that is made from the training text
        positions: length of a training window, and the most positions that the model has
        tie: share one matrix between embedding and vocabulary head
        batch: windows per step
        learning_rate: learning rate of AdamW, reached after the warm-up; a cosine then lowers it to a tenth
        warmup: share of the steps in which the learning rate rises
        weight_decay: weight decay of AdamW, for matrices only
        clip: greatest norm of a step's gradient
        checkpoint_minutes: minutes between checkpoints
        holdouts: sources that all-big and all-small are evaluated on at the end
        holdout_tokens: the most tokens of each holdout that are evaluated
        accumulate: pieces that each process's share of a batch is run in, one after the other, where memory is short
        autocast: products in bfloat16 while learning; auto: on cuda
        compile: compile the model by torch.compile, which takes minutes at the start
        device: cpu, or cuda; under torchrun each process has a GPU of its own
        threads: threads of torch on a CPU, 0 for torch's own choice
        store: number format of the weights in the finished model
        work: directory for the tokenised text; default OUT/work
        track: also send losses to a tracker, by name: wandb (extra `tracking`)
    """

    text: tuple[str, ...] = field(metadata={"uri": True})
    out: str
    tokens: int = 20_000_000
    seed: int = 0
    p_big: float = 0.5
    order: TrainOrder = TrainOrder.JOINT
    layers: int = 12
    hidden: int = 128
    heads: int = 4
    kv_heads: int = 2
    big: int = 512
    small: int = 32
    vocabulary: int = 4096
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
    accumulate: int = 1
    autocast: Autocast = Autocast.AUTO
    compile: bool = False
    device: str = "cpu"
    threads: int = 0
    store: StoredDtype = StoredDtype.FLOAT16
    work: str | None = None
    track: str | None = None

    def check(self) -> None:
        """Raises InputError, one line that states the law and the value, for an option outside its range."""
        check_new_model(self)
        at_least(self, big=1, small=1, accumulate=1)
        within(self, p_big=(0, 1))
        check_choice("order", self.order, TrainOrder)
        check_choice("autocast", self.autocast, Autocast)

    @property
    def bfloat16(self) -> bool:
        """Whether products are made in bfloat16."""
        return self.autocast == Autocast.BFLOAT16 or (self.autocast == Autocast.AUTO and self.device.startswith("cuda"))

    @property
    def n_steps(self) -> int:
        return steps_for(self.tokens, self.batch * self.positions)


class NewModelOptions(Protocol):
    """What the options of every training from nothing hold; the ranges are said by name."""

    @property
    def text(self) -> tuple[str, ...]: ...
    @property
    def track(self) -> str | None: ...
    @property
    def hidden(self) -> int: ...
    @property
    def heads(self) -> int: ...
    @property
    def kv_heads(self) -> int: ...
    @property
    def store(self) -> StoredDtype: ...


def check_new_model(options: NewModelOptions) -> None:
    """Raises InputError, one line, for an option of a training from nothing outside its range, whatever its FFNs are."""
    check_tracker(options.track)
    if not options.text:
        raise InputError("training needs at least one text file; got none")
    at_least(options, tokens=1, layers=1, hidden=1, heads=1, kv_heads=1, batch=1, holdout_tokens=1)
    at_least(options, positions=2, vocabulary=257, threads=0, seed=0, weight_decay=0, checkpoint_minutes=0)
    above(options, learning_rate=0, clip=0)
    within(options, warmup=(0, 1))
    if options.hidden % (2 * options.heads):
        raise InputError(f"`hidden` must be an even multiple of `heads`; got hidden {options.hidden} and heads {options.heads}")
    if options.heads % options.kv_heads:
        raise InputError(f"`heads` must be a multiple of `kv_heads`; got heads {options.heads} and kv_heads {options.kv_heads}")
    check_choice("store", options.store, StoredDtype)


def steps_for(n_tokens: int, n_step_tokens: int) -> int:
    """How many steps come nearest to so many tokens; at least one."""
    return max(1, round(n_tokens / n_step_tokens))
