"""Places as users name them: paths of this machine, also as `file://PATH`. Anything else that looks like a URI is refused.

Without this, `s3://bucket/run` would be the relative path `s3:/bucket/run`, and a folder of that name.
"""

from __future__ import annotations

import os
import re
from urllib.parse import unquote

from duo_oracle.oracle.base.errors import InputError

_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_MISTYPED = re.compile(r"(s3|gs|az|hf|memory|file|https?):/(?!/)")
_SCHEMED = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_COLLAPSED = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+[^/]")  # as a Path writes a URI


def local_path(place: str | os.PathLike[str]) -> str:
    """The path that `place` says. Raises InputError for a URI of any other scheme than file.

    >>> local_path("runs/first"), local_path("file:///data/my%20run"), local_path("a:b/c")
    ('runs/first', '/data/my run', 'a:b/c')
    >>> local_path("s3://bucket/run")
    Traceback (most recent call last):
        ...
    duo_oracle.oracle.base.errors.InputError: a place is a path of this machine (or file://PATH); got 's3://bucket/run'
    """
    text = os.fspath(place)
    if not text:
        raise InputError("a place is a path of this machine (or file://PATH); got an empty text")
    if isinstance(place, str) and (mistyped := _MISTYPED.match(text)):
        raise InputError(
            f"a URI has two slashes behind its scheme; did you mean {mistyped[1]}://{text[mistyped.end() :]}? got {text!r}"
        )
    found = _URI.match(text) or (None if isinstance(place, str) else _COLLAPSED.match(text))
    if found is None:
        return text
    if found[1].lower() == "file" and isinstance(place, str):
        path = unquote(text[found.end() :])
        path = path.removeprefix("localhost") if path.startswith("localhost/") else path
        if not path or "\0" in path:
            raise InputError(f"file://PATH names a path of this machine; got {text!r}")
        return path
    raise InputError(f"a place is a path of this machine (or file://PATH); got {text!r}")


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
