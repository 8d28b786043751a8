"""Places as users name them: paths of this machine, also as `file:///PATH`. Anything else that looks like a URI is refused.

Without this, `s3://bucket/run` would be the relative path `s3:/bucket/run`, and a folder of that name.
"""

from __future__ import annotations

import os
import re
from urllib.parse import unquote_to_bytes

from duo_oracle.oracle.base.errors import InputError

_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_MISTYPED = re.compile(r"(s3a?|gs|gcs|az|abfss?|hf|memory|file|https?|ftp):/(?!/)", re.IGNORECASE)
_SCHEMED = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_COLLAPSED = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+[^/]")  # as a Path writes a URI
_FORM = "file://PATH is file:///PATH from the root, with % before two hexadecimal digits alone"


def local_path(place: str | os.PathLike[str]) -> str:
    """The path that `place` says; `~/` is the home. Raises InputError for a URI of any other scheme than file, and for one of file
    that names another machine, or no path.

    >>> local_path("runs/first"), local_path("file:///data/my%20run"), local_path("a:b/c")
    ('runs/first', '/data/my run', 'a:b/c')
    >>> local_path("s3://bucket/run")
    Traceback (most recent call last):
        ...
    duo_oracle.oracle.base.errors.InputError: a place is a path of this machine (or file:///PATH); got 's3://bucket/run'
    """
    text = os.fspath(place)
    if not text:
        raise InputError("a place is a path of this machine (or file:///PATH); got an empty text")
    if isinstance(place, str) and (mistyped := _MISTYPED.match(text)):
        slashes = ":///" if mistyped[1].lower() == "file" else "://"
        meant = mistyped[1].lower() + slashes + text[mistyped.end() :]
        raise InputError(f"a URI has two slashes behind its scheme; did you mean {meant}? got {text!r}")
    found = _URI.match(text.lstrip()) or (None if isinstance(place, str) else _COLLAPSED.match(text))
    if found is None:
        return os.path.expanduser(text) if text.startswith("~/") else text
    if found[1].lower() == "file" and isinstance(place, str) and text == text.strip():
        return _path_of_uri(text, text[found.end() :])
    raise InputError(f"a place is a path of this machine (or file:///PATH); got {text!r}")


def _path_of_uri(uri: str, rest: str) -> str:
    """The path of a URI of file, of which `rest` stands behind the scheme. Raises InputError for what is none of this machine."""
    host, slash, path = rest.partition("/")
    if host.lower() not in ("", "localhost"):
        raise InputError(
            f"file://PATH names a path of this machine from its root; {uri!r} names a machine {host!r}; "
            f"did you mean {host + slash + path!r}, or file:///{host}{slash}{path}?"
        )
    decoded = os.fsdecode(unquote_to_bytes(path))
    if not slash or "\0" in decoded or re.search(r"[?#]|%(?![0-9A-Fa-f]{2})|%2[Ff]", path):
        raise InputError(f"{_FORM}, and ? and # written so; got {uri!r}")
    return "/" + decoded


def file_path(place: str | os.PathLike[str]) -> str:
    """The same of what is a file or a folder and nothing else: from the root where its name begins as a URI does.

    Arrow takes `s3:run/part.parquet` for a place in a bucket.
    """
    path = local_path(place)
    return os.path.abspath(path) if _SCHEMED.match(path) else path


def named_place(text: str) -> tuple[str, str]:
    """`NAME=` and the place of `NAME=URI`, where what stands before the first `=` is a name; else nothing and the text.

    >>> named_place("budget=s3://bucket/routes.parquet"), named_place("routes.parquet")
    (('budget=', 's3://bucket/routes.parquet'), ('', 'routes.parquet'))
    """
    name, equals, place = text.partition("=")
    if equals and "/" not in name and _URI.match(place):
        return f"{name}=", place
    return "", text
