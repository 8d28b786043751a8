"""Byte-level BPE: any text comes back, whatever the training text was."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import processors

from duo_oracle.models.text.options import SpecialTokens
from duo_oracle.models.text.tokenizer import SEPARATOR, SpecialTokenCount, encode, load_tokenizer, train_tokenizer, without_panic
from duo_oracle.models.text.windows import read_sequences
from duo_oracle.oracle.base.errors import InputError

TOKENIZER = train_tokenizer(["def f(x):\n    return x + 12\n", "A sentence of prose, and another one."] * 3, 320)


@given(text=st.text())
def test_any_text_comes_back(text):
    text = text.encode("utf-8", "ignore").decode()
    for tokenizer in (TOKENIZER, load_tokenizer(TOKENIZER.to_str())):
        assert tokenizer.decode(encode(tokenizer, text), skip_special_tokens=False) == text


def test_half_of_a_surrogate_pair_is_refused():
    with pytest.raises(ValueError, match=r"text must be UTF-8; character 2 is '\\ud83d', half of a surrogate pair"):
        encode(TOKENIZER, "a \ud83d")


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


def saved_with(change):
    """The tokenizer as a file keeps it that was changed before saving."""
    tokenizer = load_tokenizer(TOKENIZER.to_str())
    change(tokenizer)
    return tokenizer.to_str()


@pytest.mark.parametrize(
    "change",
    [
        lambda tokenizer: tokenizer.enable_truncation(max_length=5),
        lambda tokenizer: tokenizer.enable_truncation(max_length=5, direction="left"),
        lambda tokenizer: tokenizer.enable_padding(length=250, pad_id=0, pad_token=SEPARATOR),
        lambda tokenizer: tokenizer.enable_padding(pad_to_multiple_of=64, direction="left", pad_id=0, pad_token=SEPARATOR),
        lambda tokenizer: setattr(tokenizer.model, "dropout", 0.5),
    ],
)
def test_truncation_padding_and_dropout_of_a_saved_tokenizer_are_switched_off(change):
    text = "A sentence of prose, and another one. " * 5
    saved = saved_with(change)
    assert saved != TOKENIZER.to_str()
    assert encode(load_tokenizer(saved), text) == encode(TOKENIZER, text)


def test_no_token_is_put_around_a_text():
    def with_template(tokenizer):
        template = processors.TemplateProcessing(single=f"{SEPARATOR} $A {SEPARATOR}", special_tokens=[(SEPARATOR, 0)])
        tokenizer.post_processor = template

    assert encode(load_tokenizer(saved_with(with_template)), "A sentence") == encode(TOKENIZER, "A sentence")


def with_chat_tokens():
    tokenizer = load_tokenizer(TOKENIZER.to_str())
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    return tokenizer.to_str()


CHAT = "<|im_start|>user\nWhere is he?<|im_end|>\n"


def test_special_tokens_in_a_text_are_text_or_parsed():
    as_text = load_tokenizer(with_chat_tokens())
    parsed = load_tokenizer(with_chat_tokens(), SpecialTokens.PARSE)
    start, end = parsed.token_to_id("<|im_start|>"), parsed.token_to_id("<|im_end|>")
    assert encode(as_text, CHAT) == encode(TOKENIZER, CHAT)
    assert encode(parsed, CHAT) == [start, *encode(TOKENIZER, "user\nWhere is he?"), end, *encode(TOKENIZER, "\n")]


@given(parts=st.lists(st.integers(1, 12), max_size=30))
def test_special_tokens_are_counted_however_the_text_is_read(parts):
    text = CHAT * 3 + "<|im_start <|im_end|>" + SEPARATOR
    ends = [*itertools.accumulate(parts), len(text)]
    count = SpecialTokenCount(load_tokenizer(with_chat_tokens()))
    pieces = [text[start:end] if end >= start else "" for start, end in itertools.pairwise([0, *ends])]
    assert list(count.watch(pieces)) == pieces
    assert list(count.watch(["|>"])) == ["|>"]
    assert count.counts == {"<|im_start|>": 3, "<|im_end|>": 4, SEPARATOR: 1}


def told(path, special_tokens):
    said = []
    tokenizer = load_tokenizer(with_chat_tokens(), special_tokens)
    list(read_sequences(str(path), tokenizer, 400, 64, notify=said.append))
    return said


def test_a_text_that_holds_special_tokens_is_told_so_once(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text((json.dumps({"text": CHAT}) + "\n") * 3)
    (said,) = told(path, SpecialTokens.TEXT)
    assert said.startswith("the text holds 6 special tokens of the tokenizer, such as <|im_")
    assert "special-tokens parse" in said
    assert told(path, SpecialTokens.PARSE) == []
    path.write_text(json.dumps({"text": "plain text"}))
    assert told(path, SpecialTokens.TEXT) == []


def test_what_the_library_gives_up_on_is_a_line() -> None:
    class PanicException(BaseException):
        """As the library's: no Exception."""

    with pytest.raises(InputError, match="gives up on it: range end index"), without_panic():
        raise PanicException("range end index 18446744073709551605 out of range for slice of length 13")
    with pytest.raises(KeyboardInterrupt), without_panic():
        raise KeyboardInterrupt


@pytest.mark.parametrize("part", ["pre_tokenizer", "normalizer", "decoder"])
def test_steps_that_double_a_text_forty_times_are_refused(part: str) -> None:
    content = json.loads(train_tokenizer(["a b c"], 260).to_str())
    listed = {"pre_tokenizer": "pretokenizers", "normalizer": "normalizers", "decoder": "decoders"}[part]
    step = content["pre_tokenizer" if part != "decoder" else "decoder"]
    step = step["pretokenizers"][-1] if "pretokenizers" in step else step
    content[part] = {"type": "Sequence", listed: [{"type": "Sequence", listed: [step] * 3}] * 2}
    with pytest.raises(InputError, match=rf"tokenizer.json: {part} has at most 32 steps, and 2 of them ByteLevel; it has 9, 6 of"):
        load_tokenizer(json.dumps(content))
