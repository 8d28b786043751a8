"""A sample of the fuzz test, and that it finds what it looks for. `make fuzz` runs ten thousand."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from tests.fuzz import __main__ as fuzz
from tests.fuzz import inputs
from tests.fuzz.inputs import MOST_BYTES, Writes, run_input
from tests.fuzz.kinds import KINDS
from tests.fuzz.mutations import bytes_of, json_of, words_of
from tests.fuzz.seeds import make_seeds
from tests.fuzz.verdict import Verdict

SEED = 20_261_127


@pytest.fixture(scope="module")
def writes(tmp_path_factory: pytest.TempPathFactory) -> Writes:
    return Writes(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("gguf")
    folder = tmp_path_factory.mktemp("seeds")
    make_seeds(folder)
    return folder


@pytest.fixture
def home(writes: Writes, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_CACHE_HOME", "DUO_ORACLE_CACHE", "TMPDIR", "HOME"):
        monkeypatch.setenv(name, writes.allowed)
    monkeypatch.setattr("tempfile.tempdir", None)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
@pytest.mark.usefixtures("home")
def test_a_sample(seeds: Path, writes: Writes, tmp_path: Path, part: int) -> None:
    verdicts = [run_input(seeds, tmp_path, writes, SEED, number) for number in range(15 * part, 15 * part + 15)]
    assert [verdict for verdict in verdicts if verdict.faults] == []
    assert {verdict.status for verdict in verdicts} >= {0, 2}


def _prints(text: str) -> Callable[..., tuple[int, str, str]]:
    return lambda *words: (2, "", text)


def _writes_outside(*words: str) -> tuple[int, str, str]:
    try:
        Path("../../outside").write_text("x")
    except PermissionError as error:
        return 2, "", f"duo-oracle: {error}"
    return 0, "", ""


def _changes_an_input(*words: str) -> tuple[int, str, str]:
    Path("model").write_text("other")
    Path("out/part.tmp").write_text("")
    return 0, "", ""


def _takes_memory(*words: str) -> tuple[int, str, str]:
    os.environ["DUO_FUZZ_TEST"] = str(bytearray(b"x" * (300 << 20))[-1])
    return 0, "", ""


def _raises(*words: str) -> tuple[int, str, str]:
    raise LookupError("gone")


CASES: dict[str, tuple[Callable[..., tuple[int, str, str]], tuple[str, ...]]] = {
    "traceback": (_prints("Traceback (most recent call last):\n  File x\nKeyError: 1\n"), ("traceback: KeyError",)),
    "no line": (_prints("oh\n"), ("without a line",)),
    "steers": (_prints("duo-oracle: \x1b[2J\n"), ("reached the terminal",)),
    "outside": (_writes_outside, ("wrote outside: open",)),
    "changed": (_changes_an_input, ("changed: model", "left behind: out/part.tmp")),
    "escapes": (_raises, ("escaped: LookupError",)),
    "memory": (_takes_memory, ("GiB",)),
}


@pytest.mark.parametrize("name", CASES)
def test_what_must_hold_is_looked_for(name: str, writes: Writes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command, faults = CASES[name]
    monkeypatch.setattr(inputs, "run_quietly", command)
    monkeypatch.setattr(inputs, "MOST_BYTES", inputs._peak() + (150 << 20) if name == "memory" else MOST_BYTES)
    only = inputs.KINDS["text data"]
    monkeypatch.setattr(inputs, "KINDS", {"text data": only})
    monkeypatch.setattr(inputs, "_WEIGHTS", np.ones(1))
    (tmp_path / "seeds").mkdir()
    for used in only.uses:
        (tmp_path / "seeds" / used).write_text("x")
    (tmp_path / "work").mkdir()
    monkeypatch.setattr(
        inputs.shutil, "copyfile", lambda source, place: [place.write_text("x"), (place.parent / "model").write_text("")]
    )
    verdict = run_input(tmp_path / "seeds", tmp_path / "work", writes, 1, 1)
    assert len(verdict.faults) == len(faults), verdict
    for found, wanted in zip(verdict.faults, faults, strict=True):
        assert wanted in found
    assert list((tmp_path / "work").iterdir()) == []


def test_an_input_is_made_from_its_seed_and_number_alone() -> None:
    def made(number: int) -> list[object]:
        rng = np.random.default_rng([SEED, number])
        words = words_of(rng, ["search", "a", "b"])
        return [json_of(rng, {"a": [1, {"b": "text"}]}), bytes_of(rng, b"content of a file"), words]

    assert [made(number) for number in range(50)] == [made(number) for number in range(50)]
    assert len({str(made(number)) for number in range(50)}) == 50


def test_every_kind_names_commands_that_exist() -> None:
    from duo_oracle.search.cli import command_names

    assert {command.split()[0] for kind in KINDS.values() for command in kind.commands} <= set(command_names())


@pytest.mark.parametrize("within", [True, False])
def test_only_what_an_input_itself_uses_is_counted_to_it_and_it_is_named(within: bool) -> None:
    verdict = asdict(Verdict(3, "kind", "words", status=0))
    said = [{"begun": 3}, {"named": {"kind": "kind", "words": "words"}}, *([] if within else [verdict])]
    lines = "\n".join(map(json.dumps, said))
    code = f"import time; print({lines!r}, flush=True); time.sleep({30 if within else 1}); print('{{\"end\": 4}}')"
    worker, used = object.__new__(fuzz._Worker), itertools.count(0, 50)
    worker.process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    worker.begun, worker.since, worker.cpu, worker.rest, worker.ended, worker.within = 3, time.monotonic(), 0.0, b"", False, False
    worker.cpu_seconds = lambda: float(next(used))  # type: ignore[method-assign]
    fault = fuzz._follow(worker, [verdict])
    worker.process.kill()
    assert (fault is not None) == within
    assert worker.named["words"] == "words"
