"""What routers chose on a text, and what it cost: each token's pattern, and its loss in one plain pass routed by the router.

A file per router, a row per scored position. Beside the given routers stand random ones of the same number of B's and skips.

Axes: T token, L layer, V vocabulary.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence as Several
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F

from models.checkpoint import Checkpoint
from models.data import Sequence
from models.families.duo_llama import DuoLlama, build_module
from models.router import Router, read_router
from models.routing import route
from oracle.contexts import SkipReading
from oracle.patterns import Branch, to_strings


def write_routes(folder: Path, checkpoint: Checkpoint, sequences: Several[Sequence], routers: Several[str], seed: int) -> None:
    """Writes FOLDER/NAME.parquet for every router, and FOLDER/random-NAME.parquet for a random one of its budget and skips.

    Raises ValueError for a router that is not for this model.
    """
    module = build_module(checkpoint.config, checkpoint.tensors)
    folder.mkdir(parents=True, exist_ok=True)
    for name in routers:
        router = read_router(name)
        stem = "".join(letter if letter.isalnum() or letter in "-._" else "-" for letter in Path(name).name)
        masks = _write(folder / f"{stem}.parquet", router, True, module, sequences, checkpoint.fingerprint)
        chosen_NL = np.concatenate(masks)
        n_big, n_skip = (float((chosen_NL == branch).sum(axis=1).mean()) for branch in (Branch.BIG, Branch.SKIP))
        skips = min(round(n_skip, 2), chosen_NL.shape[1] - round(n_big, 2))
        beside = read_router(f"random:{n_big:.2f}+{skips:.2f}@{seed}" if n_skip else f"random:{n_big:.2f}@{seed}")
        _write(folder / f"random-{stem}.parquet", beside, False, module, sequences, checkpoint.fingerprint)


@torch.no_grad()
def _write(
    file: Path, router: Router, trained: bool, module: DuoLlama, sequences: Several[Sequence], fingerprint: str
) -> list[np.ndarray]:
    """Routes, scores and writes; returns the masks of the scored positions."""
    skip = router.skip or SkipReading.FFN
    masks, columns = [], []
    for sequence, mask_TL in zip(sequences, route(router, module, sequences, skip, fingerprint), strict=True):
        mask_NL = mask_TL[: sequence.n_positions]
        token_id_1T = torch.from_numpy(sequence.token_ids.astype(np.int64))[None]
        logits_TV = module(token_id_1T[:, :-1], torch.from_numpy(mask_NL.astype(np.int64))[None], skip)[0]
        loss_N = F.cross_entropy(logits_TV.double(), token_id_1T[0, 1:], reduction="none").numpy()
        n = sequence.n_positions
        masks.append(mask_NL)
        columns.append((np.full(n, sequence.index), [sequence.document] * n, np.arange(n), to_strings(mask_NL), loss_N))
    names = ("sequence", "document", "position", "pattern", "loss")
    table = pa.table({name: np.concatenate(list(parts)) for name, parts in zip(names, zip(*columns, strict=True), strict=True)})
    about = {"router": router.spec, "budget": router.budget, "trained": trained, "skip": str(skip)}
    aside = file.with_name(f".{file.name}.{os.getpid()}")
    said = {"duo_oracle.router": router.spec, "duo_oracle.reproduce": json.dumps(about)}
    pq.write_table(table.replace_schema_metadata(said), aside)
    os.replace(aside, file)
    return masks
