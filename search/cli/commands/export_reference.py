"""Write a model's likeliest next tokens over data, as Parquet that `search --reference` reads"""

from __future__ import annotations

from duo_oracle.search.api.references import ExportConfig, export_reference
from duo_oracle.search.cli.command import Command, Work


def _run(config: ExportConfig) -> int:
    print(export_reference(config))
    return 0


COMMAND = Command(
    work=Work.SEARCH,
    options=ExportConfig,
    run=_run,
    positional=("model", "data"),
    examples=(
        "duo-oracle export-reference duo-tiny holdout:prose --per-document 1 --out reference.parquet",
        "duo-oracle export-reference MODEL my.txt --context 512 --top 128 --out reference.parquet",
    ),
)
