"""What a search prints at its end: the oracle beside the lines it must be read against, with the selection bias in it named."""

from __future__ import annotations

from duo_oracle.oracle.branches import Gate
from duo_oracle.results.answers.curve import BudgetLine, budget_lines, perplexity
from duo_oracle.results.answers.reached import reached_lines
from duo_oracle.results.answers.verdict import verdict
from duo_oracle.results.formats import aligned
from duo_oracle.results.statistics.intervals import Estimate
from duo_oracle.results.store.reader import StoredRun

FEW_DOCUMENTS = 5
_EARLIER = {
    "committed": "each earlier token ran its own chosen pattern",
    "same": "earlier tokens took the candidate pattern itself",
}
_HEADINGS = (
    *("budget", "oracle", "perplexity", "best fixed", "mean random", None, "FULL", "gain", "null gain", "excess"),
    *("nothing chosen", "difference [95%]"),
)
"""None: what the run's cheapest pattern is called; FULL: what the full model is. Nothing chosen: the excess of the cheapest, the
control of the excess."""


def summarise(run: StoredRun) -> str:
    """The run in a few lines: losses in nats and perplexities, gain over all-big, null gain, excess with its interval.

    Raises InputError for a run without a finished unit.
    """
    lines = budget_lines(run)
    if len(lines) == 1:
        body = _one_budget(run, lines[0])
    else:
        rows = budget_rows(run, lines)
        body = aligned(rows, [*[True] * (len(rows[0]) - 1), False])
    reached = reached_lines(run)
    body = [*body, "", verdict(lines).text]
    body = [*body, "", *reached] if reached else body
    return "\n".join([*heading(run, lines), "", *body, "", *_notes(run, lines), f"run: {run.place}"]) + "\n"


def heading(run: StoredRun, lines: list[BudgetLine]) -> tuple[str, str]:
    """What the run is of, and what was searched, a line each."""
    facts, first = run.manifest.facts, lines[0].oracle
    said = [f"{first.n_tokens:,} tokens", f"{first.n_documents} document{'s' * (first.n_documents != 1)}"]
    said += [f"{key} {facts[key]}" for key in ("data", "model") if facts.get(key)]
    identity = run.identity
    earlier = _EARLIER.get(run.context, f"earlier tokens took {run.config.get('context', run.context)}")
    budget = f"budget {lines[0].budget}" if len(lines) == 1 else f"{len(lines)} budgets"
    searched = [f"{identity.get('strategy')} over {identity.get('branches')}"]
    searched += [f"gate {run.table.gate}"] if run.table.gate != Gate.OWN else []
    searched += [] if run.route_layers is None else [f"layers {run.route_layers}"]
    searched += [f"skip {identity.get('skip')}", budget, f"context {run.context} ({earlier})"]
    return " · ".join(said), " · ".join(searched)


def _one_budget(run: StoredRun, line: BudgetLine) -> list[str]:
    rows = [["", "nats per token [95%]", "perplexity"], [run.cheapest_name, str(line.all_small), perplexity(line.all_small)]]
    if line.fixed is not None:
        fixed = line.fixed
        rows.append([f"mean random pattern (of {fixed.n_patterns:,})", str(fixed.mean), perplexity(fixed.mean)])
        if fixed.best is not None:
            rows.append(["best fixed pattern, chosen on other documents", str(fixed.best), perplexity(fixed.best)])
        in_sample = f"best fixed pattern in-sample, {fixed.best_pattern}"
        rows.append([in_sample, str(fixed.best_in_sample), perplexity(fixed.best_in_sample)])
    rows += [[run.full_name, str(line.all_big), perplexity(line.all_big)], ["oracle", str(line.oracle), perplexity(line.oracle)]]
    rows.append([f"oracle's gain over {run.full_name}", str(line.gain), ""])
    if line.null_gain is not None:
        rows.append([f"null gain (the same for labels drawn from {run.full_name})", str(line.null_gain), ""])
        rows.append(["excess = gain - null gain", str(line.excess), ""])
    if line.control is not None:
        rows.append(["the same where nothing is chosen", str(line.control), ""])
        rows.append(["difference, paired", str(line.beyond), ""])
    return aligned(rows, [False, False, True])


def budget_rows(run: StoredRun, lines: list[BudgetLine]) -> list[list[str]]:
    """A heading, and a row of figures per budget; a column that nothing is known of is left out."""
    names = {None: run.cheapest_name, "FULL": run.full_name}
    rows = [[names.get(heading) or str(heading) for heading in _HEADINGS]]
    for line in lines:
        best, mean = (line.fixed.best, line.fixed.mean) if line.fixed else (None, None)
        numbers = (best, mean, line.all_small, line.all_big, line.gain, line.null_gain, line.excess, line.control)
        beyond = "-" if line.beyond is None else str(line.beyond)
        rows.append([line.budget, _number(line.oracle), perplexity(line.oracle), *map(_number, numbers), beyond])
    known = [column for column in range(len(rows[0])) if any(row[column] != "-" for row in rows[1:])]
    return [[row[column] for column in known] for row in rows]


def _notes(run: StoredRun, lines: list[BudgetLine]) -> list[str]:
    certified = min(line.certified.mean for line in lines)
    leaves = max(line.leaves.mean for line in lines)
    within = run.identity.get("tolerance")
    others = f", the others within {within:g} nats of the best" if within else ""
    notes = [f"certified best: {certified:.1%} of tokens{others} · vocabulary heads computed per token: {leaves:.1f}"]
    if lines[0].fixed is None:
        notes.append("fixed and random patterns stand beside the oracle with `keep='losses'`")
    elif len(lines) > 1:
        notes.append("best fixed: chosen on other documents; mean random: every pattern in the budget as likely; nats per token")
    n_documents = lines[0].oracle.n_documents
    if n_documents == 1:
        cure = (
            "search more documents"
            if run.config.get("split")
            else "`split='blank-lines'` or `split=512` (tokens) makes documents of its parts"
        )
        notes.append(f"warning: one document; there is no interval and no other document to choose a fixed pattern on: {cure}")
    elif n_documents < FEW_DOCUMENTS:
        notes.append(f"warning: {n_documents} documents only; the intervals are rough, take {FEW_DOCUMENTS} or more")
    if run.manifest.state != "complete" and not run.manifest.failed:
        notes.append("warning: the run is not finished; these are the units done so far")
    for unit, message in sorted(run.manifest.failed.items()):
        notes.append(f"warning: unit {unit} failed and is not in these numbers: {message}")
    return notes


def _number(estimate: Estimate | None) -> str:
    return "-" if estimate is None else f"{estimate.mean:.3f}"
