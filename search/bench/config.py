"""The options of `duo-oracle bench`. Knows no torch, so that its help appears at once."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.pictures import check_plot
from duo_oracle.oracle.base.ranges import at_least


class BenchFormat(StrEnum):
    TABLE = "table"
    JSON = "json"


@dataclass(frozen=True)
class BenchConfig:
    """What `duo-oracle bench` measures.

    Args:
        model: a duo_llama model directory, or the name of a shipped model
        data: text that the sequence under test is from
        seq_len: tokens of the sequence under test
        rounds: how often each way takes its turn; medians are reported
        threads: threads of this process
        hidden: measure a random 12-layer model of this hidden size instead (big FFN 4x, small FFN big/16)
        vocabulary: tokens in the vocabulary of the random model
        job_seconds: length of the whole searches that compare workers and Ray; 0 leaves them out
        job_seq_len: tokens per sequence of those searches
        growth: also measure how time and memory grow with layers, branches, context, vocabulary and tokens
        growth_layers: the most layers there; every two more take four times as long
        plot: draw the growth into this file (.svg, .png or .pdf)
        against: file that another bench wrote with `--format json`; every number is shown beside its own there
        format: table or json
        seed: seed of the random model
    """

    model: str = "duo-tiny"
    data: str = "holdout:prose"
    seq_len: int = 129
    rounds: int = 3
    threads: int = 1
    hidden: int | None = None
    vocabulary: int = 4096
    job_seconds: int = 60
    job_seq_len: int = 33
    growth: bool = False
    growth_layers: int = 14
    plot: str | None = None
    against: str | None = None
    format: BenchFormat = BenchFormat.TABLE
    seed: int = 0

    def __post_init__(self) -> None:
        at_least(self, seq_len=16, rounds=1, threads=1, vocabulary=2, job_seconds=0, job_seq_len=2)
        at_least(self, growth_layers=8)
        check_plot(self.plot)
        if self.plot is not None and not self.growth:
            raise InputError("`plot` draws the growth; give `growth=True` as well")
        if self.hidden is not None and (self.hidden < 64 or self.hidden % 64):
            raise InputError(f"`hidden` must be a multiple of 64; got {self.hidden}")
