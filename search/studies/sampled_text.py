"""Text drawn token by token from the all-big model itself: where all-big is the truth, every preference is selection bias.

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
from duo_oracle.oracle.engine.lanes import left_to_right
from duo_oracle.oracle.engine.walk import run_big
from duo_oracle.oracle.model import OracleModel
from duo_oracle.oracle.patterns import Branch


@torch.inference_mode()
def sample_like(model: OracleModel, sequences: Sequence[Window], seed: int) -> list[Window]:
    """For each sequence one of its length that all-big continues from its first token.

    Every draw is a function of (seed, sequence, position) and of what was drawn before it.
    """
    tokens = [torch.zeros(len(sequence.token_ids), dtype=torch.int64, device=model.device) for sequence in sequences]
    for token_id_T, sequence in zip(tokens, sequences, strict=True):
        token_id_T[0] = int(sequence.token_ids[0])
    head, labels = Head(model), NullLabels(draws=1, seed=seed)
    for step in left_to_right(model, tokens, SkipReading.FFN):
        n = len(step.lanes)
        attend = step.attend(slice(0, n))
        h_1ND = run_big(model, range(model.routed_layers[0], model.depth), step.x_ND[None], attend)
        names = [(sequences[lane].index, step.position) for lane in step.lanes]
        drawn_N2 = labels.labels(head, head.states(h_1ND[0]), torch.zeros(n, dtype=torch.int64, device=model.device), names)
        for lane, drawn in zip(step.lanes, drawn_N2[:, 1], strict=True):
            tokens[lane][step.position + 1] = drawn
        step.commit(np.full((n, model.n_letters), Branch.BIG, dtype=np.uint8))
    drawn_texts = [token_id_T.cpu().numpy().astype(np.int32) for token_id_T in tokens]
    return [Window(s.index, s.document, drawn_T) for s, drawn_T in zip(sequences, drawn_texts, strict=True)]


def write_tokens(path: Path, sequences: Sequence[Window]) -> None:
    """The sequences as a data file of token ids, a document each; whole or not at all."""
    rows = ({"document": s.document, "tokens": s.token_ids.tolist()} for s in sequences)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text_whole(path, "".join(json.dumps(row) + "\n" for row in rows))
