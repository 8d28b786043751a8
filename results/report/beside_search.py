"""What was measured beside a run's search, as the page wants it: its ladders, what single letters do, whole windows' routes.

Each part is its finding in sentences, its control, and a table of which one column is drawn. Knows no HTML.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from duo_oracle.results.answers.effects import Effects, LayerEffects, effects_of_run
from duo_oracle.results.answers.joint import JointGaps, joint_gap
from duo_oracle.results.ladder.rungs import Line, sentences
from duo_oracle.results.report.packing import as_numbers
from duo_oracle.results.statistics.intervals import Estimate, percent_text
from duo_oracle.results.store.beside import beside
from duo_oracle.results.store.reader import StoredRun
from duo_oracle.results.store.words import pattern_name

_KNOWS_LABEL, _KNOWS_TOKEN = ("hindsight", "excess"), ("reference", "additive", "probe", "layer probe", "router")


def beside_search(run: StoredRun, ladders: Sequence[Sequence[Line]] = ()) -> list[dict[str, Any]]:
    """A part for every budget of a ladder, every base and length of effects, every budget and width of joint routes."""
    parts = []
    for lines in ladders:
        for budget in dict.fromkeys(line.budget for line in lines):
            parts.append(_ladder(budget, [line for line in lines if line.budget == budget]))
    for base, ahead in _distinct(run, "effects", ("base", "ahead")):
        parts.append(_effects(run, effects_of_run(run, base, ahead)))
    for budget, width in _distinct(run, "joint", ("budget", "width")):
        parts.append(_joint(joint_gap(run, budget, width)))
    return parts


def _distinct(run: StoredRun, table: str, names: tuple[str, str]) -> list[tuple[Any, Any]]:
    """What questions a table beside the run answers."""
    found = beside(run, table)
    if found is None:
        return []
    rows = found.to_table(columns=list(names)).group_by(list(names)).aggregate([]).to_pylist()
    return sorted((row[names[0]], row[names[1]]) for row in rows)


def _part(
    kind: str, title: str, says: Sequence[str], control: str, columns: Sequence[str], rows: Sequence[Any], drawn: int
) -> dict:
    """Of the cells, estimates are mean, low and high; `drawn` is the column that is drawn as well. A row begins with its mark."""
    cells = [[as_numbers(cell) if isinstance(cell, Estimate) else cell for cell in row[1:]] for row in rows]
    marks = [row[0] for row in rows]
    return {
        "kind": kind,
        "title": title,
        "says": list(says),
        "control": control,
        "columns": list(columns),
        "rows": cells,
        "marks": marks,
        "drawn": drawn,
    }


def _ladder(budget: str, lines: Sequence[Line]) -> dict[str, Any]:
    said = [f"{text[0].upper()}{text[1:]}." for text in sentences(lines)]
    if not any(line.kind == "reference" for line in lines):
        said.append("The run has no reference, so what a choice of better knowledge could reach is not on this ladder.")
    columns = ("choice", "big layers", "gain over all-big", "over the best fixed", "of the way to the reference")
    rows = [(_mark(line), line.name, _rounded(line.n_big), line.gain, line.over_fixed, line.share) for line in lines]
    first = lines[0].gain
    title = f"The ladder, budget {budget}: what choices of growing knowledge gain on the real labels"
    where = f" Nats per token over {first.n_tokens:,} tokens of {first.n_documents} documents."
    return _part("ladder", title, said, _ladder_control(lines) + where, columns, rows, 2)


def _ladder_control(lines: Sequence[Line]) -> str:
    of = {line.kind: line for line in reversed(lines)}
    said = "no choice but hindsight saw the label that it is judged by, so their gains hold no selection bias"
    if "fixed" in of:
        said += f"; the best fixed pattern, which knows nothing of the token, gains {of['fixed'].gain}"
    if "shuffled" in of and (over := of["shuffled"].over_fixed) is not None:
        told = "above" if over.sign > 0 else "below" if over.sign < 0 else "not told from"
        said += f"; a probe whose predictions are other tokens' is {told} it, {over}"
    if "hindsight" in of and "excess" in of:
        said += f"; hindsight gains {of['hindsight'].gain.mean:.3f}, of which {of['excess'].gain.mean:.3f} is not selection bias"
    return f"{said[0].upper()}{said[1:]}."


def _mark(line: Line) -> str:
    return "hot" if line.kind in _KNOWS_LABEL else "strong" if line.kind in _KNOWS_TOKEN else ""


def _rounded(n_big: float | None) -> float | None:
    return None if n_big is None else round(n_big, 2)


def _effects(run: StoredRun, found: Effects) -> dict[str, Any]:
    whole, ahead = found.whole, found.ahead
    start = pattern_name(run.table, found.base)
    columns = ("layer", "change", "own token", f"next {ahead} together", "their share of the disturbance")
    rows = [
        ("" if one.layer is None else "strong", *_where(one), one.loss.own, one.loss.later, one.kl.share)
        for one in (*found.layers, whole)
    ]
    said = []
    if whole.kl.share is not None:
        said.append(
            f"Of what one changed letter disturbs (KL), {percent_text(whole.kl.share, 1)} falls on the next {ahead} tokens: a "
            "choice by the token's own loss does not see that part."
        )
    said.append(
        f"Of the changes that lower their own token's loss, {percent_text(found.loss.misled, 1)} raise the sum of its and the "
        "later tokens' losses."
    )
    control = f"Every letter of {whole.flips:,} is changed and none chosen, so no selection bias is in these means; losses in nats."
    if last := _last_layer(run, found):
        control += f" What the model's last layer writes no later token reads: its share must be 0, and is {last.mean:.3f}."
    return _part("effects", f"What one letter does to later tokens, from {start}", said, control, columns, rows, 4)


def _where(one: LayerEffects) -> tuple[str, str]:
    return ("all", "any") if one.layer is None or one.change is None else (str(one.layer), one.change.replace(">", " \u2192 "))


def _last_layer(run: StoredRun, found: Effects) -> Estimate | None:
    """The share of later tokens in what the model's last layer does, where that layer is routed."""
    last = run.n_letters - 1 if run.route_layers is None else None if run.depth is None else run.depth - 1
    shares = [one.kl.share for one in found.layers if one.layer == last and one.kl.share is not None]
    return max(shares, key=lambda share: share.mean, default=None)


def _joint(found: JointGaps) -> dict[str, Any]:
    one, expected = found.loss, found.expected
    columns = ("loss", "full", "committed", "joint", "committed gains", "joint gains", "joint over committed")
    pairs = [("real labels", one), *([("as the reference expects", expected)] if expected is not None else [])]
    rows = [
        ("strong", name, gap.full, gap.committed, gap.joint, gap.gain_committed, gap.gain_joint, gap.gap) for name, gap in pairs
    ]
    chosen = one if expected is None else expected
    said = (
        f"Chosen together under one total (budget {one.budget} per token), the routes of whole windows come {chosen.gap} nats per "
        f"token below the run's token-by-token choices, which gain {chosen.gain_committed} over the full model; "
        f"{one.changed.mean:.0%} of the tokens take another pattern."
    )
    if expected is None:
        control = (
            "On real labels a joint choice has more freedom than one token's, and its gain more selection bias: none of it is a "
            "promise (search with `--objective reference` for one that never sees the labels)."
        )
    else:
        told = "above" if one.gap.sign > 0 else "below" if one.gap.sign < 0 else "not told from"
        control = f"The choice never saw the real labels; on them the difference is {told} zero, {one.gap}."
    size = f" {one.gap.n_tokens:,} tokens of {one.gap.n_documents} documents."
    beam = f", beam of {one.width}" if one.width else ""
    title = f"Whole windows under one total, budget {one.budget}{beam}"
    return _part("joint", title, [said], control + size, columns, rows, 6)
