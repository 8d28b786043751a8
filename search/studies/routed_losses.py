"""What routers chose on a text, and what it cost: each token's pattern, and its loss in one plain pass routed by the router.

A file per router, a row per scored position. Beside the given routers stand random ones of the same number of B's and skips.

Axes: T token, L layer, N scored positions.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from duo_oracle.models.checkpoint import Checkpoint
from duo_oracle.models.family import load_module
from duo_oracle.models.plain_losses import window_losses
from duo_oracle.models.routable import RoutableModule
from duo_oracle.models.router import Router, read_router, router_fingerprint
from duo_oracle.models.routing import route
from duo_oracle.models.text.windows import Window
from duo_oracle.oracle.base.threads import ready_arrow
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.patterns import Branch, RoutingPattern, to_array, to_strings
from duo_oracle.results.compare.files import write_table


def write_routes(folder: Path, checkpoint: Checkpoint, sequences: Sequence[Window], routers: Sequence[str], seed: int) -> None:
    """Writes FOLDER/NAME.parquet for every router, and FOLDER/random-NAME.parquet for a random one of its budget and skips.

    A file of the same router stays as it is. Raises InputError for a router that is not for this model.
    """
    module = load_module(checkpoint)
    folder.mkdir(parents=True, exist_ok=True)
    for name in routers:
        stem = stem_of(name)
        chosen_NL = chosen_of(kept_routes(folder / f"{stem}.parquet", name, True, module, sequences, checkpoint.fingerprint))
        n_big, n_skip = (float((chosen_NL == branch).sum(axis=1).mean()) for branch in (Branch.BIG, Branch.SKIP))
        skips = min(round(n_skip, 2), chosen_NL.shape[1] - round(n_big, 2))
        beside = f"random:{n_big:.2f}+{skips:.2f}@{seed}" if n_skip else f"random:{n_big:.2f}@{seed}"
        kept_routes(folder / f"random-{stem}.parquet", beside, False, module, sequences, checkpoint.fingerprint)


def stem_of(name: str) -> str:
    """What a router's file is called, by its directory's name or its written form."""
    return "".join(letter if letter.isalnum() or letter in "-._" else "-" for letter in Path(name).name)


def kept_routes(
    file: Path, name: str, trained: bool, module: RoutableModule, sequences: Sequence[Window], fingerprint: str
) -> pa.Table:
    """A row per scored position: of the file, where it is this router's, or routed, scored and written into it.

    Raises InputError as `read_router`, and for a router that is not for this model.
    """
    router = read_router(name)
    about = {"router": router.spec, "budget": router.budget, "trained": trained, "fingerprint": router_fingerprint(name)}
    said = {"duo_oracle.router": router.spec, "duo_oracle.reproduce": json.dumps(about)}
    if not (file.is_file() and pq.read_schema(file).metadata == {key.encode(): value.encode() for key, value in said.items()}):
        write_table(file, _routed(router, module, sequences, fingerprint).replace_schema_metadata(said))
    ready_arrow()
    return pq.read_table(file)


def chosen_of(table: pa.Table) -> np.ndarray:
    """The router's choices, branches_NL."""
    return to_array(RoutingPattern.parse(text) for text in table["pattern"].to_pylist())


def _routed(router: Router, module: RoutableModule, sequences: Sequence[Window], fingerprint: str) -> pa.Table:
    """Every scored position's pattern and loss."""
    skip = router.skip or SkipReading.FFN
    columns = []
    for sequence, mask_TL in zip(sequences, route(router, module, sequences, skip, fingerprint), strict=True):
        n, first = sequence.n_positions, sequence.first_position
        mask_NL = mask_TL[sequence.scored]
        loss_N = window_losses(module, sequence, mask_NL, skip)
        position_N = np.arange(first, first + n)
        columns.append((np.full(n, sequence.index), [sequence.document] * n, position_N, to_strings(mask_NL), loss_N))
    names = ("sequence", "document", "position", "pattern", "loss")
    return pa.table({name: np.concatenate(list(parts)) for name, parts in zip(names, zip(*columns, strict=True), strict=True)})
