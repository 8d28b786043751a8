"""The runs below a folder, each in a line, and one run's facts: from manifests alone, so that a thousand take a second.

Knows no tables. A manifest that cannot be read has a line that says so.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.remote import Remote, is_remote
from duo_oracle.results.store.columns import SCHEMA_VERSION
from duo_oracle.results.store.identity_check import Identity
from duo_oracle.results.store.manifest import MANIFEST, Manifest
from duo_oracle.results.store.reader import manifest_at
from duo_oracle.results.store.version1 import converted_identity

DEPTH = 4
_OF_CONFIG = (
    "strategy",
    "branches",
    "skip",
    "context",
    "budget",
    "null_draws",
    "seq_len",
    "max_sequences",
    "keep",
    "dtype",
    "seed",
)


def run_directories(folder: Path | str, depth: int = DEPTH) -> Iterator[Path | str]:
    """Every directory of a run in `folder` and at most `depth` folders below it, by name. Hidden folders and links are passed by.

    Raises InputError where there is no such folder.
    """
    if is_remote(folder):
        place = Remote(str(folder))
        inside = [name.removesuffix(MANIFEST).rstrip("/") for name in place.sizes() if f"/{name}".endswith(f"/{MANIFEST}")]
        yield from (f"{place.uri}/{name}".rstrip("/") for name in inside if name.count("/") < depth)
        return
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"runs are listed in a folder; there is none at {folder}")
    if (folder / MANIFEST).is_file():
        yield folder
        return
    try:
        inside = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False))
    except OSError:  # not ours to read
        return
    for name in inside if depth else ():
        if not name.startswith("."):
            yield from run_directories(folder / name, depth - 1)


def listed(directory: Path | str, below: Path | None = None) -> dict[str, Any]:
    """One run as a row; `below` is the folder that its name is counted from."""
    name = str(directory if below is None or directory == below else Path(directory).relative_to(below))
    row: dict[str, Any] = {
        "run": name,
        "state": None,
        "model": None,
        "data": None,
        "context": None,
        "budget": None,
        "strategy": None,
    }
    row |= {"tokens": None, "gain": None, "excess": None, "control": None, "at": None, "started": None}
    try:
        manifest = manifest_at(directory)
    except InputError:
        return row | {"state": "unreadable"}
    identity = _identity(manifest)
    row |= {
        "state": state_of(manifest),
        "model": manifest.facts.get("model"),
        "data": manifest.facts.get("data"),
        "context": identity.get("context"),
        "budget": ",".join(identity.get("budgets", [])),
        "strategy": identity.get("strategy"),
        "tokens": _tokens(manifest),
        "started": manifest.sessions[0]["started"] if manifest.sessions else None,
    }
    means = {budget: found for budget, found in (manifest.facts.get("means") or {}).items() if found.get("gain") is not None}
    if means:
        best = "any" if "any" in means else max(means, key=lambda budget: means[budget]["gain"])
        row |= {**{name: means[best].get(name) for name in ("gain", "excess", "control")}, "at": best}
    return row


def facts_of(directory: Path | str) -> dict[str, Any]:
    """Everything that a run's manifest says of it, as named values. Raises InputError where there is no run."""
    manifest = manifest_at(directory)
    identity, facts = _identity(manifest), manifest.facts
    seconds = [session["seconds"] for session in manifest.sessions if session.get("seconds")]
    row: dict[str, Any] = {
        "run": str(directory),
        "state": state_of(manifest),
        "run id": manifest.run_id,
        "version of the tables": manifest.schema_version,
        "model": facts.get("model"),
        "data": facts.get("data"),
        "layers routed": identity.get("n_letters"),
        **{name.replace("_", " "): identity.get(name, facts.get("config", {}).get(name)) for name in _OF_CONFIG},
        "budget": ",".join(identity.get("budgets", [])),
        "units": len(manifest.units),
        "sequences": sum(record.sequences for record in manifest.units.values()),
        "tokens": _tokens(manifest),
        "MB": round(sum(part.bytes for record in manifest.units.values() for part in record.parts.values()) / 1e6, 3),
        "sessions": len(manifest.sessions),
        "started": manifest.sessions[0]["started"] if manifest.sessions else None,
        "seconds": round(sum(seconds), 1),
    }
    for budget, found in (facts.get("means") or {}).items():
        row |= {f"{name} at {budget}": value for name, value in found.items() if value is not None}
    for unit, message in sorted(manifest.failed.items()):
        row[f"failed unit {unit}"] = message
    row["versions"] = ", ".join(f"{name} {version}" for name, version in (facts.get("versions") or {}).items())
    return row


def state_of(manifest: Manifest) -> str:
    """complete; unfinished; or how many units failed."""
    if manifest.failed:
        return f"{len(manifest.failed)} failed"
    return "complete" if manifest.state == "complete" else "unfinished"


def _tokens(manifest: Manifest) -> int:
    return sum(record.tokens for record in manifest.units.values())


def _identity(manifest: Manifest) -> dict[str, Any]:
    if manifest.schema_version == SCHEMA_VERSION or "n_layers" not in manifest.identity:
        return manifest.identity
    return converted_identity(Identity(manifest.identity))
