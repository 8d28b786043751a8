"""A report of runs: one HTML file that needs nothing else, for a reader who was not there.

Every token in its text with its path and losses, the summary with intervals, the budget curve, maps of the layers, and
a table that can be filtered. The page's own script and style are the only ones that its content policy lets run, and it fetches
nothing. Token texts are data: JSON that cannot end its element, written into the page as text only.
"""

from __future__ import annotations

import base64
import hashlib
import html
import os
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.places import local_path
from duo_oracle.oracle.base.whole_file import write_bytes_whole
from duo_oracle.results.colours import PAGE, RAMPS, css_variables
from duo_oracle.results.report.ladders import read_ladder
from duo_oracle.results.report.packing import Blocks, as_script_json
from duo_oracle.results.report.run_data import STEP, run_data
from duo_oracle.results.report.strategies import read_strategies
from duo_oracle.results.store.reader import StoredRun
from duo_oracle.results.store.route_files import Routes, named_file, read_routes

_SCRIPTS = ("data", "colours", "draw", "summary", "curve", "layers", "passage", "panel", "tokens", "extras", "beside", "main")


def write_report(
    runs: Sequence[StoredRun],
    file: str | os.PathLike[str],
    routes: Mapping[str, str] | Sequence[str] = (),
    strategies: Sequence[str] = (),
    title: str | None = None,
    ladders: Sequence[str] = (),
) -> int:
    """Writes the report of `runs` into `file` and returns its size in bytes. Equal runs give equal bytes.

    `routes` are route files, FILE or NAME=FILE or a mapping of names to files, each shown with the runs whose positions it routes;
    `strategies` are tables of `duo-oracle strategies --format json`, `ladders` those of `duo-oracle ladder RUN --format json`. What
    `duo-oracle effects` and `joint` keep in a run is shown with it.
    Raises InputError for no run, a run without a finished unit, and files that are not what they should be.
    """
    if not runs:
        raise InputError("a report is of one run or more; none was named")
    routes_of = _routes_by_run(runs, routes)
    ids = {run.manifest.run_id for run in runs}
    read = [read_ladder(path, ids) for path in ladders]
    blocks = Blocks()
    data: dict[str, Any] = {
        "title": title or _title(runs),
        "strategies": [read_strategies(path, ids) for path in strategies],
        "runs": [
            run_data(run, routes_of[number], blocks, [lines for run_id, lines in read if run_id == run.manifest.run_id])
            for number, run in enumerate(runs)
        ],
        "step": STEP,
        "ramps": RAMPS,
    }
    text = _page(data, blocks)
    path = Path(local_path(file))
    path.parent.mkdir(parents=True, exist_ok=True)
    content = text.encode("utf-8", errors="xmlcharrefreplace")
    write_bytes_whole(path, content)
    return len(content)


def _page(data: Mapping[str, Any], blocks: Blocks) -> str:
    folder = files("duo_oracle.results.report") / "page"
    style = (folder / "style.css").read_text(encoding="utf-8")
    for theme in PAGE:
        style = style.replace(f"@@{theme.upper()}@@", css_variables(theme))
    parts = [(folder / f"{name}.js").read_text(encoding="utf-8") for name in _SCRIPTS]
    script = '"use strict";\n(() => {\n' + "\n".join(parts) + "\n})();\n"
    columns = [f'<script type="text/plain" id="block-{number}">{text}</script>' for number, text in enumerate(blocks.texts)]
    filled = {
        "POLICY": f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src data:; base-uri 'none'; "
        "form-action 'none'",
        "TITLE": html.escape(str(data["title"])),
        "STYLE": style,
        "DATA": as_script_json(data),
        "BLOCKS": "\n".join(columns),
        "SCRIPT": script,
    }
    text = (folder / "page.html").read_text(encoding="utf-8")
    pieces = text.split("@@")  # literal and name alternate, so that nothing inside a value is taken for a name
    return "".join(filled[piece] if index % 2 else piece for index, piece in enumerate(pieces))


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def _title(runs: Sequence[StoredRun]) -> str:
    facts = [run.manifest.facts for run in runs]
    models = dict.fromkeys(_short(str(fact.get("model", "a model"))) for fact in facts)
    data = dict.fromkeys(_short(str(fact.get("data", "data"))) for fact in facts)
    return f"Routing oracle of {', '.join(models)} on {', '.join(data)}"


def _short(name: str) -> str:
    """A path by its last part, as a heading has it; `duo-tiny`, `holdout:prose` and `OWNER/NAME` as they are."""
    return Path(name).name or name if name.startswith(("/", "./", "../", "~")) else name


def _routes_by_run(runs: Sequence[StoredRun], routes: Mapping[str, str] | Sequence[str]) -> list[list[Routes]]:
    """Which routes are shown with which run. Raises InputError for a file that fits no run, or runs of different data, and for two
    of one name.
    """
    found: list[list[Routes]] = [[] for _ in runs]
    for name, path in routes.items() if isinstance(routes, Mapping) else map(named_file, routes):
        fitting, refusal = [], None
        for number, run in enumerate(runs):
            try:
                fitting.append((number, read_routes(path, run, name)))
            except ValueError as error:
                refusal = refusal or str(error)
        if not fitting:
            raise InputError(refusal)
        if len({runs[number].identity.get("data_fingerprint") for number, _ in fitting}) > 1:
            raise InputError(f"{path} does not say of which data it is and fits runs of different data; report them apart")
        for number, one in fitting:
            if one.name in {other.name for other in found[number]}:
                raise InputError(f"every router is named once; there are two {one.name!r} (NAME=FILE names a file of `routes`)")
            found[number].append(one)
    return found
