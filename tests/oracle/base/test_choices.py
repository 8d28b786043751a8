"""Plug-ins of other packages: listed without an import, loaded when asked for, refused in one line where they cannot be."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from duo_oracle.models.family import load_family
from duo_oracle.models.router import read_router, router_names
from duo_oracle.oracle.base import choices
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.results.sql import query as ask
from duo_oracle.results.sql import questions
from duo_oracle.search.strategy import STRATEGIES, load_strategy

STRATEGY = """
from duo_oracle.search.strategy import Strategy

class Mine(Strategy):
    def ask(self, n): ...
    def tell(self, trials): ...
"""
ROUTER = "from duo_oracle.models.routers.random_router import Random\n\ndef parse(argument):\n    return Random(float(argument))\n"


@pytest.fixture
def plug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Installs a package `outsider` by its files and entry points, as an installer would: a folder and its dist-info."""

    def install(entry_points: str, distribution: str = "outsider", **files: str) -> Path:
        (tmp_path / distribution).mkdir(exist_ok=True)
        (tmp_path / distribution / "__init__.py").touch()
        for name, text in files.items():
            (tmp_path / distribution / (name if "." in name else name.replace("__", "."))).write_text(text)
        about = tmp_path / f"{distribution}-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(entry_points)
        choices._plugged.cache_clear()
        return tmp_path

    monkeypatch.syspath_prepend(str(tmp_path))
    yield install
    choices._plugged.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] in ("outsider", "second")]:
        del sys.modules[name]


def refused(asks: Callable[[], object]) -> str:
    with pytest.raises(InputError) as error:
        asks()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_plug_in_is_listed_without_an_import_suggested_and_loaded(plug: Callable[..., Path]) -> None:
    plug(
        "[duo_oracle.strategies]\nzigzag = outsider.search\n[duo_oracle.routers]\ncoin = outsider.route\n",
        search__py=STRATEGY,
        route__py=ROUTER,
    )
    assert "zigzag" in STRATEGIES.names()
    assert "zigzag" not in STRATEGIES.own_names()
    assert "did you mean 'zigzag'" in refused(lambda: load_strategy("zigzak"))
    assert "coin" in router_names()
    assert STRATEGIES.source("zigzag") is not None
    assert "outsider" not in sys.modules
    assert load_strategy("zigzag").__name__ == "Mine"
    assert read_router("coin:2").budget == 2


def test_the_help_of_search_lists_a_plug_in_with_its_settings(plug: Callable[..., Path]) -> None:
    settings = STRATEGY + "    class Settings:\n        pace: int = setting(3, 'steps at a time')\n"
    folder = plug(
        "[duo_oracle.strategies]\nzigzag = outsider.search\nidle = outsider.idle\n", search__py=settings, idle__py="1 / 0"
    )
    code = f"import sys; sys.path.insert(0, {str(folder)!r}); from duo_oracle.search.cli import main; main(['search', '--help'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "  zigzag            pace=3               steps at a time" in done.stdout.splitlines()
    assert "  idle              (no settings)" in done.stdout.splitlines()


def test_a_name_that_two_packages_claim_is_refused_when_it_is_asked_for(plug: Callable[..., Path]) -> None:
    plug("[duo_oracle.strategies]\nbeam = outsider.search\ntwice = outsider.search\n", search__py=STRATEGY)
    plug("[duo_oracle.strategies]\ntwice = second.search\n", distribution="second", search__py=STRATEGY)
    assert refused(lambda: load_strategy("beam")) == (
        "strategy 'beam' is claimed twice: by duo_oracle.search.strategies.beam and by outsider.search (plug-in of outsider 1.0); "
        "uninstall one or rename it"
    )
    assert "claimed twice: by outsider.search" in refused(lambda: load_strategy("twice"))
    assert STRATEGIES.names().count("beam") == 1
    assert load_strategy("greedy").__name__ == "Greedy"


def test_a_plug_in_that_cannot_be_imported_costs_one_line_when_it_is_asked_for(plug: Callable[..., Path]) -> None:
    plug(
        "[duo_oracle.strategies]\nbroken = outsider.broken\ngone = outsider.gone\nobject = outsider.search:Mine\nnone = outsider\n"
        "[duo_oracle.routers]\nempty = outsider\n[duo_oracle.families]\nempty = outsider\n",
        broken__py="raise OSError('no\\nlibrary')",
        search__py=STRATEGY,
    )
    assert {"broken", "gone", "object"} <= set(STRATEGIES.names())
    said = refused(lambda: load_strategy("broken"))
    assert said == "strategy 'broken' cannot be imported: outsider.broken (plug-in of outsider 1.0): OSError: no"
    assert "No module named 'outsider.gone'" in refused(lambda: load_strategy("gone"))
    assert "an entry point of duo_oracle.strategies names a module" in refused(lambda: load_strategy("object"))
    assert "a module defines one Strategy; outsider (plug-in of outsider 1.0) defines 0" in refused(lambda: load_strategy("none"))
    assert "a module has `parse` or `read`; outsider" in refused(lambda: read_router("empty:1"))
    assert "MODEL_TYPE = 'empty'; outsider" in refused(lambda: load_family("empty"))


def test_a_question_of_a_plug_in_is_read_and_its_package_never_imported(plug: Callable[..., Path]) -> None:
    plug(
        "[duo_oracle.queries]\nlongest = outsider\nmissing = outsider\n",
        longest__sql="-- Which tokens are longest?\nSELECT token FROM tokens",
        **{"__init__.py": "1 / 0"},
    )
    listed = questions()
    assert listed["longest"] == "Which tokens are longest?"
    assert listed["missing"] == "(question 'missing': there is no missing.sql in outsider (plug-in of outsider 1.0))"
    assert "did you mean 'longest'" in refused(lambda: ask([], "longesst"))
    assert "outsider" not in sys.modules
