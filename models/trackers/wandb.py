"""Weights & Biases, by its own settings: WANDB_PROJECT (default duo-oracle), WANDB_MODE=offline, WANDB_DIR."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from duo_oracle.models.tracker import Tracker

PROJECT = "duo-oracle"


class _Run:
    def __init__(self, run: Any) -> None:
        self._run = run

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


def open_tracker(name: str, identity: str, options: Mapping[str, Any]) -> Tracker:
    """A run of wandb; a training that is resumed continues its own."""
    import wandb

    project = os.environ.get("WANDB_PROJECT", PROJECT)
    return _Run(wandb.init(project=project, name=name, id=identity, resume="allow", config=dict(options)))
