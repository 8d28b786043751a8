"""A run opened again: its model, proven to be the one that it was searched with, its text, and its question.

Whatever asks a finished run anew takes an `OpenedRun` and opens nothing itself. Knows no router, no strategy and no answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from duo_oracle.models.checkpoint import Checkpoint, read_checkpoint
from duo_oracle.models.family import load_model, load_module
from duo_oracle.models.routable import RoutableModule
from duo_oracle.models.text.windows import Window
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.model import OracleModel, SharesExperts, token_ids_on
from duo_oracle.results.store.reader import StoredRun
from duo_oracle.search.job.problem import Problem
from duo_oracle.search.rerun.replay import read_groups


@dataclass(frozen=True)
class OpenedRun:
    """A run with at least one finished unit, and the model it is of."""

    run: StoredRun
    checkpoint: Checkpoint
    model: OracleModel  # in the run's floating-point type, with the run's layers routed

    @cached_property
    def module(self) -> RoutableModule:
        """The model as a plain module that a router can route."""
        if self.run.table.of_experts:
            raise InputError(f"routers choose among letters of . s B; {self.run.path} was searched over {self.run.table.spec}")
        return load_module(self.checkpoint, self.run.route_layers)

    @cached_property
    def sequences(self) -> list[Window]:
        """The run's text, window by window, from its own tables."""
        return [sequence for group in read_groups(self.run) for sequence in group.sequences]

    @cached_property
    def own_routes(self) -> tuple[np.ndarray, np.ndarray]:
        """What a mixture's own router takes at the run's positions in a plain pass of each window: codes, uint8 (N, L), the full
        model's where that set is no branch of the table; and how many experts, int64 (N,).

        Raises InputError for a run over letters.
        """
        model = self.model
        if not isinstance(model, SharesExperts):
            found = f"{self.run.place} has branches {self.run.table.spec}"
            raise InputError(f"routers of experts are those of a mixture (top:, ranks:, sets:); {found}")
        codes, costs = [], []
        for window in self.sequences:
            code_TL, cost_T = model.own_routes(token_ids_on(model.device, window.token_ids[:-1]))
            codes.append(code_TL[window.n_warm :])
            costs.append(cost_T[window.n_warm :])
        return np.concatenate(codes), np.concatenate(costs)

    @cached_property
    def problem(self) -> Problem:
        """What the run asked, of every pattern: branches, budgets, context and skip as searched; nothing kept, nothing drawn."""
        run, identity = self.run, self.run.identity
        return Problem(
            n_letters=run.n_letters,
            table=run.table,
            budgets=tuple(run.budget(text) for text in run.budgets),
            context=run.parsed_context,
            skip=SkipReading(identity["skip"]),
            strategy="exhaustive",
            seed=int(identity["seed"]),
        )


def open_run(run: StoredRun, model: str | None = None, device: str = "cpu") -> OpenedRun:
    """Opens `run` with its model, or with the one in directory `model` where it has moved.

    Raises InputError for a run without a finished unit and for a model of other weights than the run's.
    """
    if not run.n_tokens:
        raise InputError(f"{run.place} has no finished unit yet")
    name = model or run.manifest.facts.get("model")
    if name is None:
        raise InputError(f"{run.place} does not say its model; name it (`model`)")
    checkpoint = read_checkpoint(name)
    check_model(run, checkpoint, name)
    table = run.table
    opened = load_model(checkpoint, run.identity["dtype"], device, run.route_layers, branches=table.spec, gate=table.gate)
    if opened.n_letters != run.n_letters:
        raise InputError(f"{run.place} says patterns of {run.n_letters} letters; {name} has {opened.n_letters} routed layers")
    return OpenedRun(run, checkpoint, opened)


def check_model(run: StoredRun, checkpoint: Checkpoint, name: str) -> None:
    """Raises InputError where the model `name` is not the one that `run` was searched with."""
    wanted = run.identity["model_fingerprint"]
    if checkpoint.fingerprint != wanted:
        raise InputError(
            f"{run.place} was searched with another model than {name}, which has other weights: "
            f"fingerprint {checkpoint.fingerprint[:12]}, the run's is {wanted[:12]}"
        )
