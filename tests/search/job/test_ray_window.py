"""What the pool does with a cluster that changes, held to a stand-in for Ray whose nodes come, go and see what a test says."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from duo_oracle.models.checkpoint import Checkpoint
from duo_oracle.models.text.windows import Window
from duo_oracle.oracle.base.errors import Outage
from duo_oracle.results.store.records import PartRecord, UnitRecord
from duo_oracle.search.job import ray_pool
from duo_oracle.search.job.parcels import Parcel, deliver
from duo_oracle.search.job.pool import Unit
from duo_oracle.search.job.ray_pool import RayPool, task_options
from duo_oracle.search.job.ray_worker import Unusable
from duo_oracle.search.job.worker import Job

Outcome = Callable[[Unit, dict[str, str] | None, bool], Any]


class StandIn:
    """The calls of Ray that a running pool makes. A task is done when it is waited for, and its outcome is the test's."""

    def __init__(self, outcome: Outcome, cpus: list[int]) -> None:
        self.outcome, self.cpus, self.most = outcome, iter(cpus), 0
        self.exceptions = SimpleNamespace(RayTaskError=KeyError, RayError=LookupError)
        self.selector: dict[str, str] | None = None
        self.numbers, self.running = itertools.count(), dict[int, Any]()

    def options(self, label_selector: dict[str, str]) -> StandIn:
        self.selector = label_selector
        return self

    def remote(self, job: Any, weights: Any, unit: Unit, travels: bool) -> int:
        number = next(self.numbers)
        self.running[number] = self.outcome(unit, self.selector, travels)
        self.most = max(self.most, len(self.running))
        return number

    def wait(self, refs: list[int], num_returns: int, timeout: float) -> tuple[list[int], list[int]]:
        return refs[:1], refs[1:]

    def get(self, ref: int) -> Any:
        return self.running.pop(ref)

    def nodes(self) -> list[dict[str, Any]]:
        return [{"NodeID": name, "Alive": True} for name in ("a", "b")]

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": float(next(self.cpus))}


def units(number: int) -> Iterator[Unit]:
    return (Unit(n, (Window(n, f"book {n}", np.zeros(3, dtype=np.int32), 0),)) for n in range(number))


def record(unit: Unit, content: bytes = b"rows") -> UnitRecord:
    import hashlib

    return UnitRecord(unit.index, 1, 2, {"tokens": PartRecord(2, len(content), hashlib.sha256(content).hexdigest())})


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[RayPool, StandIn, list[str]]]:
    monkeypatch.setattr(ray_pool, "_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(ray_pool, "_GONE_SECONDS", 0.0)
    monkeypatch.setattr(ray_pool, "answers", lambda address: True)

    def make(outcome: Outcome, cpus: list[int], **values: Any) -> tuple[RayPool, StandIn, list[str]]:
        said: list[str] = []
        job = Job(str(tmp_path), "id", None, None, "float32", "cpu", None, 1, None)  # type: ignore[arg-type]
        made = RayPool(job, Checkpoint({}, {}, None, ""), values.get("workers"), "cluster:1", said.append)
        stand_in = StandIn(outcome, cpus)
        for name, value in {"_ray": stand_in, "_task": stand_in, "_head": "cluster:1", "_job_ref": 0, "_model_ref": 0}.items():
            setattr(made, name, value)
        return made, stand_in, said

    return make


def here(tmp_path: Path, unit: Unit) -> UnitRecord:
    return deliver(Parcel(record(unit), {"tokens": b"rows"}), str(tmp_path))


def test_nodes_that_are_added_are_used(pool: Any, tmp_path: Path) -> None:
    made, ray, _ = pool(lambda unit, selector, travels: ("a", here(tmp_path, unit)), [1] * 5 + [8] * 100)
    assert len(list(made.run(units(60)))) == 60
    assert ray.most == 16


def test_no_more_than_the_workers_asked_for_are_in_flight(pool: Any, tmp_path: Path) -> None:
    made, ray, _ = pool(lambda unit, selector, travels: ("a", here(tmp_path, unit)), [8] * 100, workers=3)
    assert len(list(made.run(units(20)))) == 20
    assert ray.most == 3


def test_a_head_that_does_not_answer_ends_the_work_in_a_line(pool: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, _, _ = pool(lambda unit, selector, travels: ("a", here(tmp_path, unit)), [1] * 100)
    monkeypatch.setattr(ray_pool, "answers", lambda address: False)
    with pytest.raises(Outage, match=r"cluster:1 has not answered for 0 seconds; all finished units are kept in"):
        list(made.run(units(20)))


def test_a_node_on_which_no_unit_can_begin_is_left_out_once(pool: Any, tmp_path: Path) -> None:
    def outcome(unit: Unit, selector: dict[str, str] | None, travels: bool) -> Any:
        if selector is None:
            return "host-b", Unusable("b", "MemoryError: no room")
        assert selector == {"ray.io/node-id": "!in(b)"}
        return "host-a", here(tmp_path, unit)

    made, _, said = pool(outcome, [4] * 100)
    assert sorted(found.unit for found in made.run(units(12))) == list(range(12))
    assert said == ["node host-b cannot be used, and gets no more units: MemoryError: no room"]


def test_where_no_node_is_left_one_line_says_why(pool: Any) -> None:
    names = itertools.cycle("ab")
    made, _, _ = pool(lambda unit, selector, travels: ("host", Unusable(next(names), "MemoryError: no room")), [4] * 100)
    with pytest.raises(Outage, match="no node can be used; the last one said: MemoryError: no room"):
        list(made.run(units(12)))


def test_rows_written_to_another_disk_are_asked_for_again(pool: Any, tmp_path: Path) -> None:
    """The node has a directory of that name and run on its own disk: what it says it wrote is not here."""

    def outcome(unit: Unit, selector: dict[str, str] | None, travels: bool) -> Any:
        return "host-b", Parcel(record(unit), {"tokens": b"rows"}) if travels else record(unit)

    made, _, said = pool(outcome, [2] * 100)
    found = list(made.run(units(6)))
    assert sorted(unit.unit for unit in found if isinstance(unit, UnitRecord)) == list(range(6))
    assert sorted(path.read_bytes() for path in tmp_path.glob("tokens/*")) == [b"rows"] * 6
    assert said == [f"node host-b does not see {tmp_path}: its rows travel through Ray and are written from here"]


def test_bytes_that_changed_on_the_way_are_refused(tmp_path: Path) -> None:
    (unit,) = units(1)
    with pytest.raises(ValueError, match="unit 0: its tokens are not the bytes that its worker wrote"):
        deliver(Parcel(record(unit), {"tokens": b"rowz"}), str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_worker_with_a_gpu_keeps_its_process() -> None:
    job = Job("", "", None, None, "float32", "cuda", None, 2, None)  # type: ignore[arg-type]
    assert task_options(job) == {"max_retries": 0, "max_calls": 0, "num_cpus": 2, "num_gpus": 1}
