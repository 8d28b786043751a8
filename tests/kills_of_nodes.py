"""Two drivers at once over a bucket, on nodes that share no folder, drivers and workers killed at random: part of `make kills`.

A cluster of a head and two nodes, for which the folder of this script is empty: model, text and run are in a bucket alone, whose
server refuses one request in ten. Two drivers are told to do the same search, so that one of them must always be refused; at random
moments one of the drivers, or a worker on any node, is killed (SIGKILL), and dead drivers are started again. Two kills are
of a whole node, in whose place another one is added. A chain ends when the search does, and is held to what `tests.kills` asks:
tables equal to those of a search that nothing stopped, and nothing in the run that its manifest does not name.

    python -m tests.kills_of_nodes 20 0    # so many kills, and the seed of their moments
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from duo_oracle.oracle.base.remote import Remote
from tests.kills import PATIENCE, SAID, Place, fault_of, write_inputs
from tests.nodes import CAN_HIDE, Cluster, cluster_of_nodes
from tests.s3_server import serving

LONGEST_WAIT = 12.0  # seconds between two kills, at most: a driver starts in some five
NODES_KILLED = 2


@dataclass
class Struck:
    """What was killed in all chains."""

    drivers: int = 0
    workers: int = 0
    nodes: int = 0
    told: int = 0
    """Drivers that ended because another one was at work."""
    faults: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        return self.drivers + self.workers + self.nodes


class Race:
    """Two drivers of one search, and what is killed of them and their cluster."""

    def __init__(self, place: Place, out: str, cluster: Cluster, moments: random.Random, struck: Struck) -> None:
        self._place, self._out, self._cluster, self._moments, self._struck = place, out, cluster, moments, struck
        self._drivers: list[subprocess.Popen[bytes]] = []

    def run(self, n_kills: int) -> None:
        """Kills so often, unless the search ends before; then lets it end."""
        while self._struck.kills < n_kills and not self._ended():
            self._drivers = [driver for driver in self._drivers if driver.poll() is None]
            self._drivers += [self._place.started(self._out) for _ in range(2 - len(self._drivers))]
            time.sleep(self._moments.uniform(0, LONGEST_WAIT))
            self._strike()
        for driver in self._drivers:
            driver.wait(PATIENCE)
        if not self._ended():
            self._struck.faults += self._place.ended(self._out)

    def _ended(self) -> bool:
        """Whether a driver has brought the search to its end; counts those that were told of another."""
        codes = [driver.poll() for driver in self._drivers]
        self._struck.told += sum(code is not None and code > 0 for code in codes)
        return 0 in codes

    def _strike(self) -> None:
        nodes = self._cluster.nodes[1:]
        if self._struck.nodes < NODES_KILLED and self._struck.kills % 3 == 2:
            self._cluster.kill(node := self._moments.choice(nodes))
            self._cluster.nodes.remove(node)
            self._cluster.add(f"added-{self._struck.nodes}", hidden=self._place.scratch.parent)
            self._struck.nodes += 1
        elif self._moments.random() < 0.5 and (alive := [driver for driver in self._drivers if driver.poll() is None]):
            self._moments.choice(alive).kill()
            self._struck.drivers += 1
        elif workers := self._cluster.workers():
            try:
                self._moments.choice(workers).kill()
                self._struck.workers += 1
            except psutil.NoSuchProcess:
                pass


def main(n_kills: int, seed: int) -> int:
    if not CAN_HIDE:
        sys.exit("this needs a mount namespace, to hide a folder from a node")
    moments, struck, chains, began = random.Random(seed), Struck(), 0, time.monotonic()
    with tempfile.TemporaryDirectory(prefix="k") as folder, serving(0.1) as bucket, cluster_of_nodes() as cluster:
        toy, data = write_inputs(Path(folder), repeats=4)
        scratch = Path(folder, "t")
        scratch.mkdir()
        alone = Place("local", folder, scratch, str(toy), str(data))
        alone.timed()
        inputs = Remote(f"{bucket}/inputs")
        for file in [*toy.iterdir(), data]:
            inputs.put(f"{file.parent.name if file != data else 'data'}/{file.name}", file.read_bytes())
        for number in range(2):
            cluster.add(f"node-{number}", hidden=Path(folder))
        place = Place(cluster.address, bucket, scratch, f"{inputs.uri}/toy", f"{inputs.uri}/data/{data.name}")
        while struck.kills < n_kills and not struck.faults:
            out = f"{bucket}/raced-{chains}"
            Race(place, out, cluster, moments, struck).run(n_kills)
            chains += 1
            if fault := fault_of(out, f"{folder}/timed-local", scratch):
                struck.faults.append(f"{out}: {fault}")
        if struck.faults:
            print(alone.log.read_text()[-SAID:], file=sys.stderr)
    kinds = f"{struck.drivers} drivers, {struck.workers} workers, {struck.nodes} nodes"
    print(
        f"two drivers at once, nodes without a common folder, a bucket that refuses one request in ten: {struck.kills} kills "
        f"({kinds}) in {chains} chains, {struck.told} times a driver was told of the other, {time.monotonic() - began:.0f} s; "
        f"{'; '.join(struck.faults) or 'all equal and alone'} (seed {seed})"
    )
    return int(bool(struck.faults))


if __name__ == "__main__":
    sys.exit(main(*(int(word) for word in [*sys.argv[1:], "20", "0"][:2])))
