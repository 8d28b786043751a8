"""Write runs as one self-contained HTML page: every token in its text, with path, losses and selection bias"""

from __future__ import annotations

from dataclasses import dataclass, field

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.search.cli.command import Command, Work


@dataclass(frozen=True)
class ReportConfig:
    """What `duo-oracle report` is asked.

    Args:
        runs: run directories; the page shows one at a time
        out: file to write, .html
        routes: FILE.parquet or NAME=FILE.parquet, a router's choices to show beside the oracle, from duo-oracle route; repeatable
        strategies: FILE.json, a table of duo-oracle strategies --format json to show; repeatable
        ladder: FILE.json, the ladder of one of the runs to show, from duo-oracle ladder RUN --format json; repeatable
        title: heading of the page; default model and data
    """

    runs: tuple[str, ...] = field(metadata={"uri": True})
    out: str
    routes: tuple[str, ...] = field(default=(), metadata={"uri": True})
    strategies: tuple[str, ...] = field(default=(), metadata={"uri": True})
    ladder: tuple[str, ...] = field(default=(), metadata={"uri": True})
    title: str | None = None

    def __post_init__(self) -> None:
        if not self.out.lower().endswith((".html", ".htm")):
            raise InputError(f"--out is a file .html; got {self.out!r}")


def _run(config: ReportConfig) -> int:
    from duo_oracle.results import load
    from duo_oracle.results.report import write_report

    runs = [load(path) for path in config.runs]
    size = write_report(runs, config.out, config.routes, config.strategies, config.title, config.ladder)
    tokens = sum(run.n_tokens for run in runs)
    print(f"{config.out}: {tokens:,} tokens of {len(runs)} run{'s' * (len(runs) != 1)}, {size / 1e6:.1f} MB; open it in a browser")
    return 0


COMMAND = Command(
    work=Work.READ,
    options=ReportConfig,
    run=_run,
    positional=("runs",),
    examples=(
        "duo-oracle report runs/first --out report.html",
        "duo-oracle ladder runs/reached --format json > ladder.json",
        "duo-oracle report runs/reached --ladder ladder.json --out report.html",
        "duo-oracle report runs/big --routes budget-4=routes.parquet --strategies strategies.json --out report.html",
    ),
)
