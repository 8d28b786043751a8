"""Clusters of Ray that share nothing, or lose their head: nodes are processes of this machine. One cluster for all, to its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from duo_oracle import results
from duo_oracle.search.job.config import SearchConfig
from duo_oracle.search.job.driver import run_search
from tests.nodes import CAN_HIDE, QUIET, ROOT, Cluster, cluster_of_nodes, wait_until
from tests.search import fakes
from tests.search.conftest import N_SEQUENCES, assert_same_tables, tables_of


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with cluster_of_nodes() as started:
        yield started


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
