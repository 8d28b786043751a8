"""What a study keeps of models' work, so that its page is made without a model: calibration, and routers beside the oracle."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa

from duo_oracle.oracle.base.whole_file import write_text_whole
from duo_oracle.results.compare.files import tokens_table, write_table
from duo_oracle.results.statistics.calibration import calibration
from duo_oracle.search.job.all_full import full_tokens
from duo_oracle.search.rerun.opened import OpenedRun
from duo_oracle.search.rerun.routers import Compared


def write_calibration(opened: OpenedRun, file: Path) -> None:
    """How well all-big's own probabilities describe the run's text."""
    found = calibration(full_tokens(opened.model, opened.sequences))
    write_text_whole(
        file,
        json.dumps(
            {
                "loss": str(found.loss),
                "entropy": str(found.entropy),
                "overconfidence": str(found.overconfidence),
                "error": found.error,
                "error_by_chance": found.error_by_chance,
                "temperature": found.temperature_in_sample,
            }
        )
        + "\n",
    )


def write_comparison(file: Path, compared: Compared, names: tuple[str, ...]) -> None:
    """One row per token and router, as `compare --out` writes them, each router under its name here; whole or not at all."""
    tables = []
    for name, routed in zip(names, compared.routers, strict=True):
        table = tokens_table(compared.plane, routed)
        column = pa.array([name] * table.num_rows, pa.string())
        tables.append(table.set_column(table.schema.get_field_index("router"), "router", column))
    file.parent.mkdir(parents=True, exist_ok=True)
    write_table(file, pa.concat_tables(tables))
