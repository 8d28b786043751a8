"""Sequences with the routing that their tokens have as context of later ones: what `--context router:ROUTER` searches.

The driver lets the router choose, in one plain forward pass a sequence; workers get the choices with the sequences and know no
router.

Axes: T token, L layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields

import numpy as np

from duo_oracle.models.routable import RoutableModule
from duo_oracle.models.router import Router, router_fingerprint
from duo_oracle.models.routing import route_with_logits
from duo_oracle.models.text.windows import Window, data_fingerprint
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.layers import format_layers
from duo_oracle.oracle.patterns import Branch
from duo_oracle.results.store.route_files import write_routes


@dataclass(frozen=True)
class RoutedSequence(Window):
    """A window, and the branches that each of its scored tokens takes in the context of a later one."""

    mask_NL: np.ndarray = field(kw_only=True)  # uint8, a row for every scored position

    @classmethod
    def of(cls, window: Window, mask_NL: np.ndarray) -> RoutedSequence:
        """The window with these choices."""
        return cls(**{field.name: getattr(window, field.name) for field in fields(Window)}, mask_NL=mask_NL)


def routed(
    router: Router, module: RoutableModule, sequences: Iterable[Window], skip: SkipReading, fingerprint: str
) -> Iterator[RoutedSequence]:
    """The sequences with the router's choices, a few at a time. `fingerprint` is the model's."""
    for found in route_with_logits(router, module, sequences, skip, fingerprint, logits=False):
        yield RoutedSequence.of(found.sequence, found.mask_TL[found.sequence.scored])


def context_name(router: str) -> str:
    """How a run names the context of this router: by what decides its choices, not by where it lies."""
    return f"router:{router_fingerprint(router)[:16]}"


def write_route_file(
    file: str, router: Router, module: RoutableModule, fingerprint: str, sequences: list[Window], skip: SkipReading, logits: bool
) -> str:
    """Writes the router's choices over the sequences as a route file; returns one line that says what is in it.

    Raises InputError for a router of another model or reading of skip, and for logits of a router that computes none.
    """
    layers = None if module.n_letters == module.depth else format_layers(module.routed_layers)
    facts = route_facts(router, fingerprint, data_fingerprint(sequences), skip, layers)
    n_big = 0

    def parts() -> Iterator[tuple[int, int, np.ndarray, np.ndarray | None]]:
        nonlocal n_big
        for found in route_with_logits(router, module, sequences, skip, fingerprint, logits):
            if logits and found.logits_TLK is None:
                raise InputError(f"router {router.spec} computes no logits; leave out `logits`")
            sequence, scored = found.sequence, found.sequence.scored
            n_big += int((found.mask_TL[scored] == Branch.BIG).sum())
            logits_NLK = None if found.logits_TLK is None else found.logits_TLK[scored]
            yield sequence.index, sequence.first_position, found.mask_TL[scored], logits_NLK

    n_rows = write_routes(file, facts, parts(), module.n_letters)
    return f"{n_rows:,} positions of {len(sequences)} sequences, {n_big / n_rows:.3f} big layers per token: {file}"


def route_facts(router: Router, fingerprint: str, data: str, skip: SkipReading, route_layers: str | None) -> dict[str, str]:
    """What a route file says of itself; `fingerprint` is the model's and `data` the sequences'; `route_layers` None for all."""
    facts = {
        "model_fingerprint": fingerprint,
        "data_fingerprint": data,
        "router": router.spec,
        "router_fingerprint": router_fingerprint(router.spec),
        "causal": str(router.causal).lower(),
        "branches": "".join(branch.letter for branch in router.branches),
        "skip": str(skip),
        "budget": "" if router.budget is None else f"{router.budget:g}",
        "route_layers": route_layers or "",
    }
    return {key: value for key, value in facts.items() if value}
