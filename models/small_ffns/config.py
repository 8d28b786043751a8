"""The options of `duo-oracle duo`, each declared once. Imports nothing heavy, so that the command line starts at once."""

from __future__ import annotations

from dataclasses import dataclass, field

from duo_oracle.models.tracker import check_tracker
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.ranges import above, at_least, within


@dataclass(frozen=True)
class DuoConfig:
    """Makes small FFNs beside the big ones of a pretrained model, whose own weights stay as they are.

    Args:
        model: model directory, or OWNER/NAME of the Hugging Face hub; a model that has no small FFN yet
        text: documents to make them on (files, folders or globs of text, .jsonl, .parquet or .arrow), equally many windows
            of every one that is named
        out: directory for the small FFNs, which names the model that they belong to; distil resumes where its progress ends
        method: neurons (the most active of the big FFN's), lowrank (each matrix as a product of two), distil (neurons, then
            trained to the big FFN's output)
        ratio: size of the small FFN, as a share of the big one's neurons (of its parameters for lowrank)
        layers: layers that get a small FFN, such as 18-27 or 3,5,8-11; default all
        tokens: how many tokens of the text to use; default as the method says
        seed: seed of the order of windows and the routing
        seq_len: tokens per window; default 256, or the model's positions where they are fewer
        batch: windows per step
        learning_rate: learning rate of distil, reached after the warm-up; a cosine then lowers it to a tenth
        warmup: share of distil's steps in which the learning rate rises
        checkpoint_minutes: minutes between checkpoints of distil
        merge: write one directory that needs no other: the model's tensors and tokenizer too
        overwrite: replace the model that the directory holds
        holdouts: sources on which the cost of the small FFNs is measured at the end
        holdout_tokens: the most tokens of each holdout that are measured, a window of every document first
        device: cpu, or cuda
        threads: threads of torch on a CPU, 0 for torch's own choice
        work: directory for the tokenised text; default OUT/work, removed at the end
        track: also send distil's losses to a tracker, by name: wandb (extra `tracking`)
    """

    model: str = field(metadata={"uri": True})
    text: tuple[str, ...] = field(metadata={"uri": True})
    out: str
    method: str = "neurons"
    ratio: float = 0.25
    layers: str | None = None
    tokens: int | None = None
    seed: int = 0
    seq_len: int | None = None
    batch: int = 1
    learning_rate: float = 3e-3
    warmup: float = 0.05
    checkpoint_minutes: float = 1.0
    merge: bool = False
    overwrite: bool = False
    holdouts: tuple[str, ...] = field(default=("holdout:prose", "holdout:code"), metadata={"uri": True})
    holdout_tokens: int = 1024
    device: str = "cpu"
    threads: int = 0
    work: str | None = None
    track: str | None = None

    def check(self) -> None:
        """Raises InputError, one line that states the law and the value, for an option outside its range."""
        check_tracker(self.track)
        if not self.text:
            raise InputError("small FFNs are made on text; got none")
        at_least(self, tokens=1, batch=1, holdout_tokens=1, threads=0, seed=0, checkpoint_minutes=0)
        above(self, ratio=0, learning_rate=0)
        within(self, ratio=(0, 1), warmup=(0, 1))
