"""Train a Duo-LLM on text with random routing (stage 1)

Killed or interrupted, the same command resumes from its last checkpoint.
"""

from __future__ import annotations

from duo_oracle.models.training.config import TrainConfig
from duo_oracle.search.cli.command import Command, Work


def _run(config: TrainConfig) -> int:
    from duo_oracle.models.training.stage1 import train

    train(config)
    return 0


COMMAND = Command(
    work=Work.MODELS,
    options=TrainConfig,
    run=_run,
    positional=("text",),
    examples=(
        "duo-oracle train corpus/*.txt --out models/mine --tokens 20M",
        "duo-oracle train prose.jsonl code.jsonl --out models/wide --hidden 256 --big 1024 --small 64 --device cuda",
        "duo-oracle train corpus/*.txt --out models/frozen --order big-then-small",
    ),
    resumes=True,
)
