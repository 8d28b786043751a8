"""verify finds every stored loss again, in every context, and finds out a changed one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.contexts import parse_context
from duo_oracle.results import Run, load
from duo_oracle.results.answers.verify import verify
from duo_oracle.results.store.parts import UnitWriter
from duo_oracle.results.store.writer import RunWriter
from tests.results.plain_model import BruteForce, PlainModel
from tests.results.store.test_sealed import sealed

CONTEXTS = ["committed", "same", "full", "cheapest", "sBsB"]


def searched(directory: Path, context: str, change: dict[str, float] | None = None) -> Run:
    """A run of two units found by brute force; `change` adds to one row's columns in the second unit."""
    work = BruteForce(
        documents=2, windows=1, length=5, n_letters=3 + (context == "sBsB"), budgets="1,any", context=context, keep=None
    )
    type(work).model = PlainModel(work.n_letters)
    with RunWriter.open(directory, work.identity, {"model": "plain"}) as run:
        for unit in range(2):
            paths = work.solve(unit, parse_context(context, work.n_letters))
            if unit == 1:
                for name, added in (change or {}).items():
                    values = getattr(paths, name).copy()
                    values[3] = 3 - values[3] if name == "branches_RL" else values[3] + added  # s for B, B for s
                    paths = replace(paths, **{name: values})
            with UnitWriter(directory, run.run_id, unit, work.parsed_budgets) as writer:
                writer.add_sequence(unit, f"doc{unit}", work.token_ids(unit), paths)
            run.add_unit(writer.record)
        run.finish()
    return load(directory)


@pytest.mark.parametrize("context", CONTEXTS)
def test_stored_losses_are_reproduced(tmp_path: Path, context: str) -> None:
    run = searched(tmp_path / "x", context)
    found = verify(run, BruteForce.model, sample=None)
    assert found.passed
    assert [check.checked for check in found.checks] == [16, 16, 16]
    assert all(check.greatest < 1e-5 for check in found.checks)
    assert f"reproduced to 0.0001 nats by plain forward passes, context {context}" in str(found)


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("column", ["loss_R", "loss_cheapest_R", "loss_full_R"])
def test_a_changed_loss_is_found(tmp_path: Path, context: str, column: str) -> None:
    run = searched(tmp_path / "x", context, {column: 3e-4})
    found = verify(run, BruteForce.model, sample=None)
    assert not found.passed
    assert "NOT reproduced" in str(found)
    wrong = [check for check in found.checks if check.greatest > found.tolerance]
    assert len(wrong) == 1
    assert wrong[0].greatest == pytest.approx(3e-4, rel=0.01)
    assert wrong[0].where == "sequence 1 position 3 budget 1"
    assert verify(run, BruteForce.model, sample=None, tolerance=1e-3).passed


def test_a_changed_path_is_found_by_all_that_comes_after_it(tmp_path: Path) -> None:
    run = searched(tmp_path / "x", "committed", {"branches_RL": 0})
    assert not verify(run, BruteForce.model).passed


def test_a_loss_that_is_no_number_does_not_pass(tmp_path: Path) -> None:
    run = searched(tmp_path / "x", "full", {"loss_R": np.nan})
    assert not verify(run, BruteForce.model, sample=None).passed


def test_a_committed_run_takes_one_pass_per_sequence_and_budget_besides_the_sample(tmp_path: Path) -> None:
    run = searched(tmp_path / "x", "committed")
    BruteForce.model.calls = 0
    found = verify(run, BruteForce.model, sample=1)
    assert BruteForce.model.calls == 2 * 2 + 2
    assert [check.checked for check in found.checks] == [16, 1, 1]


def test_the_sample_is_spread_over_the_run_and_drawn_by_the_seed(tmp_path: Path) -> None:
    run = searched(tmp_path / "x", "cheapest")
    first = verify(run, BruteForce.model, sample=7)
    assert [check.checked for check in first.checks] == [7, 7, 7]
    assert [check.stored for check in first.checks] == [16, 16, 16]
    assert str(verify(run, BruteForce.model, sample=7)) == str(first)
    places = {verify(run, BruteForce.model, sample=1, seed=seed).checks[0].where for seed in range(12)}
    assert {place.split()[1] for place in places} == {"0", "1"}


def test_small_batches_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = searched(tmp_path / "x", "full")
    whole = verify(run, BruteForce.model, sample=None)
    monkeypatch.setattr("duo_oracle.results.answers.verify._LOGITS", 1)
    assert [check.checked for check in verify(run, BruteForce.model, sample=None).checks] == [
        check.checked for check in whole.checks
    ]
    assert verify(run, BruteForce.model, sample=None).passed


def test_a_sample_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`sample` must be at least 1; got 0"):
        verify(searched(tmp_path / "x", "full"), BruteForce.model, sample=0)


def test_parts_that_are_not_the_runs_are_refused(tmp_path: Path) -> None:
    run = searched(tmp_path / "x", "full")
    other = searched(tmp_path / "y", "full", {"loss_R": 1.0})
    (run.path / "paths" / "part-00001.parquet").write_bytes((other.path / "paths" / "part-00001.parquet").read_bytes())
    with pytest.raises(ValueError, match=r"part-00001\.parquet is not the part that the run wrote"):
        verify(run, BruteForce.model)


@pytest.mark.parametrize("context", ["committed", "full"])
def test_a_table_that_lacks_a_budgets_paths_is_refused_though_the_manifest_names_it(tmp_path: Path, context: str) -> None:
    run = searched(tmp_path / "x", context)
    part = pq.read_table(run.path / "paths" / "part-00000.parquet")
    for kept, said in (
        (pc.equal(part["budget"], "any"), "it has 0 paths, of 0"),
        (pc.not_equal(part["position"], 2), "paths, of 3"),
    ):
        changed = sealed(run.path, "paths", part.filter(kept))
        with pytest.raises(InputError, match=rf"sequence 0's 4 positions has one path of budget 1; .*{said}"):
            verify(changed, BruteForce.model)
