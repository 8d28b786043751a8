"""Figures as the project draws them: a matplotlib Figure that shows itself in a notebook and is saved byte for byte the same.

Knows sizes and files, not what is drawn. Importing it imports matplotlib, so callers do that where they draw.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from duo_oracle.oracle.base.errors import InputError

# Letters of an SVG are outlines, so that it looks alike everywhere; its names follow from its content.
_SETTINGS = {"svg.fonttype": "path", "svg.hashsalt": "duo-oracle"}
_METADATA = {".svg": {"Date": None}, ".png": None, ".pdf": {"CreationDate": None}}


class Picture(Figure):
    """A Figure with the settings that it was drawn with, which hold whenever it is saved or shown."""

    settings: dict[str, Any]

    def savefig(self, *args: Any, **kwargs: Any) -> None:
        with rc_context(self.settings):
            super().savefig(*args, **kwargs)

    def save(self, file: str | os.PathLike[str], dpi: int = 160) -> Path:
        """Writes the picture into `file`, whose ending (.svg, .png, .pdf) says how, and returns the path. Missing folders are made.

        Raises InputError for another ending.
        """
        metadata = _METADATA[picture_ending(file)]
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        self.savefig(file, dpi=dpi, metadata=metadata)
        return Path(file)

    def _repr_png_(self) -> bytes:
        content = io.BytesIO()
        self.savefig(content, format="png", dpi=110)
        return content.getvalue()


@contextmanager
def picture(
    size: tuple[float, float], settings: dict[str, Any] | None = None, layout: Literal["constrained"] | None = "constrained"
) -> Iterator[Picture]:
    """An empty picture of `size` inches, drawn in the block under matplotlib's `settings` beside ours. Needs no display."""
    used = {**_SETTINGS, **(settings or {})}
    with rc_context(used):
        figure = Picture(figsize=size, layout=layout)
        figure.settings = used
        FigureCanvasAgg(figure)
        yield figure


def picture_ending(file: str | os.PathLike[str]) -> str:
    """How a picture is to be written, by the file's name: .svg, .png or .pdf. Raises InputError for another ending."""
    ending = Path(file).suffix.lower()
    if ending not in _METADATA:
        raise InputError(f"a picture is written as .svg, .png or .pdf; got {str(file)!r}")
    return ending
