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
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.patterns import LETTERS, Branch
from duo_oracle.results import load
from duo_oracle.results.answers.effects import draw_effects, effects_of_run, sections
from duo_oracle.results.sql import query
from duo_oracle.results.store.columns import BESIDE, COLUMNS, EFFECT_DISTANCES
from duo_oracle.results.views import described
from duo_oracle.search.cli import main
from duo_oracle.search.job.config import SearchConfig
from duo_oracle.search.job.driver import run_search
from duo_oracle.search.job.reference import History, Passes
from duo_oracle.search.job.text import text_of
from duo_oracle.search.rerun.asked import config_of
from duo_oracle.search.rerun.effects import Asked, measure_effects, parse_base
from duo_oracle.search.rerun.opened import OpenedRun, open_run
from duo_oracle.search.rerun.references import with_reference

Asks = Callable[..., SearchConfig]


def searched(asks_duo: Asks, **values: Any) -> OpenedRun:
    config = asks_duo(context="full", dtype="float64", branches=".sB", route_layers="0,2", null_draws=0, **values)
    run_search(config)
    return open_run(load(config.out))


@pytest.fixture
def opened(asks_duo: Asks) -> OpenedRun:
    return searched(asks_duo)


@pytest.mark.parametrize("values", [{}, {"seq_len": 8, "stride": 2, "bos": "38"}])  # whole documents; warm tokens before most
def test_rows_are_the_differences_of_plain_passes(asks_duo: Asks, values: dict[str, Any]) -> None:
    opened = searched(asks_duo, **values)
    asked = Asked(parse_base(opened, "sB"), 3)
    rows = measure_effects(opened, asked).rows().to_pylist()
    n_positions = sum(max(0, sequence.n_positions - 3) for sequence in opened.sequences)
    assert n_positions
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
        assert len(later_T) == row["ahead"] == 3
        assert row["own_effect"] == pytest.approx(change_T[place], abs=1e-6)
        assert row["later_effect"] == pytest.approx(later_T.sum(), abs=1e-6)
        assert row["later_1"] == pytest.approx(later_T[:1].sum(), abs=1e-6)
        assert row["later_2_4"] == pytest.approx(later_T[1:].sum(), abs=1e-6)
        assert row["later_5_16"] == 0
        assert row["own_expected"] is None


@pytest.mark.parametrize("values", [{}, {"seq_len": 8, "stride": 2, "bos": "38"}])
def test_under_a_reference_effects_are_what_it_expects(asks_duo: Asks, values: dict[str, Any]) -> None:
    """The reference is the model with more of the document: of label-by-label losses, the mean over its distribution."""
    opened = searched(asks_duo, reference="self", reference_context=9, **values)
    rows = measure_effects(opened, Asked(parse_base(opened, "sB"), 1)).rows().to_pylist()
    windows = {window.index: window for window in with_reference(opened, opened.sequences)}
    config = config_of(opened.run, "")
    passes = Passes(opened.model, 9, "self")
    history = History(9)
    q = {}
    for window in text_of(config, opened.checkpoint, opened.model).read():
        q[window.index] = torch.cat(list(passes.log_q(window, history.before(window)))).exp()
    assert len(rows) > 8
    for row in rows[:: len(rows) // 8]:
        window = windows[row["sequence"]]
        place = row["position"] - window.first_position
        base_TL = np.tile(np.array([Branch.SMALL, Branch.BIG], np.uint8), (window.n_positions, 1))
        flip_TL = base_TL.copy()
        flip_TL[place, row["letter"]] = LETTERS.index(row["after"])
        token_id_1T = torch.from_numpy(window.token_ids.astype(np.int64))[None, :-1]
        base_TV, flip_TV = (
            opened.model.forward(token_id_1T, torch.from_numpy(window.run_mask(mask))[None], SkipReading.FFN)[0].log_softmax(dim=1)
            for mask in (base_TL, flip_TL)
        )
        expected_N = (q[window.index] * (base_TV - flip_TV)[window.n_warm :]).sum(dim=1)
        assert row["own_expected"] == pytest.approx(float(expected_N[place]), abs=1e-6)
        assert row["later_expected"] == pytest.approx(float(expected_N[place + 1]), abs=1e-6)
    found = effects_of_run(opened.run, "sB", 1)
    assert found.expected is not None
    assert found.whole.expected is not None
    assert len(sections(found)) == 4


def test_a_reference_whose_text_has_changed_is_refused(asks_duo: Asks, tmp_path: Path, duo_tokens: Path) -> None:
    data = tmp_path / "text.jsonl"
    shutil.copy(duo_tokens, data)
    opened = searched(asks_duo, reference="self", data=str(data))
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    rows[1]["tokens"][2] += 1
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InputError, match="other text"):
        measure_effects(opened, Asked(parse_base(opened, "full"), 1))
    data.write_text(json.dumps(rows[0]) + "\n")
    with pytest.raises(InputError, match="more text"):
        measure_effects(opened, Asked(parse_base(opened, "full"), 1))


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
        assert one.loss.own.mean == pytest.approx(mine.own_effect.mean())
        assert one.loss.later.mean == pytest.approx(mine.later_effect.mean())
        assert one.expected is None
        assert one.kl.share is not None
        assert one.kl.share.mean == pytest.approx(mine.kl_later.sum() / (mine.kl_later + mine.kl_own).sum())
    assert found.loss.correlation == pytest.approx(np.corrcoef(frame.own_effect, frame.later_effect)[0, 1])
    helps = frame[frame.own_effect < 0]
    assert found.loss.misled.mean == pytest.approx((helps.own_effect + helps.later_effect > 0).mean())
    assert sum(one.share.mean for one in found.distances) == pytest.approx(1)
    assert [(one.near, one.far, one.tokens) for one in found.distances] == [(1, 1, len(frame)), (2, 4, 3 * len(frame))]
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
    with pytest.raises(InputError, match="ahead=50"):
        measure_effects(opened, Asked(parse_base(opened, "BB"), 50))


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
