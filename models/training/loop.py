"""The one training loop: steps from where a training stands, the mean loss every few of them, checkpoints by the clock.

What a step does is handed in, and so is the module whose parameters are all that a checkpoint keeps. Batches, routing and rates are
functions of the step's number: a training that was killed goes on as if it had not been. Knows no model and no text.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from duo_oracle.models.tracker import tracked
from duo_oracle.models.training.processes import Processes
from duo_oracle.models.training.progress import (
    LossPoint,
    Progress,
    TrainingOptions,
    history_csv,
    restore_moments,
    restore_weights,
    save_progress,
)
from duo_oracle.models.training.schedule import cosine_rate
from duo_oracle.oracle.base.allocator import keep_freed_memory
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.progress import looked_on, progress
from duo_oracle.oracle.base.whole_file import write_text_whole

PROGRESS, HISTORY = "progress", "loss.csv"
STEPS_PER_POINT = 10
"""A loss is recorded, and a checkpoint may be made, every so many steps."""


@dataclass(frozen=True)
class Stretch:
    """Steps in a row with one optimiser, whose rate rises and falls over them."""

    steps: range
    optimizer: torch.optim.Optimizer
    gradients: Callable[[int], Tensor]
    """Gives the parameters the gradients of a step; returns its loss in nats per token, detached."""
    after: Callable[[int], None] = lambda step: None
    """Hears that the optimiser has made the step."""


@dataclass(frozen=True)
class Training:
    """What is trained, and the directory that holds its progress and its losses."""

    what: str
    module: nn.Module
    config: TrainingOptions
    out: Path
    n_steps: int
    n_step_tokens: int
    on_save: Callable[[], None] = lambda: None
    """Hears of every checkpoint, after it is made."""
    processes: Processes = field(default_factory=Processes)
    """Who makes the steps: the first of them writes."""
    shown: Callable[[int], dict[str, str]] = lambda n_done: {}
    """What the progress bar says beside the loss, after so many steps."""

    def learn(self, stretches: Iterable[Stretch], progress: Progress | None) -> list[LossPoint]:
        """All steps that `progress` has not made, and the losses of all. Stretches are asked for one after the other.

        Raises InputError where the loss is no longer finite.
        """
        folder, config = self.out / PROGRESS, self.config
        history = [] if progress is None else list(progress.history)
        if progress is not None:
            restore_weights(folder, progress, self.module)
        n_done = 0 if progress is None else progress.step
        seconds_before = history[-1].seconds if history else 0.0
        started = saved = time.monotonic()
        track = config.track if self.processes.writes else None
        with self._bar(n_done) as bar, tracked(track, self.out, asdict(config)) as tracker:
            for stretch in stretches:
                first, end = stretch.steps.start, stretch.steps.stop
                if progress is not None and first < progress.step < end:
                    restore_moments(folder, progress, self.module, stretch.optimizer)
                losses: list[Tensor] = []
                for step in range(n_done, end):
                    rate = cosine_rate(step - first, len(stretch.steps), config.learning_rate, config.warmup)
                    losses.append(_step(stretch, step, rate))
                    n_done = step + 1
                    bar.update(self.n_step_tokens)
                    if n_done % STEPS_PER_POINT and n_done < end:
                        continue
                    loss = self._mean(losses, n_done)
                    losses.clear()
                    now = time.monotonic()
                    history.append(LossPoint(n_done, n_done * self.n_step_tokens, loss, rate, seconds_before + now - started))
                    bar.set_postfix(loss=f"{loss:.3f}", **self.shown(n_done))
                    tracker.log(values_of(history[-1]), n_done)
                    due = now - saved >= 60 * config.checkpoint_minutes or n_done == end
                    if due and self.processes.writes:
                        save_progress(folder, n_done, self.module, stretch.optimizer, history, config)
                        self._save_history(history)
                        self.on_save()
                        saved = now
        if self.processes.writes:
            self._save_history(history)
        return history

    def _mean(self, losses: list[Tensor], n_done: int) -> float:
        loss = self.processes.mean(torch.stack(losses).mean()).item()
        if not math.isfinite(loss):
            rate = self.config.learning_rate
            raise InputError(f"training diverged: the loss is {loss} at step {n_done}; lower `learning_rate` (now {rate})")
        return loss

    def _save_history(self, history: list[LossPoint]) -> None:
        write_text_whole(self.out / HISTORY, history_csv(history))

    def _bar(self, n_done: int) -> Any:
        return progress(
            total=self.n_steps * self.n_step_tokens,
            initial=n_done * self.n_step_tokens,
            unit="token",
            unit_scale=True,
            desc=self.what,
            disable=not (looked_on() and self.processes.writes),
        )


def values_of(point: LossPoint) -> dict[str, float]:
    """What a tracker is told of a training."""
    return {name: value for name, value in asdict(point).items() if name != "step"}


def _step(stretch: Stretch, step: int, rate: float) -> Tensor:
    for group in stretch.optimizer.param_groups:
        group["lr"] = rate
    loss = stretch.gradients(step)
    stretch.optimizer.step()
    stretch.optimizer.zero_grad(set_to_none=True)
    stretch.after(step)
    return loss


def prepare_process(threads: int) -> None:
    """Makes this process ready to train: freed memory is kept, and torch has so many threads, where it is not 0."""
    keep_freed_memory()
    if threads:
        torch.set_num_threads(threads)
