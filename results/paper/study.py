"""What a study of a pretrained model is: its directory, and the searches that lie in it. Knows no statement about them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from duo_oracle.results.store.reader import StoredRun, load


@dataclass(frozen=True)
class Setting:
    """One way to search the routed layers exactly."""

    name: str
    branches: str
    context: str

    @property
    def skips(self) -> bool:
        return self.branches == ".B"


@dataclass(frozen=True)
class Study:
    """The directory of a study, and what was done in it."""

    directory: Path
    texts: tuple[str, ...]
    settings: tuple[Setting, ...]
    reached: tuple[Setting, ...]
    routers: tuple[str, ...]
    beam_big: int
    depth: int
    layers: str

    def run(self, text: str, kind: str) -> StoredRun:
        return load(self.directory / "runs" / f"{text}-{kind}")
