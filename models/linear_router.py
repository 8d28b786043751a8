"""The form that all trained routers share: at each layer a linear map from the normed FFN input to a logit per branch.

A token takes the branch of the greatest logit, after the layer's cutoff is taken off big's; ties go to the cheaper branch. A
directory holds `router.json` (for which model, how it was made, what it reached) and `router.safetensors` (the maps, and those
of earlier checkpoints of the training). Knows nothing of how the maps were learned.

Axes: B batch, T token, L layer, D hidden, K branches, E the layer's features, U inner values.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from duo_oracle.models.checkpoint import save_file_whole
from duo_oracle.models.router import FORMAT, RECORD, WEIGHTS, Choose, Router, TokenBatch, record_field
from duo_oracle.oracle.base.choices import check_choice
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.whole_file import write_text_whole
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.patterns import LETTERS, Branch
from duo_oracle.oracle.spaces import parse_branches


@dataclass(frozen=True)
class LinearMaps:
    """What a linear router chooses by: logit_k = weight_LKD[l, k] . x + bias_LK[l, k], less cutoff_L[l] where k is big."""

    weight_LKD: Tensor
    bias_LK: Tensor
    cutoff_L: Tensor

    def to_tensors(self, prefix: str = "") -> dict[str, Tensor]:
        named = {"weight": self.weight_LKD, "bias": self.bias_LK, "cutoff": self.cutoff_L}
        return {prefix + name: tensor.detach().float().cpu().clone() for name, tensor in named.items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], prefix: str = "") -> LinearMaps:
        """Those under a prefix, which may have cutoffs alone. Raises InputError for tensors that are missing or do not fit."""
        tensors = {**tensors, **{prefix + n: tensors[n] for n in ("weight", "bias") if prefix + n not in tensors and n in tensors}}
        missing = [name for name in ("weight", "bias", "cutoff") if prefix + name not in tensors]
        if missing:
            raise InputError(f"{WEIGHTS}: tensor {prefix}{missing[0]} is missing")
        weight_LKD, bias_LK, cutoff_L = (tensors[prefix + name] for name in ("weight", "bias", "cutoff"))
        if weight_LKD.dim() != 3 or bias_LK.shape != weight_LKD.shape[:2] or cutoff_L.shape != weight_LKD.shape[:1]:
            shapes = [list(tensor.shape) for tensor in (weight_LKD, bias_LK, cutoff_L)]
            raise InputError(f"{WEIGHTS}: weight, bias and cutoff must have shapes L K D, L K and L; got {shapes}")
        return cls(weight_LKD, bias_LK, cutoff_L)

    def shifted(self, shift: float) -> LinearMaps:
        """Every cutoff higher by `shift`: fewer B's at all layers together."""
        return replace(self, cutoff_L=self.cutoff_L + shift)


class LinearRouter(Router):
    """Chooses by linear maps of the hidden state: causal, one token at a time as in one pass."""

    def __init__(
        self,
        name: str,
        maps: LinearMaps,
        branches: tuple[Branch, ...],
        fingerprint: str,
        skip: SkipReading = SkipReading.FFN,
        budget: float | None = None,
        spec: str | None = None,
        record: Mapping[str, Any] | None = None,
        layers: tuple[int, ...] | None = None,
    ) -> None:
        assert maps.weight_LKD.shape[1] == len(branches)
        assert Branch.BIG in branches
        self.name, self.maps, self.branches, self.fingerprint, self.budget = name, maps, branches, fingerprint, budget
        self.spec = spec if spec is not None else name
        self.skip = skip if Branch.SKIP in branches else None
        self.n_letters, _, self.n_hidden = maps.weight_LKD.shape
        self.layers = layers
        self.record: Mapping[str, Any] = record if record is not None else {}
        self._offset_LK = maps.bias_LK.clone()
        self._offset_LK[:, -1] -= maps.cutoff_L  # big is the last branch

    def routing(self, tokens: TokenBatch, n_letters: int) -> Choose:
        branch_K = torch.tensor([int(branch) for branch in self.branches])

        def choose(layer: int, x_BTD: Tensor) -> Tensor:
            # argmax gives the first of equals, and branches stand in the order of cost
            return branch_K.to(x_BTD.device)[self.logits(tokens, layer, x_BTD).argmax(dim=-1)]

        return choose

    def logits(self, tokens: TokenBatch, layer: int, x_BTD: Tensor) -> Tensor:
        weight_KD, offset_K = self.maps.weight_LKD[layer].to(x_BTD.device), self._offset_LK[layer].to(x_BTD.device)
        return F.linear(x_BTD.float(), weight_KD, offset_K)


def margins(logits: Tensor) -> Tensor:
    """By how much big's logit is ahead of the best other: big is chosen where it is above zero. (..., K) -> (...)."""
    return logits[..., -1] - logits[..., :-1].amax(dim=-1)


def read_linear(
    spec: str, record: Mapping[str, Any], tensors: Mapping[str, Tensor], variant: str = "", kind: type[LinearRouter] = LinearRouter
) -> LinearRouter:
    """The router that `router.json` and its tensors describe; or a variant of it, named in the tensors:
    a step of its training, uncalibrated, or calibrated.

    Raises InputError, one line, for fields and tensors that are missing or do not fit one another.
    """
    try:
        letters = record_field(record, "branches", str)
        branches = parse_branches(letters)
        if Branch.BIG not in branches or len(branches) < 2:
            raise InputError(f"{RECORD}: branches must be B and at least one other; got {letters!r}")
        skip = SkipReading(check_choice("skip reading", record_field(record, "skip", str), SkipReading))
        if variant:
            variant = f"step-{variant}" if variant.isdigit() else variant
            check_choice("variant", variant, sorted({name.split("/")[0] for name in tensors if name.endswith("/cutoff")}))
        maps = LinearMaps.from_tensors(tensors, f"{variant}/" if variant else "")
        sizes = record_field(record, "n_layers", int), len(branches), record_field(record, "n_hidden", int)
        if tuple(maps.weight_LKD.shape) != sizes:
            raise InputError(f"{WEIGHTS}: weight must have shape {list(sizes)} by {RECORD}; got {list(maps.weight_LKD.shape)}")
        budget = float(record_field(record, "budget", (int, float)))
        if not 0 <= budget <= sizes[0]:
            raise InputError(f"{RECORD}: budget must be a number from 0 to {sizes[0]}; got {budget!r}")
        layers = None
        if "layers" in record:
            layers = tuple(record_field(record, "layers", list))
            if len(layers) != sizes[0] or not all(type(layer) is int for layer in layers):
                raise InputError(f"{RECORD}: layers must be {sizes[0]} whole numbers; got {record['layers']!r:.80}")
        return kind(record["name"], maps, branches, record_field(record, "model", str), skip, budget, spec, record, layers)
    except (ValueError, OverflowError) as fault:  # a number may be too long for a float
        raise InputError(f"{spec}: {fault}") from None


def write_linear(directory: Path, router: LinearRouter, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Writes a router directory, the record last. `facts` say how it was made; `tensors` are kept beside its maps."""
    directory.mkdir(parents=True, exist_ok=True)
    save_file_whole(directory / WEIGHTS, {**router.maps.to_tensors(), **tensors})
    assert router.budget is not None
    record = {
        "format": FORMAT,
        "name": router.name,
        "model": router.fingerprint,
        "n_layers": router.n_letters,
        "n_hidden": router.n_hidden,
        "branches": "".join(LETTERS[branch] for branch in router.branches),
        "skip": str(router.skip or SkipReading.FFN),
        "budget": router.budget,
        **facts,
    }
    write_text_whole(directory / RECORD, json.dumps(record, indent=1) + "\n")
