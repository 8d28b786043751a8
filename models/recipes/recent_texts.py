"""Beginnings of texts: running prose out of reStructuredText, and whole definitions out of Python modules.

Turns strings into strings. Knows nothing of packages, files or holdouts.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from duo_oracle.models.recipes.corpus_sources import is_prose
from duo_oracle.oracle.base.errors import InputError

MAX_CHARACTERS = 3_000
_RULE = r"([=\-~^*'\"#])\1{2,}"
_ROLE = re.compile(r":([a-z][a-z:+-]*):`([^`]+)`", re.IGNORECASE)
_LABEL = re.compile(
    r"""^\.\. _([\w.-]+):\s*\n(?:\s*\n|\.\. _[\w.-]+:\s*\n)*(?:[=\-~^*]{3,}\n)?(\S.*)\n[=\-~^*'"#]{3,}$""", re.MULTILINE
)
_NO_PARAGRAPH = re.compile(r"\s|\.\.|[*+|-] |:(?![\w:+-]+:`)|(\d+|#|[a-z])[.)] |\*[A-Z][a-z]+ \d[^*]*\*$")


@dataclass(frozen=True)
class Section:
    """A heading, how deep it lies (0 is the text's title), and the paragraphs under it, each on one line without markup."""

    title: str
    depth: int
    paragraphs: tuple[str, ...]


def titles_of(files: Mapping[str, str]) -> dict[str, str]:
    """What a reference without words of its own shows: the heading behind a label, and the title of a file by its path."""
    found: dict[str, str] = {}
    for path, text in files.items():
        found |= {match[1]: without_markup(match[2], {}) for match in _LABEL.finditer(text)}
        titles = [section.title for section in sections_of(text, {}) if section.title]
        if titles:
            found["/" + path.rsplit(".", 1)[0]] = titles[0]
    return found


def sections_of(text: str, titles: Mapping[str, str]) -> list[Section]:
    """The sections in order. Lists, code, tables and directives are left out, and so is a paragraph that leads to one."""
    found: list[tuple[str, str, list[str]]] = [("", "", [])]
    for block in re.split(r"\n\s*\n", text):
        lines = block.strip("\n").split("\n")
        if len(lines) == 3 and re.fullmatch(_RULE, lines[0].strip()) and lines[0] == lines[2]:
            lines = lines[1:]
        if len(lines) == 2 and re.fullmatch(_RULE, lines[1].strip()):
            found.append((lines[1][0], without_markup(lines[0].strip(), titles), []))
        elif not _NO_PARAGRAPH.match(block):
            paragraph = without_markup(" ".join(block.split()), titles)
            if is_prose(paragraph) and not paragraph.endswith(":"):
                found[-1][2].append(paragraph)
    depths = {rule: depth for depth, rule in enumerate(dict.fromkeys(rule for rule, _, _ in found if rule))}
    return [Section(title, depths.get(rule, 0), tuple(paragraphs)) for rule, title, paragraphs in found]


def section_paragraphs(sections: list[Section], title: str | None) -> list[str]:
    """The paragraphs of the section of that title and of those within it; of the whole text where no title is given.

    Raises InputError where there is none.
    """
    if title is None:
        return [paragraph for section in sections for paragraph in section.paragraphs]
    start = next((index for index, section in enumerate(sections) if section.title == title), None)
    if start is None:
        raise InputError(
            f"there is no section {title!r}; there are: {', '.join(section.title for section in sections if section.title)}"
        )
    paragraphs = list(sections[start].paragraphs)
    for section in sections[start + 1 :]:
        if section.depth <= sections[start].depth:
            break
        paragraphs += section.paragraphs
    return paragraphs


def without_markup(text: str, titles: Mapping[str, str]) -> str:
    """A paragraph as it reads on the page: roles, links, literals and emphasis replaced by their words."""

    def shown(role: re.Match[str]) -> str:
        name, body = role[1].rsplit(":", 1)[-1].lower(), role[2]
        words = re.fullmatch(r"(.*?)\s*<[^<>]*>", body)
        if words:
            return words[1].lstrip("!")
        if name in ("ref", "doc"):
            return titles.get(body, body.rsplit(":", 1)[-1])  # path:heading is a label too
        target = body.lstrip("!")
        shown = target.rsplit(".", 1)[-1] if target.startswith("~") else target.lstrip(".")
        return f"RFC {shown.replace('#section-', ' Section ')}" if name == "rfc" else shown

    text = _ROLE.sub(shown, text)
    text = re.sub(r"``(.+?)``", r"\1", text)
    text = re.sub(r"`([^`<]+?)\s*<[^`>]*>`__?", r"\1", text)
    text = re.sub(r"`([^`]+)`(?:__?)?", r"\1", text)
    text = re.sub(r"\*\*(.+?)\*\*", r"\1", text)
    text = re.sub(r"(?<!\w)\*(\S(?:.*?\S)?)\*(?!\w)", r"\1", text)
    return re.sub(r"\\(\W|s\b)", r"\1", text)


def first_paragraphs(paragraphs: Iterable[str]) -> str:
    """As many whole paragraphs, a line each, as MAX_CHARACTERS hold."""
    text = ""
    for paragraph in paragraphs:
        if len(text) + len(paragraph) + 1 > MAX_CHARACTERS:
            break
        text += paragraph + "\n"
    return text


def first_definitions(source: str) -> tuple[str, str]:
    """A module from its first statement to the end of the last top-level definition that MAX_CHARACTERS hold; and the comment
    above it, which holds notices. The text is empty where the first definition is too long already."""
    lines = source.splitlines(keepends=True)
    body = ast.parse(source).body
    start = body[0].lineno - 1
    text = ""
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            longer = "".join(lines[start : statement.end_lineno])
            if len(longer) > MAX_CHARACTERS:
                break
            text = longer
    return text, "".join(lines[:start])
