"""What became of one mutated input."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Verdict:
    """What became of one input; `faults` is empty where all is as it must be."""

    number: int
    kind: str
    words: str
    status: int | None = None
    seconds: float = 0.0
    peak_bytes: int = 0
    said: str = ""
    faults: list[str] = field(default_factory=list)
