"""The text of a run's sequences, token by token, from its tokens table. Knows no losses."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow.dataset as ds

from duo_oracle.results.store.reader import StoredRun


def read_pieces(run: StoredRun, sequences: Iterable[int]) -> dict[int, list[str]]:
    """Every token of each sequence as it reads, its last one (only a target) included."""
    wanted = sorted(set(sequences))
    columns = ["sequence", "position", "token_id", "token", "target_id", "target"]
    rows = run.dataset("tokens").to_table(columns=columns, filter=ds.field("sequence").isin(wanted))
    pieces: dict[int, list[str]] = {}
    for row in rows.sort_by([("sequence", "ascending"), ("position", "ascending")]).to_pylist():
        texts = pieces.setdefault(row["sequence"], [piece(row["token"], row["token_id"])])
        texts.append(piece(row["target"], row["target_id"]))
    return pieces


def piece(text: str | None, token_id: int) -> str:
    """How a token reads: its id after a space where no tokenizer says."""
    return f" {token_id}" if text is None else text
