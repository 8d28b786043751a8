"""Train a mixture of experts from scratch, by any rule of routing or by all

Killed or interrupted, the same command resumes from its last checkpoint.
"""

from __future__ import annotations

from duo_oracle.models.moe_training.config import MoeTrainConfig
from duo_oracle.search.cli.command import Command, Work


def _run(config: MoeTrainConfig) -> int:
    from duo_oracle.models.moe_training.training import train_moe

    train_moe(config)
    return 0


COMMAND = Command(
    work=Work.MODELS,
    options=MoeTrainConfig,
    run=_run,
    positional=("text",),
    examples=(
        "duo-oracle train-moe corpus/*.txt --out models/et --tokens 3M",
        "duo-oracle train-moe prose.jsonl code.jsonl --router all --seed 1 --out models/seed-1",
        "duo-oracle train-moe corpus/*.txt --router token_choice_aux --granularity 4 --expansion 8 --device cuda --out models/tc",
    ),
    resumes=True,
)
