"""Byte-level BPE: any text comes back, whatever the training text was."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duo_oracle.models.text.tokenizer import SEPARATOR, encode, load_tokenizer, train_tokenizer

TOKENIZER = train_tokenizer(["def f(x):\n    return x + 12\n", "A sentence of prose, and another one."] * 3, 320)


@given(text=st.text())
def test_any_text_comes_back(text):
    text = text.encode("utf-8", "ignore").decode()
    for tokenizer in (TOKENIZER, load_tokenizer(TOKENIZER.to_str())):
        assert tokenizer.decode(encode(tokenizer, text), skip_special_tokens=False) == text


def test_digits_stand_alone_and_frequent_words_are_one_token():
    assert [TOKENIZER.id_to_token(i) for i in encode(TOKENIZER, "return 1234")][-5:] == ["Ġ", "1", "2", "3", "4"]
    assert len(encode(TOKENIZER, "sentence")) < len("sentence")


def test_a_separator_written_in_a_text_is_plain_text():
    separator = TOKENIZER.token_to_id(SEPARATOR)
    assert separator == 0
    for tokenizer in (TOKENIZER, load_tokenizer(TOKENIZER.to_str())):
        assert separator not in encode(tokenizer, f"before {SEPARATOR} after")


def test_the_vocabulary_is_no_larger_than_asked():
    assert 257 <= TOKENIZER.get_vocab_size() <= 320
    assert load_tokenizer(TOKENIZER.to_str()).get_vocab_size() == TOKENIZER.get_vocab_size()


@pytest.mark.parametrize("text", ["", "{}", "not json"])
def test_text_that_is_no_tokenizer_is_refused_in_one_line(text):
    with pytest.raises(ValueError, match=r"tokenizer\.json is not a tokenizer") as caught:
        load_tokenizer(text)
    assert "\n" not in str(caught.value)
