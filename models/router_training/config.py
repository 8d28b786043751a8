"""The options of `duo-oracle train-router`, each declared once. Imports nothing heavy, so that the command line starts at once."""

from __future__ import annotations

from dataclasses import dataclass, field

from duo_oracle.models.tracker import check_tracker
from duo_oracle.oracle.base.choices import check_choice
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.ranges import above, at_least, within
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.patterns import Branch
from duo_oracle.oracle.spaces import parse_branches


@dataclass(frozen=True)
class RouterConfig:
    """Trains a router on a frozen model: only the router's weights learn.

    Args:
        model: model directory, or the name of a shipped model (duo-tiny)
        text: training documents (files, folders or globs of text, .jsonl, .parquet or .arrow), equally many windows of
            every one that is named; every 20th document is held out of training, for calibration
        router: budget, token_choice, expert_choice, expert_threshold or distilled
        out: directory for the router; training resumes where its progress ends
        budget: average big layers per token
        settings: a setting of the router's own, KEY=VALUE; repeatable
        run: for distilled, run directories of searches on training text that kept losses or trials; repeatable
        tokens: how many tokens to train on; schedules end with them
        seed: seed of the order of windows
        branches: branches that a layer may take, any of: . (skip) s (small) B (big)
        skip: what a skip leaves out, the FFN or the whole layer
        route_layers: layers that are routed, such as 18-27 or 3,5,8-11; the others are always big; default all
        seq_len: tokens per window; default 256, or the model's positions where they are fewer
        batch: windows per step
        learning_rate: learning rate of Adam, reached after the warm-up; a cosine then lowers it to a tenth
        warmup: share of the steps in which the learning rate rises
        calibrate: how cutoffs are set on held-out training documents: pooled, layer, none; default as the router says
        calibration_text: documents to calibrate on, instead of those held out of the training text
        calibration_tokens: how many tokens to calibrate on
        checkpoint_minutes: minutes between checkpoints of the training
        holdouts: sources that the router is evaluated on at the end
        holdout_tokens: the most tokens of each holdout that are evaluated
        device: cpu, or cuda
        threads: threads of torch on a CPU, 0 for torch's own choice
        work: directory for the tokenised text; default OUT/work
        track: also send losses to a tracker, by name: wandb (extra `tracking`)
    """

    model: str = field(metadata={"uri": True})
    text: tuple[str, ...] = field(metadata={"uri": True})
    router: str
    out: str
    budget: float
    settings: dict[str, str] = field(default_factory=dict, metadata={"flag": "set"})
    run: tuple[str, ...] = field(default=(), metadata={"uri": True})
    tokens: int = 400_000
    seed: int = 0
    branches: str = "sB"
    skip: SkipReading = SkipReading.FFN
    route_layers: str | None = None
    seq_len: int | None = None
    batch: int = 8
    learning_rate: float = 1e-2
    warmup: float = 0.05
    calibrate: str | None = None
    calibration_text: tuple[str, ...] = field(default=(), metadata={"uri": True})
    calibration_tokens: int = 16_384
    checkpoint_minutes: float = 1.0
    holdouts: tuple[str, ...] = field(default=("holdout:prose", "holdout:code"), metadata={"uri": True})
    holdout_tokens: int = 50_000
    device: str = "cpu"
    threads: int = 0
    work: str | None = None
    track: str | None = None

    def check(self) -> None:
        """Raises InputError, one line that states the law and the value, for an option outside its range."""
        check_tracker(self.track)
        if not self.text:
            raise InputError("training needs at least one text file; got none")
        at_least(self, tokens=1, batch=1, calibration_tokens=1, holdout_tokens=1, threads=0, seed=0, checkpoint_minutes=0)
        above(self, learning_rate=0)
        within(self, warmup=(0, 1))
        branches = parse_branches(self.branches)
        if Branch.BIG not in branches or len(branches) < 2:
            raise InputError(f"a router chooses between B and at least one other branch; got branches {self.branches!r}")
        if self.calibrate is not None:
            check_choice("calibration", self.calibrate, ("pooled", "layer", "none"))
        check_choice("skip reading", self.skip, SkipReading)

    def check_layers(self, n_letters: int) -> None:
        """Raises InputError where the model's layers do not hold the budget."""
        if not 0 < self.budget < n_letters:
            raise InputError(f"`budget` must lie between 0 and the model's {n_letters} layers, both excluded; got {self.budget:g}")
