"""The options of `duo-oracle train`, and of every training from nothing. Imports nothing heavy: the command line starts at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

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
class NewModelOptions:
    """What every training from nothing is asked, whatever the model's FFNs are.

    Args:
        text: training documents (files, folders or globs of text, .jsonl, .parquet or .arrow); each step draws equally
            many windows from every one that is named
        out: directory for the model, its progress and its loss history; training resumes where that progress ends
        tokens: how many tokens to train on; schedules end with them
        seed: seed of the weights, the order of windows and what else is drawn
        # model
        layers: number of layers
        hidden: width of the residual stream
        heads: query heads
        kv_heads: key and value heads
        vocabulary: tokens of the byte-level BPE tokenizer that is made from the training text
        positions: length of a training window, and the most positions that the model has
        tie: share one matrix between embedding and vocabulary head
        store: number format of the weights in the finished model
        # optimiser
        batch: windows per step
        learning_rate: learning rate of AdamW, reached after the warm-up; a cosine then lowers it to a tenth
        warmup: share of the steps in which the learning rate rises
        weight_decay: weight decay of AdamW, for matrices only
        clip: greatest norm of a step's gradient
        # evaluation
        holdouts: sources that the finished model is evaluated on
        holdout_tokens: the most tokens of each that are evaluated
        # machine
        checkpoint_minutes: minutes between checkpoints
        device: cpu, or cuda
        threads: threads of torch on a CPU, 0 for torch's own choice
        work: directory for the tokenised text; default OUT/work
        track: also send losses to a tracker, by name: wandb (extra `tracking`)
    """

    text: tuple[str, ...] = field(metadata={"uri": True})
    out: str
    tokens: int = 20_000_000
    seed: int = 0
    layers: int = 12
    hidden: int = 128
    heads: int = 4
    kv_heads: int = 2
    vocabulary: int = 4096
    positions: int = 256
    tie: bool = True
    store: StoredDtype = StoredDtype.FLOAT16
    batch: int = 16
    learning_rate: float = 2e-3
    warmup: float = 0.02
    weight_decay: float = 0.1
    clip: float = 1.0
    holdouts: tuple[str, ...] = field(default=("holdout:prose", "holdout:code"), metadata={"uri": True})
    holdout_tokens: int = 50_000
    checkpoint_minutes: float = 3.0
    device: str = "cpu"
    threads: int = 0
    work: str | None = None
    track: str | None = None

    def check(self) -> None:
        """Raises InputError, one line that states the law and the value, for an option outside its range."""
        check_tracker(self.track)
        if not self.text:
            raise InputError("training needs at least one text file; got none")
        at_least(self, tokens=1, layers=1, hidden=1, heads=1, kv_heads=1, batch=1, holdout_tokens=1)
        at_least(self, positions=2, vocabulary=257, threads=0, seed=0, weight_decay=0, checkpoint_minutes=0)
        above(self, learning_rate=0, clip=0)
        within(self, warmup=(0, 1))
        if self.hidden % (2 * self.heads):
            raise InputError(f"`hidden` must be an even multiple of `heads`; got hidden {self.hidden} and heads {self.heads}")
        if self.heads % self.kv_heads:
            raise InputError(f"`heads` must be a multiple of `kv_heads`; got heads {self.heads} and kv_heads {self.kv_heads}")
        check_choice("store", self.store, StoredDtype)

    @property
    def n_steps(self) -> int:
        return steps_for(self.tokens, self.batch * self.positions)


@dataclass(frozen=True)
class TrainConfig(NewModelOptions):
    """Stage 1: trains a Duo-LLM with random routing per token and layer.

    Args:
        # small and big FFNs
        big: inner width of the big FFN
        small: inner width of the small FFN
        p_big: probability with which a token takes the big FFN at a layer
        order: joint trains all FFNs at once; big-then-small all layers big for two thirds of the tokens, then only the small FFNs
        # model
        # optimiser
        # evaluation
        # machine
        stream: read Parquet text a row group at a time, from a disk or a bucket, and keep no tokenised copy of it
        accumulate: pieces that each process's share of a batch is run in, one after the other, where memory is short
        autocast: products in bfloat16 while learning; auto: on cuda
        compile: compile the model by torch.compile, which takes minutes at the start
        device: cpu, or cuda; under torchrun each process has a GPU of its own
    """

    big: int = 512
    small: int = 32
    p_big: float = 0.5
    order: TrainOrder = TrainOrder.JOINT
    stream: bool = False
    accumulate: int = 1
    autocast: Autocast = Autocast.AUTO
    compile: bool = False

    def check(self) -> None:
        """Raises InputError, one line that states the law and the value, for an option outside its range."""
        super().check()
        at_least(self, big=1, small=1, accumulate=1)
        within(self, p_big=(0, 1))
        check_choice("order", self.order, TrainOrder)
        check_choice("autocast", self.autocast, Autocast)

    @property
    def bfloat16(self) -> bool:
        """Whether products are made in bfloat16."""
        return self.autocast == Autocast.BFLOAT16 or (self.autocast == Autocast.AUTO and self.device.startswith("cuda"))


def steps_for(n_tokens: int, n_step_tokens: int) -> int:
    """How many steps come nearest to so many tokens; at least one."""
    return max(1, round(n_tokens / n_step_tokens))
