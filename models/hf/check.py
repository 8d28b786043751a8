"""The check at opening: a model as this project runs it, held to transformers' own on a few tokens before it is used.

Sixteen random tokens; at two positions a few patterns are scored through stored keys and values, one in the full context and one in
a routed one, and by whole passes of the library's model, which shares the weights and nothing else. What differs is refused, with
the number and where. A model that passed is remembered by its fingerprint in the user's cache, which is safe to lose.

Axes: T token, P pattern, L layer.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from duo_oracle.models.hf.calls import first_state, main_output, patched
from duo_oracle.models.hf.library import library_version
from duo_oracle.models.hf.pretrained import PretrainedModel
from duo_oracle.models.hf.routed import Ffns, routed_logits
from duo_oracle.models.hf.trunk import Trunk
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.remembered import recalled, remember
from duo_oracle.oracle.engine.scorer import FixedScorer
from duo_oracle.oracle.patterns import Branch

N_TOKENS = 16
_PASSED = "checked"
_VERSION = 1  # of the check: what an older one passed is checked again
_BOUNDS = {torch.float64: 1e-4, torch.float32: 1e-4, torch.bfloat16: 0.3}
"""Nats by which losses may differ, for losses up to ten."""


@dataclass(frozen=True)
class Checked:
    """How far the losses were from the library's, in nats, and how long it took to see."""

    error: float
    seconds: float
    remembered: bool = False

    def __str__(self) -> str:
        how = "remembered" if self.remembered else f"in {self.seconds:.1f} s"
        return f"equal to transformers' own model to {self.error:.1g} nats ({how})"


def checked(model: PretrainedModel, stock: nn.Module, fingerprint: str) -> Checked:
    """Checks the model, unless one of this fingerprint passed before. Raises InputError where it differs from `stock`."""
    key = hashlib.sha256(
        f"{_VERSION} {fingerprint} {model.dtype} {model.device.type} {library_version()} {torch.__version__}".encode()
    ).hexdigest()
    passed = recalled(_PASSED, key) if fingerprint else None
    if isinstance(passed, list) and len(passed) == 2:
        return Checked(float(passed[0]), float(passed[1]), remembered=True)
    started = time.monotonic()
    error = check(model, stock)
    found = Checked(float(f"{error:.2g}"), round(time.monotonic() - started, 2))
    if fingerprint:
        remember(_PASSED, key, [found.error, found.seconds])
    return found


@torch.no_grad()
def check(model: PretrainedModel, stock: Any) -> float:
    """The greatest difference of losses, in nats. Raises InputError where it is too great, or losses are not finite."""
    trunk, n_layers = Trunk(stock), model.depth
    ffns = [
        Ffns(parts, {name: layer.get_submodule(name) for name in parts.ffn})
        for parts, layer in zip(model.parts, trunk.layers, strict=True)
    ]
    generator = np.random.default_rng(16)
    n_scored = max(1, min(N_TOKENS, model.n_positions))
    token_id_T = torch.from_numpy(generator.integers(0, model.n_vocabulary, n_scored + 1)).to(model.device)
    full_TL = np.full((n_scored, n_layers), Branch.BIG, dtype=np.uint8)
    routed_TL = generator.choice(np.array([Branch.SKIP, Branch.BIG], dtype=np.uint8), (n_scored, n_layers))
    patterns_PL = np.full((4, n_layers), Branch.BIG, dtype=np.uint8)
    patterns_PL[1, 1::2], patterns_PL[2] = Branch.SKIP, Branch.SKIP
    patterns_PL[3] = generator.choice(np.array([Branch.SKIP, Branch.BIG], dtype=np.uint8), n_layers)
    error = greatest = 0.0
    places = ((n_scored // 2, full_TL, model.skip_readings[0]), (n_scored - 1, routed_TL, model.skip_readings[-1]))
    for position, context_TL, skip in places:
        mask_PTL = np.repeat(context_TL[None], len(patterns_PL), axis=0)
        mask_PTL[:, position] = patterns_PL
        logits_PTV = routed_logits(
            trunk, ffns, token_id_T[None, :-1].expand(4, -1), torch.from_numpy(mask_PTL).to(model.device), skip
        )
        label_P = token_id_T[position + 1].expand(4)
        theirs_P = F.cross_entropy(logits_PTV[:, position].double(), label_P, reduction="none").cpu().numpy()
        if not np.isfinite(theirs_P).all():
            raise InputError(
                f"a loss is a finite number; transformers' own pass of this {stock.config.model_type} model gives "
                f"{theirs_P[~np.isfinite(theirs_P)][0]} at position {position} with these weights in {model.dtype}"
            )
        ours_P = FixedScorer(model, 0, token_id_T, context_TL, skip).score(np.full(4, position), patterns_PL)
        difference = float(np.abs(ours_P - theirs_P).max())
        error = max(error, difference if np.isfinite(difference) else float("inf"))
        greatest = max(greatest, float(theirs_P.max()))
    if not error <= _BOUNDS[model.dtype] * max(1.0, greatest / 10):
        raise InputError(
            f"a {stock.config.model_type} model comes out as another one than transformers' own: losses differ by {error:.2g} nats "
            f"on {n_scored} tokens, first in {_where(model, trunk, token_id_T[:-1])}; it is not used"
        )
    return error


def _where(model: PretrainedModel, trunk: Trunk, token_id_T: Tensor) -> str:
    """The first module whose output at the last position, from the library's own input to it, is not the library's."""
    states: list[tuple[Tensor, Tensor]] = []

    def heard(own: Any) -> Any:
        def forward(*args: Any, **kwargs: Any) -> Any:
            out = own(*args, **kwargs)
            states.append((first_state(args, kwargs), main_output(out)))
            return out

        return forward

    with patched([(layer, heard(layer.forward)) for layer in trunk.layers]):
        trunk.run(token_id_T[None])
    position_T = torch.arange(len(token_id_T), device=token_id_T.device)
    last = len(token_id_T) - 1
    names = {id(module): name for name, module in trunk.model.named_modules()}

    def differs(ours: Tensor, theirs: Tensor) -> bool:
        return not float((ours - theirs).abs().max()) <= _BOUNDS[model.dtype] * float(theirs.abs().max())

    if differs(model.embed(token_id_T, position_T), states[0][0][0]):
        return "the embedding"
    for number, (x_1TD, out_1TD) in enumerate(states):
        k_1KTd, v_1KTd = model.key_value(number, x_1TD, position_T[None])
        x_11D = x_1TD[:, last:]
        attended_11D = model.attend(number, x_11D, position_T[None, last:], k_1KTd[:, :, :last], v_1KTd[:, :, :last])
        if differs(model.ffn(number, Branch.BIG, attended_11D, x_11D), out_1TD[:, last:]):
            layer = trunk.layers[number]
            return f"{names[id(layer)]} ({type(layer).__name__})"
    return "the vocabulary head, or in no layer alone"
