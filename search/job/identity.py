"""What makes two runs the same: all that decides what their tables hold, and nothing else. The one place that says so.

A run is resumed under an equal identity only, and its id is the identity's hash. Knows no files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from duo_oracle.oracle.branches import Gate
from duo_oracle.oracle.contexts import ContextKind, stored_context
from duo_oracle.oracle.patterns import Branch
from duo_oracle.search.job.config import SearchConfig, parse_temperature
from duo_oracle.search.job.problem import Keep, Objective
from duo_oracle.search.strategy import parse_settings

# The model and the data are known by their fingerprints, whatever they were called and however the data was cut into windows.
_NAMES = ("model", "data", "split", "special_tokens", "out")
# How the work is spread, bounded, shown and begun: no loss and no path depends on it.
_WORK = ("memory", "unit_sequences", "workers", "address", "local", "overwrite", "dry_run", "track")
# Said below in words that have one spelling for one meaning.
_SAID = (
    *("budget", "route_layers", "null_temperature", "context", "keep", "device", "bos", "stride", "min_context", "offset"),
    *("reference", "reference_context", "objective", "tolerance", "gate"),
)


def identity_of(
    config: SearchConfig,
    n_letters: int,
    *,
    routed_layers: Sequence[int] | None = None,
    cheapest: Branch = Branch.SMALL,
    context: str | None = None,
    front: Sequence[int] = (),
    fingerprints: Mapping[str, str] | None = None,
    null_temperatures: Mapping[str, float] | None = None,
    reference: Mapping[str, Any] | None = None,
    own_cost: int | None = None,
) -> dict[str, Any]:
    """The identity of a resolved config's run, as JSON values.

    `routed_layers` are the model's layers that are routed, where they are not all; `cheapest` the branch of its cheapest pattern;
    `context` a router's context by the router's weights; `front` the tokens in front of every window; `null_temperatures` those
    fitted by document; `reference` a reference by what it is; `own_cost` what a mixture's own router spends on a token.
    What stands at the value that it had before it became an option is left out, so that older runs are resumed too.
    """
    values = {name: value for name, value in asdict(config).items() if name not in (*_NAMES, *_WORK, *_SAID)}
    problem = config.problem(n_letters, own_cost=own_cost)
    temperature = parse_temperature(config.null_temperature)
    if temperature != 1.0:
        values["null_temperature"] = "fit" if temperature is None else temperature
    if units_matter(config, problem.context.kind):
        values["unit_sequences"] = config.unit_sequences
    values["context"] = context or stored_context(config.context)
    values["budgets"] = [str(budget) for budget in problem.budgets]
    values["keep"] = None if config.keep == Keep.NONE else config.keep
    values["device"] = config.device.partition(":")[0]  # the number of a GPU changes nothing
    values["n_letters"] = n_letters
    if problem.table.of_experts:
        values["branches"] = problem.table.spec
    if problem.table.gate != Gate.OWN:
        values["gate"] = str(problem.table.gate)
    if routed_layers is not None:
        values["route_layers"] = list(routed_layers)
    if front:
        values["bos"] = list(front)
    if config.stride not in (None, config.seq_len):
        values["stride"] = config.stride
    if config.threads == 1:
        values.pop("threads")  # more of them add in another order: the last digits of losses differ
    if config.min_context > 1:
        values["min_context"] = config.min_context
    if config.offset:
        values["offset"] = config.offset
    if cheapest is not Branch.SMALL:
        values["cheapest"] = cheapest.letter
    values |= fingerprints or {}
    if null_temperatures:
        values["null_temperatures"] = dict(null_temperatures)
    if reference is not None:
        values["reference"] = dict(reference)
    if config.tolerance:
        values["tolerance"] = config.tolerance
    if config.objective != Objective.LABEL:
        values["objective"] = str(config.objective)
    return values


def units_matter(config: SearchConfig, context: ContextKind) -> bool:
    """Whether the sequences of a unit are searched by one stream of proposals, so that another size of unit proposes others."""
    if parse_settings(config.strategy, config.settings).pooled:
        return True
    return context is ContextKind.COMMITTED and not config.exact
