"""Byte-level BPE tokenizers: made from text, kept as a `tokenizer.json` string. Knows nothing of models.

Digits stand alone and spaces belong to the following word, as in GPT-2, so that any text is encoded and comes back byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from duo_oracle.oracle.base.errors import InputError

SEPARATOR = "<|endoftext|>"
"""Token 0: stands between the documents of a packed training window."""


def train_tokenizer(texts: Iterable[str], n_vocabulary: int) -> Tokenizer:
    """A tokenizer of exactly `n_vocabulary` tokens, or fewer where the text has too few pairs to merge."""
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


def load_tokenizer(tokenizer_json: str) -> Tokenizer:
    """The tokenizer that a `tokenizer.json` holds. Raises InputError for text that is none."""
    try:
        tokenizer = Tokenizer.from_str(tokenizer_json)
    except Exception as fault:  # the library raises bare Exception
        raise InputError(f"tokenizer.json is not a tokenizer of the tokenizers library: {str(fault).splitlines()[0]}") from None
    tokenizer.encode_special_tokens = True  # a separator written in a text is no separator
    return tokenizer


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of plain text; a separator written in the text is encoded as the characters that it is."""
    return tokenizer.encode(text, add_special_tokens=False).ids
