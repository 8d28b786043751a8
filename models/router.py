"""The contract of a router: without knowing any label, it chooses each token's branch at each layer from the state there.

Each file in `models/routers/` holds one, found by listing. Wherever a ROUTER stands, a directory (`router.json` and
`router.safetensors`), a shipped name (`duo-tiny/budget-4`) and the written forms (`fixed:PATTERN`, `random:BUDGET`) are
accepted. Knows nothing of training or runs; `models/routing.py` lets a router route a model.

Axes: B batch, T token, L layer, D hidden, K the router's branches.
"""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from duo_oracle.models.checkpoint import SHIPPED
from duo_oracle.oracle.base.choices import Choices, meant
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.json_text import read_json
from duo_oracle.oracle.base.remote import is_remote, readable
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.patterns import Branch

RECORD, WEIGHTS = "router.json", "router.safetensors"
FORMAT = 1
ROUTERS = Choices("router", "duo_oracle.models.routers")

Choose = Callable[[int, Tensor], Tensor]
"""(layer, normed FFN input x_BTD) -> branch_BT: what `DuoLlama.forward` takes for its routing. Layers are asked in order."""


@dataclass(frozen=True)
class TokenBatch:
    """Which tokens a batch holds: row b is the sequence of index `sequence_B[b]` in its data, from position `start` on.

    A router that reads only the state needs none of it; one that draws, draws by sequence and position.
    """

    token_id_BT: Tensor  # int64
    sequence_B: tuple[int, ...]
    start: int = 0


class Router(ABC):
    """Chooses branches. Holds no state between batches: equal batches get equal choices.

    Laws, tested over the folder's listing: only `branches` are chosen; a causal router chooses the same for a prefix whatever
    follows it, and one token at a time as in one pass; the model is not changed. They ship as
    `duo_oracle.models.testing.RouterContract`.

    >>> import torch
    >>> router = read_router("fixed:Bs")
    >>> choose = router.routing(TokenBatch(torch.tensor([[5, 2, 7]]), sequence_B=(0,)), n_letters=2)
    >>> choose(0, torch.zeros(1, 3, 16))  # at the first layer, from the normed FFN inputs x_BTD: branch_BT
    tensor([[2, 2, 2]])
    """

    name: str
    """Its file in `models/routers/`, without the suffix `_router`."""
    spec: str
    """What read_router was given, or would take: how figures name this router."""
    branches: tuple[Branch, ...]
    causal: bool = True
    budget: float | None = None
    """Average B's per token that it was made for."""
    skip: SkipReading | None = None
    """The reading of skip that it was trained with; None where any will do."""
    n_letters: int | None = None
    n_hidden: int | None = None
    """The model's sizes that it needs; None where any will do."""
    layers: tuple[int, ...] | None = None
    """The layers of the model that it routes; None for all, or where any will do."""
    fingerprint: str | None = None
    """Of the model that it was trained on; None where it was trained on none."""

    @abstractmethod
    def routing(self, tokens: TokenBatch, n_letters: int) -> Choose:
        """The choices for one forward pass over `tokens`."""

    def logits(self, tokens: TokenBatch, layer: int, x_BTD: Tensor) -> Tensor | None:
        """logits_BTK over `branches`, of which the greatest is chosen; None for a router that computes none."""
        return None


@runtime_checkable
class WrittenRouter(Protocol):
    """A router's module that is given in words: `fixed:PATTERN`."""

    def parse(self, argument: str) -> Router:
        """The router of what stands behind the colon. Raises InputError for another form."""


@runtime_checkable
class StoredRouter(Protocol):
    """A router's module that is trained, and read from its directory."""

    def read(self, spec: str, record: dict[str, Any], tensors: dict[str, Tensor], variant: str = "") -> Router:
        """The router of `router.json` and `router.safetensors`, at a variant of it. Raises InputError for another content."""


def router_names() -> tuple[str, ...]:
    """The names of all routers: of the folder, and of plug-ins."""
    return ROUTERS.names()


def shipped_routers() -> tuple[str, ...]:
    """The names of the routers that ship with the models: `duo-tiny/budget-4`."""
    return tuple(
        sorted(
            f"{model}/{path.parent.name}" for model, directory in SHIPPED.items() for path in directory.glob(f"routers/*/{RECORD}")
        )
    )


def router_module(name: str) -> Any:
    """The module of a router's name. Raises InputError with the choices for another name."""
    module = ROUTERS.module(name)
    if not isinstance(module, WrittenRouter | StoredRouter):
        raise InputError(f"router {name!r}: a module has `parse` or `read`; {ROUTERS.find(name)} has neither")
    return module


def read_router(router: str | Path) -> Router:
    """The router of a directory, a shipped name, or a written form. `NAME@STEP` is a trained router as it was at an earlier
    checkpoint of its training, `NAME@uncalibrated` before its calibration, `NAME@calibrated` after one that it does not ask
    for, and `expert_choice-4@batch` chooses among a whole batch.

    Raises InputError, one line, for what is none of them, and for files that are missing, cut short or not what they say.
    """
    text = str(router)
    head, colon, argument = text.partition(":")
    if colon and head in router_names() and not os.path.exists(text):
        module = router_module(head)
        if not isinstance(module, WrittenRouter):
            raise InputError(f"router {head} is trained, so it is a directory or a shipped name; got {text!r}")
        return module.parse(argument)
    directory, variant = router_directory(text)
    record = _read_record(directory)
    module = router_module(record["name"])
    if not isinstance(module, StoredRouter):
        raise InputError(f"{directory / RECORD}: router {record['name']} is written like fixed:PATTERN, not read")
    path = directory / WEIGHTS
    if not path.is_file():
        raise InputError(f"{directory}: a router directory must hold {WEIGHTS}; it does not")
    try:
        tensors = load_file(path)
    except SafetensorError as fault:
        raise InputError(f"{path}: not a whole safetensors file: {str(fault).splitlines()[0]}") from None
    return module.read(text, record, tensors, variant)


def router_fingerprint(router: str | Path) -> str:
    """sha256 over what decides its choices: a directory's files, or a written form. Raises InputError as `read_router`."""
    text = str(router)
    head, colon, _ = text.partition(":")
    if colon and head in router_names() and not os.path.exists(text):
        return hashlib.sha256(read_router(text).spec.encode()).hexdigest()
    read_router(text)
    directory, variant = router_directory(text)
    files = [(directory / name).read_bytes() for name in (RECORD, WEIGHTS)]
    return hashlib.sha256(b"\0".join([*files, variant.encode()] if variant else files)).hexdigest()


def router_directory(text: str) -> tuple[Path, str]:
    """The directory of a path or of a shipped name, and the variant behind its @."""
    place, at, variant = text.rpartition("@")
    if not at or Path(text).is_dir():
        place, variant = text, ""
    directory = readable(place)
    if is_remote(place) and not directory.is_dir():
        raise InputError(f"a router is a directory; {place} is an object")
    if not directory.is_dir():
        model, _, name = place.partition("/")
        directory = SHIPPED.get(model, Path(place)) / "routers" / name
        if not name or not directory.is_dir():
            written = [f"{name}:" for name in router_names() if isinstance(ROUTERS.module(name), WrittenRouter)]
            guess = meant(text, shipped_routers()) or meant(text.partition(":")[0] + ":", written)
            raise InputError(
                "a router is a directory, a shipped name, fixed:PATTERN or random:BUDGET; "
                f"there is no {text!r}{'; ' * bool(guess)}{guess} (shipped: {', '.join(shipped_routers()) or 'none'})"
            )
    return directory, variant


def _read_record(directory: Path) -> dict[str, Any]:
    path = directory / RECORD
    if not path.is_file():
        raise InputError(f"{directory}: a router directory must hold {RECORD}; it does not")
    record = read_json(path)
    if not isinstance(record, dict) or not isinstance(record.get("name"), str):
        raise InputError(f"{path}: must be a JSON object with the name of a router; got {str(record)[:80]!r}")
    if record.get("format") != FORMAT:
        raise InputError(f"{path}: routers of format {FORMAT} can be read; got {record.get('format')!r}")
    return record


def record_field(record: Mapping[str, Any], key: str, kind: type | tuple[type, ...]) -> Any:
    """A field of `router.json`. Raises InputError where it is missing or of another type."""
    value = record.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise InputError(f"{RECORD}: {key} is missing or of the wrong type; got {value!r:.80}")
    return value
