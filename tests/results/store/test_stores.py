"""One law for every store that is written: the memory of this process, and servers of Google's and Azure's kind on loopback."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator

import pytest

from duo_oracle.oracle.base.disk import StoreFault
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.remote import Remote, place_of, readable, written_place
from duo_oracle.oracle.base.stores import STORES, Changed
from tests.store_servers import SERVED


@pytest.fixture(scope="module", params=list(SERVED))
def served(request: pytest.FixtureRequest) -> Iterator[str]:
    with SERVED[request.param]() as uri:
        yield uri


@pytest.fixture
def place(served: str) -> Remote:
    return Remote(f"{served}/{uuid.uuid4().hex}")


def test_objects_are_put_whole_listed_and_removed(place: Remote) -> None:
    assert place.sizes() == {}
    place.put("b/2", b"two")
    place.put("a", b"one")
    assert (place.sizes(), place.sizes("b")) == ({"a": 3, "b/2": 3}, {"b/2": 3})
    assert (place.read("a"), place.size("a"), place.size("c"), place.version("c")) == (b"one", 3, None, None)
    place.put("a", b"another")
    assert (place.read("a"), place.sizes()["a"]) == (b"another", 7)
    place.remove(["a", "c"])
    assert list(place.sizes()) == ["b/2"]
    with pytest.raises(FileNotFoundError):
        place.read("a")


def test_of_two_writers_who_saw_the_same_one_writes(place: Remote) -> None:
    first = place.swap("x", b"1", None)
    with pytest.raises(Changed):
        place.swap("x", b"2", None)
    second = place.swap("x", b"2", first)
    with pytest.raises(Changed):
        place.swap("x", b"3", first)
    assert (place.read("x"), place.version("x")) == (b"2", second)
    assert second != first
    place.remove(["x"])
    with pytest.raises(Changed):
        place.swap("x", b"3", second)


def test_a_copy_follows_what_it_is_of(place: Remote) -> None:
    place.put("model/config.json", b"{}")
    copy = readable(place.below("model").uri)
    assert (copy.name, (copy / "config.json").read_bytes()) == ("model", b"{}")
    assert readable(place.below("model/config.json").uri).read_bytes() == b"{}"
    place.put("model/config.json", b"[]")
    assert (readable(place.below("model").uri) / "config.json").read_bytes() == b"[]"
    with pytest.raises(InputError, match="there is nothing at"):
        readable(place.below("none").uri)


@pytest.mark.parametrize("scheme", [scheme for scheme in STORES if scheme != "memory"])
def test_a_store_whose_package_is_missing_names_it(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise ImportError

    monkeypatch.setattr("fsspec.filesystem", missing)
    with pytest.raises(InputError, match=f"^{scheme}:// needs {STORES[scheme].package}: pip install "):
        Remote(f"{scheme}://bucket/run")


@pytest.mark.parametrize(
    ("written", "meant"),
    [("gcs", "gs"), ("abfs", "az"), ("s3a", "s3"), ("GCS", "gs")],
    ids=["google", "azure", "s3", "capitals"],
)
def test_another_spelling_of_a_scheme_is_answered_by_the_right_one(written: str, meant: str) -> None:
    with pytest.raises(InputError, match=f"did you mean {meant}://$"):
        place_of(f"{written}://bucket/run")


def test_capitals_are_the_same_scheme() -> None:
    assert place_of("Memory://a/b") == "memory://a/b"


def test_a_store_that_is_only_read_is_no_place_to_write() -> None:
    pytest.importorskip("huggingface_hub")
    with pytest.raises(InputError, match=r"^`out` is a place that is written, and hf:// is only read"):
        written_place("out", "hf://datasets/owner/name/run")


@pytest.mark.parametrize("scheme", ["gs", "az"])
def test_the_store_s_own_package_prints_nothing(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their loggers would print what the store answered, which may hold a secret."""
    monkeypatch.setattr("fsspec.filesystem", lambda *_, **__: None)
    Remote(f"{scheme}://bucket/run")
    for name in STORES[scheme].speaks:
        assert not logging.getLogger(f"{name}.transport").isEnabledFor(logging.CRITICAL)


def test_an_answer_that_forbids_is_not_asked_again(place: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def refuses(path: str, *_: object, **__: object) -> bytes:
        asked.append(path)
        raise OSError("Forbidden: the account secret@project has no access")

    monkeypatch.setattr(place._fs, "cat_file", refuses)
    with pytest.raises(StoreFault, match="the store gives no access, for") as fault:
        place.read("x")
    assert len(asked) == 1
    assert "secret" not in str(fault.value)
