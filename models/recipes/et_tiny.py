"""Rebuilds the shipped mixture of experts: `python -m duo_oracle.models.recipes.et_tiny`.

A small Expert Threshold mixture by duo-tiny's tokenizer, on duo-tiny's corpus; some twenty minutes of a core, and resumable. Knows
the recipe alone.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from duo_oracle.models.checkpoint import SHIPPED
from duo_oracle.models.moe_training.config import MoeTrainConfig
from duo_oracle.models.moe_training.training import train_moe
from duo_oracle.models.recipes import duo_tiny
from duo_oracle.models.recipes.corpus import built, training_text
from duo_oracle.models.training.card import CARD
from duo_oracle.oracle.base.errors import ends_in_a_line

NAME, TOKENS = "et-tiny", 4_000_000
PUBLISHED = ("config.json", "tokenizer.json", "model.safetensors", "loss.csv", "evaluation.json", CARD)

_TEXT = """
## Text and licence

It was trained on the corpus of duo-tiny, whose packages, their licences and what was held out stand in
[duo-tiny's card](../duo_tiny/README.md). The weights are licensed as the project is, Apache-2.0.
"""


def recipe(corpus: Path, out: Path) -> MoeTrainConfig:
    """The options that et-tiny is trained with: all defaults of `train-moe` but its length and the tokenizer."""
    return MoeTrainConfig(training_text(corpus), str(out), tokens=TOKENS, tokenizer="duo-tiny", threads=1)


def publish(out: Path, target: Path) -> None:
    """Copies what is shipped of a finished training to `target`, and says in its card whose text it read."""
    target.mkdir(parents=True, exist_ok=True)
    for name in PUBLISHED:
        shutil.copyfile(out / name, target / name)
    with (target / CARD).open("a", encoding="utf-8") as card:
        card.write(_TEXT)


def main() -> None:
    program = "python -m duo_oracle.models.recipes.et_tiny"
    parser = argparse.ArgumentParser(prog=program, description="Rebuild et-tiny: twenty minutes of a core; resumable.")
    parser.add_argument("--corpus", type=Path, default=duo_tiny.WORK / "corpus", help="training corpus (default %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("work") / NAME, help="directory (default %(default)s)")
    arguments = parser.parse_args()
    with ends_in_a_line():
        train_moe(recipe(built(arguments.corpus), arguments.out))
    publish(arguments.out, SHIPPED[NAME])


if __name__ == "__main__":
    main()
