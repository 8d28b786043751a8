"""What was found out once at some cost, and is safe to lose: small files of JSON in the user's cache, a value by its key.

A file that cannot be read or written, or that another has damaged, remembers nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from duo_oracle.oracle.base.json_text import read_json
from duo_oracle.oracle.base.whole_file import write_text_whole

_MOST = 1000  # values of a file; the oldest are forgotten


def recalled(name: str, key: str) -> Any:
    """The value of `key` in the file of this name; None where there is none."""
    return _content(name).get(key)


def remember(name: str, key: str, value: Any) -> None:
    """Keeps the value under `key`."""
    kept = {**_content(name), key: value}
    path = cache_folder() / f"{name}.json"
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text_whole(path, json.dumps(dict(list(kept.items())[-_MOST:])) + "\n")


def cache_folder() -> Path:
    """The user's cache: DUO_ORACLE_CACHE, or `duo-oracle` in XDG_CACHE_HOME or ~/.cache. It may be deleted at any time."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("DUO_ORACLE_CACHE") or Path(home) / "duo-oracle")


def _content(name: str) -> dict[str, Any]:
    try:
        content = read_json(cache_folder() / f"{name}.json")
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
