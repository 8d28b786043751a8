"""Text drawn token by token from the all-big model itself: where all-big is the truth, whatever an oracle prefers is luck.

The control of what a run says about patterns (which layers, which tokens), as labels drawn per position are that of its gains.
Each sampled document begins with the first token of a real one, takes its name and has its length.

Axes: N sequences side by side, T token, D hidden, V vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from duo_oracle.models.text.windows import Window
from duo_oracle.oracle.base.whole_file import write_text_whole
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.engine.head import Head
from duo_oracle.oracle.engine.labels import NullLabels
from duo_oracle.oracle.engine.walk import CommittedContext, run_big
from duo_oracle.oracle.model import OracleModel
from duo_oracle.oracle.patterns import Branch


@torch.inference_mode()
def sample_like(model: OracleModel, sequences: Sequence[Window], seed: int) -> list[Window]:
    """For each sequence one of its length that all-big continues from its first token.

    Every draw is a function of (seed, sequence, position) and of what was drawn before it.
    """
    order = sorted(range(len(sequences)), key=lambda lane: -len(sequences[lane].token_ids))
    lengths = [len(sequences[lane].token_ids) for lane in order]
    token_NT = np.zeros((len(order), lengths[0]), dtype=np.int64)
    token_NT[:, 0] = [sequences[lane].token_ids[0] for lane in order]
    head, labels = Head(model), NullLabels(draws=1, seed=seed)
    context = CommittedContext(model, len(order), lengths[0], SkipReading.FFN)
    for position in range(lengths[0] - 1):
        n = sum(length > position + 1 for length in lengths)
        x_ND = context.begin(position, torch.from_numpy(token_NT[:n, position]).to(model.device))
        attend = context.attend(position, slice(0, n))
        h_1ND = run_big(model, range(model.routed_layers[0], model.depth), x_ND[None], attend)
        names = [(sequences[lane].index, position) for lane in order[:n]]
        drawn_N2 = labels.labels(head, head.states(h_1ND[0]), torch.zeros(n, dtype=torch.int64, device=model.device), names)
        token_NT[:n, position + 1] = drawn_N2[:, 1].cpu().numpy()
        context.commit(position, x_ND, np.full((n, model.n_layers), Branch.BIG, dtype=np.uint8))
    found = {lane: token_NT[row, : lengths[row]].astype(np.int32) for row, lane in enumerate(order)}
    return [Window(s.index, s.document, found[lane]) for lane, s in enumerate(sequences)]


def write_tokens(path: Path, sequences: Sequence[Window]) -> None:
    """The sequences as a data file of token ids, a document each; whole or not at all."""
    rows = ({"document": s.document, "tokens": s.token_ids.tolist()} for s in sequences)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text_whole(path, "".join(json.dumps(row) + "\n" for row in rows))
