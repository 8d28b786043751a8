"""What files pictures are written into. Loads nothing that draws."""

from __future__ import annotations

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.places import local_path

ENDINGS = (".svg", ".png", ".pdf")


def check_plot(plot: str | None) -> None:
    """Raises InputError for a file whose name does not end as a picture's, or in a store; None is no file."""
    if plot is not None and not local_path(plot).lower().endswith(ENDINGS):
        raise InputError(f"`plot` is a file .svg, .png or .pdf; got {plot!r}")
