"""What may differ when a run is resumed, and the config.yaml that gives a search back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from duo_oracle import results
from duo_oracle.results.store.manifest import run_id_of
from duo_oracle.search.cli import main
from duo_oracle.search.job.config import SearchConfig
from duo_oracle.search.job.driver import run_search
from tests.search import fakes
from tests.search.conftest import N_SEQUENCES, assert_same_tables, tables_of

Asks = Callable[..., SearchConfig]


@pytest.mark.parametrize("other", [{"memory": "1GB"}, {"memory": "2GiB"}, {"unit_sequences": 3}, {"unit_sequences": None}])
def test_what_changes_no_answer_refuses_no_resume(asks: Asks, other: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_search(asks(), solve=fakes.is_interrupted)
    said: list[str] = []
    assert run_search(asks(**other), solve=fakes.solves, notify=said.append).solved == N_SEQUENCES - 1
    assert said == (["the run was begun in units of 1 sequences and keeps them"] if other.get("unit_sequences") else [])
    whole = asks(out=str(tmp_path / "whole"))
    run_search(whole, solve=fakes.solves)
    assert_same_tables(tables_of(whole.out), tables_of(asks().out))


def test_a_run_from_before_its_identity_lost_memory_and_unit_size_is_resumed(asks: Asks) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_search(asks(), solve=fakes.is_interrupted)
    manifest = Path(asks().out, "run.json")
    stored = json.loads(manifest.read_text())
    del stored["unit_sequences"]
    stored["identity"] |= {"memory": "1GiB", "unit_sequences": 1}
    stored["run_id"] = run_id_of(stored["identity"])
    manifest.write_text(json.dumps(stored))
    assert run_search(asks(memory="1GB", unit_sequences=4), solve=fakes.solves).solved == N_SEQUENCES - 1
    assert results.load(asks().out).manifest.unit_sequences == 1


CONFIGS: list[dict[str, Any]] = [
    {},
    {"budget": "2", "context": "....", "branches": ".sB", "keep": "losses"},
    {"budget": "0-2,any", "context": "full", "null_temperature": "2", "seed": 3, "null_draws": 2},
    {"strategy": "beam", "settings": {"width": "2", "direction": "down"}, "context": "same", "max_sequences": 4},
]


@pytest.mark.parametrize("values", CONFIGS)
def test_config_yaml_gives_the_search_back(asks: Asks, values: dict[str, Any], tmp_path: Path) -> None:
    config = asks(**values)
    run_search(config)
    file = Path(config.out, "config.yaml")
    assert main(["search", "--config", str(file), "--out", str(tmp_path / "again")]) == 0
    assert_same_tables(tables_of(config.out), tables_of(tmp_path / "again"))
    assert main(["search", "--config", str(file)]) == 0  # resumes, which is nothing to do
    first, second = (yaml.safe_load(Path(run, "config.yaml").read_text()) for run in (config.out, tmp_path / "again"))
    assert first == {**second, "out": config.out}


def test_config_yaml_never_overwrites(asks: Asks) -> None:
    run_search(replace(asks(), overwrite=True), solve=fakes.solves)
    assert "overwrite" not in yaml.safe_load(Path(asks().out, "config.yaml").read_text())
