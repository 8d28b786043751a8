"""The version of the installed package; `0+checkout` for files that nobody installed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("duo-oracle")
except PackageNotFoundError:
    __version__ = "0+checkout"
