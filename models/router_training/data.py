"""The text a router is trained and calibrated on: documents of the training text, some of them held out of training.

Axes: T token, R texts, each a row or a file.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from duo_oracle.models.text.windows import Window

HELD_OUT_EVERY = 20
"""Every so many documents one is held out of the training of a router, for its calibration."""


def split_stream(stream: np.ndarray, separator: int, document_R: np.ndarray | None = None) -> tuple[np.ndarray, list[np.ndarray]]:
    """The tokens that are trained on, and the texts held out, of a stream whose texts each end with the separator.

    `document_R` numbers the document that each text is of (by default its own): all texts of one are on the same side.
    Of a stream of fewer than 20 documents, its last twentieth is held out.
    """
    ends = np.flatnonzero(stream == separator) + 1
    document_R = np.arange(len(ends)) if document_R is None else document_R
    if len(np.unique(document_R)) < HELD_OUT_EVERY:
        at = len(stream) - max(2, len(stream) // HELD_OUT_EVERY)
        return np.asarray(stream[:at]), [np.asarray(stream[at:])]
    starts = np.concatenate(([0], ends[:-1]))
    place = document_R % HELD_OUT_EVERY
    held = [np.asarray(stream[start : end - 1]) for start, end in zip(starts[place == 0], ends[place == 0], strict=True)]
    keep = np.ones(len(stream), dtype=bool)
    for start, end in zip(starts[place == 0], ends[place == 0], strict=True):
        keep[start:end] = False
    return np.asarray(stream[keep]), [document for document in held if len(document) > 1]


def documents_of(stream: np.ndarray, separator: int) -> list[np.ndarray]:
    """The documents of a stream, without their separators."""
    ends = np.flatnonzero(stream == separator)
    starts = np.concatenate(([0], ends[:-1] + 1))
    return [np.asarray(stream[start:end]) for start, end in zip(starts, ends, strict=True) if end - start > 1]


def calibration_sequences(
    held: Sequence[list[np.ndarray]], separator: int, n_positions: int, n_tokens: int, seed: int
) -> list[Window]:
    """Windows of one length of held-out documents, packed as training windows are, drawn evenly from every source: about
    `n_tokens` tokens, or all that there are."""
    generator = np.random.default_rng((seed, 1))
    packed = [np.concatenate([part for document in documents for part in (document, [separator])]) for documents in held]
    length = min(n_positions, *(len(stream) for stream in packed))
    windows: list[np.ndarray] = []
    for stream in packed:
        order = generator.permutation(len(stream) // length)[: max(1, round(n_tokens / len(held) / length))]
        windows += [stream[place * length :][:length] for place in np.sort(order)]
    return [Window(index, f"held out {index}", window.astype(np.int32)) for index, window in enumerate(windows)]
