"""The oracle of an average budget, from what a run found under its exact budgets: what it loses, and gains over the full model.

Each token takes the cost at which the whole text gains most, as `results/statistics/average.py` says. Which cost a token gets is
chosen by its label, so the gain holds more selection bias than that of an exact budget. A run with one drawn label per position
(`null_draws=1`) tells how much: its `null_gain` under every exact budget is that label's own gain, from which its costs are chosen
in the same way. Of several labels a run keeps the means alone, over which no choice can be made again.

Axes: K exact costs, rising, N positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.spaces import SearchSpace
from duo_oracle.results.statistics.average import AverageOracle, average_oracle
from duo_oracle.results.statistics.intervals import Estimate, bootstrap
from duo_oracle.results.store.positions import numbers, read_paths, read_tokens
from duo_oracle.results.store.reader import StoredRun

PREFIX = "average:"


@dataclass(frozen=True)
class AverageLine:
    """One average budget: means over tokens, losses in nats. Null gain and excess are None but for a run of one drawn label."""

    budget: str
    oracle: Estimate
    loss_full: Estimate
    gain: Estimate
    null_gain: Estimate | None = None
    excess: Estimate | None = None


@dataclass(frozen=True)
class ExactGains:
    """What every position loses under every exact budget, and what it gains on its one drawn label."""

    cost_K: np.ndarray
    loss_KN: np.ndarray
    full_N: np.ndarray
    null_gain_KN: np.ndarray | None
    document_N: np.ndarray

    @cached_property
    def real(self) -> AverageOracle:
        return average_oracle(self.loss_KN, self.cost_K)

    @cached_property
    def drawn(self) -> AverageOracle | None:
        """Of losses less the full model's, on the drawn label."""
        return None if self.null_gain_KN is None else average_oracle(-self.null_gain_KN, self.cost_K)

    def at(self, budget: float) -> tuple[np.ndarray, np.ndarray | None]:
        """Each position's loss at a mean cost of `budget`, and its drawn label's gain there."""
        drawn = self.drawn
        return self.real.at(budget)[0], None if drawn is None else -drawn.at(budget)[0]


def costs_of(run: StoredRun) -> tuple[int, ...]:
    """What patterns of the run's branches cost, rising.

    Raises InputError for a run of which no average budget can be answered: it lacks one of these as an exact budget, or its
    tokens depend on each other's choices."""
    if not run.parsed_context.independent:
        raise InputError(
            f"an average budget is answered where tokens do not depend on each other's choices; {run.place} has the context "
            f"{run.context} (search with `context='full'`)"
        )
    costs = SearchSpace(run.n_letters, run.table.branches).held_costs
    lacking = [str(cost) for cost in costs if str(cost) not in run.budgets]
    if lacking:
        raise InputError(
            f"an average budget is answered from all exact budgets; {run.place} lacks {', '.join(lacking)} "
            f"(search with `budget='{costs[0]}-{costs[-1]}'`)"
        )
    return costs


def parse_average(text: str, run: StoredRun) -> float:
    """The mean cost that `average:8` or `8` says. Raises InputError as `costs_of`, and for what is no number or out of reach."""
    costs = costs_of(run)
    try:
        budget = float(text.removeprefix(PREFIX))
    except ValueError:
        budget = float("nan")
    if not costs[0] <= budget <= costs[-1]:
        raise InputError(f"an average budget of {run.place} is a number from {costs[0]} to {costs[-1]}; got {text!r}")
    return budget


def exact_gains(run: StoredRun) -> ExactGains:
    """What average budgets are answered from. Raises as `costs_of`."""
    costs = costs_of(run)
    tokens = read_tokens(run)
    paths = list(read_paths(run, tokens, [str(cost) for cost in costs], ("loss", "loss_full", "null_gain")).values())
    null_gain_KN = np.stack([numbers(rows["null_gain"]) for rows in paths]) if run.identity.get("null_draws") == 1 else None
    return ExactGains(
        np.array(costs),
        np.stack([numbers(rows["loss"]) for rows in paths]),
        numbers(paths[0]["loss_full"]),
        null_gain_KN,
        np.array(tokens["document"].to_pylist()),
    )


def average_lines(run: StoredRun, budgets: Sequence[str]) -> list[AverageLine]:
    """A line for each of the budgets, in their order. Raises InputError as `parse_average`."""
    wanted = [parse_average(text, run) for text in budgets]
    if not wanted:
        return []
    gains = exact_gains(run)
    lines = []
    for budget in wanted:
        loss_N, null_gain_N = gains.at(budget)
        gain_N = gains.full_N - loss_N
        columns = [loss_N, gains.full_N, gain_N]
        columns += [] if null_gain_N is None else [null_gain_N, gain_N - null_gain_N]
        lines.append(AverageLine(f"{PREFIX}{budget:g}", *bootstrap(np.stack(columns, axis=1), gains.document_N)))
    return lines


def markdown(run: StoredRun, budgets: Sequence[str], spell: Callable[[str], str] = str) -> str:
    """The lines as a Markdown table, with what is not known of them. `spell` as of `results/answers/curve.py`."""
    lines = average_lines(run, budgets)
    rows = [
        f"`{run.name}`, {run.table.unit} on average over the tokens, each token's own count chosen by its label:\n",
        f"| average | oracle | {run.full_name} | gain | null gain | excess |",
        "|---:|---:|---:|---:|---:|---:|",
        *(
            f"| {line.budget.removeprefix(PREFIX)} | {line.oracle} | {line.loss_full} | {line.gain} | {line.null_gain or ''} "
            f"| {line.excess or ''} |"
            for line in lines
        ),
    ]
    if any(line.excess is None for line in lines):
        unknown = (
            "The gain holds the selection bias of a count chosen by the label, which one drawn label a position measures "
            "(search with `null_draws=1`); of several a run keeps the means, over which no count can be chosen again."
        )
        rows.append(f"\n{spell(unknown)}")
    return "\n".join(rows) + "\n"
