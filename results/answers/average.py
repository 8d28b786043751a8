"""The oracle of an average budget, from what a run found under its exact budgets: what it loses, and gains over the full model.

Each token takes the cost at which the whole text gains most, as `results/statistics/average.py` says. Which cost a token gets is
chosen by its label, so the gain holds more selection bias than that of an exact budget; how much, no run's columns say.

Axes: K exact costs, rising, N positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
    """One average budget: means over tokens, losses in nats."""

    budget: str
    oracle: Estimate
    loss_full: Estimate
    gain: Estimate


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


def average_of(run: StoredRun) -> tuple[AverageOracle, np.ndarray, np.ndarray]:
    """The oracle of average budgets; the positions' losses of the full model, and their documents. Raises as `costs_of`."""
    costs = costs_of(run)
    tokens = read_tokens(run)
    paths = read_paths(run, tokens, [str(cost) for cost in costs], ("loss", "loss_full"))
    loss_KN = np.stack([numbers(rows["loss"]) for rows in paths.values()])
    full_N = numbers(next(iter(paths.values()))["loss_full"])
    return average_oracle(loss_KN, np.array(costs)), full_N, np.array(tokens["document"].to_pylist())


def average_lines(run: StoredRun, budgets: Sequence[str]) -> list[AverageLine]:
    """A line for each of the budgets, in their order. Raises InputError as `parse_average`."""
    wanted = [parse_average(text, run) for text in budgets]
    if not wanted:
        return []
    oracle, full_N, document_N = average_of(run)
    lines = []
    for budget in wanted:
        loss_N, _ = oracle.at(budget)
        found = bootstrap(np.stack([loss_N, full_N, full_N - loss_N], axis=1), document_N)
        lines.append(AverageLine(f"{PREFIX}{budget:g}", *found))
    return lines


def markdown(run: StoredRun, budgets: Sequence[str]) -> str:
    """The lines as a Markdown table, with what is not known of them."""
    rows = [
        f"`{run.name}`, {run.table.unit} on average over the tokens, each token's own count chosen by its label:\n",
        f"| average | oracle | {run.full_name} | gain |",
        "|---:|---:|---:|---:|",
        *(
            f"| {line.budget.removeprefix(PREFIX)} | {line.oracle} | {line.loss_full} | {line.gain} |"
            for line in average_lines(run, budgets)
        ),
        "\nThe gain holds the selection bias of a count chosen by the label, which drawn labels of exact budgets do not measure.",
    ]
    return "\n".join(rows) + "\n"
