"""The comparison of routers as an Arrow table with every figure, and as text for people. Knows lines, not how they came to be."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pyarrow as pa

from duo_oracle.results.compare.plane import UNIFORM, Line
from duo_oracle.results.formats import aligned
from duo_oracle.results.statistics.intervals import ENDS, Estimate, estimate_columns, percent_text, perplexity_of, perplexity_text

_ESTIMATES = (
    "minus_fixed",
    "minus_random",
    "minus_matched",
    "regret_exact",
    "regret_average",
    "regret_any",
    "gap_closed_exact",
    "gap_closed_average",
    "gap_closed_any",
    "excess",
    "gap_closed_excess",
    "gap_excess",
    "rank",
    "random_rank",
    "real_loss",
)
_DIFFERENCES = ("minus_fixed", "minus_random", "minus_matched")
"""Beside these stands what true difference the tokens could have shown."""
_NUMBERS = (
    "budget_spread",
    "target",
    "budget_error",
    "flops",
    "same_pattern",
    "agreement",
    "agreement_majority",
    "agreement_random",
    "hamming",
    "jaccard",
    "jaccard_random",
    "entropy",
    "commonest_share",
    "all_big_share",
)
_NAMES = ("exact_oracle", "compared_with", "patterns", "commonest", "pattern")
SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("kind", pa.string()),
        ("context", pa.string()),
        ("budget", pa.float64()),
        *((f"{name}{end}", pa.float64()) for name in ("loss", "perplexity") for end in ENDS),
        *((f"{name}{end}", pa.float64()) for name in _ESTIMATES for end in ENDS),
        *((f"{name}_detectable", pa.float64()) for name in _DIFFERENCES),
        *((name, pa.float64()) for name in _NUMBERS),
        ("agreement_by_layer", pa.list_(pa.float64())),  # each layer's agreement minus its majority rate
        ("layers", pa.list_(pa.int64())),  # those layers' numbers in the model
        ("exact_oracle", pa.string()),  # which whole budgets regret_exact is over
        ("compared_with", pa.string()),  # the oracle that agreement is with
        ("patterns", pa.int64()),
        ("commonest", pa.string()),
        ("pattern", pa.string()),  # of a best fixed pattern: the one that is best in-sample
        ("causal", pa.bool_()),
        ("tokens", pa.int64()),
        ("documents", pa.int64()),
    ]
)


def as_table(lines: Sequence[Line], context: str) -> pa.Table:
    """One row per line, every figure a column, intervals as _low and _high, null where a figure is unknown."""
    rows = []
    for line in lines:
        row = {"name": line.name, "kind": line.kind, "context": context, "budget": line.budget}
        row |= estimate_columns("loss", line.loss)
        row |= {
            name: perplexity_of(value) if value is not None else None
            for name, value in estimate_columns("perplexity", line.loss).items()
        }
        for name in _ESTIMATES:
            row |= estimate_columns(name, line[name])
        row |= {f"{name}_detectable": _detectable(line[name]) for name in _DIFFERENCES}
        row |= {name: line[name] for name in (*_NUMBERS, "agreement_by_layer", "layers", *_NAMES)}
        rows.append(row | {"causal": line["causal"], "tokens": line.loss.n_tokens, "documents": line.loss.n_documents})
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def as_text(lines: Sequence[Line], notes: Sequence[str] = ()) -> str:
    """Two tables: what the routers cost, with the lines at their budgets that they are read against, and how they route."""
    routers = [line for line in lines if line.kind == "router"]
    parts = ["\n".join(_costs(lines, routers))]
    if routers:
        parts += ["\n".join(_ways(routers)), "\n".join(_READING)]
    if notes:
        parts.append("\n".join(notes))
    return "\n\n".join(parts) + "\n"


_READING = (
    "minus ...: paired differences in nats, below zero where the router is better; random: as many big layers on average, drawn;",
    "matched: as many as the router gave the token, in random layers. regret: over the oracle with that number of big layers for",
    "each token, and (average) over the one that spreads as many over the tokens. gap closed: (fixed - router) / (fixed - oracle).",
    "gap excess: fixed - oracle minus the same on labels drawn from all-big: zero where all-big as truth would show such a gap.",
    "rank: percentile in the token's table of all patterns (0 best), beside that of a random pattern of the same budget.",
    "agreement: share of (token, layer) with the oracle's branch, in brackets always guessing the layer's majority; random layers.",
)


def _costs(lines: Sequence[Line], routers: Sequence[Line]) -> list[str]:
    near = {round(line.budget) for line in routers}
    wanted = [line for line in lines if _is_shown(line, near)]
    wanted.sort(key=lambda line: (line.kind == "router", line.budget if line.kind != "router" else 0))
    rows = [["", "B's", "MFLOP", "nats [95%]", "perplexity", "minus fixed", "minus random", "minus matched"]]
    rows[0] += ["regret", "average", "gap closed", "average", "gap excess"]
    for line in wanted:
        rows.append(
            [
                line.name,
                f"{line.budget:.2f}",
                "-" if line["flops"] is None else f"{line['flops'] / 1e6:.3g}",
                str(line.loss),
                perplexity_text(line.loss.mean),
                *(_cell(line[name]) for name in ("minus_fixed", "minus_random", "minus_matched")),
                *(_mean(line[name]) for name in ("regret_exact", "regret_average")),
                _percent(line["gap_closed_exact"]),
                "-" if line["gap_closed_average"] is None else f"{line['gap_closed_average'].mean:.1%}",
                _cell(line["gap_excess"]) if line.kind == "router" else "-",
            ]
        )
    empty = [column for column in range(2, len(rows[0])) if all(row[column] == "-" for row in rows[1:])]
    kept = [column for column in range(len(rows[0])) if column not in empty]
    return aligned([[row[column] for column in kept] for row in rows], [column > 0 for column in kept])


def _is_shown(line: Line, near: set[int]) -> bool:
    """Whether the text has the line: with routers, of the other lines only those at the whole budgets nearest to theirs."""
    if not near or line.kind in (*UNIFORM, "router") or line.name.endswith("any"):
        return True
    return line.kind != "average oracle" and round(line.budget, 9) in near


def _ways(routers: Sequence[Line]) -> list[str]:
    rows = [["", "target", "B's", "spread", "causal", "own pass", "rank", "random", "agreement", "random", "Jaccard", "random"]]
    rows[0] += ["patterns", "entropy", "commonest", "all-big"]
    for line in routers:
        agreed = "-" if line["agreement"] is None else f"{line['agreement']:.3f} ({line['agreement_majority']:.3f})"
        rows.append(
            [
                line.name,
                "-" if line["target"] is None else f"{line['target']:g}",
                f"{line.budget:.2f}",
                f"{line['budget_spread']:.2f}",
                {None: "-", True: "yes", False: "no"}[line["causal"]],
                *(_mean(line[name]) for name in ("real_loss", "rank", "random_rank")),
                agreed,
                *(_number(line[name]) for name in ("agreement_random", "jaccard", "jaccard_random")),
                f"{line['patterns']:,}",
                f"{line['entropy']:.2f}",
                f"{line['commonest']} {line['commonest_share']:.1%}",
                f"{line['all_big_share']:.1%}",
            ]
        )
    return aligned(rows, [column > 0 for column in range(len(rows[0]))])


def _detectable(estimate: Estimate | None) -> float | None:
    return None if estimate is None or math.isnan(estimate.detectable) else estimate.detectable


def _cell(estimate: Estimate | None) -> str:
    return "-" if estimate is None else str(estimate)


def _mean(estimate: Estimate | None) -> str:
    return "-" if estimate is None else f"{estimate.mean:.3f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _percent(estimate: Estimate | None) -> str:
    return "-" if estimate is None else percent_text(estimate, 1)
