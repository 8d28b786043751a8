"""A page of items with verdicts: the same items as Markdown, as self-contained HTML with the figures inside, and as JSON.

Knows the answers of figures, and not how they came to be.
"""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from duo_oracle.oracle.base.whole_file import write_text_whole
from duo_oracle.results.colours import VERDICTS
from duo_oracle.results.paper.figure import Answer, Question, Table, effects_table
from duo_oracle.results.statistics.effects import Effect

RULE = (
    "Verdicts, by one rule: **found**: the 95% interval of the effect lies above zero in the stated direction, and so does that "
    "of the effect beyond its control. **not distinguishable from selection bias**: the effect's does, beyond the control it "
    "does not. "
    "**not found**: otherwise. Where a finding makes several statements, or is said of several texts, the weakest decides. "
    "Intervals resample documents; they do not cover another training of the model. *Would have shown from*: the size that a true "
    "effect beyond the control must have to be told from zero here, with probability 0.8."
)
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:1000px;margin:2em auto;padding:0 1em;color:#222}"
    "table{border-collapse:collapse;margin:.6em 0 1em;font-size:13px;display:block;overflow-x:auto}"
    "th,td{border:1px solid #ccc;padding:.2em .6em;text-align:right}th.t,td.t{text-align:left}"
    "th{background:#f3f3f3}svg{max-width:100%;height:auto}.v{padding:.5em .8em;border-left:5px solid #888;background:#f6f6f6}"
    + "".join(f".{kind}{{border-color:{colour}}}" for kind, colour in VERDICTS.items())
)
_CLASS = {"found": "found", "not distinguishable from selection bias": "bias", "not found": "not"}


@dataclass(frozen=True)
class Item:
    """One figure and what it found."""

    name: str
    figure: Question
    answer: Answer

    @property
    def verdict(self) -> str:
        """The one line: the verdict and the effect that decides it."""
        deciding = self.answer.deciding
        return f"**{deciding.verdict}** · {deciding}"


@dataclass(frozen=True)
class Page:
    """What a page says around its items."""

    title: str
    says: str
    """Who or what makes the statements that are judged: `The paper`, or `Asked`."""
    about: Sequence[str]
    left_out: dict[str, str]
    """What is not made, by name, and why."""

    @property
    def stop(self) -> str:
        return "?" if self.says == "Asked" else "."


def write_pages(out: Path, items: Sequence[Item], page: Page) -> None:
    """Writes README.md, index.html, verdicts.json and figures/NAME.svg into `out`. Equal answers give equal bytes."""
    folder = out / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {}
    for item in items:
        pictures[item.name] = folder / f"{item.name}.svg"
        draw(item.answer, pictures[item.name])
    write_text_whole(out / "README.md", _markdown(items, page))
    write_text_whole(out / "index.html", _html(items, page, {name: file.read_text("utf-8") for name, file in pictures.items()}))
    write_text_whole(out / "verdicts.json", json.dumps({item.name: _record(item) for item in items}, indent=1) + "\n")


def draw(answer: Answer, file: str | os.PathLike[str]) -> None:
    """The answer's picture, as .svg, .png or .pdf by the file's name. Equal answers give equal bytes."""
    from duo_oracle.results.drawing import picture

    settings = {"svg.fonttype": "none", "font.size": 9, "font.family": ["DejaVu Sans", "sans-serif"]}
    with picture(answer.size, settings) as figure:
        answer.draw(figure)
    figure.save(file, dpi=120)


def _record(item: Item) -> dict[str, Any]:
    def effect(one: Effect) -> dict[str, Any]:
        intervals = {name: [e.mean, e.low, e.high] for name, e in (("raw", one.raw), ("beyond", one.beyond))}
        return {"what": one.what, "unit": one.unit, "verdict": str(one.verdict), **intervals, "documents": one.raw.n_documents}

    deciding = item.answer.deciding
    return {
        "title": item.figure.title,
        "finding": item.figure.finding,
        "verdict": str(deciding.verdict),
        "deciding": deciding.what,
        "effects": [effect(one) for one in item.answer.effects],
        "beside": [effect(one) for one in item.answer.beside],
    }


def _summary(items: Sequence[Item], page: Page) -> Table:
    rows = [
        (f"[{item.figure.title}](#{item.name})", item.figure.finding, str(item.answer.deciding.verdict), str(item.answer.deciding))
        for item in items
    ]
    return Table("", ("item", page.says.lower(), "verdict", "what decides it"), tuple(rows))


def _tables(item: Item) -> list[Table]:
    return [effects_table((*item.answer.effects, *item.answer.beside)), *item.answer.tables]


def _markdown(items: Sequence[Item], page: Page) -> str:
    parts = [f"# {page.title}", *page.about, RULE, _markdown_table(_summary(items, page))]
    for item in items:
        parts += [f'<a id="{item.name}"></a>\n\n## {item.figure.title}', f"{page.says}: {item.figure.finding}{page.stop}"]
        parts += [f"> {item.verdict}", f"![{item.figure.title}](figures/{item.name}.svg)", f"Control: {item.figure.control}"]
        parts += item.answer.notes
        for table in _tables(item):
            parts += [f"**{table.title}**", _markdown_table(table)]
    if page.left_out:
        parts += ["## Left out", "\n".join(f"- **{name}**: {why}." for name, why in page.left_out.items())]
    return "\n\n".join(parts) + "\n"


def _markdown_table(table: Table) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    ruler = "|" + "".join("---:|" if numeric else "---|" for numeric in _numeric(table))
    return "\n".join([line(table.headings), ruler, *(line(row) for row in table.rows)])


def _html(items: Sequence[Item], page: Page, pictures: dict[str, str]) -> str:
    parts = [f"<h1>{_inline(page.title)}</h1>"]
    parts += [f"<p>{_inline(line)}</p>" for line in (*page.about, RULE)]
    parts.append(_html_table(_summary(items, page)))
    for item in items:
        parts += [
            f'<h2 id="{item.name}">{_inline(item.figure.title)}</h2>',
            f"<p>{page.says}: {_inline(item.figure.finding)}{page.stop}</p>",
        ]
        parts.append(f'<p class="v {_CLASS[str(item.answer.deciding.verdict)]}">{_inline(item.verdict)}</p>')
        parts += [_alone(pictures[item.name], item.name), f"<p>Control: {_inline(item.figure.control)}</p>"]
        parts += [f"<p>{_inline(note)}</p>" for note in item.answer.notes]
        for table in _tables(item):
            parts += [f"<p><b>{_inline(table.title)}</b></p>", _html_table(table)]
    if page.left_out:
        listed = "".join(f"<li><b>{_inline(name)}</b>: {_inline(why)}.</li>" for name, why in page.left_out.items())
        parts.append(f"<h2>Left out</h2><ul>{listed}</ul>")
    head = f'<meta charset="utf-8"><title>{_inline(page.title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>\n' + "\n".join(parts) + "\n</body></html>\n"


def _numeric(table: Table) -> list[bool]:
    """Which columns hold numbers alone, and stand to the right."""
    columns = zip(*table.rows, strict=True)
    return [all(not cell or re.match(r"[-\d]|nan", cell) for cell in column) for column in columns] or [False] * len(table.headings)


def _html_table(table: Table) -> str:
    left = ["" if numeric else ' class="t"' for numeric in _numeric(table)]

    def line(cells: Sequence[str], tag: str) -> str:
        return "".join(f"<{tag}{where}>{_inline(cell)}</{tag}>" for cell, where in zip(cells, left, strict=True))

    head = line(table.headings, "th")
    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in table.rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _inline(text: str) -> str:
    """The little Markdown of our own lines: **bold**, *italic*, `code` and [text](#anchor)."""
    text = html.escape(text, quote=False)
    text = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", text)
    text = re.sub(r"\*(.+?)\*", r"<i>\1</i>", text)
    text = re.sub(r"`(.+?)`", r"<code>\1</code>", text)
    return re.sub(r"\[([^\]\[]+)\]\((#[\w-]+)\)", r'<a href="\2">\1</a>', text)


def _alone(svg: str, name: str) -> str:
    """An SVG file as an element whose ids are its own, so that several stand on one page."""
    used: dict[str, int] = {}

    def own(match: re.Match[str]) -> str:
        used[match[1]] = used.get(match[1], 0) + 1  # matplotlib gives images that are alike one id
        return f'id="{name}-{match[1]}"' if used[match[1]] == 1 else f'id="{name}-{match[1]}-{used[match[1]]}"'

    svg = re.sub(r'\bid="([^"]+)"', own, svg[svg.index("<svg") :])
    svg = re.sub(r'xlink:href="#([^"]+)"', rf'xlink:href="#{name}-\1"', svg)
    return re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
