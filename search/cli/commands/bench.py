"""Measure the engine's speed beside the obvious ways, in one run"""

from __future__ import annotations

from duo_oracle.search.bench.config import BenchConfig, BenchFormat
from duo_oracle.search.cli.command import Command, Work


def _run(config: BenchConfig) -> int:
    from duo_oracle.search.bench.engine import run_bench

    result = run_bench(config)
    print(result.to_json() if config.format is BenchFormat.JSON else result)
    return 0


COMMAND = Command(
    work=Work.REPRODUCE,
    options=BenchConfig,
    run=_run,
    examples=(
        "duo-oracle bench",
        "duo-oracle bench --job-seconds 0 --rounds 5",
        "duo-oracle bench --hidden 256 --vocabulary 8192 --job-seconds 0 --format json",
    ),
)
