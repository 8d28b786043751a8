"""The shipped mixture: small, made by its recipe, and every set of its own router is a pattern of the table of numbers."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from duo_oracle.models.checkpoint import SHIPPED, read_checkpoint
from duo_oracle.models.families.moe_llama import build_module
from duo_oracle.models.moe_training.evaluation import evaluate_mixture
from duo_oracle.models.moe_training.learner import model_config
from duo_oracle.models.recipes.et_tiny import NAME, PUBLISHED, TOKENS, publish, recipe
from duo_oracle.models.text.tokenizer import load_tokenizer
from duo_oracle.models.text.windows import read_sequences
from duo_oracle.results import load
from duo_oracle.search.job.config import SearchConfig
from duo_oracle.search.job.driver import run_search

DIRECTORY = SHIPPED[NAME]


def test_it_ships_whole_and_is_small() -> None:
    assert {path.name for path in DIRECTORY.iterdir()} == set(PUBLISHED)
    assert sum(path.stat().st_size for path in DIRECTORY.iterdir()) < 8e6


def test_the_recipe_makes_the_shipped_config(tmp_path: Path) -> None:
    config = recipe(Path("corpus"), Path("out"))
    shipped = json.loads((DIRECTORY / "config.json").read_text())
    assert shipped == {**shipped, **json.loads(json.dumps(model_config(config, 4096).to_dict()))}
    last = list(csv.DictReader((DIRECTORY / "loss.csv").open()))[-1]
    assert abs(int(last["tokens"]) - TOKENS) < config.batch * config.positions


@pytest.mark.long
def test_the_stated_losses_come_out_again() -> None:
    checkpoint = read_checkpoint(NAME)
    assert checkpoint.tokenizer_json is not None
    module = build_module(checkpoint.config, checkpoint.tensors)
    for source, stated in json.loads((DIRECTORY / "evaluation.json").read_text()).items():
        if source.startswith("holdout:"):
            windows = read_sequences(source, load_tokenizer(checkpoint.tokenizer_json), 4096, 256)
            found = evaluate_mixture(module, windows, 50_000).to_dict(module.config.rate)
            assert found["loss"] == pytest.approx(stated["loss"], abs=1e-4)
            assert found["usage_mean"] == pytest.approx(stated["usage_mean"], abs=1e-4)


def test_what_its_own_router_takes_is_a_pattern_of_numbers(tmp_path: Path) -> None:
    run_search(
        SearchConfig(
            model=NAME,
            data=("holdout:code",),
            out=str(tmp_path / "run"),
            branches="top:0,1,2,3,4,5,6,7,8",
            route_layers="3-4",
            context="full",
            budget="0-16",
            null_draws=1,
            seq_len=9,
            per_document=1,
            max_sequences=2,
            local=True,
        )
    )
    paths = load(tmp_path / "run").paths()
    assert paths["own_pattern"].notna().all()
    at_own = paths[paths["budget"] == paths["own_cost"].astype(str)]
    assert len(at_own) == 16
    assert (at_own["loss"] <= at_own["loss_full"] + 1e-5).all()


def test_a_training_is_published_with_its_card(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for name in PUBLISHED:
        (tmp_path / "out" / name).write_text(name)
    publish(tmp_path / "out", tmp_path / "published")
    assert {path.name for path in (tmp_path / "published").iterdir()} == set(PUBLISHED)
    assert "Apache-2.0" in (tmp_path / "published" / "README.md").read_text()
