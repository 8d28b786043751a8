"""A toy model and a little data, written once; and what two runs must have in common."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from duo_oracle import results
from duo_oracle.models.checkpoint import write_checkpoint
from duo_oracle.models.families import duo_llama
from duo_oracle.models.families.toy import write_toy
from duo_oracle.search.job.config import SearchConfig

N_DOCUMENTS, N_SEQUENCES = 5, 10


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "toy"
    write_toy(directory, seed=3, n_letters=4, n_vocabulary=16, n_positions=12, interaction=1.0)
    return directory


@pytest.fixture(scope="session")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five documents of two windows each."""
    file = tmp_path_factory.mktemp("data") / "tokens.jsonl"
    generator = np.random.default_rng(5)
    rows = [{"document": f"book {n}", "tokens": generator.integers(0, 16, 12 + 2 + n).tolist()} for n in range(N_DOCUMENTS)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture(scope="session")
def duo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random Duo-LLM, which routers route."""
    directory = tmp_path_factory.mktemp("models") / "duo"
    config, tensors = duo_llama.random_checkpoint(1)
    write_checkpoint(directory, config, tensors, None, torch.float32)
    return directory


@pytest.fixture(scope="session")
def duo_tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four short documents for it."""
    file = tmp_path_factory.mktemp("data") / "duo.jsonl"
    generator = np.random.default_rng(5)
    rows = [{"document": f"book {n}", "tokens": generator.integers(0, 40, 7 + n).tolist()} for n in range(4)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture
def asks_duo(duo: Path, duo_tokens: Path, tmp_path: Path) -> Callable[..., SearchConfig]:
    """As `asks`, over the Duo-LLM and its documents."""

    def config(**values: Any) -> SearchConfig:
        base = {"model": str(duo), "data": str(duo_tokens), "out": str(tmp_path / "run"), "local": True, "null_draws": 1}
        return SearchConfig(**{**base, **values})

    return config


@pytest.fixture
def asks(toy: Path, tokens: Path, tmp_path: Path) -> Callable[..., SearchConfig]:
    """A config over the toy and the tokens: one sequence per unit, in this process, into a new directory."""

    def config(**values: Any) -> SearchConfig:
        base = {"model": str(toy), "data": str(tokens), "out": str(tmp_path / "run"), "unit_sequences": 1, "local": True}
        return SearchConfig(**{**base, **values})

    return config


def tables_of(directory: Path | str) -> dict[str, pa.Table]:
    """Every table of a run, with what it says of itself."""
    run = results.load(directory)
    return {name: run.dataset(name).to_table() for name in run.tables}


def assert_same_tables(left: dict[str, pa.Table], right: dict[str, pa.Table]) -> None:
    assert left.keys() == right.keys()
    for name in left:
        assert left[name].equals(right[name], check_metadata=True), name
