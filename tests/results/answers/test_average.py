"""Average budgets of a run: what is gained on the real labels, and by the same choice on one drawn label."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from duo_oracle.results.answers.average import average_lines, markdown
from tests.results.statistics.test_average import hull_of_all_assignments
from tests.results.synthetic import Synthetic


def test_one_drawn_label_tells_the_selection_bias_of_choosing_the_cost_as_well(tmp_path: Path) -> None:
    run = Synthetic(documents=1, windows=1, length=4, null_draws=1).write(tmp_path / "run")
    paths = run.paths().sort_values(["position", "budget_low"])
    gain_KN, null_KN = (
        (paths[name] if name == "null_gain" else paths["loss_full"] - paths["loss"]).to_numpy(np.float64).reshape(3, 5).T
        for name in ("gain", "null_gain")
    )
    for line, total in zip(average_lines(run, ["average:1", "2.5", "4"]), (3.0, 7.5, 12.0), strict=True):
        assert line.gain.mean == pytest.approx(-hull_of_all_assignments(-gain_KN, total), abs=1e-5)
        assert line.null_gain is not None
        assert line.null_gain.mean == pytest.approx(-hull_of_all_assignments(-null_KN, total), abs=1e-5)
        assert line.excess is not None
        assert line.excess.mean == pytest.approx(line.gain.mean - line.null_gain.mean)
    assert "measures it" not in markdown(run, ["2"])


@pytest.mark.parametrize("asked", [Synthetic(null_draws=4), Synthetic(nulls=False)], ids=["four", "none"])
def test_several_drawn_labels_or_none_tell_nothing_and_the_table_says_what_would(tmp_path: Path, asked: Synthetic) -> None:
    run = asked.write(tmp_path / "run")
    (line,) = average_lines(run, ["2"])
    assert line.null_gain is None
    assert line.excess is None
    assert "search with --null-draws 1" in markdown(run, ["2"], lambda text: text.replace("`null_draws=1`", "--null-draws 1"))
