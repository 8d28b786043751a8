"""Rebuilds the shipped model from its packages: corpus, training, model card. `python -m duo_oracle.models.recipes.duo_tiny`.

Takes hours on a CPU, and goes on where it was interrupted. Knows the recipe; how each part is done is in `corpus.py` and
`model_card.py` beside it and in `models/training/stage1.py`.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from duo_oracle.models.checkpoint import CONFIG, SHIPPED, TOKENIZER, WEIGHTS
from duo_oracle.models.recipes.corpus import MANIFEST, built, training_text
from duo_oracle.models.recipes.model_card import write_card
from duo_oracle.models.training.config import TrainConfig
from duo_oracle.models.training.stage1 import train
from duo_oracle.oracle.base.errors import ends_in_a_line

TOKENS = 10_200_000
WORK = Path("work/duo-tiny")
PUBLISHED = (CONFIG, TOKENIZER, WEIGHTS, "loss.csv", "evaluation.json")


def recipe(corpus: Path, out: Path) -> TrainConfig:
    """The options that duo-tiny is trained with: all defaults but its length, and the whole holdouts to evaluate."""
    return TrainConfig(text=training_text(corpus), out=str(out), tokens=TOKENS, holdout_tokens=1_000_000)


def publish(out: Path, corpus: Path, target: Path) -> None:
    """Copies what is shipped of a finished training to `target`, and writes its card."""
    target.mkdir(parents=True, exist_ok=True)
    for name in PUBLISHED:
        shutil.copyfile(out / name, target / name)
    shutil.copyfile(corpus / MANIFEST, target / "corpus.json")
    write_card(target)


def main() -> None:
    program = "python -m duo_oracle.models.recipes.duo_tiny"
    argparse.ArgumentParser(prog=program, description="Rebuild duo-tiny in work/duo-tiny: hours; resumable.").parse_args()
    corpus, out = WORK / "corpus", WORK / "model"
    with ends_in_a_line():
        train(recipe(built(corpus), out))
    publish(out, corpus, SHIPPED["duo-tiny"])


if __name__ == "__main__":
    main()
