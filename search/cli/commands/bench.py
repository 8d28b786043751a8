"""Measure the engine's speed beside the obvious ways, in one run"""

from __future__ import annotations

import json

from duo_oracle.search.bench.config import BenchConfig, BenchFormat
from duo_oracle.search.cli.command import Command, Work


def _run(config: BenchConfig) -> int:
    from duo_oracle.search.bench.engine import run_bench
    from duo_oracle.search.bench.growth import draw_growth
    from duo_oracle.search.bench.result import beside, beside_text, read_result

    other = None if config.against is None else read_result(config.against)
    result = run_bench(config)
    pairs = None if other is None else beside(result, other)
    if config.plot is not None:
        draw_growth(result.growth).save(config.plot)
    if config.format is BenchFormat.JSON:
        print(result.to_json() if pairs is None else json.dumps({"bench": json.loads(result.to_json()), "pairs": pairs}, indent=2))
        return 0
    print(result)
    if pairs is not None:
        print("\n" + beside_text(pairs, str(config.against)))
    return 0


COMMAND = Command(
    work=Work.REPRODUCE,
    options=BenchConfig,
    run=_run,
    examples=(
        "duo-oracle bench",
        "duo-oracle bench --job-seconds 0 --rounds 5",
        "duo-oracle bench --hidden 256 --vocabulary 8192 --job-seconds 0 --format json > before.json",
        "duo-oracle bench --hidden 256 --vocabulary 8192 --job-seconds 0 --against before.json",
        "duo-oracle bench --job-seconds 0 --growth --plot growth.svg",
    ),
)
