"""The README's table of files is the tree: it cannot drift."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("oracle", "models", "results", "search")


def test_the_table_of_files_is_the_tree() -> None:
    rows = re.findall(r"^\| *`([\w/]+\.py)` *\| *(\S.*?) *\|$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    named = {name for name, _ in rows if name.split("/")[0] in PACKAGES}
    tree = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__init__.py" or path.read_text(encoding="utf-8").strip()
    }
    assert named == tree, f"only in the README: {sorted(named - tree)}; only in the tree: {sorted(tree - named)}"


def test_every_file_says_what_it_is() -> None:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            source = path.read_text(encoding="utf-8")
            assert not source.strip() or ast.get_docstring(ast.parse(source)), path
