"""The experts that a mixture's own router takes over windows, by plain passes: at every scored position, with their weights.

Axes: N positions, L routed layer, k experts of a token.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from duo_oracle.models.text.windows import Window
from duo_oracle.oracle.model import OracleModel, SharesExperts, token_ids_on
from duo_oracle.results.store.expert_routes import NO_EXPERT, ExpertRoutes


def own_experts_of(model: OracleModel, windows: Sequence[Window]) -> ExpertRoutes:
    """What the own router of `model`, which is routed over experts, takes at the windows' scored positions, in their order."""
    assert isinstance(model, SharesExperts)
    experts, scores = [], []
    for window in windows:
        token_id_T = token_ids_on(model.device, window.token_ids)[:-1]
        experts_TLk, weight_TLk = (found.cpu().numpy()[window.n_warm :] for found in model.own_trace(token_id_T))
        experts.append(experts_TLk)
        scores.append(weight_TLk)
    position = [window.first_position + np.arange(window.n_positions) for window in windows]
    sequence = [np.full(window.n_positions, window.index) for window in windows]
    widest = max(found.shape[2] for found in experts)
    return ExpertRoutes(
        np.concatenate([_wide(found, widest, NO_EXPERT) for found in experts]).astype(np.int16),
        np.concatenate([_wide(found, widest, 0) for found in scores]).astype(np.float32),
        np.concatenate(sequence).astype(np.int64),
        np.concatenate(position).astype(np.int64),
    )


def _wide(found_NLk: np.ndarray, widest: int, fill: int) -> np.ndarray:
    return np.pad(found_NLk, ((0, 0), (0, 0), (0, widest - found_NLk.shape[2])), constant_values=fill)
