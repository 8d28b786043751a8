"""The recipe of the shipped routers: it names them all, asks for what it says, and passes over what is done."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from duo_oracle.models.recipes import routers
from duo_oracle.models.router import RECORD, shipped_routers


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    rows = [{"document": f"{kind}/{i}", "text": f"{kind} {i}"} for i in range(3) for kind in ("austen", "web")]
    (folder / "train_prose.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "train_code.jsonl").write_text(json.dumps({"document": "a", "text": "x = 1"}) + "\n")
    (folder / "manifest.json").write_text("{}")
    return folder


def test_every_shipped_router_has_a_recipe_but_those_that_learn_from_an_oracle() -> None:
    shipped = {name.partition("/")[2] for name in shipped_routers()}
    assert {recipe.name for recipe in routers.recipes()} == {name for name in shipped if not name.startswith("distilled")}


def test_what_ships_is_trained_first_and_what_is_compared_from_three_seeds() -> None:
    order = list(routers.trainings(3))
    assert [seed for _, seed in order] == sorted(seed for _, seed in order)
    assert {recipe.name for recipe, seed in order if seed == 2} == {
        f"{kind}-{budget}" for kind in ("budget", "token_choice", "expert_choice", "expert_threshold") for budget in (4, 6, 8)
    }


def test_experts_keep_their_cutoffs_and_the_others_are_calibrated_on_novels(corpus: Path, tmp_path: Path) -> None:
    for recipe in routers.recipes():
        config = routers.options(recipe, 0, corpus, tmp_path / "out")
        config.check()
        assert config.tokens >= 600_000
        assert config.calibrate is None
        assert bool(config.calibration_text) == (recipe.router in ("budget", "token_choice"))
    (written,) = {*config.calibration_text}
    assert [json.loads(line)["document"] for line in Path(written).read_text().splitlines()] == ["austen/0", "austen/1", "austen/2"]


def test_trainings_that_are_done_are_passed_over_and_published(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = []

    def train(config) -> None:
        trained.append(Path(config.out).name)
        Path(config.out).mkdir(parents=True)
        for name in (RECORD, routers.WEIGHTS):
            (Path(config.out) / name).write_text(config.out)

    monkeypatch.setattr(routers, "train_router", train)
    monkeypatch.setitem(routers.SHIPPED, "duo-tiny", tmp_path / "package")
    monkeypatch.setattr(
        sys, "argv", ["routers", "--corpus", str(corpus), "--out", str(tmp_path / "out"), "--seeds", "2", "--publish"]
    )
    routers.main()
    assert len(trained) == len(set(trained)) == 17 + 12
    published = {path.parent.name: path.read_text() for path in (tmp_path / "package").glob(f"routers/*/{RECORD}")}
    assert published == {recipe.name: str(tmp_path / "out" / f"{recipe.name}@0") for recipe in routers.recipes()}
    routers.main()
    assert len(trained) == 17 + 12
