"""Fetches packages by the machine's own tools, which know where packages are. Nothing is installed, no host is named here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from duo_oracle.oracle.base.errors import InputError

_KINDS = {"wheel": "--only-binary", "sdist": "--no-binary"}


def pip_download(requirement: str, kind: str, folder: Path) -> Path:
    """The wheel or the sdist of a requirement, in an empty folder. Raises InputError, one line, where pip cannot fetch it."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    pip.append("--ignore-requires-python")  # nothing runs it
    run_tool([*pip, _KINDS[kind], ":all:", requirement], folder)
    (archive,) = (path for path in folder.iterdir() if path.is_file())
    return archive


def run_tool(command: list[str], folder: Path) -> None:
    """Runs a command in a folder, in silence. Raises InputError, with the last line that it said, where it fails."""
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise InputError(f"fetching packages needs the command {command[0]}, which this machine does not have") from None
    except subprocess.CalledProcessError as fault:
        last = (fault.stderr.strip().splitlines() or ["no message"])[-1]
        raise InputError(f"`{' '.join(command)}` failed: {last}") from None
