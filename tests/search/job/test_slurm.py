"""docs/cluster/slurm.sh on this machine: `srun` and `scontrol` are stand-ins; Ray and the search are, too, or are the real ones."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from duo_oracle import results
from duo_oracle.search.job.config import SearchConfig
from duo_oracle.search.job.driver import run_search
from tests.search import fakes
from tests.search.conftest import assert_same_tables, tables_of

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "docs" / "cluster" / "slurm.sh"
STAND_INS = {
    "scontrol": "echo 127.0.0.1; echo other",
    "srun": """
        echo "srun $*" >> "$LOG"; tasks=1
        while [ "${1#--}" != "$1" ]; do case $1 in --ntasks=*) tasks=${1#*=};; esac; shift; done
        trap 'kill $(jobs -p) 2>/dev/null; exit 143' TERM
        for task in $(seq "$tasks"); do "$@" $MORE & done
        wait; wait""",
}
FAKE_RAY = 'case $1 in status) [ -e "$LOG.up" ];; start) [ -z "${BROKEN-}" ] || exit 1; touch "$LOG.up"; exec sleep 60;; esac'
FAKE_SEARCH = """
    echo "duo-oracle $*" >> "$LOG"; [ -z "${ENDS-}" ] || exit "$ENDS"
    trap 'kill %1; sleep 0.3; echo told >> "$LOG"; exit 143' TERM
    sleep 60 & wait"""

SLOWLY = """
import sys
from functools import partial
from duo_oracle.search.cli import main
from duo_oracle.search.job import driver
from tests.search import fakes
driver.run_search = partial(driver.run_search, solve=fakes.solves_slowly)
sys.exit(main(sys.argv[1:]))
"""


class Job:
    """A job of Slurm's environment, without Slurm."""

    def __init__(self, folder: Path, stand_ins: dict[str, str], words: list[str], **environment: str) -> None:
        self.log, self.port = folder / "log", 20000 + int(environment["SLURM_JOB_ID"])
        beside = folder / "bin"
        beside.mkdir(exist_ok=True)
        for name, text in stand_ins.items():
            (beside / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
            (beside / name).chmod(0o755)
        path = os.pathsep.join(map(str, (beside, Path(sys.executable).parent, os.environ["PATH"])))
        own = {"PATH": path, "LOG": str(self.log), "MORE": "", "SLURM_JOB_NODELIST": "n", "SLURM_JOB_NUM_NODES": "2"}
        own |= {"SLURM_CPUS_PER_TASK": "1", "PYTHONPATH": str(ROOT), **environment}
        self.process = subprocess.Popen(
            ["bash", str(SCRIPT), *words], cwd=folder, env={**os.environ, **own}, stderr=subprocess.PIPE, text=True
        )

    def ended(self, seconds: float) -> tuple[int, str]:
        """The status, and what was said on stderr."""
        _, said = self.process.communicate(timeout=seconds)
        return self.process.returncode, said

    def below(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


@pytest.mark.parametrize("status", [0, 2])
def test_a_ray_of_all_nodes_stands_while_the_search_goes_and_the_status_is_the_search_s(tmp_path: Path, status: int) -> None:
    job = Job(tmp_path, {**STAND_INS, "ray": FAKE_RAY, "duo-oracle": FAKE_SEARCH}, ["m", "d"], SLURM_JOB_ID="7", ENDS=str(status))
    assert job.ended(60)[0] == status
    asked = set(job.log.read_text().splitlines())
    head = "srun --nodes=1 --ntasks=1 --nodelist=127.0.0.1 ray start --head --port=20007 --include-dashboard=false"
    assert asked >= {f"{head} --num-cpus=1 --block", "duo-oracle search m d --address 127.0.0.1:20007"}


def test_a_job_whose_time_ends_tells_the_search_and_waits_for_it(tmp_path: Path) -> None:
    job = Job(tmp_path, {**STAND_INS, "ray": FAKE_RAY, "duo-oracle": FAKE_SEARCH}, ["m", "d"], SLURM_JOB_ID="8")
    while not (job.log.exists() and "duo-oracle" in job.log.read_text()):
        time.sleep(0.05)
    time.sleep(0.3)
    below = job.below()
    job.process.send_signal(signal.SIGTERM)
    assert job.ended(60)[0] == 143
    assert "told" in job.log.read_text()
    assert psutil.wait_procs(below, timeout=30)[1] == []


def test_a_head_that_does_not_start_ends_the_job_in_a_line(tmp_path: Path) -> None:
    job = Job(tmp_path, {**STAND_INS, "ray": FAKE_RAY, "duo-oracle": FAKE_SEARCH}, ["m", "d"], SLURM_JOB_ID="9", BROKEN="1")
    status, said = job.ended(60)
    assert (status, said) == (1, "slurm.sh: Ray did not start on 127.0.0.1:20009; its own lines are above\n")


@pytest.mark.long
def test_a_job_that_is_told_to_end_goes_on_as_the_same_job_again(toy: Path, tmp_path: Path) -> None:
    """The script as it is, with two real Rays on this machine: a head, and a node beside it."""
    out, whole, tokens = tmp_path / "run", tmp_path / "whole", tmp_path / "tokens.jsonl"
    tokens.write_text("".join(f'{{"tokens": [{", ".join(map(str, range(n % 10, n % 10 + 6)))}]}}\n' for n in range(40)))
    run_search(SearchConfig(model=str(toy), data=str(tokens), out=str(whole), unit_sequences=1, local=True), solve=fakes.solves)
    slowly = f'exec {sys.executable} -c {shlex.quote(SLOWLY)} "$@" --unit-sequences 1'
    more = "--object-store-memory=100000000"
    words = [str(toy), str(tokens), "--out", str(out)]
    for wanted in (143, 0):
        job = Job(tmp_path, {**STAND_INS, "duo-oracle": slowly}, words, SLURM_JOB_ID=str(os.getpid() % 20000), MORE=more)
        while wanted and job.process.poll() is None and not list(out.glob("paths/part-*.parquet")):
            time.sleep(0.2)
        below = job.below()
        if wanted:
            job.process.send_signal(signal.SIGTERM)
        status, said = job.ended(600)
        assert status == wanted, said
        assert psutil.wait_procs(below, timeout=60)[1] == []
        assert (results.load(out).manifest.state == "complete") == (wanted == 0)
    assert_same_tables(tables_of(out), tables_of(whole))
