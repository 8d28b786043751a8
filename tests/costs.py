"""What surroundings cost, in processor time, so that a busy machine says the same: `make costs` (ten minutes on two cores).

python -m tests.costs bucket        # a job of two workers into a folder and into a bucket, by turns
python -m tests.costs nodes 20      # the driver of a cluster of so many nodes, whose units take some seconds each
python -m tests.costs text          # a text of 1 GB beside its first MB: peak memory, and when the first unit starts
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
UNIT_SECONDS = 4.0
COMMAND = [sys.executable, "-m", "duo_oracle"]
JOB = ["--context", "full", "--budget", "any,4", "--seq-len", "64", "--unit-sequences", "1", "--workers", "2"]


class Watched:
    """A process and all below it, looked at twice a second: processor seconds of it, and of all; peak memory of it, in MB."""

    def __init__(self, command: list[str], **environment: str) -> None:
        self.own = self.all = self.peak = 0.0
        self._spent: dict[tuple[int, float], float] = {}
        self._process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1", **environment}, stdout=subprocess.DEVNULL
        )

    def wait(self) -> Watched:
        began = time.monotonic()
        root = psutil.Process(self._process.pid)
        while self._process.poll() is None:
            with contextlib.suppress(psutil.Error):
                for process in (root, *root.children(recursive=True)):
                    with contextlib.suppress(psutil.Error):
                        times = process.cpu_times()
                        self._spent[process.pid, process.create_time()] = times.user + times.system
                self.own = self._spent[root.pid, root.create_time()]
                self.peak = max(self.peak, root.memory_info().rss / 1e6)
            time.sleep(0.5)
        self.all, self.seconds = sum(self._spent.values()), time.monotonic() - began
        if self._process.returncode != 0:
            sys.exit(f"the search ended with status {self._process.returncode}")
        return self


def bucket(sequences: int = 48) -> None:
    with tempfile.TemporaryDirectory() as folder, serving(0.0) as uri:
        spent = {}
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
    time.sleep(UNIT_SECONDS)
    fakes.solves(model, sequences, problem, sink)


def driven(toy: str, data: str, out: str, address: str) -> None:
    """The driver: prints what it spent from its tenth unit to its last, and for how long."""
    from duo_oracle.results.store.manifest import JOURNAL

    spent: list[tuple[float, float, int]] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.5):
            with contextlib.suppress(OSError):
                n_units = Path(out, JOURNAL).read_bytes().count(b"\n")
                if n_units >= 10:
                    spent.append((time.process_time(), time.monotonic(), n_units))

    threading.Thread(target=look, daemon=True).start()
    outcome = run_search(SearchConfig(model=toy, data=data, out=out, unit_sequences=1, address=address), solve=rests)
    ended.set()
    (cpu, began, first), (cpu_end, end, last) = spent[0], spent[-1]
    share = (cpu_end - cpu) / (end - began)
    print(f"{last - first} units in {end - began:.0f} s: the driver used {share:.1%} of a core, {len(outcome.failures)} failed")


def nodes(n_nodes: int = 20, n_units: int = 300) -> None:
    from ray.cluster_utils import Cluster

    with tempfile.TemporaryDirectory(prefix="c") as folder:
        os.environ["PYTHONPATH"] = str(ROOT)
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
            print(f"{n_nodes} nodes, {n_units} units of {UNIT_SECONDS:.0f} s:", flush=True)
            subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True)
        finally:
            cluster.shutdown()


def text() -> None:
    piece = (ROOT / "models/holdouts/prose.jsonl").read_text("utf-8")[: 2**20]
    with tempfile.TemporaryDirectory() as folder:
        for name, times in (("1 MB", 1), ("1 GB", 1024)):
            file = Path(folder, "text.txt")
            with file.open("w") as whole:
                for _ in range(times * (2**20 // len(piece) + 1)):
                    whole.write(piece)
            out = Path(folder, name)
            command = [
                *COMMAND,
                "search",
                "duo-tiny",
                str(file),
                "--max-sequences",
                "10",
                "--seq-len",
                "32",
                "--route-layers",
                "0-1",
            ]
            began, first = time.monotonic(), []
            watched = Watched([*command, "--local", "--unit-sequences", "1", "--null-draws", "0", "--out", str(out)])

            def look(out: Path = out, first: list[float] = first, began: float = began) -> None:
                while not first and time.monotonic() < began + 120:
                    if (out / "run.json").exists():
                        first.append(time.monotonic() - began)
                    time.sleep(0.05)

            threading.Thread(target=look, daemon=True).start()
            watched.wait()
            print(
                f"{name} ({file.stat().st_size / 1e9:.3f} GB): {watched.peak:.0f} MB at the peak, the run begins after "
                f"{first[0]:.1f} s, {watched.own:.1f} s of processor time in {watched.seconds:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    todo = {"bucket": bucket, "nodes": nodes, "text": text}
    names = sys.argv[1:2] or list(todo)
    for name in names:
        todo[name](*map(int, sys.argv[2:]))
