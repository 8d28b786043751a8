"""One mutated input: made from its seed and number alone, run in this process, and judged.

What must hold: a documented exit status, and with any but 0 a line that says why; no traceback; nothing written but where the
command was told to; no temporary file left; nothing on the terminal that steers it.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz.kinds import KINDS, words_with_spaces
from tests.fuzz.seeds import run_quietly
from tests.fuzz.verdict import Verdict

MOST_SECONDS, MOST_BYTES = 10.0, 2 << 30
_SOCKETS = "/tmp/duo-ray-"  # where Ray's are, for their paths must be short
_STEERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_WEIGHTS = np.array([kind.weight for kind in KINDS.values()])


class Writes:
    """An audit hook of this process: writes outside the folder of an input are refused and noted. Only while `folder` is set."""

    def __init__(self, allowed: Path) -> None:
        self.allowed, self.folder, self.outside = str(allowed), "", list[str]()
        sys.addaudithook(self._heard)

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.folder or event not in _WRITES:
            return
        if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
            return
        for place in arguments[: _WRITES[event]]:
            if isinstance(place, str | bytes | os.PathLike):
                path = os.path.realpath(os.path.dirname(os.fsdecode(place)) or ".")
                name = os.path.join(path, os.path.basename(os.fsdecode(place)))
                inside = (
                    self.folder + os.sep,
                    self.allowed + os.sep,
                    "/dev/",
                    "/proc/",
                    "/tmp/duo-ray-",
                )  # the last: Ray's sockets
                if not name.startswith(inside) and name not in (self.folder, self.allowed):
                    self.outside.append(f"{event} {name}")
                    raise PermissionError(13, "Permission denied", os.fsdecode(place))


_WRITES = {"open": 1, "os.mkdir": 1, "os.rename": 2, "os.remove": 1, "os.rmdir": 1, "os.link": 2, "os.symlink": 2, "os.truncate": 1}


def run_input(
    seeds: Path, work: Path, writes: Writes, seed: int, number: int, named: Callable[[Verdict], None] = lambda verdict: None
) -> Verdict:
    """Makes the input of this number below `work`, runs its command and judges. The folder is gone afterwards.

    `named` is told what it is before it is run.
    """
    rng = np.random.default_rng([seed, number])
    name = str(rng.choice(np.array(list(KINDS)), p=_WEIGHTS / _WEIGHTS.sum()))
    kind = KINDS[name]
    folder = work / f"input-{number}"
    folder.mkdir()
    verdict = Verdict(number, name, "")
    before = os.getcwd()
    try:
        for used in kind.uses:
            source = seeds / used
            (shutil.copytree if source.is_dir() else shutil.copyfile)(source, folder / used)
        (folder / "out").mkdir()
        if kind.spoil is not None:
            files = sorted(path for pattern in kind.files for path in folder.glob(pattern))
            kind.spoil(rng, files[int(rng.integers(len(files)))])
        words = words_with_spaces(kind.words(rng))
        verdict.words = " ".join(words)
        os.chdir(folder)
        named(verdict)
        _judge(verdict, words, folder, writes)
    finally:
        os.chdir(before)
        shutil.rmtree(folder, ignore_errors=True)
    return verdict


def _judge(verdict: Verdict, words: list[str], folder: Path, writes: Writes) -> None:
    held = _listing(folder)
    _forget_peak()
    cpu, wall = time.process_time(), time.monotonic()
    writes.folder, writes.outside = str(folder.resolve()), []
    try:
        verdict.status, out, err = run_quietly(*words)
    except BaseException as error:  # whatever escapes the command
        verdict.faults.append(f"escaped: {type(error).__name__}: {error}"[:300])
        return
    finally:
        writes.folder = ""
        verdict.seconds = min(time.process_time() - cpu, time.monotonic() - wall)
        verdict.peak_bytes = _peak()
    lines = [line for line in err.splitlines() if line.strip()]
    verdict.said = lines[-1][:300] if lines else ""
    if "Traceback" in err:
        verdict.faults.append("traceback: " + _frames(err[err.index("Traceback") :]))
    elif verdict.status not in (0, 1, 2):
        verdict.faults.append(f"status {verdict.status}")
    elif verdict.status and not verdict.said.startswith("duo-oracle: "):
        verdict.faults.append(f"status {verdict.status} without a line: {verdict.said!r}")
    if verdict.seconds > MOST_SECONDS:
        verdict.faults.append(f"{verdict.seconds:.1f} s")
    if verdict.peak_bytes > MOST_BYTES:
        verdict.faults.append(f"{verdict.peak_bytes / 2**30:.1f} GiB")
    steering = None if "parquet" in words else _STEERS.search(out + err)
    if steering:
        verdict.faults.append(f"{steering[0]!r} reached the terminal")
    _judge_files(verdict, words, folder, held, writes)


def _judge_files(verdict: Verdict, words: list[str], folder: Path, held: dict[str, tuple[int, int]], writes: Writes) -> None:
    named = [word.partition("=")[2] or word if word.startswith("--") else word for word in words]
    verdict.faults += [f"wrote outside: {place}" for place in writes.outside if not any(_within(place, word) for word in named)]
    now = _listing(folder)
    mine = tuple(os.path.normpath(word) for word, before in zip(named[1:], words, strict=False) if before in _OUTPUTS)
    for path in sorted(set(held) | set(now)):
        if ".tmp" in path:
            verdict.faults.append(f"left behind: {path}")
        elif held.get(path) != now.get(path) and not path.startswith(("out", *mine)) and not _repairs(words, path):
            verdict.faults.append(f"changed: {path}")


def _frames(text: str) -> str:
    """The last of a traceback's frames that are the program's, and what was raised."""
    lines = text.strip().splitlines()
    ours = [
        line.strip() for line in lines if line.startswith("  File") and "site-packages" not in line and "/lib/python" not in line
    ]
    return " < ".join([lines[-1][:300], *(line.replace("File ", "") for line in reversed(ours[-3:]))])


_OUTPUTS = ("--out", "--plot", "--picture")


def _repairs(words: list[str], path: str) -> bool:
    return words[0] == "verify" and "--repair" in words and path.startswith("run/")


def _within(place: str, word: str) -> bool:
    """Whether a path that was written to is what a word of the command names, or below it, or on the way to it."""
    path, named = place.partition(" ")[2], os.path.realpath(os.path.expanduser(word) if word.startswith("~") else word)
    return path.startswith(named) or named.startswith(path) or os.path.dirname(path) == os.path.dirname(named)


def _listing(folder: Path) -> dict[str, tuple[int, int]]:
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            status = path.stat()
            found[path.relative_to(folder).as_posix()] = (status.st_size, status.st_mtime_ns)
    return found


def _forget_peak() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    """The peak of resident memory since it was forgotten, in bytes."""
    try:
        text = Path("/proc/self/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", text)[1]) * 1024  # type: ignore[index]
    except (OSError, TypeError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
