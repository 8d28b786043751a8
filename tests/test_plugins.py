"""A package of somebody's own adds a strategy, a router, a family and a question, used by their names like the shipped ones."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.environments import ROOT, Environment, environment, project_wheel, run, wheel_of

pytestmark = [pytest.mark.slow, pytest.mark.long]
WRITE_MODEL = """
import sys
from pathlib import Path
import torch
from duo_oracle.models.checkpoint import write_checkpoint
from duo_oracle.models.family import load_family
config, tensors = load_family("mirrored_toy").random_checkpoint(0)
write_checkpoint(Path("mirrored"), config, tensors, None, torch.float32)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with duo-oracle, pytest and the plug-in package."""
    folder = tmp_path_factory.mktemp("plugins")
    made = environment(folder / "venv", project_wheel(folder), ["search"], "pytest")
    shutil.copytree(ROOT / "tests" / "plugin_example", folder / "example", ignore=shutil.ignore_patterns("__pycache__"))
    plugin = wheel_of(folder / "example", folder / "plugin_wheel")
    run(sys.executable, "-m", "pip", "--python", made.python, "install", "-q", "--no-deps", "--no-index", plugin)
    return made


@pytest.fixture(scope="module")
def searched(installed: Environment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of two runs by the plug-in's strategy: of duo-tiny, and of a model of the plug-in's family."""
    folder = tmp_path_factory.mktemp("searched")
    run(installed.python, "-c", WRITE_MODEL, cwd=folder)
    (folder / "my.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in ("It was a dark night", "The door")))
    (folder / "ids.jsonl").write_text(json.dumps({"tokens": [3, 8, 1, 14, 6]}) + "\n")
    search = [installed.command, "search", "--strategy", "backwards", "--local", "--out"]
    run(*search, "runs/tiny", "duo-tiny", "my.jsonl", "--budget", "1", "--context", "full", "--keep", "trials", cwd=folder)
    run(*search, "runs/mirrored", "mirrored", "ids.jsonl", cwd=folder)
    return folder


def test_they_are_listed_beside_the_shipped_ones(installed: Environment, searched: Path) -> None:
    assert "backwards" in run(installed.command, "search", "--help", cwd=searched)
    assert "cheapest_tokens" in run(installed.command, "query", "--list", cwd=searched)
    unknown = [installed.command, "search", "duo-tiny", "my.jsonl", "--strategy", "backward", "--out", "runs/none"]
    assert "did you mean 'backwards'?" in run(*unknown, ok=False, cwd=searched)


def test_a_search_a_question_and_a_router_of_the_package_are_used_by_their_names(installed: Environment, searched: Path) -> None:
    assert "mean_cost" in run(installed.command, "query", "runs/tiny", "cheapest_tokens", cwd=searched)
    assert "reproduced to" in run(installed.command, "verify", "runs/mirrored", cwd=searched)
    assert "every:2" in run(installed.command, "compare", "runs/tiny", "--router", "every:2", cwd=searched)


def test_what_the_package_brings_passes_the_shipped_contracts(installed: Environment, searched: Path) -> None:
    shutil.copy(ROOT / "tests" / "plugin_example" / "contracts.py", searched)
    said = run(installed.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "contracts.py", cwd=searched)
    assert "passed" in said
    assert "skipped" not in said
