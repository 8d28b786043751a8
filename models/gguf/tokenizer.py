"""The tokenizer of a GGUF file as a `tokenizer.json`: byte-level BPE from the vocabulary and the merges that it holds.

How text is split before the merges is named in the file, not described. The names here are those of which the split is
known; another is refused, because a wrong split encodes every text, and only makes each a little less likely.
Knows nothing of weights.
"""

from __future__ import annotations

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing

from duo_oracle.models.gguf.file import GgufFile
from duo_oracle.oracle.base.errors import InputError

DIGITS_ALONE = frozenset({"smollm", "starcoder", "refact", "codeshell"})
"""Pre-tokenizers in which each digit stands alone, before GPT-2's split: a merge of two digits is then never used."""
PLAIN = frozenset({"gpt-2"})
CONTROL, USER_DEFINED = 3, 4  # kinds of token that are matched as they stand, before any split


def tokenizer_of(file: GgufFile) -> Tokenizer:
    """The file's tokenizer. Raises InputError, one line, for one of another kind, and for lists that do not fit together."""
    model = file.text("tokenizer.ggml.model")
    if model != "gpt2":
        raise InputError(f"{file.path}: unsupported tokenizer {model!r}; supported: gpt2 (byte-level BPE)")
    pre = file.text("tokenizer.ggml.pre")
    if pre not in DIGITS_ALONE | PLAIN:
        raise InputError(f"{file.path}: unsupported pre-tokenizer {pre!r}; supported: {', '.join(sorted(DIGITS_ALONE | PLAIN))}")
    tokens = file.items("tokenizer.ggml.tokens", str)
    merges = [tuple(merge.split(" ")) for merge in file.items("tokenizer.ggml.merges", str)]
    try:
        tokenizer = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges))
    except Exception as fault:  # the library raises bare Exception
        said = str(fault).splitlines()[0]
        raise InputError(f"{file.path}: the tokenizer's merges must be pairs of tokens that make a token; {said}") from None
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if pre in DIGITS_ALONE:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    else:
        tokenizer.pre_tokenizer = byte_level
    tokenizer.decoder = decoders.ByteLevel()
    kinds = file.items("tokenizer.ggml.token_type", int)
    if len(kinds) != len(tokens):
        raise InputError(f"{file.path}: each token must have one type; got {len(tokens)} tokens and {len(kinds)} types")
    tokenizer.add_tokens(
        [
            AddedToken(token, special=kind == CONTROL, normalized=False)
            for token, kind in zip(tokens, kinds, strict=True)
            if kind in (CONTROL, USER_DEFINED)
        ]
    )
    bos = file.get("tokenizer.ggml.bos_token_id")
    if file.get("tokenizer.ggml.add_bos_token") is True and isinstance(bos, int) and bos < len(tokens):
        in_front = f"{tokens[bos]}:0"
        tokenizer.post_processor = TemplateProcessing(single=[in_front, "$A:0"], special_tokens=[(tokens[bos], bos)])
    return tokenizer
