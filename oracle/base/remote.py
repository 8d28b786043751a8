"""Places in an object store, named by URI, as fsspec reaches them: whole objects read and put, and copies kept on this machine.

A put is atomic: readers see the object before or after it, never a part. Requests that a store refuses for a moment are tried
again. Credentials are the store's own affair: they come from its environment (AWS_*, ~/.aws), and no text of a store reaches a
message.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from duo_oracle.oracle.base.disk import StoreFault
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.whole_file import write_bytes_whole

SCHEMES = {"s3": "s3fs", "memory": "fsspec"}
"""The stores that are tested, and the package that reaches each."""
ATTEMPTS = 8
_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)


class Changed(Exception):
    """The object is not the one that was to be replaced."""


def is_remote(place: str | os.PathLike[str]) -> bool:
    """Whether a place is an object store's: a URI of a scheme that is read and written here.

    >>> is_remote("s3://bucket/run"), is_remote("runs/first"), is_remote("gs://bucket/run")
    (True, False, False)
    """
    found = _URI.match(place) if isinstance(place, str) else None
    return found is not None and found[1] in SCHEMES


class Remote:
    """A folder of an object store. Names are paths below it."""

    def __init__(self, uri: str) -> None:
        """Raises InputError for a URI that is none, holds credentials, or whose package is not installed."""
        found = _URI.match(uri)
        if found is None or found[1] not in SCHEMES:
            raise InputError(f"a place in a store is {' or '.join(f'{scheme}://BUCKET/PATH' for scheme in SCHEMES)}; got {uri!r}")
        scheme, rest = found[1], found[2].rstrip("/")
        if "@" in rest.partition("/")[0]:
            raise InputError("a URI holds no credentials: they are taken from the store's own environment, such as AWS_PROFILE")
        parts = rest.split("/")
        if len(parts) < 2 or any(part in ("", ".", "..") for part in parts) or any(c in rest for c in "?#*[\0\n"):
            raise InputError(f"a place in a store is {scheme}://BUCKET/PATH; got {uri!r}")
        self.uri, self._root = f"{scheme}://{rest}", rest if scheme == "s3" else f"/{rest}"
        self._conditional = scheme == "s3"
        try:
            import fsspec

            self._fs: Any = fsspec.filesystem(scheme, **({"use_listings_cache": False} if scheme == "s3" else {}))
        except ImportError:
            raise InputError(f"{scheme}:// needs {SCHEMES[scheme]}: pip install 'duo-oracle[s3]'") from None

    def __reduce__(self) -> tuple[type[Remote], tuple[str]]:
        return Remote, (self.uri,)

    @property
    def name(self) -> str:
        """The last word of the place."""
        return self._root.rpartition("/")[2]

    def below(self, name: str) -> Remote:
        return Remote(f"{self.uri}/{name}")

    def read(self, name: str) -> bytes:
        """Raises FileNotFoundError where there is no such object."""
        return self._asked(name, lambda path: self._fs.cat_file(path))

    def version(self, name: str) -> str | None:
        """What changes with the object's content; None where there is none."""
        try:
            if not self._conditional:
                return hashlib.sha256(self.read(name)).hexdigest()
            return str(self._asked(name, lambda path: self._fs.info(path, refresh=True))["ETag"])
        except FileNotFoundError:
            return None

    def put(self, name: str, content: bytes) -> None:
        """Writes the object, in one request, over whatever has its name."""
        self._asked(name, lambda path: self._fs.pipe_file(path, content))

    def swap(self, name: str, content: bytes, before: str | None) -> str:
        """Writes the object where it still is of version `before` (None: where there is none), and returns its version.

        Raises Changed where another has written it. An answer that was lost on the way is asked for again.
        """
        if not self._conditional:
            if self.version(name) != before:
                raise Changed(name)
            self.put(name, content)
        else:
            how: dict[str, str] = {"mode": "create"} if before is None else {"IfMatch": before}
            try:
                self._asked(name, lambda path: self._fs.pipe_file(path, content, **how))
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
        state = sorted((name, info["size"], str(info.get("ETag", info.get("created")))) for name, info in found.items())
        top = copies() / hashlib.sha256(repr((self.uri, state)).encode()).hexdigest()[:16] / self.name
        for name in found:
            target = top / name if name else top
            if ".." in name.split("/"):
                raise InputError(f"{self.uri} holds an object whose name leads out of a folder: {name!r}")
            if not (target.is_file() and target.stat().st_size == int(found[name]["size"])):
                self.fetch(name, target)
        return top

    def mirror(self) -> Path:
        """The folder of this machine for copies of a place that grows: every reader checks what it finds there."""
        return copies() / "runs" / hashlib.sha256(self.uri.encode()).hexdigest()[:16] / self.name

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
        inside = {path: info for path, info in found.items() if path == top or path.startswith(top + "/")}
        return {path[len(self._root) :].lstrip("/"): inside[path] for path in sorted(inside)}

    def _asked(self, name: str, ask: Callable[[str], Any]) -> Any:
        """What the store answers. Raises FileNotFoundError, Changed, or StoreFault in words of our own."""
        path = f"{self._root}/{name}" if name else self._root
        shown = f"{self.uri}/{name}" if name else self.uri
        for attempt in range(ATTEMPTS):
            try:
                return ask(path)
            except FileNotFoundError:
                raise FileNotFoundError(2, "there is no such object", shown) from None
            except PermissionError:
                raise StoreFault(f"the store gives no access to {shown}") from None
            except Exception as error:
                if _code(error) in ("PreconditionFailed", "412", "ConditionalRequestConflict") or isinstance(
                    error, FileExistsError
                ):
                    raise Changed(name) from None
                reason = _reason(error)
                if reason is not None:
                    raise StoreFault(f"{reason}, for {shown}") from None
                if attempt == ATTEMPTS - 1:
                    raise StoreFault(f"the store does not answer for {shown} ({type(error).__name__})") from None
            time.sleep(min(0.1 * 2**attempt, 5.0))
        raise AssertionError


def copies() -> Path:
    """Where copies of remote files are kept: `duo-oracle` in XDG_CACHE_HOME, or in ~/.cache. It may be deleted at any time."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "duo-oracle"


def _code(error: BaseException | None) -> str | None:
    """The code of a store's answer, by the chain of what led to an error."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code"))
        error = error.__cause__ or error.__context__
    return None


def _reason(error: BaseException) -> str | None:
    """Why it would be in vain to ask again; None where it may help."""
    name = type(error).__name__
    if "Credentials" in name:
        return "the store's environment has no credentials"
    if isinstance(error, ValueError | TypeError) or _code(error) in ("InvalidBucketName", "InvalidAccessKeyId", "NoSuchBucket"):
        return f"the store refuses the request ({_code(error) or name})"
    return None
