"""What can be reached: the gain of a choice that never saw the label, made by the loss expected under the run's reference.

The gain expected by the reference, the gain realised on the real labels, and its share of the hindsight gain, by budget. Empty for
a run without a reference.

Axes: D documents, M measures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from duo_oracle.results.answers.document_sums import sums_by_document
from duo_oracle.results.formats import aligned
from duo_oracle.results.statistics.intervals import Estimate, bootstrap_sums, percent_text
from duo_oracle.results.store.reader import StoredRun

_MEASURES = {
    "hindsight": "loss_full - loss",
    "expected": "ref_expected_gain",
    "realised": "loss_full - ref_loss",
    "same": "(ref_pattern = pattern)::INT",
    "loss_full": "loss_full",
    "loss_reference": "reference_loss_target",
    "surprise": "reference_loss_target - reference_entropy",
}
_SAME = 1e-4  # nats: so near, a reference is the model
_HEADINGS = ("budget", "hindsight gain", "expected", "realised [95%]", "share of hindsight", "same pattern")


@dataclass(frozen=True)
class Reached:
    """One budget's means over tokens, in nats; gains are counted from the full model."""

    budget: str
    hindsight: Estimate  # of the oracle that sees the label
    expected: Estimate  # of the reference's choice, as the reference expects it
    realised: Estimate  # of the same choice, on the real label
    share: Estimate | None  # realised / hindsight; None where there is no hindsight gain
    same: Estimate  # share of tokens whose two patterns are one
    loss_full: Estimate
    loss_reference: Estimate  # the reference's own loss, -ln q(label)
    surprise: Estimate  # that less the entropy that the reference claims: zero where it is calibrated


def reached_of_run(run: StoredRun) -> list[Reached]:
    """A line for each of the run's budgets, in their order; none without a reference."""
    if "reference" not in run.identity or not run.n_tokens:
        return []
    rows = sums_by_document(run, _MEASURES.values())
    return [_line(budget, rows[budget]) for budget in run.budgets]


def _line(budget: str, rows: Sequence[Sequence[float]]) -> Reached:
    values_DM = np.array(rows, dtype=np.float64)
    sums_DM, counts_DM = values_DM[:, 0::2], values_DM[:, 1::2]
    estimates = dict(zip(_MEASURES, bootstrap_sums(sums_DM, counts_DM), strict=True))
    names = list(_MEASURES)
    hindsight_D, realised_D = (sums_DM[:, names.index(name)] for name in ("hindsight", "realised"))
    share = None
    if (hindsight_D > 0).all():  # a ratio of sums, redrawn together
        share = bootstrap_sums(realised_D[:, None], hindsight_D[:, None])[0]
        share = replace(share, n_tokens=estimates["realised"].n_tokens)
    return Reached(budget=budget, share=share, **estimates)


def records_of(run: StoredRun) -> dict[str, dict[str, Any]]:
    """By budget, what `Run.curve()` shows beside the hindsight gain: estimates as NAME, NAME_low and NAME_high."""
    found = {}
    for line in reached_of_run(run):
        estimates = {"ref_expected_gain": line.expected, "ref_gain": line.realised, "ref_share": line.share}
        record: dict[str, Any] = {}
        for name, estimate in estimates.items():
            values = (None,) * 3 if estimate is None else (estimate.mean, estimate.low, estimate.high)
            record |= dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))
        found[line.budget] = record
    return found


def reached_lines(run: StoredRun) -> list[str]:
    """The section of a summary: a heading, a row per budget and a sentence. Empty without a reference."""
    lines = reached_of_run(run)
    if not lines:
        return []
    rows = [list(_HEADINGS)]
    for line in lines:
        share = "-" if line.share is None else percent_text(line.share)
        gains = (f"{line.hindsight.mean:.3f}", f"{line.expected.mean:.3f}", str(line.realised))
        rows.append([line.budget, *gains, share, f"{line.same.mean:.0%}"])
    title = (
        f"what can be reached: gain over {run.words.the_full} of the reference's choice, which never saw the label ({_name(run)})"
    )
    return [title, *(f"  {text}" for text in aligned(rows, [False, *[True] * 5])), run.words.of(sentence(lines))]


def markdown(run: StoredRun) -> str:
    """The same as a Markdown table; empty without a reference."""
    lines = reached_of_run(run)
    if not lines:
        return ""
    rows = [f"| {' | '.join(_HEADINGS)} |", "|---:|" + "---:|" * (len(_HEADINGS) - 1)]
    for line in lines:
        share = "" if line.share is None else percent_text(line.share)
        cells = (line.budget, line.hindsight, line.expected, line.realised, share, f"{line.same.mean:.0%}")
        rows.append(f"| {' | '.join(map(str, cells))} |")
    title = (
        f"What can be reached in context `{run.context}`: the choice of the reference ({_name(run)}), which never saw the label."
    )
    return "\n".join([title, "", *rows, "", run.words.of(sentence(lines))]) + "\n"


def sentence(lines: Sequence[Reached]) -> str:
    """What the numbers say, in one sentence: of budget any where there is one, else of the last."""
    line = next((line for line in lines if line.budget == "any"), lines[-1])
    where = "" if len(lines) == 1 else f" at budget {line.budget}"
    beside = f"the reference loses {line.loss_reference.mean:.3f} nats per token and all-big {line.loss_full.mean:.3f}"
    gain = f"{line.realised} nats"
    if abs(line.loss_reference.mean - line.loss_full.mean) < _SAME and abs(line.expected.mean) < _SAME:
        return f"{beside}: it saw no more than the model, as where every window begins a document; take later windows too"
    if line.realised.sign > 0:
        share = "" if line.share is None else f", {line.share.mean:.0%} of the hindsight gain,"
        said = f"a router that knows as much as it would gain {gain} over all-big{where}{share} and that is no selection bias"
    elif line.realised.sign < 0:
        said = f"a router that trusts it would lose to all-big{where}: {gain}"
    else:
        said = f"no gain over all-big is shown for a router that knows as much as it{where}: {gain}"
    return f"{beside}: {said}"


def _name(run: StoredRun) -> str:
    of = run.identity["reference"]
    if "self" in of:
        return f"self, {of['self']:,} tokens of context"
    name = str(run.config.get("reference", "a reference"))
    return f"{name}, {of['context']:,} tokens of context" if "context" in of else name
