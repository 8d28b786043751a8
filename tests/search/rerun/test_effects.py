"""The table effects holds what plain passes say; it goes on where it was stopped; its answer is made of its rows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from duo_oracle.models.plain_losses import window_losses
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.patterns import LETTERS, Branch
from duo_oracle.results import load
from duo_oracle.results.answers.effects import draw_effects, effects_of_run, sections
from duo_oracle.results.sql import query
from duo_oracle.results.store.columns import BESIDE, COLUMNS, EFFECT_DISTANCES
from duo_oracle.results.views import described
from duo_oracle.search.cli import main
from duo_oracle.search.job.config import SearchConfig
from duo_oracle.search.job.driver import run_search
from duo_oracle.search.rerun.effects import Asked, measure_effects, parse_base
from duo_oracle.search.rerun.opened import OpenedRun, open_run

Asks = Callable[..., SearchConfig]


def searched(asks_duo: Asks, **values: Any) -> OpenedRun:
    config = asks_duo(context="full", dtype="float64", branches=".sB", route_layers="0,2", null_draws=0, **values)
    run_search(config)
    return open_run(load(config.out))


@pytest.fixture
def opened(asks_duo: Asks) -> OpenedRun:
    return searched(asks_duo)


@pytest.mark.parametrize("values", [{}, {"seq_len": 5, "stride": 2, "bos": "38"}])  # whole documents; warm tokens before most
def test_rows_are_the_differences_of_plain_passes(asks_duo: Asks, values: dict[str, Any]) -> None:
    opened = searched(asks_duo, **values)
    asked = Asked(parse_base(opened, "sB"), 3)
    rows = measure_effects(opened, asked).rows().to_pylist()
    n_positions = sum(sequence.n_positions for sequence in opened.sequences)
    assert len(rows) == n_positions * 2 * 2  # two letters, two other branches each
    assert [row["layer"] for row in rows[:4]] == [0, 0, 2, 2]
    by_index = {sequence.index: sequence for sequence in opened.sequences}
    for row in rows[:: max(1, len(rows) // 40)]:
        sequence = by_index[row["sequence"]]
        base_TL = np.tile(np.array([Branch.SMALL, Branch.BIG], np.uint8), (sequence.n_positions, 1))
        flip_TL = base_TL.copy()
        place = row["position"] - sequence.first_position
        assert LETTERS[flip_TL[place, row["letter"]]] == row["before"] != row["after"]
        flip_TL[place, row["letter"]] = LETTERS.index(row["after"])
        change_T = np.subtract(*(window_losses(opened.model, sequence, mask) for mask in (flip_TL, base_TL)))
        later_T = change_T[place + 1 :][:3]
        assert row["n_later"] == len(later_T)
        assert row["own_effect"] == pytest.approx(change_T[place], abs=1e-6)
        assert row["later_effect"] == pytest.approx(later_T.sum(), abs=1e-6)
        assert row["later_1"] == pytest.approx(later_T[:1].sum(), abs=1e-6)
        assert row["later_2_4"] == pytest.approx(later_T[1:].sum(), abs=1e-6)
        assert row["later_5_16"] == 0


def test_it_goes_on_where_it_was_stopped_and_leaves_the_runs_own_tables(opened: OpenedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(parse_base(opened, "cheapest"), 2)
    tables = opened.run.tables
    first = measure_effects(opened, asked, max_sequences=2)
    assert first.sequences == {0, 1}
    done: list[int] = []
    from duo_oracle.search.rerun import effects

    plain = effects._of_sequence
    monkeypatch.setattr(effects, "_of_sequence", lambda *args: done.append(args[2].index) or plain(*args))
    whole = measure_effects(opened, asked)
    assert done == [2, 3]
    assert measure_effects(opened, asked).rows().equals(whole.rows())
    shutil.rmtree(whole.path.parent)
    assert measure_effects(opened, asked).rows().equals(whole.rows())
    assert load(opened.run.path).tables == tables
    assert not set(BESIDE) & set(tables)


def test_the_answer_is_made_of_the_rows(opened: OpenedRun) -> None:
    asked = Asked(parse_base(opened, "full"), 4)
    frame = measure_effects(opened, asked).rows().to_pandas()
    found = effects_of_run(opened.run, "BB", 4)
    assert [(one.layer, one.change) for one in found.layers] == [(0, "B>."), (0, "B>s"), (2, "B>."), (2, "B>s")]
    for one in found.layers:
        before, after = (one.change or "").split(">")
        mine = frame[(frame.layer == one.layer) & (frame.after == after) & (frame.before == before)]
        assert one.flips == len(mine)
        assert one.own.mean == pytest.approx(mine.own_effect.mean())
        assert one.later.mean == pytest.approx(mine.later_effect.mean())
        assert one.kl_share.mean == pytest.approx(mine.kl_later.sum() / (mine.kl_later + mine.kl_own).sum())
    assert found.correlation == pytest.approx(np.corrcoef(frame.own_effect, frame.later_effect)[0, 1])
    helps = frame[frame.own_effect < 0]
    assert found.misled.mean == pytest.approx((helps.own_effect + helps.later_effect > 0).mean())
    assert sum(one.share.mean for one in found.distances) == pytest.approx(1)
    assert [one.tokens for one in found.distances] == [
        int((frame.n_later.clip(upper=1)).sum()),
        int((frame.n_later - 1).clip(0).sum()),
    ]
    for of, whole in (("later", "later_effect"), ("kl", "kl_later")):
        np.testing.assert_allclose(frame[[f"{of}_{key}" for key in EFFECT_DISTANCES]].sum(axis=1), frame[whole], atol=1e-12)
    assert len(sections(found)) == 3
    assert draw_effects(found, "x").axes
    last = frame[frame.layer == 2]  # the last layer of three: nothing attends to what it writes
    assert (last.later_effect == 0).all()
    assert (last.kl_later == 0).all()


def test_the_view_has_its_columns_and_says_what_to_do_where_there_is_none(opened: OpenedRun) -> None:
    run = opened.run
    with pytest.raises(InputError, match="duo-oracle effects"):
        query([run], "effects_by_layer")
    with pytest.raises(InputError, match="duo-oracle effects"):
        load(run.path).effects()
    measure_effects(opened, Asked(parse_base(opened, "full"), 2), max_sequences=1)
    assert query([run], "SELECT * FROM effects").column_names == [name for name, *_ in described()["effects"]]
    assert list(load(run.path).effects().columns) == [column.name for column in COLUMNS["effects"]]
    assert query([run], "effects_by_layer").num_rows == 4
    with pytest.raises(InputError, match="no effects of base ss"):
        effects_of_run(run, "ss", 2)
    for file in (run.path / "effects").iterdir():
        file.write_bytes(b"nothing")
    with pytest.raises(InputError, match="remove it"):
        query([run], "effects_by_layer")


def test_bases_that_do_not_fit_are_refused(opened: OpenedRun) -> None:
    for text in ("committed", "", "B", "router:x", "BsB"):
        with pytest.raises(InputError):
            parse_base(opened, text)


def test_the_command(opened: OpenedRun, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run, picture = str(opened.run.path), tmp_path / "e.svg"
    command = ["effects", run, "--ahead", "2", "--max-sequences", "2"]
    assert main([*command, "--base", "cheapest", "--plot", str(picture)]) == 0
    shown = capsys.readouterr().out
    assert "s>B" not in shown.splitlines()[0]
    assert ".>B" in shown or "s>B" in shown
    assert picture.read_bytes().startswith(b"<?xml")
    assert main([*command, "--format", "json"]) == 0
    assert {"layers", "distances", "together"} == set(json.loads(capsys.readouterr().out))
    assert main([*command, "--format", "csv"]) == 0
    assert capsys.readouterr().out.startswith("section,")
    for bad in (["--ahead", "0"], ["--base", "x"], ["--plot", "a.txt"]):
        assert main([*command, *bad]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert torch.is_grad_enabled()
