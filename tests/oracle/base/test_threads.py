"""Processes whose address space or threads are bounded: tables are read with what there is, or a line says so."""

from __future__ import annotations

import subprocess
import sys

import pytest

from duo_oracle.oracle.base import threads

# Each case is a fork: its address space is bounded so many MB above what it takes, and it is ended where it stands still.
_BOUNDED = """
import _thread, os, resource, signal, sys, threading
import pyarrow as pa, pyarrow.dataset as ds, pyarrow.parquet as pq
from duo_oracle.oracle.base.errors import Outage
from duo_oracle.oracle.base.threads import few_threads, ready_arrow

def bound(megabytes):
    taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + megabytes * 2**20,) * 2)

def take_all_threads():
    ever = threading.Event()
    try:
        while True:
            _thread.start_new_thread(ever.wait, ())
    except RuntimeError:
        pass

def read():
    table = ds.dataset([sys.argv[1]], format="parquet").to_table()
    groups = table.group_by("b").aggregate([("a", "sum")])
    return table.num_rows, groups.num_rows, pq.read_table(sys.argv[1]).num_rows

def started_early():
    bound(200)
    ready_arrow()
    take_all_threads()
    return read()

def too_late():
    bound(30)
    take_all_threads()
    try:
        ready_arrow()
    except Outage:
        return few_threads(), os.environ["TOKENIZERS_PARALLELISM"]

for case in (started_early, too_late):
    if not os.fork():
        signal.alarm(60)
        print(case(), flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_tables_are_read_where_no_further_thread_can_start_and_a_line_says_where_not_even_one_could(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"a": range(1000), "b": ["x"] * 1000}), tmp_path / "a.parquet")
    done = subprocess.run(
        [sys.executable, "-c", _BOUNDED, tmp_path / "a.parquet"], capture_output=True, text=True, timeout=300, check=True
    )
    assert done.stdout.splitlines() == ["(1000, 1, 1000)", "(True, 'false')"], done.stderr


def test_threads_are_few_where_they_cannot_all_start_and_then_each_library_has_one(monkeypatch):
    def refused(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threads, "_few_in", {})
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    assert threads.can_start(3)
    assert not threads.few_threads()
    monkeypatch.setattr(threads, "_few_in", {})
    monkeypatch.setattr(threads._thread, "start_new_thread", refused)
    assert not threads.can_start(3)
    assert threads.few_threads()
