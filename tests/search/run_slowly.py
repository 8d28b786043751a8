"""A search of its own process, to be killed: `python -m tests.search.run_slowly MODEL DATA OUT [local | HOST:PORT]`."""

from __future__ import annotations

import os
import sys

from duo_oracle.oracle.base.errors import Outage
from duo_oracle.search.job.config import SearchConfig
from duo_oracle.search.job.driver import run_search
from tests.search import fakes

if __name__ == "__main__":
    model, data, out, *how = sys.argv[1:]
    solve = fakes.solves_slowly_and_signs if fakes.MARK in os.environ else fakes.solves_slowly
    where = {"local": {"local": True}}.get(how[0], {"address": how[0]}) if how else {"workers": 2}
    try:
        outcome = run_search(SearchConfig(model=model, data=data, out=out, unit_sequences=1, **where), solve=solve)
    except Outage as error:
        sys.exit(f"duo-oracle: {error}")
    sys.exit(len(outcome.failures))
