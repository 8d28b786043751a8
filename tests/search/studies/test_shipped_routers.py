"""The study of the shipped routers in little: labels searched once, what is missing fitted, differences as they are by hand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from duo_oracle.models.checkpoint import SHIPPED
from duo_oracle.models.recipes.routers import recipes
from duo_oracle.models.router import RECORD, shipped_routers
from duo_oracle.models.router_training.config import RouterConfig
from duo_oracle.results.api.run import load
from duo_oracle.search.rerun.labels import RunLabels
from duo_oracle.search.studies import routed_losses
from duo_oracle.search.studies import shipped_routers as study

TEXTS = {
    "one": ("The old captain had never", "seen so quiet a morning by the sea, and he said so to nobody."),
    "two": ("A door opened; nobody came in.", "It was the wind, which had been at it since the winter began."),
}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    for kind in ("prose", "code"):
        rows = [{"document": f"austen/{kind}-{i}", "text": f"{kind} {i}: {TEXTS['one'][1]}"} for i in range(4)]
        (folder / f"train_{kind}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "manifest.json").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> study.Texts:
    folder = tmp_path_factory.mktemp("texts")
    for name, parts in TEXTS.items():
        rows = [{"document": f"{name}/{i}", "text": part} for i, part in enumerate(parts)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return study.Texts(folder / "losses", tuple(str(folder / f"{name}.jsonl") for name in TEXTS))


def test_every_shipped_router_is_of_one_of_the_two_recipes() -> None:
    shipped = {name.partition("/")[2] for name in shipped_routers() if name.startswith("duo-tiny/")}
    assert {recipe.name for recipe in (*recipes(), *study.distilled())} == shipped


def test_what_is_missing_is_fitted_to_the_labels_of_one_search(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught = {}

    def train(config: RouterConfig, labels: RunLabels) -> None:
        taught[Path(config.out).name] = config, sum(len(one.loss_R) for one in labels)
        Path(config.out).mkdir(parents=True)
        (Path(config.out) / RECORD).write_text("{}")

    monkeypatch.setattr(study, "train_router", train)
    out = tmp_path / "out"
    study.distil(corpus, out, workers=1)
    assert list(taught) == ["distilled-4@0", "distilled-6@0", "distilled-8@0", "distilled_tuned-4@0"]
    tokens = load(str(out / "labels")).query("SELECT document FROM tokens")
    assert tokens["document"].nunique() == 2 + 2  # of four documents of each text, the first and the last
    assert {labels for _, labels in taught.values()} == {study.PATTERNS * len(tokens)}
    assert [config.settings for config, _ in taught.values()] == [{}, {}, {}, {"tune": "yes"}]
    taught.clear()
    (out / "distilled-6@0" / RECORD).unlink()
    (out / "distilled-6@0").rmdir()
    study.distil(corpus, out, workers=1)
    assert list(taught) == ["distilled-6@0"]


def test_a_difference_is_to_random_routing_of_the_same_budget(texts: study.Texts) -> None:
    (text, *_) = texts.names
    routed, less = texts.less_random("duo-tiny/budget-6", text)
    below = int(np.floor(routed.budget))
    share = routed.budget - below
    means = [texts.routed(f"random:{n}", text).loss_N.mean() for n in (below, below + 1)]
    assert less.mean == pytest.approx(routed.loss_N.mean() - (1 - share) * means[0] - share * means[1])
    assert (less.n_tokens, less.n_documents) == (len(routed.loss_N), 2)
    skipping, less = texts.less_random("duo-tiny/skip-6", text)
    n_big = round(skipping.budget)
    assert less.mean == pytest.approx(skipping.loss_N.mean() - texts.routed(f"random:{n_big}+{12 - n_big}", text).loss_N.mean())
    everywhere, less = texts.less_random("fixed:" + "B" * 12, text)
    assert (everywhere.budget, less.mean) == (12, 0)


def test_a_pass_is_made_once(texts: study.Texts, monkeypatch: pytest.MonkeyPatch) -> None:
    first = texts.routed("random:3", texts.names[1])
    monkeypatch.setattr(routed_losses, "route", None)
    again = texts.routed("random:3", texts.names[1])
    np.testing.assert_array_equal(first.loss_N, again.loss_N)
    np.testing.assert_array_equal(first.chosen_NL, again.chosen_NL)


def test_the_page_has_every_router_with_its_seeds(texts: study.Texts, tmp_path: Path) -> None:
    shipped = SHIPPED["duo-tiny"] / "routers"
    for name, of in (("budget-4@0", "budget-4"), ("budget-4@1", "budget-6"), ("expert_choice-4@0", "expert_choice-4")):
        shutil.copytree(shipped / of, tmp_path / name)
    routers = list(study.trained(tmp_path, seeds=3))
    assert [(recipe.name, len(places)) for recipe, places in routers] == [("budget-4", 2), ("expert_choice-4", 1)]
    page = study.page(texts, routers)
    for text in texts.names:
        seeds = [texts.less_random(place, text)[1].mean for place in routers[0][1]]
        assert f"| {seeds[1]:+.4f} | {np.mean(seeds):+.4f} |" in page
    usage = page[page.index("## Use") :].splitlines()
    record = json.loads((tmp_path / "expert_choice-4@0" / RECORD).read_text())["calibration"]
    assert usage[2] == "| router | held-out training text | one | two |"
    assert [line.split(" | ")[0] for line in usage[4:]] == ["| expert_choice-4"]
    assert f"{record['budget_after']:.2f}" in usage[4]
