"""Drivers killed at random moments, over a folder and over a bucket that refuses one request in ten: `make kills`.

Each chain is one search of a toy, killed (SIGKILL) at a random moment and resumed by the same command, until it has had its kills;
then it runs to its end. Its tables must equal those of a search that nothing stopped, and nothing may be left that its manifest
does not name. Prints a line for each kind of place; ends with status 1 where a chain differs.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from duo_oracle import results
from duo_oracle.models.families.toy import write_toy
from duo_oracle.oracle.base.remote import Remote, is_remote
from tests.s3_server import serving

ROOT = Path(__file__).parents[1]
ALONE = {"run.json", "config.yaml", ".lock"}
KILLS_A_CHAIN = 5


def started(toy: Path, data: Path, out: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.search.run_slowly", str(toy), str(data), out, "local"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def held(out: str) -> set[str]:
    if is_remote(out):
        return set(Remote(out).sizes())
    return {path.relative_to(out).as_posix() for path in Path(out).rglob("*") if path.is_file()}


def is_whole(out: str, whole: str) -> bool:
    """Whether the run is complete, equal to the other, and alone in its place."""
    run, other = results.load(out), results.load(whole)
    named = {f"{table}/part-{unit:05d}.parquet" for unit, record in run.manifest.units.items() for table in record.parts}
    equal = all(
        run.dataset(table).to_table().equals(other.dataset(table).to_table(), check_metadata=True) for table in other.tables
    )
    return run.manifest.state == "complete" and equal and held(out) - ALONE == named


def killed(toy: Path, data: Path, out: str, n_kills: int, longest: float, moments: random.Random) -> int:
    """Kills the search so often, unless it ends before; then lets it end. Returns how many kills there were."""
    n = 0
    while n < n_kills:
        driver = started(toy, data, out)
        try:
            driver.wait(moments.uniform(0, longest))
            break
        except subprocess.TimeoutExpired:
            driver.kill()
            driver.wait()
            n += 1
    if started(toy, data, out).wait(300) != 0:
        sys.exit(f"{out}: the last search did not end well")
    return n


def main(n_kills: int, seed: int) -> int:
    moments, n_different = random.Random(seed), 0
    with tempfile.TemporaryDirectory() as folder, serving(0.1) as bucket:
        here, (toy, data) = Path(folder), (Path(folder, "toy"), Path(folder, "tokens.jsonl"))
        write_toy(toy, seed=3, n_vocabulary=32)
        data.write_text("".join(f'{{"tokens": [{", ".join(map(str, range(n % 20, n % 20 + 6)))}]}}\n' for n in range(1, 25)))
        began = time.monotonic()
        started(toy, data, str(here / "whole")).wait(300)
        longest = time.monotonic() - began
        for kind, place in (("folder", folder), ("bucket", bucket)):
            done = chains = 0
            while done < n_kills // 2:
                out = f"{place}/killed-{chains}"
                done += killed(toy, data, out, min(KILLS_A_CHAIN, n_kills // 2 - done), longest, moments)
                chains += 1
                n_different += not is_whole(out, str(here / "whole"))
            print(f"{kind}: {done} kills in {chains} chains, {n_different} of them not equal and whole (seed {seed})", flush=True)
    return int(n_different > 0)


if __name__ == "__main__":
    sys.exit(main(*(int(word) for word in [*sys.argv[1:], "100", "0"][:2])))
