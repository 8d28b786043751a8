"""Writes the pages of docs/ that are made from the code: commands, named questions, columns, files; and the tutorial's, from
its notebook.

`--check` only compares. Run from a checkout with the package installed: `make pages`. Knows no command, option or file by name.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

from duo_oracle.results.sql import questions
from duo_oracle.results.views import schema_markdown
from duo_oracle.search.cli import command_module, command_names, summary_of
from duo_oracle.search.cli.options import build_parser

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("oracle", "models", "results", "search")


def tree_page() -> str:
    """Every Python file of the packages, by room, with the first sentence of its docstring."""
    lines = ["# Every file in a line", "", "Made by `make pages` from the first sentence of each module.", ""]
    for package in ("duo_oracle", *PACKAGES):
        for room in sorted({path.parent for path in (ROOT / package).rglob("*.py")}):
            files = sorted(path for path in room.glob("*.py") if path.read_text(encoding="utf-8").strip())
            if not files:
                continue
            lines += [f"## {room.relative_to(ROOT).as_posix()}/", "", "| file | what it is |", "|---|---|"]
            lines += [f"| `{path.name}` | {_cell(_first_sentence(path))} |" for path in files]
            lines.append("")
    return "\n".join(lines)


def cli_page() -> str:
    """Every command with its options, as its `--help` has them."""
    names = command_names()
    lines = [
        "# The command line",
        "",
        "Made by `make pages` from what the code declares; `duo-oracle COMMAND --help` says the same.",
        "",
    ]
    lines += [f"- [{name}](#{name}): {summary_of(command_module(name))}" for name in names]
    for name in names:
        module = command_module(name)
        parser = build_parser(name, module.COMMAND, summary_of(module))
        lines += ["", f"## {name}", "", f"{_sentence(summary_of(module))}", "", "```", parser.usage or "", "```"]
        for group in parser._action_groups:
            actions = [action for action in group._group_actions if "--help" not in action.option_strings]
            if actions:
                lines += ["", f"| {group.title} | |", "|---|---|"]
                lines += [f"| {_spelling(action)} | {_cell((action.help or '').replace('%%', '%'))} |" for action in actions]
        lines += ["", "```", *module.COMMAND.examples, "```"]
    return "\n".join([*lines, ""])


def queries_page() -> str:
    """The named questions: what each answers, and its SQL."""
    lines = [
        "# Named questions",
        "",
        "Made by `make pages` from `results/queries/*.sql`. Ask one by its name: `duo-oracle query RUN NAME`.",
        "",
    ]
    for name, what in questions().items():
        sql = (ROOT / "results" / "queries" / f"{name}.sql").read_text(encoding="utf-8")
        lines += [f"## {name}", "", _sentence(what), "", "```sql", *(line for line in sql.splitlines()[1:]), "```", ""]
    return "\n".join(lines)


def tutorial_page() -> str:
    """The cells of the tutorial's notebook, which the site does not draw by itself."""
    notebook = json.loads((ROOT / "docs" / "tutorial.ipynb").read_text(encoding="utf-8"))
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        parts.append(f"```python\n{source}\n```" if cell["cell_type"] == "code" else source)
    heading, rest = parts[0].split("\n\n", 1)
    note = "Made by `make pages` from [the notebook](tutorial.ipynb)."
    return "\n\n".join([heading, note, rest, *parts[1:]]) + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "docs/cli.md": cli_page,
    "docs/queries.md": queries_page,
    "docs/schema.md": schema_markdown,
    "docs/tree.md": tree_page,
    "docs/tutorial.md": tutorial_page,
}


def main(argv: list[str]) -> int:
    stale = [name for name, page in PAGES.items() if not (ROOT / name).exists() or (ROOT / name).read_text("utf-8") != page()]
    if "--check" in argv:
        for name in stale:
            print(f"{name} is not what the code says; make pages writes it again", file=sys.stderr)
        return int(bool(stale))
    for name in stale:
        (ROOT / name).write_text(PAGES[name](), encoding="utf-8")
        print(f"wrote {name}")
    return 0


def _first_sentence(path: Path) -> str:
    paragraph = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n\n")[0]
    return re.split(r"(?<=[.:]) (?=[A-Z])", " ".join(paragraph.split()))[0]


def _spelling(action: argparse.Action) -> str:
    names = ", ".join(f"`{option}`" for option in action.option_strings)
    metavar = action.metavar if isinstance(action.metavar, str) else ""
    if not names:
        return f"`{metavar or action.dest.upper()}`"
    return names if action.nargs == 0 or not metavar else f"`{action.option_strings[0]} {_cell(metavar)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
