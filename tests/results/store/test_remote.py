"""Places in a store, in memory: what is taken for one, whole objects, swaps that do not lose, leases, and words without secrets."""

from __future__ import annotations

import json
import os
import time
import uuid

import pytest

from duo_oracle.oracle.base.disk import StoreFault, disk_fault
from duo_oracle.oracle.base.errors import InputError, Outage
from duo_oracle.oracle.base.remote import Remote
from duo_oracle.results.store import lease as leases
from duo_oracle.results.store.lease import LEASE, Lease


@pytest.fixture
def place() -> Remote:
    return Remote(f"memory://test/{uuid.uuid4().hex}")


@pytest.mark.parametrize(
    "uri",
    ["s3://bucket", "s3:///run", "s3://bucket/../run", "s3://bucket//run", "s3://bucket/a*", "s3://b/r?x=1", "gcs://bucket/run"],
)
def test_what_is_no_place_is_refused(uri: str) -> None:
    with pytest.raises(InputError, match="a place in a store is"):
        Remote(uri)


def test_a_uri_with_credentials_is_refused_and_not_repeated() -> None:
    with pytest.raises(InputError, match="holds no credentials") as refused:
        Remote("s3://key:secret@bucket/run")
    assert "secret" not in str(refused.value)


def test_a_copy_is_made_again_only_where_something_changed(place: Remote) -> None:
    place.put("model/config.json", b"{}")
    copy = place.below("model").copy()
    assert (copy.name, (copy / "config.json").read_bytes()) == ("model", b"{}")
    assert place.below("model").copy() == copy
    assert place.below("model/config.json").copy().read_bytes() == b"{}"
    with pytest.raises(InputError, match="there is nothing at"):
        place.below("none").copy()


def test_a_store_that_does_not_answer_is_asked_again_and_then_said_in_our_words(
    place: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def refuses(path: str) -> bytes:
        asked.append(path)
        raise OSError("503 for key AKIASECRET")

    monkeypatch.setattr(place._fs, "cat_file", refuses)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with pytest.raises(StoreFault) as fault:
        place.read("run.json")
    assert len(asked) == place._store.attempts
    assert disk_fault(fault.value) == f"the store does not answer for {place.uri}/run.json (OSError)"


def test_a_lease_is_one_owners_until_it_is_let_go(place: Remote) -> None:
    lease = Lease.taken(place)
    lease.check()
    with pytest.raises(InputError, match="one process at a time writes a run; another one is writing"):
        Lease.taken(place)
    lease.release()
    assert place.sizes() == {}


@pytest.mark.parametrize("change", [{"renewed": time.time() - 61}, {"pid": 2**22 + 1}, {"renewed": "x"}])
def test_a_lease_whose_owner_is_gone_is_taken_over(place: Remote, change: dict[str, object]) -> None:
    owner = {"owner": "other", "host": "here", "machine": leases._machine(), "pid": os.getpid(), "renewed": time.time()}
    place.put(LEASE, json.dumps(owner | change).encode())
    Lease.taken(place).release()


def test_an_owner_that_was_too_slow_finds_out_before_it_writes(place: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "RENEWED_EVERY", 0.01)
    lease = Lease.taken(place)
    place.put(LEASE, json.dumps({"owner": "another", "renewed": time.time()}).encode())
    lease._thread.join(5)
    with pytest.raises(Outage, match="another process has taken over"):
        lease.check()
    lease.release()
    assert json.loads(place.read(LEASE))["owner"] == "another"
