"""Clusters of Ray that share nothing, or lose their head: nodes are processes of this machine. One cluster for all, to its end."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import psutil
import pytest

from duo_oracle import results
from duo_oracle.search.job.config import SearchConfig
from duo_oracle.search.job.driver import run_search
from tests.search import fakes
from tests.search.conftest import N_SEQUENCES, assert_same_tables, tables_of

ROOT = Path(__file__).resolve().parents[3]
RAY = [sys.executable, "-m", "ray.scripts.scripts"]
QUIET = {"RAY_USAGE_STATS_ENABLED": "0"}
CAN_HIDE = shutil.which("unshare") is not None and not subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode


class Cluster:
    """A head and its nodes, each a process group of its own; all of it is killed at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.mark, self.nodes = folder, folder / "mark", []
        self.mark.touch()
        with socket.create_server(("", 0)) as server:
            port = server.getsockname()[1]
        self.head = self._start("--head", f"--port={port}", f"--temp-dir={folder}", "--include-dashboard=false")
        found = re.search(r"Local node IP: (\S+)", (folder / "node-0.log").read_text())
        assert found is not None
        self.address = f"{found[1]}:{port}"

    def add(self, name: str, hidden: Path) -> subprocess.Popen[bytes]:
        """A node for which the folder `hidden` is empty, and a disk of its own."""
        before = ["unshare", "-m", "sh", "-c", f"mount -t tmpfs none '{hidden}' && exec \"$@\"", "node"]
        return self._start(f"--address={self.address}", before=before, values={fakes.NODE: name})

    def _start(
        self, *arguments: str, before: Sequence[str] = (), values: Mapping[str, str] = MappingProxyType({})
    ) -> subprocess.Popen[bytes]:
        log = self.folder / f"node-{len(self.nodes)}.log"
        command = [*before, *RAY, "start", *arguments, "--num-cpus=1", "--object-store-memory=100000000", "--block"]
        with log.open("wb") as file:
            node = subprocess.Popen(
                command,
                cwd=ROOT,
                env={
                    **os.environ,
                    **QUIET,
                    "RAY_raylet_start_wait_time_s": "170",
                    "PYTHONPATH": str(ROOT),
                    fakes.MARK: str(self.mark),
                    **values,
                },
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self.nodes.append(node)
        wait_until(lambda: b"Ray runtime started" in log.read_bytes() or node.poll() is not None, 180)
        assert node.poll() is None, log.read_text()
        return node

    def kill(self, *nodes: subprocess.Popen[bytes]) -> None:
        """Kills the nodes named, or all."""
        for node in nodes or self.nodes:
            with contextlib.suppress(psutil.Error):
                for process in [*psutil.Process(node.pid).children(recursive=True), psutil.Process(node.pid)]:
                    with contextlib.suppress(psutil.Error):
                        process.kill()
            node.wait()


def wait_until(done: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="duo-", ignore_cleanup_errors=True) as folder:  # sockets want a short path
        started = Cluster(Path(folder))
        try:
            yield started
        finally:
            started.kill()


def search(toy: Path, data: Path, out: Path, *how: str, signs: Path | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.search.run_slowly", str(toy), str(data), str(out), *how],
        cwd=ROOT,
        env={**os.environ, **QUIET, **({} if signs is None else {fakes.MARK: str(signs)})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def n_units(out: Path) -> int:
    return len(results.load(out).manifest.units) if (out / "run.json").exists() else 0


def whole(toy: Path, data: Path, out: Path) -> Path:
    run_search(SearchConfig(model=str(toy), data=(str(data),), out=str(out), unit_sequences=1, local=True), solve=fakes.solves)
    return out


@pytest.mark.long
@pytest.mark.skipif(not CAN_HIDE, reason="needs a mount namespace, to hide a folder from a node")
def test_nodes_that_see_nothing_of_the_run_come_and_go_and_the_tables_are_equal(
    cluster: Cluster, toy: Path, tokens: Path, tmp_path: Path
) -> None:
    """Three nodes, two of them with an empty folder where the run is. One of these is killed, and another one is added."""
    data, shared, mark = tmp_path / "long.jsonl", tmp_path / "shared", cluster.mark
    data.write_text(tokens.read_text() * 4)
    shared.mkdir()
    first, second = (cluster.add(name, hidden=shared) for name in ("first", "second"))
    driver = search(toy, data, shared / "run", cluster.address, signs=mark)
    try:
        wait_until(lambda: {"head", "first", "second"} <= set(mark.read_text().split()))
        cluster.kill(first)
        added = cluster.add("added", hidden=shared)
        _, said = driver.communicate(timeout=240)
    finally:
        driver.kill()
    assert driver.returncode == 0, said
    assert said.count(f"does not see {shared / 'run'}: its rows travel through Ray") == 1  # all are of one machine's name
    assert "its worker died" in said
    assert "added" in mark.read_text().split()
    assert_same_tables(tables_of(shared / "run"), tables_of(whole(toy, data, tmp_path / "whole")))
    for node in (second, added):
        assert list(Path(f"/proc/{node.pid}/root{shared}").iterdir()) == []
    assert not [path for path in (shared / "run").rglob("*") if ".tmp" in path.name]


@pytest.mark.long
def test_a_cluster_whose_head_dies_is_said_in_a_line_and_the_search_goes_on_elsewhere(
    cluster: Cluster, toy: Path, tokens: Path, tmp_path: Path
) -> None:
    data, out = tmp_path / "long.jsonl", tmp_path / "run"
    data.write_text(tokens.read_text() * 5)
    driver = search(toy, data, out, cluster.address)
    try:
        wait_until(lambda: n_units(out) >= 3)
        (gcs,) = [p for p in psutil.Process(cluster.head.pid).children() if "gcs_server" in p.name()]
        os.kill(gcs.pid, signal.SIGKILL)
        killed = time.monotonic()
        _, said = driver.communicate(timeout=60)
    finally:
        driver.kill()
    assert time.monotonic() - killed < 15
    assert driver.returncode == 1
    (line,) = [line for line in said.splitlines() if "its worker died" not in line]
    assert line.startswith(f"duo-oracle: the Ray cluster is gone: its head at {cluster.address} has not answered for")
    assert f"all finished units are kept in {out}, and the same command goes on from them" in line
    assert 3 <= n_units(out) < 5 * N_SEQUENCES
    assert search(toy, data, out, "local").wait(timeout=60) == 0
    assert_same_tables(tables_of(out), tables_of(whole(toy, data, tmp_path / "whole")))
