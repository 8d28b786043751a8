"""What a search says at once, what it shows while it goes on, and what a dry run says and makes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from duo_oracle.results.store.records import UnitRecord
from duo_oracle.search.cli import main
from duo_oracle.search.job import bar as bar_module
from duo_oracle.search.job.bar import Bar
from duo_oracle.search.job.config import SearchConfig
from duo_oracle.search.job.driver import run_search
from duo_oracle.search.job.local_pool import LocalPool
from duo_oracle.search.job.plan import n_patterns
from duo_oracle.search.job.tally import Tally, counting
from tests.search import fakes
from tests.search.conftest import N_DOCUMENTS, N_SEQUENCES

Asks = Callable[..., SearchConfig]
N_POSITIONS = 70  # of the five documents


@pytest.fixture
def looked_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bar_module, "looked_on", lambda: True)


@pytest.mark.usefixtures("looked_on")
def test_a_search_says_at_once_what_it_will_do(asks: Asks, capsys: pytest.CaptureFixture[str]) -> None:
    run_search(asks(budget="0-4"))
    said = capsys.readouterr().err
    assert f"{N_SEQUENCES} windows of {N_DOCUMENTS} documents · {N_POSITIONS} tokens to score" in said
    assert "16 patterns a token (5 budgets, 4 drawn labels) · 10 units in this process, on 1 thread" in said
    run_search(asks(budget="0-4"))
    assert capsys.readouterr().err == ""


def test_where_nobody_looks_on_nothing_is_said_of_what_goes_as_it_should(asks: Asks, capsys: pytest.CaptureFixture[str]) -> None:
    run_search(asks())
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("looked_on")
def test_one_document_is_warned_of_with_its_cure(toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "one.jsonl").write_text('{"document": "a", "tokens": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]}\n')
    words = ["search", str(toy), str(tmp_path / "one.jsonl"), "--local", "--out", str(tmp_path / "run")]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert "--split blank-lines or --split 512" in err
    assert "--split blank-lines or --split 512" in out
    assert main([*words[:-1], str(tmp_path / "parts"), "--split", "4"]) == 0
    assert "--split" not in "".join(capsys.readouterr())


@pytest.mark.parametrize("more", [[], ["--strategy", "beam"], ["--context", "full", "--budget", "1-2"], ["--context", "same"]])
def test_a_dry_run_estimates_and_makes_nothing(
    toy: Path, tokens: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str]
) -> None:
    words = ["search", str(toy), str(tokens), "--local", "--out", str(tmp_path / "run"), *more]
    assert main([*words, "--dry-run"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{N_SEQUENCES} windows of {N_DOCUMENTS} documents")
    assert re.match(r"about (a second|\d+ (seconds|minutes)): [\d.]+ m?s a token on one worker", second)
    assert list(tmp_path.iterdir()) == []
    assert main(words) == 0
    assert "dry-run" not in (tmp_path / "run" / "config.yaml").read_text()
    assert main(["plan", *words[1:4], *more]) == 0
    assert capsys.readouterr().out.splitlines()[-2].startswith(f"{N_SEQUENCES} windows of {N_DOCUMENTS} documents")


@pytest.mark.parametrize(
    ("values", "n"),
    [
        ({"context": "full"}, 16),
        ({"context": "full", "budget": "0-1,1"}, 5),
        ({"context": "full", "budget": "atmost:1,any"}, 16),
        ({"budget": "0-1,any"}, 21),
        ({"context": "same", "budget": "4", "branches": ".B"}, 1),
        ({"context": "full", "budget": "1", "branches": ".sB"}, 32),
    ],
)
def test_patterns_are_counted_once_where_one_pass_serves_all_budgets(asks: Asks, values: dict[str, Any], n: int) -> None:
    assert n_patterns(asks(**values).problem(4)) == n


@pytest.mark.parametrize("more", [{}, {"context": "full", "budget": "0-2"}, {"strategy": "beam"}, {"context": "same"}])
def test_a_unit_is_told_of_while_it_goes_on_and_adds_up(asks: Asks, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]) -> None:
    told: list[tuple[int, float]] = []

    class Listening(LocalPool):
        def __init__(self, job: Any, model: Any, moved: Any = None) -> None:
            super().__init__(job, model, lambda *what: told.append(what))

    monkeypatch.setattr("duo_oracle.search.job.driver.LocalPool", Listening)
    run_search(asks(**{"unit_sequences": 4, "null_draws": 0, **more}), notify=lambda line: None)
    by_unit = {unit: [positions for other, positions in told if other == unit] for unit, _ in told}
    assert sorted(by_unit) == [0, 1, 2]
    assert sum(positions[-1] for positions in by_unit.values()) == N_POSITIONS
    assert all(positions == sorted(positions) and len(positions) > 1 for positions in by_unit.values())


class FakeBar:
    def __init__(self, **settings: Any) -> None:
        self.n, self.shown, self.written = settings["initial"], [], []

    def update(self, by: int) -> None:
        self.n += by
        self.shown.append(self.n)

    def write(self, line: str, file: Any) -> None:
        self.written.append(line)

    def close(self) -> None: ...


def record(unit: int, tokens: int) -> UnitRecord:
    return UnitRecord(unit, 1, tokens, {})


def test_the_bar_moves_within_units_and_back_where_one_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeBar(initial=7)
    monkeypatch.setattr(bar_module, "progress", lambda **settings: fake)
    with Bar(100, 7, None) as bar:
        bar.moved(0, 3.5)
        bar.moved(1, 4.0)
        bar.add(record(0, 10))
        bar.moved(1, 1.0)  # its worker died
        bar.add(record(1, 8))
    assert fake.shown == [10, 14, 21, 18, 25]


def test_a_tally_holds_the_newest_of_each_unit_until_it_is_taken() -> None:
    tally = Tally()
    found = counting(3, 2, tally.tell)
    for rows in (2, 4, 1):
        found(rows)
    assert tally.take() == {3: 3.5}
    assert tally.take() == {}
    seldom = counting(3, 1, tally.tell, seconds=1e9)
    seldom(5)
    assert tally.take() == {}


@pytest.mark.long
def test_workers_of_ray_tell_of_units_in_flight(asks: Asks, monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[tuple[int, float]] = []
    monkeypatch.setattr(bar_module, "looked_on", lambda: True)
    monkeypatch.setattr(Bar, "moved", lambda self, *what: moved.append(what))
    config = asks(local=False, workers=2, unit_sequences=5, budget="0-1")
    assert run_search(config, solve=fakes.tells_slowly, notify=lambda line: None).solved == 2
    assert {unit for unit, _ in moved} == {0, 1}
    assert all(0 < positions <= N_POSITIONS for _, positions in moved)
    assert len(moved) >= 4
