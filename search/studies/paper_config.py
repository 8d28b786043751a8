"""The options of `duo-oracle reproduce`, each declared once. Imports nothing heavy, so that the command line starts at once."""

from __future__ import annotations

from dataclasses import dataclass, field

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.ranges import at_least


@dataclass(frozen=True)
class ReproduceConfig:
    """What `duo-oracle reproduce` is asked.

    Args:
        model: model directory, or the name of a shipped model
        out: directory for the page, the figures and the runs behind them; the same command resumes it
        data: holdouts or files; repeatable
        router: a trained router for the figures of routers; repeatable; default the shipped ones of the paper's method
        only: make this figure alone (fig4b); repeatable
        quick: tiny sizes, to see that all works; its verdicts mean nothing
        seq_len: tokens of each document that are searched
        max_documents: the most documents of each holdout; default all
        seed: seed of everything random
        workers: worker processes; default one per core
        local: work in this process, without Ray
    """

    model: str = field(default="duo-tiny", metadata={"uri": True})
    out: str = "runs/paper"
    data: tuple[str, ...] = field(default=("holdout:prose", "holdout:code"), metadata={"uri": True})
    router: tuple[str, ...] = field(default=(), metadata={"uri": True})
    only: tuple[str, ...] = ()
    quick: bool = False
    seq_len: int | None = None
    max_documents: int | None = None
    seed: int = 0
    workers: int | None = None
    local: bool = False

    def __post_init__(self) -> None:
        at_least(self, seq_len=8, max_documents=2, workers=1, seed=0)
        if self.local and self.workers not in (None, 1):
            raise InputError(f"`local=True` works in this one process; got `workers={self.workers}`")
        if not self.data:
            raise InputError("`data` is a holdout or a file; got none")
