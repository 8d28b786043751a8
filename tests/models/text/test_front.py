"""What stands in front of every window: what transformers' tokenizer puts there, its end of text, a named token, or nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing

from duo_oracle.models.text.front import front_tokens

WORDS = ["<s>", "</s>", "<sop>", "a", "b", "c", "[UNK]"]


def tokenizer(*front: str, specials: tuple[str, ...] = ("<s>", "</s>", "<sop>"), behind: str = "") -> Tokenizer:
    """A tokenizer of words whose template puts `front` before a text."""
    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens([AddedToken(name, special=True) for name in specials])
    if front or behind:
        pairs = [(name, WORDS.index(name)) for name in dict.fromkeys([*front, *([behind] if behind else [])])]
        made.post_processor = TemplateProcessing(single=" ".join([*front, "$A", behind]).strip(), special_tokens=pairs)
    return made


def auto(made: Tokenizer | None, said: dict[str, Any] | None = None, config: dict[str, Any] | None = None) -> tuple[int, ...]:
    return front_tokens("auto", made, said or {}, config or {}, len(WORDS))


def test_what_the_tokenizer_itself_puts_in_front() -> None:
    assert auto(tokenizer("<s>"), {"eos_token": "</s>"}) == (0,)
    assert auto(tokenizer("<s>", behind="</s>")) == (0,)  # what it puts behind a text is not in front of it
    assert auto(tokenizer("<s>", "<sop>")) == (0, 2)


def test_else_its_end_of_text() -> None:
    assert auto(tokenizer(), {"eos_token": "</s>", "bos_token": "<s>"}) == (1,)
    assert auto(tokenizer(), {"eos_token": {"content": "</s>", "special": True}}) == (1,)
    assert auto(tokenizer(), {}, {"eos_token_id": 1}) == (1,)
    assert auto(tokenizer(), {}, {"eos_token_id": [5, 1]}) == (1,)  # of several the first that is a special token
    assert auto(tokenizer(behind="</s>"), {"eos_token": "</s>"}) == (1,)


def test_else_none() -> None:
    assert auto(tokenizer()) == ()
    assert auto(tokenizer(), {"eos_token": None}, {"eos_token_id": 1}) == ()  # the tokenizer says that it has none
    assert auto(tokenizer(specials=()), {}, {"eos_token_id": 1}) == ()  # a number of config.json that is an ordinary word
    assert auto(None, {}, {"eos_token_id": 1}) == ()


@pytest.mark.parametrize("flag", [{}, {"add_bos_token": True}, {"add_bos_token": False}])
@pytest.mark.parametrize("kind", ["PreTrainedTokenizerFast", "LlamaTokenizer"])
def test_transformers_puts_the_same_in_front(tmp_path: Path, kind: str, flag: dict[str, bool]) -> None:
    transformers = pytest.importorskip("transformers")
    for number, made in enumerate([tokenizer("<s>"), tokenizer("<s>", "<sop>"), tokenizer()]):
        folder = tmp_path / str(number)
        folder.mkdir()
        made.save(str(folder / "tokenizer.json"))
        (folder / "config.json").write_text('{"model_type": "llama"}')
        said = {"tokenizer_class": kind, "bos_token": "<s>", "unk_token": "[UNK]", **flag}
        (folder / "tokenizer_config.json").write_text(json.dumps(said))
        theirs = transformers.AutoTokenizer.from_pretrained(folder)("a b")["input_ids"]
        assert (*auto(made, said), 3, 4) == tuple(theirs)


def test_a_named_token_and_none() -> None:
    made = tokenizer("<s>")
    assert front_tokens("none", made, {}, {}, len(WORDS)) == ()
    assert front_tokens("</s>", made, {}, {}, len(WORDS)) == (1,)
    assert front_tokens("b", made, {}, {}, len(WORDS)) == (4,)
    assert front_tokens("5", None, {}, {}, len(WORDS)) == (5,)
    with pytest.raises(ValueError, match=r"`bos` is auto, none, a token .* got '<bos>', and the tokenizer has no such token"):
        front_tokens("<bos>", made, {}, {}, len(WORDS))
    with pytest.raises(ValueError, match=r"got '<s>', and the model has no tokenizer"):
        front_tokens("<s>", None, {}, {}, len(WORDS))
    with pytest.raises(ValueError, match=r"`bos` must be a token of the model's vocabulary, 0 to 6; `bos='7'` is token 7"):
        front_tokens("7", made, {}, {}, len(WORDS))
    with pytest.raises(ValueError, match=r"0 to 0; `bos='auto'` is token 1"):
        front_tokens("auto", tokenizer(), {"eos_token": "</s>"}, {}, 1)


def test_the_shipped_model_has_none_as_it_was_trained() -> None:
    from duo_oracle.models.checkpoint import read_checkpoint
    from duo_oracle.models.text.tokenizer import load_tokenizer

    checkpoint = read_checkpoint("duo-tiny")
    assert checkpoint.tokenizer_json is not None
    made = load_tokenizer(checkpoint.tokenizer_json)
    assert front_tokens("auto", made, checkpoint.tokenizer_said, checkpoint.config, 4096) == ()
