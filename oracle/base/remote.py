"""Places in an object store, named by URI, as fsspec reaches them: whole objects read and put, and copies kept on this machine.

A put is atomic: readers see the object before or after it, never a part. Requests that a store refuses for a moment are tried
again. Credentials are the store's own affair: they come from its environment (AWS_*, ~/.aws), and no text of a store reaches a
message.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeVar

from duo_oracle.oracle.base.disk import StoreFault
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.patience import Late, within
from duo_oracle.oracle.base.places import file_path, local_path
from duo_oracle.oracle.base.remembered import cache_folder
from duo_oracle.oracle.base.stores import (
    REACHED_WITHIN,
    STORES,
    Changed,
    file_system,
    is_answer,
    is_refusal_of_a_swap,
    none_of_a_scheme,
    why_in_vain,
)
from duo_oracle.oracle.base.whole_file import write_bytes_whole

T = TypeVar("T")
_reached: set[tuple[str, str]] = set()  # stores that have answered this process
_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)


def is_remote(place: str | os.PathLike[str]) -> bool:
    """Whether a place is an object store's: a URI of a scheme that is read and written here.

    >>> is_remote("s3://bucket/run"), is_remote("runs/first"), is_remote("ftp://host/run")
    (True, False, False)
    """
    found = _URI.match(place) if isinstance(place, str) else None
    return found is not None and found[1].lower() in STORES


def place_of(place: str | os.PathLike[str]) -> str:
    """A place that is read as it is written here: a path of this machine, or a store's URI. Raises InputError for another URI.

    >>> place_of("file:///data/run"), place_of("runs/first")
    ('/data/run', 'runs/first')
    """
    found = _URI.match(place) if isinstance(place, str) else None
    if found is None or found[1].lower() == "file":
        return local_path(place)
    return Remote(str(place)).uri


def written_place(name: str, place: str | os.PathLike[str]) -> str:
    """The same of a place that is written, by the parameter `name`. Raises InputError for a store that is only read."""
    written = place_of(place)
    if is_remote(written) and (why := Remote(written).read_only) is not None:
        raise InputError(
            f"`{name}` is a place that is written, and {written.partition(':')[0]}:// is only read ({why}); got {written}"
        )
    return written if is_remote(written) else file_path(written)


def readable(place: str | os.PathLike[str]) -> Path:
    """The file or folder of this machine that is read for a place: itself, or the copy of what a store holds there.

    Raises InputError for a URI that is none, or where a store holds nothing.
    """
    return Remote(str(place)).copy() if is_remote(place) else Path(file_path(place_of(place)))


class Remote:
    """A folder of an object store. Names are paths below it."""

    def __init__(self, uri: str) -> None:
        """Raises InputError for a URI that is none, holds credentials, or whose package is not installed."""
        found = _URI.match(uri)
        if found is None or found[1].lower() not in STORES:
            raise none_of_a_scheme(uri, "" if found is None else found[1])
        scheme, rest = found[1].lower(), found[2].rstrip("/")
        store = STORES[scheme]
        if scheme != "hf" and "@" in rest.partition("/")[0]:
            raise InputError(
                f"a URI holds no credentials: they are taken from the store's own environment, such as {store.environment}"
            )
        parts = rest.split("/")
        if len(parts) < 2 or any(part in ("", ".", "..") for part in parts) or any(c in rest for c in "?#*[\0\n"):
            raise InputError(f"a place in a store is {store.form}; got {uri!r}")
        self.uri, self._root, self._store = f"{scheme}://{rest}", store.root(rest), store
        self._place = (scheme, parts[0])
        self._fs: Any = file_system(scheme)

    def __reduce__(self) -> tuple[type[Remote], tuple[str]]:
        return Remote, (self.uri,)

    @property
    def read_only(self) -> str | None:
        """Why nothing is written there; None where it is."""
        return self._store.read_only

    @property
    def name(self) -> str:
        """The last word of the place."""
        return self._root.rpartition("/")[2]

    def below(self, name: str) -> Remote:
        return Remote(f"{self.uri}/{name}")

    def read(self, name: str) -> bytes:
        """Raises FileNotFoundError where there is no such object."""
        return self._asked(name, lambda path: self._fs.cat_file(path))

    def through(self, name: str, use: Callable[[IO[bytes]], T]) -> T:
        """What `use` makes of the object, of which it may read parts alone; asked for again as a whole. Raises as `read`."""

        def ask(path: str) -> T:
            with self._fs.open(path, "rb") as content:
                return use(content)

        return self._asked(name, ask)

    def version(self, name: str) -> str | None:
        """What changes with the object's content; None where there is none."""
        try:
            return self._store.version_of(self._asked(name, lambda path: self._store.fresh(self._fs, path)))
        except FileNotFoundError:
            return None

    def put(self, name: str, content: bytes) -> None:
        """Writes the object, in one request, over whatever has its name."""
        self._asked(name, lambda path: self._fs.pipe_file(path, content))

    def swap(self, name: str, content: bytes, before: str | None) -> str:
        """Writes the object where it still is of version `before` (None: where there is none), and returns its version.

        Raises Changed where another has written it. An answer that was lost on the way is asked for again.
        """
        try:
            self._asked(name, lambda path: self._store.put_if(self._fs, path, content, before))
        except Changed:
            if self._own(name) != content:
                raise
        version = self.version(name)
        if version is None:
            raise Changed(name)
        return version

    def size(self, name: str) -> int | None:
        """An object's size in bytes; None where there is none."""
        try:
            return int(self._asked(name, lambda path: self._fs.info(path))["size"])
        except FileNotFoundError:
            return None

    def sizes(self, below: str = "") -> dict[str, int]:
        """The size in bytes of every object below a folder, by name, in order."""
        found = self._listed(below)
        return {name: int(info["size"]) for name, info in found.items()}

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            try:
                self._asked(name, lambda path: self._fs.rm_file(path))
            except FileNotFoundError:
                continue

    def fetch(self, name: str, path: Path) -> Path:
        """Copies the object to a file of this machine, whole or not at all."""
        content = self.read(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes_whole(path, content)
        return path

    def copy(self) -> Path:
        """The place's files as they are now, on this machine: a file where the place is an object, else a folder of all below it.

        What was copied before is not copied again while nothing of it has changed. Raises InputError where there is nothing.
        """
        found = self._listed("")
        if not found:
            raise InputError(f"there is nothing at {self.uri}")
        state = sorted((name, info["size"], self._store.version_of(info)) for name, info in found.items())
        top = cache_folder() / hashlib.sha256(repr((self.uri, state)).encode()).hexdigest()[:16] / self.name
        for name in found:
            target = top / name if name else top
            if ".." in name.split("/"):
                raise InputError(f"{self.uri} holds an object whose name leads out of a folder: {name!r}")
            if not (target.is_file() and target.stat().st_size == int(found[name]["size"])):
                self.fetch(name, target)
        return top

    def mirror(self) -> Path:
        """The folder of this machine for copies of a place that grows: every reader checks what it finds there."""
        return cache_folder() / "runs" / hashlib.sha256(self.uri.encode()).hexdigest()[:16] / self.name

    def _own(self, name: str) -> bytes | None:
        try:
            return self.read(name)
        except FileNotFoundError:
            return None

    def _listed(self, below: str) -> dict[str, dict[str, Any]]:
        top = f"{self._root}/{below}".rstrip("/")
        try:
            found = self._asked(below, lambda path: self._fs.find(path.rstrip("/"), detail=True))
        except FileNotFoundError:
            return {}
        if not isinstance(found, dict):  # adlfs, asked for one object
            found = {path: self._asked(below, partial(self._store.fresh, self._fs)) for path in found}
        inside = {path: info for path, info in found.items() if path == top or path.startswith(top + "/")}
        return {path[len(self._root) :].lstrip("/"): inside[path] for path in sorted(inside)}

    def _asked(self, name: str, ask: Callable[[str], Any]) -> Any:
        """What the store answers. Raises FileNotFoundError, Changed, or StoreFault in words of our own."""
        path = f"{self._root}/{name}" if name else self._root
        shown = f"{self.uri}/{name}" if name else self.uri
        self._reach()
        for attempt in range(self._store.attempts):
            try:
                return ask(path)
            except FileNotFoundError:
                raise FileNotFoundError(2, "there is no such object", shown) from None
            except PermissionError:
                raise StoreFault(f"the store gives no access to {shown}") from None
            except Exception as error:
                if is_refusal_of_a_swap(error):
                    raise Changed(name) from None
                reason = why_in_vain(error)
                if reason is not None:
                    raise StoreFault(f"{reason}, for {shown}") from None
                if attempt == self._store.attempts - 1:
                    raise StoreFault(f"the store does not answer for {shown} ({type(error).__name__})") from None
            time.sleep(min(0.1 * 2**attempt, 5.0))
        raise AssertionError

    def _reach(self) -> None:
        """Asks for the first time. Raises StoreFault where no answer comes in some seconds, in which it is asked again.

        Tries of a minute, as packages make them, are for a store that has answered before.
        """
        if self._place in _reached or not self._store.distant:
            return
        given_up = threading.Event()

        def ask() -> None:
            while not given_up.is_set():
                try:
                    self._fs.info(self._root)
                    return
                except Exception as error:
                    if is_answer(error):
                        return
                given_up.wait(0.5)

        try:
            within(REACHED_WITHIN, ask)
        except Late:
            logging.getLogger("asyncio").setLevel(logging.CRITICAL + 1)  # it names at the end what was left waiting
            raise StoreFault(f"the store does not answer for {self.uri}: nothing was heard within {REACHED_WITHIN:g} s") from None
        finally:
            given_up.set()
        _reached.add(self._place)
