"""Threads where a process may start few: Arrow waits for ever for one that the system refused it, and others end the process."""

from __future__ import annotations

import _thread
import io
import os
import sys
import threading

from duo_oracle.oracle.base.errors import Outage

NO_THREADS = (
    "no further thread or process can be started: the address space (ulimit -v) or the number of threads "
    "(ulimit -u, pids.max of the container) is bounded too low; allow more, and ask again"
)
_ARROWS_OWN = 8  # Arrow's threads for files, whatever the cores
_few_in: dict[int, bool] = {}
_ready_in: set[int] = set()


def few_threads() -> bool:
    """Whether every library is to have one thread here: where the address space is bounded, of which each thread takes some for its
    stack and its allocator, and where not all that a library may want start at once. Found once in a process."""
    process = os.getpid()
    if process not in _few_in:
        _few_in[process] = _is_bounded() or not can_start((os.cpu_count() or 1) + _ARROWS_OWN)
        if _few_in[process]:
            os.environ["TOKENIZERS_PARALLELISM"] = "false"  # else one text starts a thread for every core, or ends the process
    return _few_in[process]


def ready_arrow() -> None:
    """Makes sure that Arrow has the threads that it reads with; to be called before a table is read from a file.

    It starts its own when it needs them; where threads are few it has one of each kind, and they are started here. Raises Outage
    where even these two cannot start.
    """
    if os.getpid() in _ready_in:  # a fork has none of its parent's
        return
    if few_threads():
        import pyarrow as pa

        pa.set_cpu_count(1)
        pa.set_io_thread_count(1)
        try:
            _read_something()
        except (pa.ArrowException, OSError, RuntimeError, MemoryError):
            raise Outage(NO_THREADS) from None
    _ready_in.add(os.getpid())


def can_start(n_threads: int) -> bool:
    """Whether so many threads can be alive at once besides those that are."""
    enough, ended, n_started = threading.Event(), threading.Semaphore(0), 0

    def stay() -> None:
        enough.wait()
        ended.release()

    try:
        for _ in range(n_threads):
            _thread.start_new_thread(stay, ())  # a Thread waits for a word of its own, which may need memory
            n_started += 1
    except (RuntimeError, MemoryError):
        return False
    finally:
        enough.set()
        for _ in range(n_started):
            ended.acquire()
    return True


def _is_bounded() -> bool:
    """Whether the address space is."""
    if sys.platform == "win32":
        return False
    import resource

    return resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY


def _read_something() -> None:
    """A read that needs a thread for the file and one for the columns, and that fails in words where one cannot start."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = io.BytesIO()
    pq.write_table(pa.table({"a": [0], "b": [0]}), file)
    file.seek(0)
    pq.ParquetFile(pa.PythonFile(file, mode="r"), pre_buffer=True).read(use_threads=True)
