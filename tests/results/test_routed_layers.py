"""Runs that route some layers of a deep model, and runs of a model without small FFNs: layers go by their numbers in the model,
and the pattern that all-big is compared with by its name.

What stands in the run is the same as in a run of all layers over s and B, so the answers must be, but for names.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from duo_oracle.oracle.contexts import parse_context
from duo_oracle.oracle.patterns import Branch
from duo_oracle.results import Run, load
from duo_oracle.results.answers.controls import sections_of_run
from duo_oracle.results.answers.curve import draw_curve, markdown
from duo_oracle.results.answers.difficulty import table
from duo_oracle.results.answers.difficulty_groups import groups_table
from duo_oracle.results.answers.picture import as_text, draw_text
from duo_oracle.results.answers.replicas import replication
from duo_oracle.results.answers.summary import summarise
from duo_oracle.results.answers.verify import verify
from duo_oracle.results.measures import MEASURES
from duo_oracle.results.report.positions import read_run
from duo_oracle.results.report.words import searched
from duo_oracle.results.sql import query
from duo_oracle.results.statistics.landscape import landscape
from duo_oracle.results.statistics.selection_bias import layers_of_run
from duo_oracle.results.store.parts import UnitWriter
from duo_oracle.results.store.route_files import read_routes, write_routes
from duo_oracle.results.store.writer import RunWriter
from tests.results.plain_model import BruteForce, PlainModel
from tests.results.synthetic import Synthetic

EVERY = Synthetic(budgets="0-4,any")
SOME = replace(EVERY, route_layers=(3, 8, 9, 10), cheapest=Branch.SKIP)
NUMBER = dict(enumerate((3, 8, 9, 10)))


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return EVERY.write(tmp_path_factory.mktemp("every") / "run")


@pytest.fixture(scope="module")
def some(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return SOME.write(tmp_path_factory.mktemp("some") / "run")


def test_a_run_knows_the_numbers_of_its_layers_and_its_cheapest_branch(every: Run, some: Run) -> None:
    assert (every.layers, every.route_layers, every.depth) == ((0, 1, 2, 3), None, 4)
    assert (some.layers, some.route_layers, some.n_letters, some.depth) == ((3, 8, 9, 10), "3,8-10", 4, None)
    assert (every.cheapest, every.cheapest_name) == (Branch.SMALL, "all-small")
    assert (some.cheapest, some.cheapest_name) == (Branch.SKIP, "all-skip")
    assert {letter for pattern in some.paths()["pattern"] for letter in pattern} == set(".B")


@pytest.mark.parametrize("budgets", ["any", "0-4"])
def test_a_summary_names_the_routed_layers_and_the_cheapest_pattern(tmp_path: Path, budgets: str) -> None:
    text = summarise(replace(SOME, budgets=budgets).write(tmp_path / "some"))
    assert "exhaustive over .B · layers 3,8-10 · skip ffn · " in text
    assert "all-skip" in text
    assert "all-small" not in text
    plain = summarise(replace(EVERY, budgets=budgets).write(tmp_path / "every"))
    assert "exhaustive over sB · skip ffn · " in plain
    assert "all-small" in plain
    numbers = [re.findall(r"\d+\.\d+", said) for said in (text, plain)]
    assert numbers[0] == numbers[1]


def test_difficulty_is_counted_from_all_skip(some: Run, every: Run, tmp_path: Path) -> None:
    texts = [table(some, 4, measure) for measure in MEASURES]
    texts += [str(groups_table(some, group)) for group in ("surprise", "class")]
    draw_text(some).save(tmp_path / "some.svg")
    texts += [as_text(some)]
    assert not any("all-small" in text for text in texts)
    assert all("all-skip" in text for text in texts)
    assert "(all-skip loss minus the oracle's, in nats)" in texts[0]
    assert "the pattern, of layers 3,8-10, ran at the one before it" in texts[0]
    assert "(all-small loss minus the oracle's, in nats)" in table(every, 4)
    assert "the pattern ran at the one before it" in table(every, 4)


def test_a_curve_names_the_routed_layers_and_mixes_no_others(some: Run, every: Run, tmp_path: Path) -> None:
    draw_curve([some]).save(tmp_path / "some.svg")
    assert "big layers per token, of layers 3,8-10" in (tmp_path / "some.svg").read_text()
    assert "; k of layers 3,8-10 big, the others always" in markdown([some])
    assert "k of layers" not in markdown([every])
    other = replace(SOME, route_layers=(0, 1, 2, 3)).write(tmp_path / "other")
    with pytest.raises(ValueError, match="the same route_layers; these have 0-3, 3,8-10"):
        markdown([some, other])
    with pytest.raises(ValueError, match="routes 0-3"):
        replication(some, [other])


def test_controls_and_landscape_number_layers_as_the_model_does(some: Run, every: Run) -> None:
    for here, there in zip(layers_of_run(some)[1], layers_of_run(every)[1], strict=True):
        assert here.layer == NUMBER[there.layer]
        for name in ("mu", "sigma", "low_share", "high_share", "total"):
            assert getattr(here, name).mean == getattr(there, name).mean
    luck = {section.name: section for section in sections_of_run(some)}["layers"]
    assert [row[0] for row in luck.rows] == [3, 8, 9, 10]
    assert "effect of one big FFN against all-skip" in luck.title
    assert all(int(number) in some.layers for number in re.findall(r"\d+", luck.note.partition("layer ")[2]))
    found, plain = landscape(some), landscape(every)
    assert [effect.layer for effect in found.effects] == [3, 8, 9, 10]
    assert found.share_O == plain.share_O
    assert [replace(effect, layer=0) for effect in found.effects] == [replace(effect, layer=0) for effect in plain.effects]


@pytest.mark.parametrize("question", ["landscape", "layer_by_position", "layer_effect", "layer_use"])
def test_questions_number_layers_as_the_model_does(some: Run, every: Run, question: str) -> None:
    here, there = (query([run], question).to_pylist() for run in (some, every))
    assert {row["layer"] for row in here} == {3, 8, 9, 10}
    for mine, plain in zip(here, there, strict=True):
        plain["layer"] = NUMBER[plain["layer"]]
        if question == "layer_use":
            plain["small"], plain["skipped"] = plain["skipped"], plain["small"]
        assert mine == {name: pytest.approx(value) if isinstance(value, float) else value for name, value in plain.items()}


def test_questions_of_routers_number_layers_as_the_model_does(some: Run, tmp_path: Path) -> None:
    file = tmp_path / "routes.parquet"
    parts = [(sequence, 0, np.tile(np.array([2, 0, 0, 2], np.uint8), (6, 1)), None) for sequence in range(12)]
    write_routes(file, {"router": "ends", "budget": "2", "route_layers": "3,8-10"}, parts, 4)
    rows = query([some], "router_layer_use", [str(file)]).to_pylist()
    assert [(row["layer"], row["big"], row["even"]) for row in rows] == [(3, 1, 0.5), (8, 0, 0.5), (9, 0, 0.5), (10, 1, 0.5)]
    at_2 = [row["big"] for row in query([some], "layer_use").to_pylist() if row["budget"] == "2"]
    assert [row["oracle_big"] for row in rows] == pytest.approx(at_2)
    write_routes(file, {"route_layers": "0-3"}, parts, 4)
    with pytest.raises(ValueError, match=r"its routes are of layers 0-3; .* routes 3,8-10"):
        read_routes(file, some)


def test_the_view_of_runs_says_which_layers_are_routed(some: Run, every: Run) -> None:
    rows = query([some, every], "SELECT route_layers, layers, cheapest, n_letters FROM runs ORDER BY route_layers").to_pylist()
    assert rows == [
        {"route_layers": "3,8-10", "layers": [3, 8, 9, 10], "cheapest": ".", "n_letters": 4},
        {"route_layers": None, "layers": [0, 1, 2, 3], "cheapest": "s", "n_letters": 4},
    ]


def test_the_words_of_a_report_say_which_layers_of_how_many(some: Run, every: Run) -> None:
    assert "the 4 layers of toy may each take the big FFN or the small FFN: 16 routing patterns." in searched(read_run(every))
    said = "the 4 layers 3,8-10 of toy may each take the big FFN or no FFN at all (skip); the others are always big: 16 routing"
    assert said in searched(read_run(some))
    deep = Run(some.path, replace(some.manifest, facts={**some.manifest.facts, "depth": 30}))
    assert "the 4 layers 3,8-10 of the 30 of toy may each take" in searched(read_run(deep))


@pytest.mark.parametrize("context", ["committed", "same", "full", "..B"])
def test_verify_scores_all_skip_again(tmp_path: Path, context: str) -> None:
    work = BruteForce(
        documents=1,
        windows=1,
        length=5,
        n_letters=3,
        budgets="1,any",
        context=context,
        keep=None,
        route_layers=(3, 8, 9),
        cheapest=Branch.SKIP,
    )
    type(work).model = PlainModel(3)
    with RunWriter.open(tmp_path, work.identity, {"model": "plain"}) as run:
        with UnitWriter(tmp_path, run.run_id, 0, work.parsed_budgets) as writer:
            writer.add_sequence(0, "doc", work.token_ids(0), work.solve(0, parse_context(context, 3)))
        run.add_unit(writer.record)
        run.finish()
    found = verify(load(tmp_path), BruteForce.model, sample=None)
    assert found.passed
    assert [check.checked for check in found.checks] == [8, 8, 8]
    assert [check.name for check in found.checks] == ["oracle path's loss", "all-skip loss", "all-big loss"]
