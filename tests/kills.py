"""Drivers and workers killed at random moments, in this process and under Ray, over a folder and over a bucket: `make kills`.

Each chain is one search of a toy whose driver, or one of whose Ray workers, is killed (SIGKILL) at random moments: while it starts,
and while it solves and writes. A killed driver is resumed by the same command; a killed worker costs its unit. After its kills the
chain runs to its end. Its tables must equal those of a search that nothing stopped, nothing may be left in the run that its
manifest does not name, no temporary file and no process. The bucket's server refuses one request in ten. Prints a line for each
kind of kill; ends with status 1 where a chain differs.

    python -m tests.kills 100 0            # so many kills, and the seed of their moments
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from duo_oracle import results
from duo_oracle.models.families.toy import write_toy
from duo_oracle.oracle.base.remote import Remote, is_remote
from tests.s3_server import serving

ROOT = Path(__file__).parents[1]
ALONE = {"run.json", "config.yaml", ".lock"}
KILLS_A_CHAIN = 5
HOW = {"local": ["local"], "ray": []}
KINDS = (("local", "driver"), ("ray", "driver"), ("ray", "worker"))
PATIENCE = 300.0
SAID = 8000  # characters of what the drivers said last, shown with a fault


@dataclass
class Place:
    """Where chains of one kind happen, and how long a search that nothing stops takes there to its first part and to its end.

    `how` is local, ray, or the address of a cluster.
    """

    how: str
    top: str
    scratch: Path
    toy: str
    data: str
    first: float = 0.0
    longest: float = 0.0

    def started(self, out: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.search.run_slowly", self.toy, self.data, out, *HOW.get(self.how, [self.how])]
        environment = {**os.environ, "TMPDIR": str(self.scratch), "OMP_NUM_THREADS": "1"}
        with self.log.open("ab") as log:
            return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)

    @property
    def log(self) -> Path:
        """What all drivers said."""
        return self.scratch.with_name("said.log")

    def ended(self, out: str) -> list[str]:
        """Lets a search end; what is wrong where it does not. A unit whose worker died three times is reported, and tried again."""
        well = any(self.started(out).wait(PATIENCE) == 0 for _ in range(3))
        return [] if well else [f"{out}: the last search did not end well"]

    def timed(self) -> None:
        """Measures a search here that nothing stops."""
        out, began = f"{self.top}/timed-{self.how}", time.monotonic()
        driver = self.started(out)
        while driver.poll() is None:
            if not self.first and any(name.startswith("paths/") for name in held(out)):
                self.first = time.monotonic() - began
            time.sleep(0.3)
        if driver.returncode != 0:
            sys.exit(f"{out}: a search that nothing stopped did not end well")
        self.longest = time.monotonic() - began


@dataclass
class Tally:
    """Kills of one kind, by when they came, and what became of their chains."""

    start: int = 0
    writing: int = 0
    chains: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        return self.start + self.writing


def held(out: str) -> set[str]:
    if is_remote(out):
        return set(Remote(out).sizes())
    return {path.relative_to(out).as_posix() for path in Path(out).rglob("*") if path.is_file()}


def fault_of(out: str, whole: str, scratch: Path) -> str | None:
    """What is wrong with the run that a chain left; None where it is whole, equal to the other, and alone."""
    run, other = results.load(out), results.load(whole)
    if run.manifest.state != "complete":
        return "not complete"
    for table in other.tables:
        if not run.dataset(table).to_table().equals(other.dataset(table).to_table(), check_metadata=True):
            return f"other {table}"
    named = {f"{table}/part-{unit:05d}.parquet" for unit, record in run.manifest.units.items() for table in record.parts}
    if held(out) - ALONE != named:
        return f"left over: {sorted((held(out) - ALONE) ^ named)}"
    left = [path.name for path in scratch.iterdir()]
    if left:
        return f"temporary files: {left}"
    deadline = time.monotonic() + 30
    while (alive := _processes_of(scratch)) and time.monotonic() < deadline:  # Ray's own end some seconds after their driver
        time.sleep(0.5)
    return f"processes: {alive}" if alive else None


def _processes_of(scratch: Path) -> list[str]:
    """Processes of Rays that were started here."""
    lines = (" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"]))
    return [line[:200] for line in lines if f"{scratch}/" in line]


def workers_of(driver: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The driver's Ray workers, those that only start as well."""
    found = []
    for process in psutil.Process(driver.pid).children(recursive=True):
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        if words and (words[0].startswith("ray::") or any("default_worker.py" in word for word in words)):
            found.append(process)
    return found


def _struck(driver: subprocess.Popen[bytes], victim: str, moments: random.Random) -> bool:
    """Kills the driver, or one of its workers where it has some."""
    if victim == "driver":
        driver.kill()
        driver.wait()
        return True
    try:
        workers = workers_of(driver)
        if workers:
            moments.choice(workers).kill()
        return bool(workers)
    except psutil.Error:
        return False


def chain(place: Place, victim: str, n_kills: int, out: str, tally: Tally, moments: random.Random) -> None:
    """Kills so often, unless the search ends before; then lets it end."""
    done = 0
    while done < n_kills:
        driver, began = place.started(out), time.monotonic()
        while done < n_kills:
            at = moments.choice([moments.uniform(0, place.first), moments.uniform(place.first, place.longest)])
            if victim == "worker":  # of one driver several workers are killed
                at = max(at, time.monotonic() - began + moments.uniform(0.1, 2))
            try:
                driver.wait(max(0.0, began + at - time.monotonic()))
                break
            except subprocess.TimeoutExpired:
                pass
            if _struck(driver, victim, moments):
                done += 1
                tally.start, tally.writing = tally.start + (at < place.first), tally.writing + (at >= place.first)
            if victim == "driver":
                break
        if victim == "worker" or driver.poll() == 0:
            driver.wait(PATIENCE)
            break
    tally.faults += place.ended(out)
    tally.chains += 1


def write_inputs(folder: Path, repeats: int = 1) -> tuple[Path, Path]:
    """A toy and its text, of 24 windows times `repeats`."""
    toy, data = folder / "toy", folder / "tokens.jsonl"
    write_toy(toy, seed=3, n_vocabulary=32)
    lines = [f'{{"tokens": [{", ".join(map(str, range(n % 20, n % 20 + 6)))}]}}\n' for n in range(1, 25)]
    data.write_text("".join(lines * repeats))
    return toy, data


def main(n_kills: int, seed: int) -> int:
    moments, tallies = random.Random(seed), {}
    with tempfile.TemporaryDirectory(prefix="k") as folder, serving(0.1) as bucket:
        here, scratch = Path(folder), Path(folder, "t")
        scratch.mkdir()
        toy, data = write_inputs(here)
        places = [Place(how, top, scratch, str(toy), str(data)) for how in HOW for top in (folder, bucket)]
        for place in places:
            place.timed()
        whole = f"{folder}/timed-local"
        kinds = [(place, victim) for place in places for how, victim in KINDS if how == place.how]
        for number, (place, victim) in enumerate(kinds):
            wanted = n_kills * (number + 1) // len(kinds) - n_kills * number // len(kinds)
            tally = tallies[number] = Tally()
            began = time.monotonic()
            while tally.kills < wanted and tally.chains < 3 * wanted and not tally.faults:  # some end before their first kill
                out = f"{place.top}/{place.how}-{victim}-{tally.chains}"
                chain(place, victim, min(KILLS_A_CHAIN, wanted - tally.kills), out, tally, moments)
                if fault := fault_of(out, whole, scratch):
                    tally.faults.append(f"{out}: {fault}")
            at = "bucket" if is_remote(place.top) else "folder"
            print(
                f"{place.how}, {at}, {victim}: {tally.kills} kills ({tally.start} at the start, {tally.writing} later) in "
                f"{tally.chains} chains, {time.monotonic() - began:.0f} s; {'; '.join(tally.faults) or 'all equal and alone'}",
                flush=True,
            )
            if tally.faults:
                print(place.log.read_text()[-SAID:], file=sys.stderr)
    faults = sum(len(tally.faults) for tally in tallies.values())
    print(f"{sum(tally.kills for tally in tallies.values())} kills, {faults} faults (seed {seed})")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main(*(int(word) for word in [*sys.argv[1:], "100", "0"][:2])))
