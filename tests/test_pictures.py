"""Every picture of the documentation was made by commands that stand in it, and those commands work: run here on a few tokens.

A fenced block of commands makes the pictures that it writes into `docs/`. The shell reads each block as a reader's shell would,
with every program replaced by one that only notes what it was given; the commands are then run in this process, on small data.
The pages of the two studies are tested with the studies (tests/search/studies); here their commands must parse.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.results.paper.figure import figure_names
from duo_oracle.search.cli import command_module, command_names, main, summary_of
from duo_oracle.search.cli.options import build_parser

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MADE = {"docs/cli.md", "docs/queries.md", "docs/schema.md", "docs/tree.md", "docs/tutorial.md"}  # from what the code says
PICTURES = sorted(path.relative_to(ROOT).as_posix() for ending in ("svg", "png") for path in (ROOT / "docs").rglob(f"*.{ending}"))
TARGET = re.compile(r"docs/(?:[\w-]+/)*[\w*.-]+\.(?:svg|png)|docs/(?:[\w-]+/)*figures/(?=\s|$)")
PROGRAMS = ("duo-oracle", "make", "cp", "chromium")
SMALL = {
    "search": ["--max-sequences", "3", "--seq-len", "8", "--local"],
    "effects": ["--ahead", "3"],
}
SMALL_SETTINGS = {"trials=400": "trials=12", "trials=300": "trials=12"}


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```(?:bash|sh|)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands_of(block: str, folder: Path) -> list[list[str]]:
    """What a shell would run of a block: the programs' arguments, in order, with variables and substitutions filled in."""
    tools = folder / "tools"
    tools.mkdir(parents=True, exist_ok=True)
    for name in PROGRAMS:
        note = f"{{ printf '%s\\037' {name} \"$@\"; printf '\\036'; }} >> '{folder}/noted'"
        (tools / name).write_text(f"#!/bin/sh\n{note}\n")
        (tools / name).chmod(stat.S_IRWXU)
    (folder / "noted").write_text("")
    script = block.replace(".venv/bin/", "")
    done = subprocess.run(
        ["bash", "-e", "-c", script],
        cwd=folder,
        env={**os.environ, "PATH": f"{tools}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stderr}"
    return [call.split("\x1f")[:-1] for call in (folder / "noted").read_text().split("\x1e")[:-1]]


def making_blocks() -> Iterator[tuple[str, str, list[str]]]:
    """Page, block and what it writes into docs/, of every block that writes a picture there."""
    for page in PAGES:
        for block in blocks(page):
            targets = TARGET.findall(block)
            if targets:
                yield page.relative_to(ROOT).as_posix(), block, targets


def makes(target: str, picture: str) -> bool:
    return re.fullmatch(re.escape(target).replace("\\*", "[^/]*"), picture) is not None or (
        target.endswith("/") and str(Path(picture).parent) + "/" == target
    )


def test_every_picture_is_made_by_one_block_of_commands() -> None:
    for picture in PICTURES:
        pages = [page for page, _, targets in making_blocks() if any(makes(target, picture) for target in targets)]
        assert len(pages) == 1, f"{picture} is made by commands on {pages or 'no page'}"


def test_a_block_makes_nothing_that_is_not_there() -> None:
    for page, _, targets in making_blocks():
        for target in targets:
            assert any(makes(target, picture) for picture in PICTURES), f"{page}: {target} is no picture of docs/"


def test_the_pictures_of_the_paper_are_those_of_its_figures() -> None:
    there = {path.stem for path in (ROOT / "docs" / "paper" / "figures").glob("*.svg")}
    assert there == set(figure_names())


def test_every_command_of_the_pages_is_one(tmp_path: Path) -> None:
    """Commands in blocks that a shell can read are taken by today's parser; a page's blocks share their variables."""
    parsers = {name: build_parser(name, command_module(name).COMMAND, summary_of(command_module(name))) for name in command_names()}
    wrong = []
    for page in (page for page in PAGES if page.relative_to(ROOT).as_posix() not in MADE):
        lines = re.sub(r"\\\n", " ", "".join(blocks(page))).splitlines()
        ours = [line for line in lines if re.match(r"(?:\w+=[\"$].*|(?:\.venv/bin/)?duo-oracle |\$\w+ )", line)]
        for _, command, *arguments in commands_of("\n".join(ours), tmp_path / page.name / page.parent.name):
            try:
                _, unknown = parsers[command].parse_known_intermixed_args(arguments)
                assert not unknown, unknown
            except (AssertionError, InputError, KeyError) as error:
                wrong.append(f"{page.relative_to(ROOT)}: duo-oracle {command} {' '.join(arguments)}: {error}")
    assert not wrong


PICTURED = [
    pytest.param(page, block, targets, id=targets[0], marks=[pytest.mark.long] if " bench " in block else [])  # minutes
    for page, block, targets in making_blocks()
    if not re.search(r"^cp ", block, re.MULTILINE)
]


@pytest.mark.slow
@pytest.mark.parametrize(("page", "block", "targets"), PICTURED)
def test_the_commands_make_the_pictures(
    page: str, block: str, targets: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    for program, *arguments in commands_of(block, tmp_path / "shell"):
        if program == "chromium":
            photograph(arguments)
            continue
        assert program == "duo-oracle"
        small = [SMALL_SETTINGS.get(word, word) for word in arguments] + SMALL.get(arguments[0], [])
        assert main(small) == 0, f"{page}: {small}"
    for target in targets:
        content = (tmp_path / target).read_bytes()
        assert content.startswith((b"<?xml", b"\x89PNG")), target
        if target.endswith(".svg"):
            drawn = content.decode("utf-8")
            said = " ".join(re.findall(r"<!-- (.*?) -->", drawn) + re.findall(r"<text[^>]*>(.*?)</text>", drawn))
            assert re.search(r"token", said), f"{target} does not say of how many tokens it is"
            assert re.search(r"nats|perplexity|\bms\b", said), f"{target} has no unit"


def photograph(arguments: list[str]) -> None:
    browser = shutil.which("chromium")
    if browser is None:
        assert not os.environ.get("CI"), "chromium is not installed: run .ci/browser"
        pytest.skip("chromium is not installed: run .ci/browser")
    profile = Path("profile").resolve()
    command = [browser, "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}", *arguments]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
