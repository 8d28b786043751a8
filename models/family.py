"""Model families: the contract of `models/families/*.py`, and how a checkpoint becomes a frozen model.

A family is one file whose name is its `model_type`; there is no registry to edit. Every other type goes to the one family over
transformers' own modules. Knows no other family by name.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from duo_oracle.models.checkpoint import Checkpoint
from duo_oracle.models.routable import RoutableModule, SomeLayers
from duo_oracle.models.route_layers import SomeLayersRouted
from duo_oracle.oracle.base.choices import Choices
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.branches import DUO, BranchTable, Gate, parse_table
from duo_oracle.oracle.layers import parse_layers
from duo_oracle.oracle.model import OracleModel

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}
FAMILIES = Choices("family", "duo_oracle.models.families")
_ANY_DECODER = "duo_oracle.models.hf.any_decoder"  # by name: a root file imports no room of its package
_ALIGNMENT = 64  # bytes


@runtime_checkable
class Family(Protocol):
    """What each file in `models/families/` offers. Its laws ship as `duo_oracle.models.testing.FamilyContract`.

    >>> config, tensors = load_family("toy").random_checkpoint(seed=0)
    >>> model = load_model(Checkpoint(config, tensors, None, "a fingerprint"), dtype="float64")
    >>> model.dtype, tuple(model.unembedding_VD.shape) == (model.n_vocabulary, model.n_hidden)
    (torch.float64, True)
    """

    MODEL_TYPE: str

    def build(
        self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], dtype: torch.dtype, device: torch.device
    ) -> OracleModel:
        """The frozen model of a checkpoint. Raises InputError for a config or tensors that are not the family's."""

    def random_checkpoint(self, seed: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Config and tensors of a small random model, for the tests that every family passes."""


@runtime_checkable
class RoutableFamily(Family, Protocol):
    """A family whose models have a plain module too. Those of any other can be searched, and no router runs on them."""

    def build_module(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> RoutableModule:
        """The plain float32 module of a checkpoint, in eval mode and without gradients. Raises InputError as `build`."""


@runtime_checkable
class OfExperts(Family, Protocol):
    """A family whose models may be mixtures, routed over a table of experts."""

    def over_experts(self, model: Any, table: BranchTable, layers: tuple[int, ...] | None) -> OracleModel:
        """The model (as `build` gives it) routed over the table at these layers, by default all that have experts.

        Raises InputError for a model without experts, layers without, and a table that names more than there are."""


@runtime_checkable
class Checking(Protocol):
    """A family whose models are held to another implementation before they are used."""

    def check(self, model: Any, fingerprint: str) -> object:
        """Raises InputError where the model, frozen or plain, is not what it should be. What it returns reads as one line."""


def family_names() -> list[str]:
    """The `model_type`s that have a family of their own: of the folder, and of plug-ins."""
    return list(FAMILIES.names())


def load_family(model_type: object) -> Family:
    """The family of a `model_type`: its own file or plug-in, else the one over transformers, which says what it does not know."""
    if model_type not in family_names():
        return cast(Family, importlib.import_module(_ANY_DECODER))
    module = FAMILIES.module(str(model_type))
    if not isinstance(module, Family) or model_type != module.MODEL_TYPE:
        raise InputError(
            f"family {model_type!r}: a module has `build`, `random_checkpoint` and MODEL_TYPE = {model_type!r}; "
            f"{FAMILIES.find(str(model_type))} has not"
        )
    return module


def load_model(
    checkpoint: Checkpoint,
    dtype: str = "float32",
    device: str = "cpu",
    route_layers: str | None = None,
    say: Callable[[str], None] | None = None,
    branches: str | None = None,
    gate: str = Gate.OWN,
) -> OracleModel:
    """The frozen model of a checkpoint, in `dtype` on `device`, with `route_layers` (such as 18-27; None for all) routed. `say` is
    told what a family's check found. `branches` of experts (top:, ranks:, sets:) are the table that the model is routed
    over, at the layers that have some, and `gate` how a set's experts are weighed.

    Raises InputError for an unknown family, dtype or device, layers that the model does not have, for a config or tensors that are
    not the family's, and for a model that its check refuses.
    """
    if dtype not in DTYPES:
        raise InputError(f"unknown dtype {dtype!r}; available: {', '.join(DTYPES)}")
    family = load_family(checkpoint.config.get("model_type"))
    tensors = {name: _aligned(tensor) for name, tensor in checkpoint.tensors.items()}
    model = family.build(checkpoint.config, tensors, DTYPES[dtype], resolve_device(device))
    _check(family, model, checkpoint.fingerprint, say)
    layers = None if route_layers is None else parse_layers(route_layers, model.depth)
    table = DUO if branches is None else parse_table(branches, gate)
    if table.of_experts:
        if not isinstance(family, OfExperts):
            raise InputError(f"models of type {checkpoint.config.get('model_type')!r} have no experts that {table.spec} could name")
        return family.over_experts(model, table, layers)
    return model if layers is None else SomeLayersRouted(model, layers)


def load_module(checkpoint: Checkpoint, route_layers: str | None = None) -> RoutableModule:
    """The plain module of a checkpoint, which routers are trained on and run on. Raises InputError as `load_model`."""
    model_type = checkpoint.config.get("model_type")
    family = load_family(model_type)
    if not isinstance(family, RoutableFamily):
        raise InputError(f"models of type {model_type!r} can be searched, but no router runs on them")
    module = family.build_module(checkpoint.config, checkpoint.tensors)
    _check(family, module, checkpoint.fingerprint)
    return module if route_layers is None else SomeLayers(module, parse_layers(route_layers, module.depth))


def _check(family: Family, model: object, fingerprint: str, say: Callable[[str], None] | None = None) -> None:
    if isinstance(family, Checking):
        found = family.check(model, fingerprint)
        if say is not None:
            say(str(found))


def _aligned(tensor: Tensor) -> Tensor:
    """The tensor at an address as torch itself would give it. Products round by the address of their factors, and one read from
    a file or a shared store begins anywhere: without this, a worker's last bits are not those of this process."""
    return tensor if tensor.data_ptr() % _ALIGNMENT == 0 else tensor.clone()


def resolve_device(name: str) -> torch.device:
    """The device of that name. Raises InputError for one that torch does not know, or that this machine does not have."""
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"unknown device {name!r}; available: cpu, cuda, cuda:N") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device {name!r} is not on this machine; it has {torch.cuda.device_count()} CUDA devices")
    if device.type not in ("cpu", "cuda", "mps"):
        raise InputError(f"unknown device {name!r}; available: cpu, cuda, cuda:N")
    return device
