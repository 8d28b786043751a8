"""What surroundings cost, in processor time, so that a busy machine says the same: `make costs` (ten minutes on two cores).

python -m tests.costs bucket 48      # a job of two workers and so many units into a folder and into a bucket, by turns
python -m tests.costs nodes 20 300 4 # the driver of a cluster of so many nodes, and so many units of so many seconds each
python -m tests.costs text 1024      # a text of so many MB beside its first MB: peak memory, and when the first unit starts

Each in little, to see that it runs: `bucket 2`, `nodes 2 16`, `text 3`.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

from duo_oracle.models.families.toy import write_toy
from duo_oracle.models.text.windows import Window
from duo_oracle.oracle.model import OracleModel
from duo_oracle.search.job.config import SearchConfig
from duo_oracle.search.job.driver import run_search
from duo_oracle.search.job.problem import Problem
from duo_oracle.search.job.worker import UnitSink
from tests.s3_server import serving
from tests.search import fakes

ROOT = Path(__file__).parents[1]
SECONDS = "DUO_ORACLE_TEST_UNIT_SECONDS"
COMMAND = [sys.executable, "-m", "duo_oracle"]
JOB = ["--context", "full", "--budget", "any,4", "--seq-len", "64", "--unit-sequences", "1", "--workers", "2"]


class Watched:
    """A process and all below it, looked at five times a second: processor seconds of it, and of all; peak memory of it, in MB.

    `at_first` is what it had used when the file `first` was there, as far as that was seen.
    """

    def __init__(self, command: list[str], first: Path | None = None) -> None:
        self.own = self.all = self.peak = 0.0
        self.at_first: float | None = None
        self._spent: dict[tuple[int, float], float] = {}
        self._first = first
        self._process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)

    def wait(self) -> Watched:
        began = time.monotonic()
        root = psutil.Process(self._process.pid)
        while self._process.poll() is None:
            with contextlib.suppress(psutil.Error, OSError):
                self._look(root)
            time.sleep(0.2)
        self.all, self.seconds = sum(self._spent.values()), time.monotonic() - began
        if self._process.returncode != 0:
            sys.exit(f"the search ended with status {self._process.returncode}")
        return self

    def _look(self, root: psutil.Process) -> None:
        for process in (root, *root.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                self._spent[process.pid, process.create_time()] = times.user + times.system
                if process == root:
                    self.own = times.user + times.system
        if self.at_first is None and self._first is not None and self._first.exists():
            self.at_first = self.own
        status = Path(f"/proc/{root.pid}/status").read_text()
        peaks = [int(line.split()[1]) / 1e3 for line in status.splitlines() if line.startswith("VmHWM")]
        self.peak = max([self.peak, *peaks])  # none of a process that has just ended


def bucket(sequences: int = 48) -> None:
    with tempfile.TemporaryDirectory() as folder, serving(0.0) as uri:
        spent: dict[str, list[Watched]] = {}
        for turn in range(2):
            for place in (folder, uri):
                out = f"{place}/run-{turn}"
                words = ["search", "duo-tiny", "holdout:prose", *JOB, "--max-sequences", str(sequences), "--out", out]
                found = Watched([*COMMAND, *words]).wait()
                spent.setdefault(place, []).append(found)
                print(
                    f"{'bucket' if place == uri else 'folder'}: {found.all:.1f} s of processor time, {found.own:.1f} of them the "
                    f"driver's, in {found.seconds:.0f} s",
                    flush=True,
                )
        there, here = (sum(one.all for one in spent[place]) for place in (uri, folder))
        print(f"the bucket costs {there / here - 1:+.1%} of the processor time of the job ({sequences} units, two turns each)")


def rests(model: OracleModel, sequences: list[Window], problem: Problem, sink: UnitSink) -> None:
    """Takes the time of a unit, and none of the processor."""
    time.sleep(float(os.environ[SECONDS]))
    fakes.solves(model, sequences, problem, sink)


def driven(toy: str, data: str, out: str, address: str) -> None:
    """The driver: prints what it spent from its tenth unit to its last, and for how long."""
    spent: list[tuple[float, float, int]] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.5):
            with contextlib.suppress(OSError):
                n_units = sum(name.startswith("part-") for name in os.listdir(Path(out, "paths")))
                if n_units >= 10:
                    spent.append((time.process_time(), time.monotonic(), n_units))

    threading.Thread(target=look, daemon=True).start()
    outcome = run_search(SearchConfig(model=toy, data=data, out=out, unit_sequences=1, address=address), solve=rests)
    ended.set()
    if len(spent) < 2:
        sys.exit("too few units were seen; ask for more")
    (cpu, began, first), (cpu_end, end, last) = spent[0], spent[-1]
    share = (cpu_end - cpu) / (end - began)
    print(f"{last - first} units in {end - began:.0f} s: the driver used {share:.1%} of a core, {len(outcome.failures)} failed")


def nodes(n_nodes: int = 20, n_units: int = 300, seconds: int = 4) -> None:
    from ray.cluster_utils import Cluster

    with tempfile.TemporaryDirectory(prefix="c") as folder:
        os.environ |= {
            "PYTHONPATH": str(ROOT),
            "RAY_raylet_start_wait_time_s": "170",
            "OMP_NUM_THREADS": "1",
            SECONDS: str(seconds),
        }
        small = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args={**small, "num_cpus": 0})
        try:
            for _ in range(n_nodes):
                cluster.add_node(wait=False, num_cpus=1, object_store_memory=80_000_000)
            cluster.wait_for_nodes(300)
            toy, data = Path(folder, "toy"), Path(folder, "tokens.jsonl")
            write_toy(toy, seed=3, n_vocabulary=32)
            data.write_text("".join(f'{{"tokens": [{", ".join(map(str, range(n % 20, n % 20 + 6)))}]}}\n' for n in range(n_units)))
            code = f"from tests.costs import driven; driven({str(toy)!r}, {str(data)!r}, {folder + '/run'!r}, {cluster.address!r})"
            print(f"{n_nodes} nodes, {n_units} units of {seconds} s:", flush=True)
            subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True)
        finally:
            cluster.shutdown()


def text(megabytes: int = 1024) -> None:
    piece = (ROOT / "models/holdouts/prose.jsonl").read_text("utf-8")
    how = [
        "--max-sequences",
        "10",
        "--seq-len",
        "32",
        "--route-layers",
        "0-1",
        "--unit-sequences",
        "1",
        "--null-draws",
        "0",
        "--local",
    ]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "text.txt")
        for size in (1, megabytes):
            with file.open("w", encoding="utf-8") as whole:
                for _ in range(size * 2**20 // len(piece) + 1):
                    whole.write(piece)
            out = Path(folder, f"run-{size}")
            command = [*COMMAND, "search", "duo-tiny", str(file), *how, "--out", str(out)]
            watched = Watched(command, out / "run.json").wait()
            begins = "an unseen time" if watched.at_first is None else f"{watched.at_first:.1f} s"
            print(
                f"{file.stat().st_size / 1e6:,.0f} MB of text: {watched.peak:.0f} MB at the peak; the run begins after {begins} "
                f"of processor time, of {watched.own:.1f} s in {watched.seconds:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    todo = {"bucket": bucket, "nodes": nodes, "text": text}
    for name in sys.argv[1:2] or list(todo):
        if name not in todo:
            sys.exit(f"the parts are {', '.join(todo)}; got {name!r}")
        todo[name](*map(int, sys.argv[2:]))
