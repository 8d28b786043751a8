"""The shipped model: its card's numbers are its files', its recipe is its config, and its losses come out again."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from duo_oracle.models.checkpoint import SHIPPED, read_checkpoint
from duo_oracle.models.families.duo_llama import build_module
from duo_oracle.models.plain_losses import evaluate
from duo_oracle.models.recipes.duo_tiny import PUBLISHED, TOKENS, publish, recipe
from duo_oracle.models.recipes.model_card import write_card
from duo_oracle.models.text.documents import read_documents
from duo_oracle.models.text.tokenizer import load_tokenizer
from duo_oracle.models.text.windows import read_sequences
from duo_oracle.models.training.stage1 import model_config, train

DIRECTORY = SHIPPED["duo-tiny"]


def read_json(name: str) -> dict:
    return json.loads((DIRECTORY / name).read_text())


def test_the_card_is_what_its_files_say(tmp_path):
    pytest.importorskip("matplotlib")
    for path in DIRECTORY.iterdir():
        if path.suffix in (".json", ".csv"):
            (tmp_path / path.name).write_bytes(path.read_bytes())
    write_card(tmp_path)
    shipped = (DIRECTORY / "README.md").read_text()
    missing = [line for line in (tmp_path / "README.md").read_text().splitlines() if line not in shipped]
    assert not missing
    assert "training loss (nats per token)" in (DIRECTORY / "loss.svg").read_text()


def test_the_recipe_makes_the_shipped_config():
    config = recipe(Path("corpus"), Path("out"))
    assert read_json("config.json") == model_config(config).to_dict()
    last = (DIRECTORY / "loss.csv").read_text().splitlines()[-1].split(",")
    assert int(last[0]) == config.n_steps
    assert abs(int(last[1]) - TOKENS) < config.batch * config.positions


def test_no_shipped_holdout_is_a_near_copy_of_training_text():
    rejected = read_json("corpus.json")["rejected near copies"]["copied share"]
    assert rejected
    for name in ("prose", "code"):
        assert not {document.name for document in read_documents(f"holdout:{name}")} & set(rejected)


def test_big_is_better_than_small_on_both_holdouts():
    for result in read_json("evaluation.json").values():
        assert result["loss_big"] < result["loss_small"] < 6.0


@pytest.mark.long
@pytest.mark.parametrize("source", ["holdout:prose", "holdout:code"])
def test_the_stated_losses_come_out_again(source):
    checkpoint = read_checkpoint("duo-tiny")
    module = build_module(checkpoint.config, checkpoint.tensors)
    sequences = read_sequences(source, load_tokenizer(checkpoint.tokenizer_json), 4096, 256)
    result = evaluate(module, sequences, max_tokens=1_000_000).to_dict()
    assert result == pytest.approx(read_json("evaluation.json")[source], abs=1e-4)


def test_a_training_is_published_whole(tmp_path):
    pytest.importorskip("matplotlib")
    text = tmp_path / "a.txt"
    text.write_text("a b c d e f g h " * 100)
    config = replace(recipe(tmp_path, tmp_path / "out"), text=(str(text),), holdouts=(str(text),), tokens=20 * 2 * 16)
    train(replace(config, layers=1, hidden=8, heads=2, big=16, small=2, vocabulary=300, positions=16, batch=2, threads=1))
    manifest = {"packages": [{"file": "a.deb", "licence": "MIT", "split": "prose"}], "rejected near copies": {"copied share": {}}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    publish(tmp_path / "out", tmp_path, tmp_path / "published")
    assert {path.name for path in (tmp_path / "published").iterdir()} == {*PUBLISHED, "corpus.json", "README.md", "loss.svg"}
    assert "1 Llama-2 layers of width 8" in (tmp_path / "published" / "README.md").read_text()
    assert read_checkpoint(str(tmp_path / "published")).fingerprint == read_checkpoint(config.out).fingerprint
