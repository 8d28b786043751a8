"""Sequences with the routing that their tokens have as context of later ones: what `--context router:ROUTER` searches.

The driver lets the router choose, in one plain forward pass a sequence; workers get the choices with the sequences and know no
router.

Axes: T token, L layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from models.checkpoint import Checkpoint
from models.data import Sequence
from models.families import duo_llama
from models.families.duo_llama import DuoLlama, build_module
from models.router import Router, router_fingerprint
from models.routing import route_with_logits
from oracle.contexts import SkipReading


@dataclass(frozen=True)
class RoutedSequence(Sequence):
    """A window, and the branches that each of its scored tokens takes in the context of a later one."""

    mask_TL: np.ndarray  # uint8, a row for every token but the last, which no other sees


def routed(
    router: Router, module: DuoLlama, sequences: Iterable[Sequence], skip: SkipReading, fingerprint: str
) -> Iterator[RoutedSequence]:
    """The sequences with the router's choices, a few at a time. `fingerprint` is the model's."""
    for found in route_with_logits(router, module, sequences, skip, fingerprint, logits=False):
        sequence = found.sequence
        yield RoutedSequence(sequence.index, sequence.document, sequence.token_ids, found.mask_TL[: sequence.n_positions])


def module_of(checkpoint: Checkpoint) -> DuoLlama:
    """The module that routers route. Raises ValueError for a model of another family."""
    if checkpoint.config.get("model_type") != duo_llama.MODEL_TYPE:
        raise ValueError(f"routers route models of type {duo_llama.MODEL_TYPE}; got {checkpoint.config.get('model_type')!r}")
    return build_module(checkpoint.config, checkpoint.tensors)


def context_name(router: str) -> str:
    """How a run names the context of this router: by what decides its choices, not by where it lies."""
    return f"router:{router_fingerprint(router)[:16]}"
