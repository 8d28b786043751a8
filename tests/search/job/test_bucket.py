"""Runs, models and data in a bucket: a real S3 server on loopback that refuses one request in ten, killed and raced drivers."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from duo_oracle import results
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.remote import Remote
from duo_oracle.results.store.lease import LEASE
from duo_oracle.search.cli import main
from duo_oracle.search.job.config import SearchConfig
from duo_oracle.search.job.driver import run_search
from tests.s3_server import SECRET, serving
from tests.search import fakes
from tests.search.conftest import assert_same_tables, tables_of

pytest.importorskip("moto", reason="a server for buckets: pip install 'moto[server]' s3fs")
pytest.importorskip("s3fs")

ROOT = Path(__file__).parents[3]
SEED = 7


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with serving(0.1) as uri:
        yield uri


@pytest.fixture(scope="module")
def whole(toy: Path, tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    config = SearchConfig(model=str(toy), data=str(tokens), out=str(out), unit_sequences=1, local=True)
    assert not run_search(config, solve=fakes.solves).failures
    return out


def driver(toy: Path, tokens: Path, out: str, *how: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.search.run_slowly", str(toy), str(tokens), out, *(how or ("local",))]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def assert_only_what_is_named(out: str) -> None:
    named = {
        f"{table}/part-{unit:05d}.parquet" for unit, record in results.load(out).manifest.units.items() for table in record.parts
    }
    held = Remote(out).sizes()
    assert set(held) == named | {"run.json", "config.yaml"}
    for name in ("run.json", "config.yaml"):
        assert SECRET not in Remote(out).read(name).decode()


@pytest.mark.slow
def test_killed_drivers_of_a_bucket_resume_to_equal_tables(bucket: str, toy: Path, tokens: Path, whole: Path) -> None:
    """At random moments, the start included; each next driver takes the dead one's lease over at once."""
    out, moments, n_killed = f"{bucket}/killed", random.Random(SEED), 0
    for longest in (4, 8, 12):
        killed = driver(toy, tokens, out)
        with suppress(subprocess.TimeoutExpired):
            killed.communicate(timeout=moments.uniform(1, longest))
        assert killed.poll() in (None, 0)
        n_killed += killed.returncode is None
        killed.kill()
        killed.communicate()
    assert n_killed
    last = driver(toy, tokens, out)
    _, said = last.communicate(timeout=240)
    assert last.returncode == 0, said
    assert_same_tables(tables_of(out), tables_of(whole))
    assert_only_what_is_named(out)


@pytest.mark.slow
def test_of_two_drivers_at_once_one_is_told(bucket: str, asks: Callable[..., SearchConfig], toy: Path, tokens: Path) -> None:
    out = f"{bucket}/raced"
    first = driver(toy, tokens, out)
    deadline = time.monotonic() + 100
    while Remote(out).version(LEASE) is None or Remote(out).version("run.json") is None:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    with pytest.raises(InputError, match="one process at a time"):
        run_search(asks(out=out), solve=fakes.solves)
    first.kill()
    first.communicate()
    assert not run_search(asks(out=out, unit_sequences=1), solve=fakes.solves).failures  # its owner is gone: nobody waits


@pytest.mark.slow
def test_model_and_data_are_read_from_a_bucket(
    bucket: str, asks: Callable[..., SearchConfig], toy: Path, tokens: Path, whole: Path
) -> None:
    place = Remote(f"{bucket}/inputs")
    for file in toy.iterdir():
        place.put(f"toy/{file.name}", file.read_bytes())
    place.put(f"data/{tokens.name}", tokens.read_bytes())
    for data in (f"{place.uri}/data/{tokens.name}", f"{place.uri}/data"):
        config = asks(model=f"{place.uri}/toy", data=data, out=f"{bucket}/read", overwrite=True, unit_sequences=1)
        assert not run_search(config, solve=fakes.solves).failures
        read, local = tables_of(config.out), tables_of(whole)
        assert read["paths"].equals(local["paths"])
    with pytest.raises(InputError, match="there is nothing at"):
        run_search(asks(model=f"{bucket}/none"))


@pytest.mark.slow
def test_the_commands_that_read_take_a_uri(bucket: str, toy: Path, tokens: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = f"{bucket}/read-by-commands/run"
    search = ["search", str(toy), str(tokens), "--local", "--null-draws", "0", "--out", run]
    for words in (
        search,
        ["query", run, "SELECT count(*) AS n FROM tokens"],
        ["verify", run],
        ["runs", f"{bucket}/read-by-commands"],
    ):
        assert main(words) == 0
        said = capsys.readouterr()
        assert SECRET not in said.out + said.err
    assert run in said.out
    assert "complete" in said.out
