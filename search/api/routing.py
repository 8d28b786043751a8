"""`route`: a router's choices over data, as a table and as the Parquet file that comparisons read."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from duo_oracle.models.text.options import TextOptions
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.extras import extras_named
from duo_oracle.oracle.base.ranges import at_least
from duo_oracle.oracle.base.scratch import scratch_folder
from duo_oracle.oracle.base.threads import ready_arrow
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.search.api.options import options_of, taking

if TYPE_CHECKING:
    import pandas as pd


OWN = "own"
"""The router that is a mixture's own."""


@dataclass(frozen=True)
class RouteConfig(TextOptions):
    """What `duo-oracle route` is asked.

    Args:
        model: model directory, or the name of a shipped model (duo-tiny, or et-tiny, a mixture)
        router: router directory, a shipped router (duo-tiny/budget-4), fixed:PATTERN or random:BUDGET; or own, a mixture's own
            router, whose experts are written
        out: file to write, .parquet; of router own also .npy (routed_experts as vLLM returns it), .npz or .jsonl
        logits: keep what the choices were made from as well
        skip: what a skip leaves out, the FFN or the whole layer
        route_layers: layers that are routed, such as 18-27 or 3,5,8-11; the others are always big; default all
        # data
        offset: begin so many tokens into each document
        # machine
        threads: threads of this process
    """

    model: str = field(metadata={"uri": True})
    router: str = field(metadata={"uri": True})
    out: str
    logits: bool = False
    skip: SkipReading = SkipReading.FFN
    route_layers: str | None = None
    offset: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, offset=0, threads=1)
        endings = (".npy", ".npz", ".jsonl", ".parquet") if self.router == OWN else (".parquet",)
        if not self.out.endswith(endings):
            raise InputError(f"`out` is a file {', '.join(endings)}; got {self.out!r}")
        if self.router == OWN and (self.logits or self.skip != SkipReading.FFN):
            raise InputError("router own takes no `logits` and no `skip`; its files hold what each expert weighs, but for .npy")


@taking(RouteConfig)
@extras_named("route")
def route(
    model: str | os.PathLike[str],
    router: str | os.PathLike[str],
    data: Any,
    *,
    out: str | os.PathLike[str] | None = None,
    **options: Any,
) -> pd.DataFrame:
    """The router's choices at every scored position of the data: sequence, position, pattern (and logits with `logits=True`).

    `out` is a file .parquet to keep them in, which `compare` and `duo-oracle compare --routes` read.

    Raises InputError for a model, router, data or option that does not fit.
    """
    import pandas as pd

    given = {"model": model, "router": router, "data": data, **options}
    with scratch_folder() as folder:
        file = folder / "routes.parquet" if out is None else Path(out)
        write_choices(options_of(RouteConfig, {**given, "out": file}))
        ready_arrow()
        return pd.read_parquet(file)


def write_choices(config: RouteConfig) -> str:
    """Does the job of `duo-oracle route`; returns one line that says what is in the file."""
    from duo_oracle.models.checkpoint import read_checkpoint
    from duo_oracle.models.family import load_module
    from duo_oracle.models.router import read_router
    from duo_oracle.models.text.sources import find_files
    from duo_oracle.search.job.routed import write_route_file
    from duo_oracle.search.job.text import text_of
    from duo_oracle.search.job.worker import prepared

    find_files(config.data)  # a name that is none costs no loading of a model
    if config.router == OWN:
        return _write_own(config)
    router, checkpoint = read_router(config.router), read_checkpoint(config.model)
    module = load_module(checkpoint, config.route_layers)
    read = text_of(config, checkpoint, module, config.offset).read
    sequences = list(read(notify=lambda line: print(f"duo-oracle: {line}", file=sys.stderr)))
    with prepared(config.threads):
        return write_route_file(config.out, router, module, checkpoint.fingerprint, sequences, config.skip, config.logits)


def _write_own(config: RouteConfig) -> str:
    """Writes the experts that a mixture's own router takes in plain passes; returns one line that says what is in the file."""
    from duo_oracle.models.checkpoint import read_checkpoint
    from duo_oracle.models.family import load_model
    from duo_oracle.oracle.model import SharesExperts
    from duo_oracle.results.store.expert_routes import NO_EXPERT, write_expert_routes
    from duo_oracle.search.job.own_experts import own_experts_of
    from duo_oracle.search.job.text import text_of
    from duo_oracle.search.job.worker import prepared

    checkpoint = read_checkpoint(config.model)
    model = load_model(checkpoint, route_layers=config.route_layers, branches="top:0")  # any table: the router is the model's own
    assert isinstance(model, SharesExperts)
    windows = list(
        text_of(config, checkpoint, model, config.offset).read(notify=lambda line: print(f"duo-oracle: {line}", file=sys.stderr))
    )
    with prepared(config.threads):
        routes = own_experts_of(model, windows)
    write_expert_routes(config.out, routes)
    n_rows, n_layers, _ = routes.experts_RLk.shape
    each = float((routes.experts_RLk != NO_EXPERT).sum() / max(1, n_rows * n_layers))
    return f"{n_rows:,} positions of {len(windows)} sequences, {each:.3f} experts a layer in {n_layers} layers: {config.out}"
