"""Ray workers: the same tables as this process, whoever dies. Each test starts a Ray of its own, so all are slow."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from duo_oracle import models, oracle, results, search
from duo_oracle.oracle.base.errors import Outage
from duo_oracle.search.job import ray_pool, ray_session
from duo_oracle.search.job.config import SearchConfig
from duo_oracle.search.job.driver import Outcome, run_search
from tests.search import fakes
from tests.search.conftest import N_SEQUENCES, assert_same_tables, tables_of

pytestmark = pytest.mark.slow
Asks = Callable[..., SearchConfig]


@dataclass(frozen=True)
class Troubled:
    """A run whose unit 2 fails and whose unit 4 kills its workers, and what was seen meanwhile."""

    out: Path
    outcome: Outcome
    said: list[str]
    worker_files: list[str]
    listening: set[str]
    environment_before: dict[str, str]
    environment_after: dict[str, str]
    left: list[psutil.Process]
    folders: list[Path]


@pytest.fixture(scope="module")
def troubled(toy: Path, tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> Troubled:
    directory = tmp_path_factory.mktemp("troubled")
    config = SearchConfig(model=str(toy), data=(str(tokens),), out=str(directory / "run"), unit_sequences=1, workers=2)
    said: list[str] = []
    listening: set[str] = set()

    def notify(line: str) -> None:
        said.append(line)
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                listening.update(c.laddr.ip for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray_pool, "can_fork", lambda job: False)  # Ray's own workers are to have the trouble
        patch.setenv(fakes.MARK, str(directory / "mark"))
        scratch = directory / ("scratch_of_a_scheduler_that_likes_long_names" * 2)  # where Ray's sockets would not fit
        scratch.mkdir()
        patch.setenv("TMPDIR", str(scratch))
        patch.setattr(tempfile, "tempdir", None)
        patch.chdir(directory)  # not the checkout: the import path must not depend on where the command is typed
        before = dict(os.environ)
        folders_before = {*Path("/tmp").glob("duo-ray-*"), *Path("/tmp/ray").glob("*")}
        outcome = run_search(config, solve=fakes.has_every_trouble, notify=notify)
        after = dict(os.environ)
        left = psutil.Process().children(recursive=True)
        folders = {*Path("/tmp").glob("duo-ray-*"), *Path("/tmp/ray").glob("*"), *scratch.rglob("*")} - folders_before
    return Troubled(
        directory / "run",
        outcome,
        said,
        (directory / "mark").read_text().split("\n"),
        listening,
        before,
        after,
        left,
        sorted(folders),
    )


def test_what_fails_is_named_and_all_else_is_kept(troubled: Troubled) -> None:
    failed = {failure.unit: failure for failure in troubled.outcome.failures}
    assert failed[2].message == "unit 2 (sequence 2, of book 1): ArithmeticError: sequence 2 is one too many"
    assert "fails_on_sequence_2" in failed[2].traceback
    assert failed[4].message.startswith("unit 4 (sequence 4, of book 2): 3 workers died of it")
    assert troubled.outcome.solved == N_SEQUENCES - 2
    run = results.load(troubled.out)
    assert set(run.paths()["sequence"]) == set(range(N_SEQUENCES)) - {2, 4}
    assert run.manifest.failed == {unit: failure.message for unit, failure in failed.items()}


def test_each_death_is_said(troubled: Troubled) -> None:
    assert len([line for line in troubled.said if line.startswith("unit 4 (sequence 4, of book 2): its worker died")]) == 2


def test_a_worker_imports_the_driver_s_files(troubled: Troubled) -> None:
    assert troubled.worker_files == [str(package.__file__) for package in (oracle, models, results, search)]


def test_what_ray_was_started_with_does_not_stay_in_the_environment(troubled: Troubled) -> None:
    ours = {*ray_session.AT_IMPORT, *ray_session.AT_START, "PYTHONPATH"}
    before, after = ({name: env.get(name) for name in ours} for env in (troubled.environment_before, troubled.environment_after))
    assert before == after


def test_ray_listens_on_the_loopback_alone(troubled: Troubled) -> None:
    assert troubled.listening
    assert all(ipaddress.ip_address(ip.removeprefix("::ffff:")).is_loopback for ip in troubled.listening)


def test_no_process_stays_behind(troubled: Troubled) -> None:
    assert not psutil.wait_procs(troubled.left, timeout=2)[1]


def test_no_folder_of_ray_stays_behind_and_a_long_tmpdir_is_no_fault(troubled: Troubled) -> None:
    assert troubled.folders == []


def test_worker_count_changes_nothing(asks: Asks, tmp_path: Path) -> None:
    found = {}
    for name, values in {"local": {}, "1": {"workers": 1}, "3": {"workers": 3}}.items():
        config = asks(out=str(tmp_path / name), local=name == "local", budget="0-4", keep="losses", **values)
        run_search(config)
        found[name] = tables_of(config.out)
    for name in ("1", "3"):
        assert_same_tables(found[name], found["local"])


def test_dead_workers_cost_only_the_repetition_of_their_units(asks: Asks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One worker dies inside a unit by its own hand, another one is killed from outside."""
    monkeypatch.setenv(fakes.MARK, str(tmp_path / "mark"))
    monkeypatch.setattr(ray_pool, "can_fork", lambda job: False)
    said: list[str] = []
    killer = threading.Thread(target=kill_a_working_process, daemon=True)
    killer.start()
    outcome = run_search(asks(local=False, workers=2), solve=fakes.dies_once_on_sequence_2, notify=said.append)
    killer.join(timeout=1)
    assert (outcome.solved, outcome.failures) == (N_SEQUENCES, ())
    assert any(line.startswith("unit 2 (sequence 2, of book 1): its worker died") for line in said)
    assert len(said) == 2
    whole = asks(out=str(tmp_path / "whole"))
    run_search(whole, solve=fakes.solves)
    assert_same_tables(tables_of(asks().out), tables_of(whole.out))


def test_the_early_worker_s_death_costs_only_its_unit(asks: Asks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(fakes.MARK, str(tmp_path / "mark"))
    said: list[str] = []
    outcome = run_search(asks(local=False, workers=1), solve=fakes.dies_once_on_sequence_2, notify=said.append)
    assert (outcome.solved, outcome.failures) == (N_SEQUENCES, ())
    assert said == ["unit 2 (sequence 2, of book 1): its worker died (killed); the unit is repeated"]
    whole = asks(out=str(tmp_path / "whole"))
    run_search(whole, solve=fakes.solves)
    assert_same_tables(tables_of(asks().out), tables_of(whole.out))
    assert not [child for child in psutil.Process().children() if "ray" not in " ".join(child.cmdline())]


@pytest.mark.parametrize("failures", [1, 3])
def test_a_ray_that_does_not_start_is_started_again_and_said_in_a_line(
    asks: Asks, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    imported, left = ray_session.import_ray, [failures]  # ours: a Ray that is imported first leaves a token of its own in the home

    def failing(own: bool) -> Any:
        ray = imported(own)
        start = ray.init

        def init(**options: object) -> object:
            if left[0]:
                left[0] -= 1
                raise Exception("The current node timed out during startup.\nThe GCS has become overloaded.")
            return start(**options)

        monkeypatch.setattr(ray, "init", init)
        return ray

    monkeypatch.setattr(ray_pool, "import_ray", failing)
    said: list[str] = []
    config = asks(local=False, workers=1)
    again = "Ray did not start, and is started again: The current node timed out during startup. The GCS has become overloaded."
    if failures == 3:
        assert run_search(config, notify=said.append).solved == N_SEQUENCES
        gone_on = (
            "Ray did not start on this machine, 3 times: The current node timed out during startup. The GCS has become overloaded."
        )
        assert said == [again, again, f"{gone_on}; one worker goes on without it"]
        left[0], said[:] = failures, []
        monkeypatch.setattr(ray_pool, "can_fork", lambda job: False)  # elsewhere nobody has the model before Ray has started
        config = replace(config, out=f"{config.out}-2")
    if failures == 1:
        assert run_search(config, notify=said.append).solved == N_SEQUENCES
    else:
        with pytest.raises(Outage, match="Ray did not start on this machine, 3 times: The current node timed out") as refused:
            run_search(config, notify=said.append)
        assert "\n" not in str(refused.value)
        monkeypatch.undo()
        assert run_search(config).solved > 0
    assert said == [again] * (1 if failures == 1 else 2)


def kill_a_working_process() -> None:
    """Kills the first of our descendants that is seen to solve a unit; Ray puts the task's name in the process's."""
    for _ in range(1200):
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if "ray::solve" in " ".join(process.cmdline()):
                    process.kill()
                    return
        time.sleep(0.02)
