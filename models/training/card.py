"""The card of what was trained: README.md beside the weights, in the form that model hubs read. Every number was measured.

A card that somebody has written, which lacks the mark of ours, is left as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from duo_oracle.oracle.base.whole_file import write_text_whole

CARD = "README.md"
MARK = "<!-- written by duo-oracle; take this line away to keep what you write here -->"
LIMITS = (
    "An oracle's gain over it, the best of many patterns with the answer known, is mostly selection bias: read the excess over the "
    "null gain."
)
_NOT_SHOWN = frozenset({"out", "work", "threads", "checkpoint_minutes", "device", "track", "overwrite", "run"})


@dataclass(frozen=True)
class Card:
    """What a card says. `headings` and `rows` are the table of held-out losses, in nats per token."""

    what: str
    """One sentence."""
    tags: tuple[str, ...]
    headings: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    options: Mapping[str, Any]
    """The options that it was made with."""
    commands: tuple[str, ...]
    """Lines that use it."""
    limits: tuple[str, ...] = ()
    base_model: str | None = None


def options_of(config: Any) -> dict[str, Any]:
    """The options of a training's dataclass that say what was made, where they say anything; files by their names alone."""
    found = {name: value for name, value in asdict(config).items() if value not in (None, (), {}) and name not in _NOT_SHOWN}
    return found | {name: [Path(source).name for source in found[name]] for name in ("text", "holdouts") if name in found}


def write_card(directory: Path, card: Card) -> None:
    """Writes the card, unless another's stands there."""
    path = directory / CARD
    if path.exists() and MARK not in path.read_text("utf-8", errors="replace"):
        return
    write_text_whole(path, card_text(directory.name, card))


def card_text(title: str, card: Card) -> str:
    """The card as Markdown, with the header that hubs read."""
    header = ["---", "library_name: duo-oracle", "tags:", *(f"- {tag}" for tag in ("adaptive-computation", *card.tags))]
    if card.base_model is not None:
        header.append(f"base_model: {card.base_model}")
    parts = ["\n".join([*header, "---", MARK]), f"# {title}", card.what]
    if card.rows:
        parts += ["## On held-out text", "Means over tokens, losses in nats per token.", _table(card.headings, card.rows)]
    options = [(f"`{name}`", _shown(value)) for name, value in card.options.items()]
    parts += ["## How it was made", _table(("option", "value"), options)]
    parts += ["## Use", "```\n" + "\n".join(card.commands) + "\n```"]
    parts += ["## Limits", "\n".join(f"- {line}" for line in (*card.limits, LIMITS))]
    return "\n\n".join(parts) + "\n"


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{key}={item}" for key, item in value.items())
    return str(value)
