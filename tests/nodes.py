"""Clusters of Ray whose nodes are processes of this machine, with folders that they cannot see."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import psutil

from tests.search import fakes

ROOT = Path(__file__).resolve().parents[1]
RAY = [sys.executable, "-m", "ray.scripts.scripts"]
QUIET = {"RAY_USAGE_STATS_ENABLED": "0"}
_WORKERS = ("ray::IDLE", "ray::solve")
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

    def workers(self) -> list[psutil.Process]:
        """Ray's workers on all nodes, those that wait as well; not its agents, without which a node ends."""
        found = []
        for node in self.nodes:
            with contextlib.suppress(psutil.Error):
                found += [p for p in psutil.Process(node.pid).children(recursive=True) if p.name() in _WORKERS]
        return found

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


@contextlib.contextmanager
def cluster_of_nodes() -> Iterator[Cluster]:
    """A cluster that is its head alone, to which nodes are added."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="duo-", ignore_cleanup_errors=True) as folder:  # sockets want a short path
        started = Cluster(Path(folder))
        try:
            yield started
        finally:
            started.kill()
