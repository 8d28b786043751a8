"""A run's whole life at every store that is written: the memory of this process, and servers of Google's and Azure's kind."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from duo_oracle import results
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.remote import Remote
from duo_oracle.results.store.lease import Lease
from duo_oracle.search.job.config import SearchConfig
from duo_oracle.search.job.driver import run_search
from tests.search import fakes
from tests.search.conftest import assert_same_tables, tables_of
from tests.store_servers import SERVED


@pytest.mark.slow
@pytest.mark.parametrize("scheme", SERVED)
def test_a_search_there_is_resumed_and_read_and_has_one_owner(scheme: str, toy: Path, tokens: Path, tmp_path: Path) -> None:
    with SERVED[scheme]() as served:
        _lives(f"{served}/{uuid.uuid4().hex}/run", toy, tokens, str(tmp_path / "run"))


def _lives(there: str, toy: Path, tokens: Path, here: str) -> None:
    asks = {"model": str(toy), "data": str(tokens), "unit_sequences": 1, "local": True}
    assert not run_search(SearchConfig(out=here, **asks), solve=fakes.solves).failures
    failing = run_search(SearchConfig(out=there, **asks), solve=fakes.fails_on_sequence_2)
    assert len(failing.failures) == 1
    lease = Lease.taken(Remote(there))
    with pytest.raises(InputError, match="one process at a time"):
        run_search(SearchConfig(out=there, **asks), solve=fakes.solves)
    lease.release()
    assert not run_search(SearchConfig(out=there, **asks), solve=fakes.solves).failures
    assert_same_tables(tables_of(there), tables_of(here))
    parts = {f"{table}/part-{unit:05d}.parquet" for unit, one in results.load(there).manifest.units.items() for table in one.parts}
    assert set(Remote(there).sizes()) == parts | {"run.json", "config.yaml"}
