"""Train a router on a frozen Duo-LLM (stage 3)

Killed or interrupted, the same command resumes from its last checkpoint.
"""

from __future__ import annotations

from duo_oracle.models.router_training.config import RouterConfig
from duo_oracle.oracle.base.choices import Choices
from duo_oracle.search.cli.command import Command, Work, settings_notes


def _run(config: RouterConfig) -> int:
    from duo_oracle.models.router_training.stage3 import train_router

    labels = None
    if config.run:
        from duo_oracle.search.rerun.labels import read_labels

        labels = read_labels(config.run, config.model)
    train_router(config, labels)
    return 0


COMMAND = Command(
    work=Work.MODELS,
    options=RouterConfig,
    run=_run,
    positional=("model", "text"),
    examples=(
        "duo-oracle train-router duo-tiny prose.jsonl code.jsonl --router budget --budget 4 --out routers/budget-4",
        "duo-oracle train-router duo-tiny prose.jsonl --router expert_threshold --budget 6 --set cutoff=pooled --out routers/et-6",
        "duo-oracle train-router duo-tiny prose.jsonl --router budget --budget 6 --branches .B --out routers/skips-6",
        "duo-oracle train-router duo-tiny prose.jsonl --router distilled --run runs/labels --budget 4 --out routers/distilled-4",
    ),
    resumes=True,
    notes=settings_notes(Choices("router", "duo_oracle.models.routers")),
)
