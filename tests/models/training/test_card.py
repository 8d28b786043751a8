"""The cards of what is trained: what they say is what was measured, and one that somebody wrote stays."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from duo_oracle.models.training.card import CARD, MARK, Card, card_text, write_card
from duo_oracle.models.training.config import TrainConfig
from duo_oracle.models.training.stage1 import train
from tests.models.router_fixtures import write_text


def test_a_trained_model_has_its_losses_and_options(tmp_path: Path) -> None:
    text, held = write_text(tmp_path / "text.jsonl"), write_text(tmp_path / "held.jsonl", n_documents=4, seed=9)
    sizes = {"layers": 2, "hidden": 16, "heads": 2, "kv_heads": 1, "big": 16, "small": 4, "vocabulary": 300, "positions": 16}
    train(TrainConfig((text,), str(tmp_path / "mine"), tokens=600, batch=2, threads=1, holdouts=(held,), **sizes))  # type: ignore[arg-type]
    card = (tmp_path / "mine" / CARD).read_text()
    found = json.loads((tmp_path / "mine" / "evaluation.json").read_text())[held]
    assert f"| `held.jsonl` | {found['n_tokens']:,} | {found['loss_big']:.4f} | {found['loss_small']:.4f} |" in card
    assert "| `hidden` | 16 |" in card
    assert "| `text` | text.jsonl |" in card
    assert str(tmp_path) not in card  # nothing of the machine
    header = yaml.safe_load(card.split("---")[1])
    assert header == {"library_name": "duo-oracle", "tags": ["adaptive-computation", "duo-llm"]}


def card(**values: object) -> Card:
    return Card("What it is.", (), ("a",), [("1|2",)], {"set": {"x": 1}}, ("run me",), **values)  # type: ignore[arg-type]


def test_a_card_that_somebody_wrote_stays(tmp_path: Path) -> None:
    write_card(tmp_path, card())
    write_card(tmp_path, card(base_model="other/model"))
    ours = (tmp_path / CARD).read_text()
    assert "base_model: other/model" in ours  # our own is made again
    (tmp_path / CARD).write_text(ours.replace(MARK, "") + "My own words.\n")
    write_card(tmp_path, card())
    assert "My own words." in (tmp_path / CARD).read_text()


def test_cells_are_cells() -> None:
    text = card_text("mine", card())
    assert "| 1\\|2 |" in text
    assert "| `set` | x=1 |" in text
