"""A search of its own process, to be killed: `python -m tests.search.run_slowly MODEL DATA OUT [local]`."""

from __future__ import annotations

import sys

from duo_oracle.search.job.config import SearchConfig
from duo_oracle.search.job.driver import run_search
from tests.search import fakes

if __name__ == "__main__":
    model, data, out, *how = sys.argv[1:]
    run_search(
        SearchConfig(model=model, data=data, out=out, unit_sequences=1, local=bool(how), workers=None if how else 2),
        solve=fakes.solves_slowly,
    )
