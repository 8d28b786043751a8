"""A token in front of every window of a pretrained model: against whole passes of the library over its own tokenizer's ids."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing

from duo_oracle import results
from duo_oracle.models.text.options import SpecialTokens
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.patterns import Branch, RoutingPattern
from duo_oracle.search.job.config import SearchConfig
from duo_oracle.search.job.driver import run_search
from tests.models.hf.law import full_pass_losses
from tests.models.hf.tiny import DEPTH, save_tiny

TEXT = "the cat sat on the mat and the dog ate the cat that sat on the dog"
WORDS = ["<bos>", "<eos>", "[UNK]", *dict.fromkeys(TEXT.split())]
LIKE_GEMMA, LIKE_GPT2, WITH_NEITHER = "adds a BOS", "has an EOS", "has neither"
SEQ_LEN, STRIDE = 8, 3


def write_tokenizer(folder: Path, kind: str) -> None:
    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens([AddedToken(name, special=True) for name in WORDS[:2]])
    said = '{"tokenizer_class": "PreTrainedTokenizerFast"}'
    if kind == LIKE_GEMMA:
        made.post_processor = TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 0)])
    if kind == LIKE_GPT2:
        said = '{"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<eos>"}'
    (folder / "tokenizer_config.json").write_text(said)
    made.save(str(folder / "tokenizer.json"))


def searched(folder: Path, **options: Any) -> results.StoredRun:
    (folder / "text.txt").write_text(TEXT)
    out = str(folder / f"run-{len(list(folder.glob('run-*')))}")
    base: dict[str, Any] = {
        "data": (str(folder / "text.txt"),),
        "branches": ".B",
        "local": True,
        "null_draws": 0,
        "seq_len": SEQ_LEN,
        "skip": SkipReading.LAYER,
    }
    outcome = run_search(SearchConfig(model=str(folder), out=out, **{**base, **options}))
    assert not outcome.failures
    return results.load(out)


@pytest.mark.parametrize(("kind", "front"), [(LIKE_GEMMA, [0]), (LIKE_GPT2, [1]), (WITH_NEITHER, [])])
def test_the_full_model_loses_what_transformers_says(tmp_path: Path, kind: str, front: list[int]) -> None:
    stock = save_tiny("Gemma", tmp_path)
    write_tokenizer(tmp_path, kind)
    run = searched(tmp_path, context="full", seq_len=20)
    assert run.identity.get("bos", []) == front
    table = run.tokens().merge(run.paths(), on=["sequence", "position"]).sort_values("position")
    ids = transformers.AutoTokenizer.from_pretrained(tmp_path)(TEXT)["input_ids"]
    if kind == LIKE_GPT2:
        ids = [1, *ids]
    assert [*front, *table["token_id"], table["target_id"].iloc[-1]] == ids
    token_id_T = torch.tensor(ids)
    with torch.no_grad():
        loss_T = torch.nn.functional.cross_entropy(
            stock(token_id_T[None]).logits[0, :-1].double(), token_id_T[1:], reduction="none"
        )
    assert table["loss_full"].to_numpy() == pytest.approx(loss_T[len(front) :].numpy(), abs=1e-4)
    assert table["position"].tolist() == list(range(len(table)))


def test_without_the_token_the_losses_are_others(tmp_path: Path) -> None:
    save_tiny("Gemma", tmp_path)
    write_tokenizer(tmp_path, LIKE_GEMMA)
    with_it, without = (searched(tmp_path, context="full", bos=bos).paths() for bos in ("auto", "none"))
    assert with_it["position"].tolist() == without["position"].tolist()
    assert np.abs(with_it["loss_full"] - without["loss_full"]).max() > 0.01


@pytest.mark.parametrize("name", ["Gemma", "GPT-2", "Pythia"])
@pytest.mark.parametrize("context", ["committed", "same", "cheapest", ".B.B"])
def test_in_every_context_behind_token_and_stride(tmp_path: Path, name: str, context: str) -> None:
    stock = save_tiny(name, tmp_path)
    write_tokenizer(tmp_path, LIKE_GEMMA)
    run = searched(tmp_path, context=context, stride=STRIDE)
    text = [WORDS.index(word) for word in TEXT.split()]
    table = run.tokens().merge(run.paths(), on=["sequence", "position"])
    assert table["token_id"].tolist() == text[:-1]
    for number, rows in table.groupby("sequence"):
        start = int(number) * STRIDE
        token_id_T = torch.tensor([0, *text[start : start + SEQ_LEN]])
        n_warm = 1 + int(rows["position"].iloc[0])
        assert n_warm == (1 if number == 0 else 1 + SEQ_LEN - 1 - STRIDE)
        own_NL = np.array([RoutingPattern.parse(pattern).branches for pattern in rows["pattern"]], dtype=np.uint8)
        taken_NL = own_NL
        if context in ("cheapest", ".B.B"):
            pattern = "." * DEPTH if context == "cheapest" else context
            taken_NL = np.tile(np.array(RoutingPattern.parse(pattern).branches, dtype=np.uint8), (len(rows), 1))
        for place, loss in enumerate(rows["loss"]):
            mask_TL = np.full((len(token_id_T) - 1, DEPTH), Branch.BIG, dtype=np.uint8)
            mask_TL[n_warm:] = own_NL[place] if context == "same" else taken_NL
            mask_TL[n_warm + place] = own_NL[place]
            expected = full_pass_losses(stock, token_id_T, mask_TL[None], SkipReading.LAYER)[0, n_warm + place]
            assert loss == pytest.approx(expected, abs=1e-4)


def test_a_rendered_conversation_is_read_as_its_template_means_it(tmp_path: Path) -> None:
    """The recipe of docs/data.md: the text that a chat template renders, with its tokens parsed, and its BOS not doubled."""
    save_tiny("Gemma", tmp_path)
    write_tokenizer(tmp_path, LIKE_GEMMA)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    theirs.chat_template = "<bos>{% for message in messages %} {{ message['content'] }} <eos>{% endfor %}"
    messages = [{"role": "user", "content": "the cat"}, {"role": "assistant", "content": "sat on the mat"}]
    (tmp_path / "chat.jsonl").write_text(json.dumps({"text": theirs.apply_chat_template(messages, tokenize=False)}) + "\n")
    run = searched(tmp_path, context="full", data=(str(tmp_path / "chat.jsonl"),), special_tokens=SpecialTokens.PARSE, seq_len=20)
    rows = run.tokens().sort_values("position")
    ids = [0, *rows["token_id"], rows["target_id"].iloc[-1]]
    assert ids == theirs.apply_chat_template(messages, tokenize=True, return_dict=False)
