"""The wheel holds what it should, under one name; and from it everything works where only it and its dependencies are installed.

Environments are made without a network: a venv whose packages are links to those of this one, and only to those that pip would
have installed. The folder that the programs run in holds modules named like ours, as many a project does.
"""

from __future__ import annotations

import re
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.environments import EXTRAS, FOLDERS, PROJECT, PYPROJECT, ROOT, Environment, environment, project_wheel, run

WITHOUT_SEARCH = ("torch", "ray", "optuna", "tokenizers", "safetensors", "tqdm", "transformers")
QUICK = ["--budget", "0-1", "--null-draws", "1", "--keep", "losses", "--workers", "1"]


def python_files() -> list[Path]:
    return [path for folder in ("duo_oracle", *FOLDERS) for path in (ROOT / folder).rglob("*.py")]


def name_in_wheel(path: Path) -> str:
    """Where a file of the tree stands in the wheel."""
    name = path.relative_to(ROOT).as_posix()
    return name if name.startswith("duo_oracle/") else f"duo_oracle/{name}"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return project_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of somebody's own, whose modules are named like our four folders and must not be taken for them."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("search.py", "models.py", "oracle.py", "results/__init__.py"):
        file = folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"raise RuntimeError('{name} of the project was imported')\n")
    rows = ['{"document": "a", "text": "It was a dark night"}', '{"document": "b", "text": "The door was open"}']
    (folder / "my.jsonl").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def full(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """What runs models: the extra `search`."""
    return environment(tmp_path_factory.mktemp("full") / "venv", wheel, ["search"])


@pytest.fixture(scope="module")
def searched(full: Environment, project: Path) -> Path:
    """A run of the command, through Ray."""
    assert "oracle" in run(full.command, "search", "duo-tiny", "my.jsonl", "--out", "runs/cli", *QUICK, cwd=project)
    return project / "runs" / "cli"


@pytest.mark.slow
def test_the_wheel_holds_every_source_query_and_shipped_file_under_one_name(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    wanted = {*python_files(), ROOT / "duo_oracle" / "py.typed"}
    wanted |= set((ROOT / "results" / "queries").glob("*.sql"))
    wanted |= set((ROOT / "results" / "report" / "page").glob("*"))
    for folder in ("duo_tiny", "et_tiny", "holdouts"):
        shipped = {path for path in (ROOT / "models" / folder).rglob("*") if path.is_file()}
        assert shipped, f"models/{folder} ships nothing"
        wanted |= shipped
    missing = {name_in_wheel(path) for path in wanted} - held
    assert not missing
    top = {name.split("/")[0] for name in held}
    assert top == {"duo_oracle", f"duo_oracle-{PROJECT['version']}.dist-info"}


@pytest.mark.slow
def test_the_wheel_says_whose_it_is_and_what_it_takes(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read(f"duo_oracle-{PROJECT['version']}.dist-info/METADATA").decode()
    for line in ("Author: duo-oracle developers", "Classifier: Typing :: Typed", "License-Expression: Apache-2.0"):
        assert line in metadata.splitlines()
    assert set(re.findall("^Provides-Extra: (.*)$", metadata, re.MULTILINE)) == set(EXTRAS)


@pytest.mark.slow
def test_the_command_runs_through_ray_beside_modules_of_the_same_names(searched: Path) -> None:
    assert (searched / "run.json").is_file()


@pytest.mark.long
def test_python_searches_through_ray_and_loads_beside_modules_of_the_same_names(
    full: Environment, project: Path, searched: Path
) -> None:
    program = (
        "import duo_oracle as duo\n"
        "run = duo.run_search('duo-tiny', 'my.jsonl', out='runs/python', budget='0-1', null_draws=1, keep='losses', workers=1)\n"
        "assert run.paths().equals(duo.load('runs/cli').paths())\n"
        "assert len(duo.solve('duo-tiny', 'It was', budget=1)) == 2\n"
        "print(duo.__file__, duo.search.__file__, duo.models.__file__)\n"
    )
    files = run(full.python, "-c", program, cwd=project).split()
    assert all(Path(file).is_relative_to(full.path) for file in files)
    assert "usage: duo-oracle" in run(full.python, "-m", "duo_oracle", "search", "--help", cwd=project)


@pytest.fixture(scope="module")
def light(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """What a plain install has."""
    return environment(tmp_path_factory.mktemp("light") / "venv", wheel, [])


@pytest.mark.slow
def test_a_plain_install_reads_runs_and_has_nothing_that_runs_models(light: Environment, searched: Path, project: Path) -> None:
    program = (
        "import importlib.util, duo_oracle as duo\n"
        f"assert not [name for name in {WITHOUT_SEARCH} if importlib.util.find_spec(name)]\n"
        "run = duo.load('runs/cli')\n"
        "assert 'oracle' in run.summary() and len(run.curve()) == 2 and len(run.difficulty(3)) == 3\n"
        "assert len(duo.query(run, 'SELECT * FROM paths')) == len(run.paths())\n"
        "run.plot_curve().save('curve.svg'), run.tokens_html(0).save('text.html'), run.report('report.html')\n"
        "for call in (lambda: duo.run_search('duo-tiny', 'my.jsonl'), lambda: duo.solve('duo-tiny', 'a b'),\n"
        "             lambda: duo.open_model('duo-tiny'), lambda: duo.compare(run, 'random:1'),\n"
        "             lambda: duo.route('duo-tiny', 'random:1', 'my.jsonl')):\n"
        "    try: call()\n"
        "    except duo.InputError as error: print(error)\n"
    )
    said = run(light.python, "-c", program, cwd=project).splitlines()
    assert len(said) == 5
    assert all(re.fullmatch(r"\w+ needs torch: pip install 'duo-oracle\[search\]'", line) for line in said), said
    for arguments in (
        ["query", "runs/cli", "hardest_tokens"],
        ["difficulty", "runs/cli", "--top", "2"],
        ["curve", "runs/cli", "--plot", "again.svg"],
        ["report", "runs/cli", "--out", "again.html"],
        ["controls", "runs/cli", "--no-calibration"],
        ["search", "--help"],
    ):
        assert run(light.command, *arguments, cwd=project)
    refused = run(light.command, "search", "duo-tiny", "my.jsonl", "--out", "runs/none", ok=False, cwd=project)
    assert refused == "duo-oracle: search needs torch: pip install 'duo-oracle[search]'\n"


def test_the_list_of_packages_is_the_tree() -> None:
    listed = tomllib.loads(PYPROJECT)["tool"]["setuptools"]["packages"]
    tree = {name_in_wheel(path.parent).replace("/", ".") for path in python_files() if path.name == "__init__.py"}
    assert sorted(listed) == sorted({"duo_oracle", *(name for name in tree if name != "duo_oracle.duo_oracle")})
    assert all((path.parent / "__init__.py").is_file() for path in python_files())


def test_each_dependency_says_why_it_is_there() -> None:
    for dependency in (*PROJECT["dependencies"], *EXTRAS["search"]):
        line = next(line for line in PYPROJECT.splitlines() if f'"{dependency}"' in line)
        assert "# " in line, line


def test_each_dependency_is_imported_somewhere() -> None:
    imported = "\n".join(path.read_text(encoding="utf-8") for path in python_files())
    names = {"pyyaml": "yaml"}
    for dependency in (*PROJECT["dependencies"], *EXTRAS["search"]):
        name = Requirement(dependency).name
        assert f"import {names.get(name, name)}" in imported or f"from {names.get(name, name)}" in imported, dependency
