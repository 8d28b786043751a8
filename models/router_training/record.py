"""What a trained router's directory says of its training: every step's use of B and its cutoffs. Knows no router in particular.

Axes: S training steps, L layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from safetensors.numpy import load_file

from duo_oracle.models.router import WEIGHTS, read_router, router_directory
from duo_oracle.oracle.base.errors import InputError

_TENSORS = ("usage", "cutoff", "batch_cutoff")
_COUNTS = ("passed", "held")


@dataclass(frozen=True)
class RouterRecord:
    """A router's training, step by step."""

    name: str
    budget: float
    usage_SL: np.ndarray  # share of the batch's tokens that took B
    cutoff_SL: np.ndarray  # what logits were compared with
    batch_cutoff_SL: np.ndarray  # the batch's own k-th largest logit; NaN where the router does not compute it
    passed_SL: np.ndarray  # share of the batch's tokens over the cutoff, before warm-up and capacity; NaN where there is none
    held_SL: np.ndarray  # -1, 1: fewer, more than the capacity were over the cutoff; 0 within it; NaN where nothing is held
    layers: tuple[int, ...] | None = None  # their numbers in the model; None where all are routed

    @property
    def even(self) -> float:
        """The share that each layer would have, were the budget spread evenly."""
        return self.budget / self.usage_SL.shape[1]


def read_record(router: str) -> RouterRecord:
    """The training record of a router's directory or shipped name.

    Raises InputError as `read_router`, and for a router that has none: one that was not trained, or trained on labels.
    """
    found = read_router(router)
    tensors = {}
    if found.fingerprint is not None:  # trained on a model, so it has a directory
        tensors = load_file(router_directory(router)[0] / WEIGHTS)
    missing = [name for name in _TENSORS if f"training/{name}" not in tensors]
    if missing or found.budget is None or not len(tensors["training/usage"]):
        raise InputError(f"router {router} has no record of its training: it was not trained on text, step by step")
    kept = {name: tensors[f"training/{name}"].astype(np.float64) for name in (*_TENSORS, *_COUNTS) if f"training/{name}" in tensors}
    for name in _COUNTS:  # routers of before had none
        kept.setdefault(name, np.full_like(kept["usage"], np.nan))
    return RouterRecord(router, found.budget, **{f"{name}_SL": values for name, values in kept.items()}, layers=found.layers)
