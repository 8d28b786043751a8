"""What Ray changes of its process, and what it is given: environment, import path and signal handlers, put back afterwards."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duo_oracle


@contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    """Sets the variables for what is started inside, and puts the old ones back."""
    old = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in old.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def kept_signal_handlers() -> Iterator[None]:
    """Ray takes SIGTERM for itself when it starts: a stack trace in C and exit status 15. Whoever had it before has it again."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def import_path() -> str:
    """PYTHONPATH by which a process imports the files that this one does."""
    root = str(Path(duo_oracle.__file__).resolve().parents[1])
    return os.pathsep.join(dict.fromkeys([root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]))
