"""The law of the family over transformers: a search is a search by full passes of the library's own model.

The slow way here knows nothing of the project's: the library's model with hooks that choose each token's branch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from duo_oracle.models.checkpoint import read_checkpoint
from duo_oracle.models.family import load_model
from duo_oracle.models.hf.blocks import Plan
from duo_oracle.oracle.budgets import parse_budgets
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.engine.exact import ExactOracle
from duo_oracle.oracle.patterns import Branch
from tests.models.hf.tiny import DEPTH, N_VOCABULARY, save_tiny

N_TOKENS, POSITIONS = 21, (9, 20)
FFN_NAMES = ("mlp", "feed_forward", "block_sparse_moe", "fc2")


@dataclass(frozen=True)
class Held:
    """What a configuration was held to: by which path, how far off at most, in nats, and under which readings of skip."""

    path: str
    error: float
    skips: tuple[str, ...]


def layers_of(model: Any) -> nn.ModuleList:
    return next(each for each in model.modules() if isinstance(each, nn.ModuleList) and len(each) == DEPTH)


@contextmanager
def routed(model: Any, mask_BTL: Tensor, skip: SkipReading) -> Iterator[None]:
    """The library's model, each token's layers left out where its mask says so."""
    handles = []
    for number, layer in enumerate(layers_of(model)):
        keep_BT1 = (mask_BTL[:, :, number] == Branch.BIG)[..., None]
        if skip is SkipReading.LAYER:

            def chosen(_: nn.Module, args: Any, kwargs: Any, out: Any, keep_BT1: Tensor = keep_BT1) -> Any:
                x = args[0] if args else kwargs["hidden_states"]
                return (torch.where(keep_BT1, out[0], x), *out[1:]) if isinstance(out, tuple) else torch.where(keep_BT1, out, x)

            handles.append(layer.register_forward_hook(chosen, with_kwargs=True))
            continue
        name = next(name for name in FFN_NAMES if hasattr(layer, name))

        def silenced(_: nn.Module, __: Any, out: Any, keep_BT1: Tensor = keep_BT1) -> Any:
            h = out[0] if isinstance(out, tuple) else out
            h = h * keep_BT1.reshape(*h.shape[:-1], 1)
            return (h, *out[1:]) if isinstance(out, tuple) else h

        handles.append(getattr(layer, name).register_forward_hook(silenced))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def full_pass_losses(model: Any, token_id_T: Tensor, mask_BTL: np.ndarray, skip: SkipReading) -> np.ndarray:
    """Losses (B, T - 1) of every position under each routing mask, by whole passes of the library's model."""
    with torch.no_grad(), routed(model, torch.from_numpy(mask_BTL), skip):
        logits_BTV = model(token_id_T[None, :-1].expand(len(mask_BTL), -1), use_cache=False).logits
    target_BT = token_id_T[1:].expand(len(mask_BTL), -1)
    return F.cross_entropy(logits_BTV.double().transpose(1, 2), target_BT, reduction="none").numpy()


def hold(name: str, directory: Path) -> Held:
    """Saves the configuration's model, opens and searches it, and compares with the library's full passes."""
    stock = save_tiny(name, directory)
    model = load_model(read_checkpoint(str(directory)))
    token_id_T = torch.randint(3, N_VOCABULARY, (N_TOKENS + 1,), generator=torch.Generator().manual_seed(7))
    patterns_PL = np.array(list(product((Branch.SKIP, Branch.BIG), repeat=DEPTH)), dtype=np.uint8)
    full_TL = np.full((N_TOKENS, DEPTH), Branch.BIG, dtype=np.uint8)
    drawn_TL = np.random.default_rng(3).choice(np.array([Branch.SKIP, Branch.BIG], dtype=np.uint8), (N_TOKENS, DEPTH))
    error = 0.0
    for skip in model.skip_readings:
        plain_T = full_pass_losses(stock, token_id_T, full_TL[None], skip)[0]
        assert plain_T.std() > 0.02, "the model says something"
        oracle = ExactOracle(model, (Branch.SKIP, Branch.BIG), parse_budgets("any", DEPTH), skip)
        for context_TL in (full_TL, drawn_TL):
            paths = oracle.in_fixed_context(0, token_id_T, context_TL)
            assert paths.certified_R.all()
            if context_TL is full_TL:
                error = max(error, float(np.abs(paths.loss_full_R - plain_T).max()))
            for position in POSITIONS:
                mask_PTL = np.repeat(context_TL[None], len(patterns_PL), axis=0)
                mask_PTL[:, position] = patterns_PL
                loss_P = full_pass_losses(stock, token_id_T, mask_PTL, skip)[:, position]
                assert loss_P.std() > 0.01, "patterns differ"
                error = max(error, abs(float(paths.loss_R[position] - loss_P.min())))
                chosen = loss_P[(patterns_PL == paths.branches_RL[position]).all(axis=1)][0]
                error = max(error, abs(float(paths.loss_R[position] - chosen)))
    path = "slow" if model.module.plan is Plan.WHOLE else "fast"  # type: ignore[attr-defined]
    return Held(path, error, tuple(model.skip_readings))
