"""Training by several processes of this machine, as torchrun starts them: one program forks them for each training."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from duo_oracle.models.training import stage1

STOP = 11
"""The step that a stopped training never makes."""


class Stopped(Exception):
    pass


def train_stopped(config: Any) -> None:
    """Trains until the step before STOP."""
    gradients = stage1._gradients

    def failing(step: int, **of_the_training: Any) -> Any:
        if step == STOP:
            raise Stopped
        return gradients(step, **of_the_training)

    stage1._gradients = failing
    try:
        stage1.train(config)
    except Stopped:
        return
    raise AssertionError("the training was not stopped")


def in_processes(count: int, jobs: list[tuple[Callable[[Any], None], Any]], folder: Path) -> None:
    """Makes every training by so many processes. Raises AssertionError with what went wrong there."""
    file = folder / "jobs.pickle"
    file.write_bytes(pickle.dumps(jobs))
    command = [sys.executable, "-m", "tests.models.training.several", str(count), str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr


def _main(count: int, file: Path) -> None:
    for make, config in pickle.loads(file.read_bytes()):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        started = [_forked(rank, count, port, make, config) for rank in range(count)]
        ended = [os.waitpid(pid, 0)[1] for pid in started]
        if any(ended):
            sys.exit(1)


def _forked(rank: int, count: int, port: int, make: Callable[[Any], None], config: Any) -> int:
    pid = os.fork()
    if pid:
        return pid
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    try:
        make(config)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    _main(int(sys.argv[1]), Path(sys.argv[2]))
