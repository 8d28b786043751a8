"""Tokenizers: byte-level BPE made from text, and any that a `tokenizer.json` string holds. Knows nothing of models.

In those that are made here digits stand alone and spaces belong to the following word, as in GPT-2, so that any text is encoded and
comes back byte for byte.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from duo_oracle.models.text.options import SpecialTokens
from duo_oracle.models.text.rows import refuse_surrogates
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.threads import few_threads

SEPARATOR = "<|endoftext|>"
"""Token 0: stands between the documents of a packed training window."""
_MOST_STEPS, _MOST_BYTE_LEVELS = 32, 2


def train_tokenizer(texts: Iterable[str], n_vocabulary: int) -> Tokenizer:
    """A tokenizer of exactly `n_vocabulary` tokens, or fewer where the text has too few pairs to merge."""
    few_threads()  # the library reads what this says to it
    tokenizer = Tokenizer(models.BPE())
    digits, byte_level = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=n_vocabulary,
        special_tokens=[SEPARATOR],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.encode_special_tokens = True
    return tokenizer


@contextmanager
def without_panic() -> Iterator[None]:
    """Inside, what the library's compiled code gives up on is an InputError: it raises something that is not even an Exception."""
    try:
        yield
    except BaseException as fault:
        if type(fault).__name__ != "PanicException":
            raise
        said = (str(fault).splitlines() or [""])[0]
        raise InputError(f"tokenizer.json: the tokenizers library gives up on it: {said:.200}") from None


def load_tokenizer(tokenizer_json: str, special_tokens: SpecialTokens = SpecialTokens.TEXT) -> Tokenizer:
    """The tokenizer that a `tokenizer.json` holds. It reads every text whole and always alike: truncation, padding and dropout,
    which a file can have kept from some training, are switched off. Raises InputError for text that is no tokenizer."""
    few_threads()
    with without_panic():
        try:
            tokenizer = Tokenizer.from_str(tokenizer_json)
        except Exception as fault:  # the library raises bare Exception
            raise InputError(f"tokenizer.json is not a tokenizer of the tokenizers library: {str(fault).splitlines()[0]}") from None
    _check_steps(tokenizer)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if getattr(tokenizer.model, "dropout", None):
        tokenizer.model.dropout = None
    tokenizer.encode_special_tokens = special_tokens == SpecialTokens.TEXT
    return tokenizer


def _check_steps(tokenizer: Tokenizer) -> None:
    """Raises InputError for more steps, one after the other, than any tokenizer has: each that writes bytes as letters may double
    what the one before it wrote, so that 40 of them fill any memory."""
    for part in ("normalizer", "pre_tokenizer", "decoder"):
        step = getattr(tokenizer, part)
        kinds = [] if step is None else list(_steps(json.loads(step.__getstate__())))  # the part alone: a vocabulary is megabytes
        if len(kinds) > _MOST_STEPS or kinds.count("ByteLevel") > _MOST_BYTE_LEVELS:
            raise InputError(
                f"tokenizer.json: {part} has at most {_MOST_STEPS} steps, and {_MOST_BYTE_LEVELS} of them ByteLevel; it has "
                f"{len(kinds):,}, {kinds.count('ByteLevel'):,} of them ByteLevel"
            )


def _steps(step: Any) -> Iterator[str]:
    if isinstance(step, dict):
        yield str(step.get("type"))
        for value in step.values():
            for each in value if isinstance(value, list) else ():
                yield from _steps(each)


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of a text, and of nothing that the tokenizer would put around it. A special token written in the text is encoded as
    the characters that it is, unless the tokenizer was loaded to parse it. Raises InputError for a text that is no UTF-8."""
    try:
        with without_panic():
            return tokenizer.encode_batch_fast([text], add_special_tokens=False)[0].ids
    except TypeError:
        refuse_surrogates(text, "text")
        raise


class SpecialTokenCount:
    """Counts the special tokens of a tokenizer in text that is seen part by part, for texts that are not parsed for them."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        written = sorted((token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special), key=len)
        self._longest = len(written[-1]) if written else 0
        self._pattern = re.compile("|".join(map(re.escape, reversed(written)))) if written else None
        self._held = ""
        self.counts: Counter[str] = Counter()

    def see(self, part: str) -> None:
        """Count those of the next part of a text, and those that begin in the part before."""
        if self._pattern is None:
            return
        text = self._held + part
        done = 0
        for match in self._pattern.finditer(text):
            self.counts[match[0]] += 1
            done = match.end()
        self._held = text[max(done, len(text) - self._longest + 1) :]

    def watch(self, parts: Iterable[str]) -> Iterator[str]:
        """The parts of one text, counted as they are taken."""
        for part in parts:
            self.see(part)
            yield part
        self._held = ""

    @property
    def sentence(self) -> str | None:
        """What was counted, for a person; None where nothing was."""
        if not self.counts:
            return None
        (written, _), *_ = self.counts.most_common(1)
        n_found = sum(self.counts.values())
        return (
            f"the text holds {n_found:,} special token{'s' * (n_found != 1)} of the tokenizer, such as {written}, read as the "
            "characters that they are"
        )
