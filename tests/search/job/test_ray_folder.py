"""The folder of a Ray of our own: short, and gone when it ends or when the next one starts."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.search.job import ray_folder as module
from duo_oracle.search.job.config import SearchConfig
from duo_oracle.search.job.driver import run_search
from duo_oracle.search.job.ray_folder import ray_folder


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="b") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


def test_it_goes_with_what_still_runs_in_it(base: Path) -> None:
    with ray_folder() as folder:
        assert Path(folder).parent == base
        Path(folder, "logs").mkdir()
        agent = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", f"--session-dir={folder}/session"])
        bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", folder[:-1]])
    try:
        assert agent.wait(timeout=10) == -9
        assert bystander.poll() is None
        assert list(base.iterdir()) == []
    finally:
        bystander.kill()
        bystander.wait()


def test_a_long_tmpdir_is_passed_by(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = base / ("scratch_of_a_job" * 4)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with ray_folder() as folder:
        socket = f"{folder}/session_2026-11-27_11-45-56_098183_4194304/sockets/plasma_store.12"
        assert len(socket) <= 107
    assert list(long.iterdir()) == []


def test_where_no_short_folder_is_one_line_says_what_to_set(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.os, "access", lambda path, mode: False)
    with pytest.raises(InputError, match="set TMPDIR to one of at most 23 bytes, or search with `local`"), ray_folder():
        pass


def driver_of(base: Path) -> subprocess.Popen[str]:
    """A process that says its Ray's folder and its own, and keeps them."""
    held = (
        "import time; from duo_oracle.oracle.base.scratch import scratch_folder\n"
        "from duo_oracle.search.job.ray_folder import ray_folder\n"
        "with ray_folder() as f, scratch_folder() as g: print(f, flush=True); print(g, flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "TMPDIR": str(base)}
    return subprocess.Popen([sys.executable, "-c", held], stdout=subprocess.PIPE, text=True, env=environment)


def test_what_a_killed_driver_left_is_removed_by_a_search_that_has_nothing_to_do(
    base: Path, asks: Callable[..., SearchConfig]
) -> None:
    assert not run_search(asks()).failures
    driver = driver_of(base)
    left = {Path(driver.stdout.readline().strip()) for _ in range(2)}
    assert set(base.iterdir()) == left
    driver.kill()
    driver.communicate()
    assert run_search(asks()).solved == 0
    assert list(base.iterdir()) == []


def test_what_a_killed_driver_left_is_removed_by_the_next(base: Path) -> None:
    drivers = [driver_of(base) for _ in range(2)]
    try:
        (killed, _), (alive, _) = ([Path(driver.stdout.readline().strip()) for _ in range(2)] for driver in drivers)
        drivers[0].kill()
        drivers[0].wait()
        for folder in (killed, alive):
            os.utime(folder, (0, 0))
        with ray_folder() as own:
            assert sorted(base.glob("duo-ray-*")) == sorted([alive, Path(own)])
    finally:
        for driver in drivers:
            driver.kill()
            driver.communicate()
