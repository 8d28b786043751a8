"""Interrupt and `kill -9` at any moment: the same command resumes, to the same tables."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from duo_oracle import results
from duo_oracle.search.job.config import SearchConfig
from duo_oracle.search.job.driver import run_search
from tests.search import fakes
from tests.search.conftest import N_SEQUENCES, assert_same_tables, tables_of

ROOT = Path(__file__).resolve().parents[3]


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.search.run_slowly", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_units(process: subprocess.Popen[str], out: Path, n_units: int, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        if (out / "run.json").exists() and len(results.load(out).manifest.units) >= n_units:
            return
        time.sleep(0.05)
    process.kill()
    raise AssertionError(f"{n_units} units were not reached: {process.communicate()}")


def descendants(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """All but Ray's two agents, which go on for up to a minute to report the end to those who are gone too."""
    return [child for child in psutil.Process(process.pid).children(recursive=True) if "Agent" not in child.name()]


def kill_thrice(out: Path, toy: Path, tokens: Path, *how: str) -> None:
    generator = np.random.default_rng(11)
    for n_units in sorted(generator.choice(np.arange(N_SEQUENCES - 2), size=3, replace=False).tolist()):
        process = start(str(toy), str(tokens), str(out), *how)
        family = []
        try:
            wait_for_units(process, out, n_units)
            time.sleep(generator.uniform(0, 0.3))
            family = descendants(process)
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        gone, alive = psutil.wait_procs(family, timeout=30)
        assert not alive, f"a killed driver leaves nothing behind; {alive} of {len(gone) + len(alive)} go on"


@pytest.mark.slow
@pytest.mark.parametrize("how", [pytest.param(["local"], marks=pytest.mark.long), []], ids=["local", "ray"])
def test_a_driver_killed_three_times_ends_with_the_same_tables(toy: Path, tokens: Path, tmp_path: Path, how: list[str]) -> None:
    out, whole = tmp_path / "killed", tmp_path / "whole"
    kill_thrice(out, toy, tokens, *how)
    assert results.load(out).manifest.state == "running"
    process = start(str(toy), str(tokens), str(out), *how)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    run_search(SearchConfig(model=str(toy), data=(str(tokens),), out=str(whole), unit_sequences=1, local=True), solve=fakes.solves)
    assert_same_tables(tables_of(out), tables_of(whole))
    assert not [path for path in out.rglob("*") if ".tmp" in path.name]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "how"),
    [
        (signal.SIGTERM, ["--local"]),
        (signal.SIGHUP, ["--local"]),
        pytest.param(signal.SIGINT, ["--workers", "2"], marks=pytest.mark.long),
        pytest.param(signal.SIGTERM, ["--workers", "2"], marks=pytest.mark.long),
    ],
    ids=["term-local", "hup-local", "int-ray", "term-ray"],
)
def test_a_signal_says_how_to_go_on_and_leaves_nothing_behind(
    number: signal.Signals, how: list[str], toy: Path, tokens: Path, tmp_path: Path
) -> None:
    text, out = tmp_path / "long.jsonl", tmp_path / "run"
    text.write_text(tokens.read_text() * 400)
    command = [sys.executable, "-m", "duo_oracle", "search", str(toy), str(text), "--out", str(out), "--unit-sequences", "1", *how]

    def as_in_a_terminal() -> None:  # a suite in the background inherits that these are ignored
        for each in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
            signal.signal(each, signal.SIG_DFL)

    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=as_in_a_terminal,
    )
    wait_for_units(process, out, 1)
    family = descendants(process)
    os.killpg(process.pid, number)  # as a terminal or a scheduler does it: to every process of the command
    try:
        printed, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 128 + number, said
    assert printed == ""
    assert said == "duo-oracle: interrupted; the same command resumes from here\n"
    assert not psutil.wait_procs(family, timeout=30)[1]
    assert not [path for path in out.rglob("*") if ".tmp" in path.name]
