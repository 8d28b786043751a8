"""The fuzz test by itself: `python -m tests.fuzz --inputs 10000 --seed N`. A worker runs inputs, and is watched from outside.

A worker that uses more than 15 s of a core for an input, stands still for 300 s, takes over 3 GiB or dies is that input's fault:
it is ended, and another goes on behind the input. What it uses to start, and between inputs, is none's. `--only NUMBER` runs one
input again, with all that it says.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import secrets
import selectors
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from tests.fuzz.verdict import Verdict

STALLED_SECONDS, KILL_BYTES = 300.0, 3 << 30


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=None, help="default: drawn, and printed")
    parser.add_argument("--only", type=int, default=None, help="run one input of the seed, with all that it says")
    parser.add_argument("--worker", type=int, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--seeds", type=Path, default=None, help=argparse.SUPPRESS)
    given = parser.parse_args()
    seed = secrets.randbelow(10**9) if given.seed is None else given.seed
    if given.worker is not None:
        return _work(given.seeds, seed, given.worker, given.inputs)
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="duo-fuzz-") as folder:
        seeds = Path(folder, "seeds")
        seeds.mkdir()
        _make(seeds)
        if given.only is not None:
            os.environ["DUO_FUZZ_SHOW"] = "1"
            return _work(seeds, seed, given.only, given.only + 1)
        return _watched(seeds, seed, given.inputs)


def _environment(seeds: Path) -> dict[str, str]:
    home = seeds.parent / "home"
    for made in ("tmp", "huggingface/hub", "matplotlib"):
        (home / made).mkdir(parents=True, exist_ok=True)
    own = {
        "HOME": home,
        "XDG_CACHE_HOME": home,
        "DUO_ORACLE_CACHE": home,
        "HF_HOME": home / "huggingface",
        "TMPDIR": home / "tmp",
        "MPLCONFIGDIR": home,
    }
    fixed = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
    return {**os.environ, **{name: str(path) for name, path in own.items()}, **fixed}


def _make(seeds: Path) -> None:
    os.environ.update(_environment(seeds))
    tempfile.tempdir = None
    from tests.fuzz.seeds import make_seeds

    make_seeds(seeds)


def _work(seeds: Path, seed: int, first: int, end: int) -> int:
    """Of a worker: inputs one after the other; what becomes of each is a line of JSON on stdout."""
    os.environ.update(_environment(seeds))
    import torch

    from tests.fuzz.inputs import Writes, run_input  # here: a worker's environment comes first
    from tests.fuzz.seeds import run_quietly

    torch.set_num_threads(1)
    # what a process loads once, seconds of a core, is no input's: a model of transformers loads all of it
    started = run_quietly(
        *("search", seeds / "sharded", seeds / "data.jsonl", "--local", "--branches", ".B", "--max-sequences", "1"),
        *("--out", seeds.parent / f"started-{first}"),
    )
    assert started[0] == 0, started
    gc.freeze()
    report, work = sys.stdout, seeds.parent / "work"
    work.mkdir(exist_ok=True)
    writes = Writes(seeds.parent / "home")
    n_faults = 0
    for number in range(first, end):
        print(json.dumps({"begun": number}), file=report, flush=True)
        verdict = run_input(
            seeds, work, writes, seed, number, lambda it: print(json.dumps({"named": asdict(it)}), file=report, flush=True)
        )
        left = os.listdir(seeds.parent / "home" / "tmp")
        verdict.faults += [f"left in TMPDIR: {name}" for name in left if not name.startswith(("torch", "hf"))][:3]
        n_faults += bool(verdict.faults)
        print(json.dumps(asdict(verdict)), file=report, flush=True)
        if not number % 25:
            gc.collect()
    print(json.dumps({"end": end}), file=report, flush=True)
    return int(n_faults > 0)


class _Worker:
    def __init__(self, seeds: Path, seed: int, first: int, end: int) -> None:
        words = [sys.executable, "-m", "tests.fuzz", "--worker", str(first), "--seed", str(seed)]
        words += ["--inputs", str(end), "--seeds", str(seeds)]
        self.errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=self.errors, env=_environment(seeds))
        self.begun, self.since, self.cpu = first, time.monotonic(), 0.0
        self.rest, self.ended, self.within = b"", False, False
        self.named: dict[str, Any] = {"kind": "?", "words": ""}

    def cpu_seconds(self) -> float:
        try:
            words = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def resident(self) -> int:
        try:
            return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError):
            return 0

    def said(self) -> str:
        self.errors.seek(0)
        return self.errors.read()[-2000:].decode("utf-8", "replace")


def _watched(seeds: Path, seed: int, n_inputs: int) -> int:
    """Runs all inputs, prints every fault as it is found, and a table at the end."""
    done: list[dict[str, Any]] = []
    started, first = time.monotonic(), 0
    cpu_total = 0.0
    while first < n_inputs:
        worker = _Worker(seeds, seed, first, n_inputs)
        fault = _follow(worker, done)
        cpu_total += worker.cpu
        if fault is None:
            break
        done.append(asdict(Verdict(worker.begun, worker.named["kind"], worker.named["words"], faults=[fault])))
        _print(done[-1])
        first = worker.begun + 1
    _summary(done, seed, time.monotonic() - started, cpu_total)
    return int(any(verdict["faults"] for verdict in done))


def _follow(worker: _Worker, done: list[dict[str, Any]]) -> str | None:
    """Reads a worker to its end. Returns why it was ended, None where it came to the end of the inputs."""
    pipe = worker.process.stdout
    assert pipe is not None
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while True:
            if selector.select(timeout=0.2):
                chunk = os.read(pipe.fileno(), 1 << 16)
                if not chunk:
                    status = worker.process.wait()
                    return None if worker.ended else f"the process died, status {status}: {worker.said()}"
                worker.rest += chunk
                *lines, worker.rest = worker.rest.split(b"\n")
                for line in lines:
                    values = json.loads(line)
                    if "end" in values:
                        worker.ended = True
                    elif "begun" in values:
                        worker.begun, worker.since, worker.cpu = values["begun"], time.monotonic(), worker.cpu_seconds()
                        worker.within, worker.named = True, {"kind": "?", "words": ""}
                    elif "named" in values:
                        worker.named = values["named"]
                    else:
                        worker.within = False
                        done.append(values)
                        if values["faults"]:
                            _print(values)
                continue
            used, still = worker.cpu_seconds() - worker.cpu, time.monotonic() - worker.since
            resident = worker.resident()
            if (worker.within and used > (15 if done else 40)) or still > STALLED_SECONDS or resident > KILL_BYTES:
                worker.process.kill()
                worker.process.wait()
                return f"ended: {used:.0f} s of a core, {still:.0f} s, {resident / 2**30:.1f} GiB"


def _print(verdict: dict[str, Any]) -> None:
    print(f"FAULT {verdict['number']} {verdict['kind']}: {verdict['words']}", flush=True)
    for fault in verdict["faults"]:
        print(f"   {fault}", flush=True)


def _summary(done: list[dict[str, Any]], seed: int, seconds: float, cpu: float) -> None:
    for kind in sorted({verdict["kind"] for verdict in done}):
        mine = [verdict for verdict in done if verdict["kind"] == kind]
        refused = sum(verdict["status"] == 2 for verdict in mine)
        faulty = sum(bool(verdict["faults"]) for verdict in mine)
        longest = max(verdict["seconds"] for verdict in mine)
        peak = max(verdict["peak_bytes"] for verdict in mine) / 2**20
        print(
            f"{kind:28}{len(mine):7,} inputs {refused:6,} refused {faulty:4} faults, longest {longest:5.2f} s, peak {peak:5.0f} MiB"
        )
    n_faults = sum(bool(verdict["faults"]) for verdict in done)
    statuses = dict(sorted(Counter(str(verdict["status"]) for verdict in done).items()))
    print(f"seed {seed}: {len(done):,} inputs, {n_faults} faults, statuses {statuses}, {seconds:.0f} s, {cpu:.0f} s of a core")


if __name__ == "__main__":
    raise SystemExit(main())
