"""A run's tables as arrays are its tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from duo_oracle.oracle.patterns import to_strings
from duo_oracle.results.store.positions import read_positions
from tests.results.synthetic import Synthetic


@pytest.mark.parametrize("nulls", [True, False])
def test_every_value_stands_at_its_position_and_budget(nulls: bool, tmp_path: Path) -> None:
    run = Synthetic(nulls=nulls, budgets="2,0-4").write(tmp_path / "run")
    found = read_positions(run)
    paths = run.paths().set_index(["sequence", "position", "budget"])
    tokens = run.tokens().set_index(["sequence", "position"])
    assert found.budgets == ("2", "0", "1", "3", "4")
    for n in range(0, len(found.position_N), 7):
        place = found.sequence_N[n], found.position_N[n]
        assert (found.document_N[n], found.token_N[n], found.target_N[n]) == tuple(
            tokens.loc[place, ["document", "token", "target"]]
        )
        for budget in found.budgets:
            row, column = paths.loc[(*place, budget)], found.column(budget)
            assert to_strings(found.branches_NKL[n : n + 1, column]) == [row["pattern"]]
            assert found.loss_NK[n, column] == pytest.approx(row["loss"])
            assert (found.small_N[n], found.big_N[n]) == pytest.approx((row["loss_cheapest"], row["loss_full"]))
            if nulls:
                assert found.excess_NK[n, column] == pytest.approx(row["excess"], abs=1e-6)
    assert np.isnan(found.null_gain_NK).all() != nulls
    with pytest.raises(ValueError, match="not searched under budget 9; available: 2, 0, 1, 3, 4"):
        found.column(9)


def test_a_run_without_texts_reads_as_token_ids(tmp_path: Path) -> None:
    run = Synthetic(texts=False).write(tmp_path / "run")
    assert read_positions(run).target_N[0] == f" {run.tokens()['target_id'][0]}"
