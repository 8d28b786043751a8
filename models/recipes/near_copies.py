"""Finds documents of which much stands word for word in other documents, by shingles of 13 words.

Used to keep near copies of training text out of the holdouts. Knows texts and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import blake2b

import numpy as np

SHINGLE_WORDS = 13
_WORD = re.compile(r"\w+|[^\w\s]")


class Shingler:
    """Hashes of a text's shingles: 64 bits over 13 consecutive words or signs, whatever the spaces and letter case."""

    def __init__(self) -> None:
        self._word_hashes: dict[str, int] = {}
        # Odd multipliers: a polynomial modulo 2^64, in which the order of the words counts.
        self._weights = [pow(0x9E3779B97F4A7C15, power, 1 << 64) for power in range(1, SHINGLE_WORDS + 1)]

    def _hash_word(self, word: str) -> int:
        known = self._word_hashes.get(word)
        if known is None:
            known = int.from_bytes(blake2b(word.encode("utf-8", "ignore"), digest_size=8).digest(), "little")
            self._word_hashes[word] = known
        return known

    def shingles(self, text: str) -> np.ndarray:
        """uint64, one per window of 13 words; empty for a shorter text."""
        words = np.array([self._hash_word(word) for word in _WORD.findall(text.lower())], dtype=np.uint64)
        if len(words) < SHINGLE_WORDS:
            return np.empty(0, dtype=np.uint64)
        total = np.zeros(len(words) - SHINGLE_WORDS + 1, dtype=np.uint64)
        for offset, weight in enumerate(self._weights):
            total += words[offset : offset + len(total)] * np.uint64(weight)
        return total


def copied_shares(candidates: Iterable[str], others: Iterable[str]) -> list[float]:
    """For each candidate the share of its shingles that also stand in any of the other texts; 0 for a text without shingles.

    Memory follows the candidates: the others are read once and may be a generator.
    """
    shingler = Shingler()
    candidate_shingles = [shingler.shingles(text) for text in candidates]
    if not candidate_shingles:
        return []
    wanted = np.unique(np.concatenate(candidate_shingles))
    found = np.zeros(len(wanted), dtype=bool)
    for text in others:
        shingles = shingler.shingles(text)
        if len(shingles) and len(wanted):
            place = np.minimum(np.searchsorted(wanted, shingles), len(wanted) - 1)
            found[place[wanted[place] == shingles]] = True
    copied = wanted[found]
    return [float(np.isin(shingles, copied).mean()) if len(shingles) else 0.0 for shingles in candidate_shingles]
