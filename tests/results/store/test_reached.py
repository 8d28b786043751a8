"""A store's first answer: waited for some seconds, whatever patience its package has; asked again where a try was in vain."""

from __future__ import annotations

import time

import pytest

from duo_oracle.oracle.base import patience, remote, stores
from duo_oracle.oracle.base.disk import StoreFault, disk_fault
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.patience import Late, within
from duo_oracle.oracle.base.remote import Remote
from duo_oracle.oracle.base.stores import STORES
from tests.store_servers import AZURE_KEY, free_port


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Remote:
    """A place of a store that this process has not reached yet, and whose package waits for minutes."""
    monkeypatch.setattr(remote, "_reached", set())
    monkeypatch.setattr(remote, "REACHED_WITHIN", 0.5)
    found = Remote("memory://far/run")
    monkeypatch.setattr(type(found._store), "distant", True)
    return found


def test_an_answer_is_waited_for_so_long_and_no_longer() -> None:
    assert within(5, lambda: "here") == "here"
    with pytest.raises(KeyError):
        within(5, lambda: {}["x"])
    began = time.monotonic()
    with pytest.raises(Late):
        within(0.2, lambda: time.sleep(5))
    assert time.monotonic() - began < 4


def test_a_store_that_is_silent_from_the_first_is_said_soon(place: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place._fs, "info", lambda path: time.sleep(5))
    began = time.monotonic()
    with pytest.raises(StoreFault) as fault:
        place.read("run.json")
    assert disk_fault(fault.value) == "the store does not answer for memory://far/run: nothing was heard within 0.5 s"
    assert time.monotonic() - began < 4


def test_a_first_try_in_vain_is_made_again_and_any_answer_will_do(place: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def info(path: str) -> None:
        tries.append(path)
        raise FileNotFoundError(path) if len(tries) > 1 else ConnectionResetError

    monkeypatch.setattr(remote, "REACHED_WITHIN", 20.0)
    with monkeypatch.context() as patched:
        patched.setattr(place._fs, "info", info)
        assert place.sizes() == {}
    assert len(tries) == 2
    assert Remote("memory://far/other").sizes() == {}  # which is not asked for once more
    assert len(tries) == 2


def test_a_package_that_waits_before_it_is_used_is_said_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    monkeypatch.setattr(stores, "_made", set())
    monkeypatch.setattr(stores, "MADE_WITHIN", 0.3)
    monkeypatch.setattr(fsspec, "filesystem", lambda *_, **__: time.sleep(5))
    with pytest.raises(StoreFault, match="gs:// does not answer from this network"):
        Remote("gs://bucket/run")
    monkeypatch.setattr(fsspec, "filesystem", lambda *_, **__: 1 / 0)
    with pytest.raises(InputError, match="gs:// cannot be reached from this environment"):
        Remote("gs://bucket/run")


@pytest.mark.long
@pytest.mark.parametrize("scheme", [scheme for scheme, store in STORES.items() if store.distant])
def test_a_store_where_nobody_listens_is_said_within_fifteen_seconds(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(STORES[scheme].package)
    nobody = f"http://127.0.0.1:{free_port()}"
    account = f"DefaultEndpointsProtocol=http;AccountName=a;AccountKey={AZURE_KEY};BlobEndpoint={nobody}/a;"
    for name, value in {
        "STORAGE_EMULATOR_HOST": nobody,
        "GCSFS_TOKEN": "anon",
        "AZURE_STORAGE_CONNECTION_STRING": account,
        "HF_ENDPOINT": nobody,
        "AWS_ENDPOINT_URL_S3": nobody,
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
    }.items():
        monkeypatch.setenv(name, value)
    waited: list[None] = []
    original = patience.queue.SimpleQueue

    class Counted(original):  # the waits, so that a busy machine says the same
        def get(self, *arguments: object, **more: object) -> object:
            waited.append(None)
            return super().get(*arguments, **more)

    monkeypatch.setattr(patience.queue, "SimpleQueue", Counted)
    with pytest.raises(StoreFault, match="does not answer"):
        Remote(f"{scheme}://nobody/there/run").read("run.json")
    assert len(waited) * patience._TICK < 14
