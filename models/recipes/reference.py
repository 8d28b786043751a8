"""Trains duo-tiny's reference: a dense sibling twice as wide. `python -m duo_oracle.models.recipes.reference`.

By the same tokenizer and corpus; takes hours on a CPU, and resumes where it was interrupted. It begins as duo-tiny's all-big, made
twice as wide without a change of what it computes, which saves the tokens that a fresh model would learn the same from. A Duo-LLM
whose tokens always take the big FFN is a dense model: its small FFNs, one neuron wide, never learn and are never asked. Knows the
recipe alone.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from duo_oracle.models.checkpoint import SHIPPED, TOKENIZER, read_checkpoint
from duo_oracle.models.duo_llm.widening import widened
from duo_oracle.models.families.duo_llama import build_module
from duo_oracle.models.recipes import duo_tiny
from duo_oracle.models.recipes.corpus import built
from duo_oracle.models.training.config import TrainConfig
from duo_oracle.models.training.stage1 import train
from duo_oracle.oracle.base.errors import ends_in_a_line

OUT = Path("work/reference")
TOKENS = 2_500_000
WIDTH = 2
"""How many times as wide as duo-tiny, as `widened` makes it."""


def recipe(corpus: Path, out: Path, threads: int = 0) -> TrainConfig:
    """duo-tiny's options but for the width, half the peak rate, other windows, and no choice: every token takes the big FFN."""
    small = duo_tiny.recipe(corpus, out)
    return TrainConfig(
        text=small.text,
        out=str(out),
        tokens=TOKENS,
        seed=1,
        p_big=1.0,
        hidden=WIDTH * small.hidden,
        heads=WIDTH * small.heads,
        kv_heads=WIDTH * small.kv_heads,
        big=WIDTH * small.big,
        small=1,
        learning_rate=small.learning_rate / WIDTH,
        holdout_tokens=small.holdout_tokens,
        threads=threads,
    )


def main() -> None:
    program = "python -m duo_oracle.models.recipes.reference"
    parser = argparse.ArgumentParser(prog=program, description="Train duo-tiny's reference: hours; resumable.")
    parser.add_argument("--out", type=Path, default=OUT, help="directory of the model (default %(default)s)")
    parser.add_argument("--threads", type=int, default=0, help="threads of torch, 0 for its own choice (default %(default)s)")
    arguments = parser.parse_args()
    with ends_in_a_line():
        corpus = built(duo_tiny.WORK / "corpus")
        arguments.out.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(SHIPPED["duo-tiny"] / TOKENIZER, arguments.out / TOKENIZER)
        small = read_checkpoint("duo-tiny")
        train(recipe(corpus, arguments.out, arguments.threads), widened(build_module(small.config, small.tensors)))


if __name__ == "__main__":
    main()
