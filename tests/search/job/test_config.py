"""What a search is asked: bad values are refused with the law, and the identity holds what decides the tables."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest

from duo_oracle.oracle.base.sizes import parse_bytes
from duo_oracle.oracle.budgets import Budget, BudgetKind
from duo_oracle.oracle.contexts import ContextKind
from duo_oracle.oracle.patterns import Branch
from duo_oracle.search.job.config import SearchConfig
from duo_oracle.search.job.identity import identity_of
from duo_oracle.search.job.problem import Keep


def config(**values: Any) -> SearchConfig:
    return SearchConfig(**{"model": "m", "data": "d", "out": "o", **values})


def test_every_option_has_its_line_of_help() -> None:
    from duo_oracle.search.cli.options import argument_docs

    assert set(argument_docs(SearchConfig)) == {field.name for field in fields(SearchConfig)}


@pytest.mark.parametrize(("text", "size"), [("1GiB", 1 << 30), ("512M", 512 << 20), ("1.5 GB", 3 << 29), ("2097152", 2 << 20)])
def test_memory_is_read_in_binary_units(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"strategy": "exaustive"}, "did you mean 'exhaustive'"),
        ({"settings": {"nonsense": "1"}}, "strategy exhaustive has no settings; got 'nonsense'"),
        ({"skip": "attention"}, "available: ffn, layer"),
        ({"branches": "sX"}, "letters"),
        ({"branches": ""}, "letters"),
        ({"dtype": "int8"}, "available: float32"),
        ({"device": "gpu"}, "cpu, cuda or cuda:N"),
        ({"keep": "all"}, "available: none, losses, trials"),
        ({"memory": "lots"}, "at least 1MiB"),
        ({"memory": "10K"}, "at least 1MiB"),
        ({"seq_len": 1}, "`seq_len` must be at least 2"),
        ({"max_sequences": 0}, "`max_sequences` must be at least 1"),
        ({"null_draws": -1}, "`null_draws` must be at least 0"),
        ({"seed": -1}, "`seed` must be at least 0"),
        ({"workers": 0}, "`workers` must be at least 1"),
        ({"threads": 0}, "`threads` must be at least 1"),
        ({"unit_sequences": 0}, "`unit_sequences` must be at least 1"),
        ({"local": True, "address": "auto"}, "give one of them"),
        ({"local": True, "workers": 2}, "this one process"),
        ({"strategy": "random_search", "keep": "losses"}, "use `keep='trials'`"),
    ],
)
def test_a_value_that_no_model_makes_good_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError) as error:
        config(**values)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("values", "said"),
    [({"budget": "7"}, "4 layers"), ({"budget": "few"}, "few"), ({"context": "bigg"}, "bigg"), ({"context": "BB"}, "4 letters")],
)
def test_a_value_that_does_not_fit_the_model_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        config(**values).problem(n_letters=4)


def test_a_budget_without_a_pattern_is_refused() -> None:
    with pytest.raises(ValueError, match="no pattern"):
        config(branches="s", budget="2").problem(n_letters=4).spaces()


def test_the_problem_says_what_was_asked() -> None:
    problem = config(budget="1-2,atmost:3", context="same", keep="losses", memory="2GiB", seed=7).resolved(4, 16).problem(4)
    assert problem.budgets == (Budget(BudgetKind.EXACT, 1), Budget(BudgetKind.EXACT, 2), Budget(BudgetKind.ATMOST, 3))
    assert problem.context.kind is ContextKind.SAME
    assert (problem.keep, problem.memory_bytes, problem.seed, problem.null_draws) == (Keep.LOSSES, 2 << 30, 7, 4)


def test_only_an_exhaustive_search_draws_labels_unasked() -> None:
    assert config(strategy="random_search").resolved(4, 16).null_draws == 0
    assert config(strategy="random_search", null_draws=2).resolved(4, 16).null_draws == 2


def test_a_unit_holds_more_sequences_where_the_search_is_smaller() -> None:
    sizes = [config().resolved(n_letters, 256).unit_sequences for n_letters in (4, 8, 12)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == 1
    assert sizes[0] > 1


def test_the_identity_is_json_and_knows_nothing_of_places_and_workers() -> None:
    here = identity_of(config(out="a", workers=1).resolved(4, 16), 4)
    there = identity_of(
        config(out="b", model="elsewhere", data="copy", local=True, overwrite=True, dry_run=True).resolved(4, 16), 4
    )
    assert json.loads(json.dumps(here)) == there


@pytest.mark.parametrize(
    "values",
    [
        {"seed": 1},
        {"budget": "2"},
        {"context": "full"},
        {"branches": ".sB"},
        {"dtype": "float64"},
        {"keep": "losses"},
        {"null_draws": 0},
        {"threads": 2},
    ],
)
def test_the_identity_tells_questions_apart(values: dict[str, Any]) -> None:
    assert identity_of(config(**values).resolved(4, 16), 4) != identity_of(config().resolved(4, 16), 4)


@pytest.mark.parametrize(
    "values",
    [{"memory": "2GiB"}, {"unit_sequences": 2}, {"workers": 3}, {"local": True}, {"overwrite": True}],
)
def test_the_identity_knows_nothing_of_how_the_work_is_done(values: dict[str, Any]) -> None:
    assert identity_of(config(**values).resolved(4, 16), 4) == identity_of(config().resolved(4, 16), 4)


def test_units_are_a_question_of_their_own_where_they_share_one_stream_of_proposals() -> None:
    def same(**values: Any) -> bool:
        one, two = (config(**values, unit_sequences=size).resolved(4, 16) for size in (1, 2))
        return identity_of(one, 4) == identity_of(two, 4)

    assert not same(strategy="random_search")
    assert not same(strategy="optuna", context="same", settings={"scope": "fixed"})
    assert same(strategy="random_search", context="full")


@pytest.mark.parametrize(("device", "other", "same"), [("cuda", "cuda:1", True), ("cpu", "cuda", False)])
def test_the_kind_of_device_is_in_the_identity_and_its_number_is_not(device: str, other: str, same: bool) -> None:
    one, two = (identity_of(config(device=name).resolved(4, 16), 4) for name in (device, other))
    assert (one == two) is same


def test_a_default_said_aloud_is_the_same_question() -> None:
    aloud = identity_of(config(null_draws=4, seq_len=16, budget="0-1").resolved(4, 16), 4)
    assert aloud == identity_of(config(budget="0,1").resolved(4, 16), 4)


@pytest.mark.parametrize(("spelling", "stored"), [("big", "full"), ("small", "cheapest"), ("full", "full"), ("same", "same")])
def test_a_context_has_one_spelling_in_the_identity(spelling: str, stored: str) -> None:
    assert identity_of(config(context=spelling).resolved(4, 16), 4)["context"] == stored
    assert config(context=spelling).problem(4).context == config(context=stored).problem(4).context


def test_the_cheapest_context_is_of_the_models_cheapest_branch() -> None:
    assert str(config(context="cheapest").problem(4, Branch.SKIP).context.pattern) == "...."
    assert str(config(context="small").problem(4, Branch.SKIP).context.pattern) == "ssss"  # and so refused without small FFNs


def test_the_gate_of_experts_is_part_of_what_a_run_is_where_it_is_not_the_routers_own() -> None:
    own, other = (identity_of(config(branches="top:1,2", gate=gate).resolved(4, 16), 4) for gate in ("own", "renormalised"))
    assert "gate" not in own
    assert other == own | {"gate": "renormalised"}
    with pytest.raises(ValueError, match="`gate='renormalised'` says how sets of experts are weighed"):
        config(gate="renormalised")
