"""How tokens read, from tokenizer.json alone, held against the tokenizers library."""

from __future__ import annotations

import json

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from duo_oracle.results.store.texts import vocabulary_texts


@pytest.fixture(scope="module")
def byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, special_tokens=["<|end|>"])
    tokenizer.train_from_iterator(["the tree said \u201cyes\u201d \u2014 caf\u00e9\n\tand then the tree"] * 20, trainer)
    return tokenizer


def test_byte_level_texts_are_what_the_tokenizer_decodes(byte_level: Tokenizer) -> None:
    texts = vocabulary_texts(byte_level.to_str())
    assert texts is not None
    assert len(texts) == byte_level.get_vocab_size()
    for index, text in enumerate(texts):
        decoded = byte_level.decode([index], skip_special_tokens=False)
        assert text == decoded or ("\ufffd" in decoded and "\\x" in text)


def test_a_sentence_is_its_tokens_joined(byte_level: Tokenizer) -> None:
    texts = vocabulary_texts(byte_level.to_str())
    assert texts is not None
    sentence = "then the caf\u00e9\n tree"
    assert "".join(texts[i] for i in byte_level.encode(sentence).ids) == sentence


def test_sentence_pieces_and_their_bytes_read_as_text() -> None:
    content = {
        "model": {"type": "BPE", "vocab": {"\u2581the": 0, "<0x0A>": 1, "s": 3}},
        "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}]},
        "added_tokens": [{"id": 4, "content": "</s>"}],
    }
    assert vocabulary_texts(json.dumps(content)) == [" the", "\n", "<2>", "s", "</s>"]


def test_a_unigram_list_is_a_vocabulary_too() -> None:
    content = {"model": {"type": "Unigram", "vocab": [["\u2581a", -1.0], ["b", -2.0]]}}
    assert vocabulary_texts(json.dumps(content)) == [" a", "b"]


def test_no_tokenizer_no_texts() -> None:
    assert vocabulary_texts(None) is None
