"""Runs that route some layers of a deep model, and runs of a model without small FFNs: layers go by their numbers in the model,
and the pattern that all-big is compared with by its name."""

from __future__ import annotations

from pathlib import Path

from oracle.patterns import Branch
from tests.results.synthetic import Synthetic

SOME = Synthetic(route_layers=(3, 8, 9, 10), cheapest=Branch.SKIP)


def test_a_run_knows_the_numbers_of_its_layers_and_its_cheapest_branch(tmp_path: Path) -> None:
    every, some = Synthetic().write(tmp_path / "every"), SOME.write(tmp_path / "some")
    assert (every.layers, every.route_layers) == ((0, 1, 2, 3), None)
    assert (some.layers, some.route_layers, some.n_layers) == ((3, 8, 9, 10), "3,8-10", 4)
    assert (every.cheapest, every.cheapest_name) == (Branch.SMALL, "all-small")
    assert (some.cheapest, some.cheapest_name) == (Branch.SKIP, "all-skip")
    assert {letter for pattern in some.paths()["pattern"] for letter in pattern} == set(".B")
