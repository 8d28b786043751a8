"""The page of the claims: one table of verdicts, each claim's statements, losses and use by rule, three pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from duo_oracle.oracle.base.whole_file import write_text_whole
from duo_oracle.results.drawing import picture
from duo_oracle.results.experts.claims import Claim, claims
from duo_oracle.results.experts.material import Trainings
from duo_oracle.results.experts.seeds import over_seeds

_HOW = """Verdicts, by one rule: **found**: the 95% interval over seeds and documents lies above zero in the paper's direction,
and so does that beyond the control; or, where the claim is that there is nothing, the whole interval lies within the
margin that is said. **not found**: the interval excludes the claim. **not distinguishable**: it does neither. Every
verdict is of these models and this text."""


def write_page(found: Trainings, out: Path, made_by: str) -> list[Claim]:
    """Writes `README.md` and its pictures into `out`; gives the claims."""
    made = claims(found)
    (out / "figures").mkdir(parents=True, exist_ok=True)
    n_seeds = ", ".join(f"{rule} {len(found.of(rule))}" for rule in found.rules)
    lines = [
        "# Expert Threshold's claims (arXiv 2603.11535), on mixtures trained here",
        "",
        made_by,
        "",
        f"Seeds: {n_seeds}.",
        "",
        _HOW,
        "",
    ]
    lines += ["| claim | the paper | verdict |", "|---|---|---|"]
    lines += [f"| {one.name} | {one.claimed} | {one.verdict} |" for one in made]
    for one in made:
        lines += ["", f"## {one.name}", "", f"The paper: {one.claimed}. Control: {one.control}.", "", *_statements(one)]
    lines += [
        "",
        "## Losses",
        "",
        "Nats per token, means over seeds; in brackets the standard deviation of the seeds.",
        "",
        *_losses(found),
    ]
    lines += ["", "![Losses of every training](figures/losses.svg)", "", "## Use of the experts", "", *_use(found)]
    lines += ["", "![Experts per token by position](figures/fan-out.svg)", ""]
    _draw_losses(found, out / "figures/losses.svg")
    _draw_fan_out(found, out / "figures/fan-out.svg")
    write_text_whole(out / "README.md", "\n".join(lines))
    return made


def _statements(claim: Claim) -> Sequence[str]:
    rows = [
        "| statement | unit | effect [95%] | beyond its control [95%] | nothing is within | seeds | verdict |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for one in claim.statements:
        beyond = "" if one.beyond is None else str(one.beyond)
        margin = "" if one.margin is None else f"{one.margin:g}"
        rows.append(f"| {one.what} | {one.unit} | {one.effect} | {beyond} | {margin} | {one.effect.n_seeds} | {one.verdict} |")
    return rows


def _losses(found: Trainings) -> Sequence[str]:
    rows = [f"| rule | {' | '.join(found.sources)} |", f"|---|{'---:|' * len(found.sources)}"]
    for rule in found.rules:
        seeds = [one.seed for one in found.of(rule)]
        cells = [over_seeds(found.losses(rule, source, seeds)) for source in found.sources]
        shown = [f"{cell.mean:.4f} ({cell.seed_sd:.4f})" if len(seeds) > 1 else f"{cell.mean:.4f}" for cell in cells]
        rows.append(f"| {rule} | {' | '.join(shown)} |")
    return rows


def _use(found: Trainings) -> Sequence[str]:
    rows = [
        "Cutoffs as trained, no calibration. Use over target: mean, and the least and the most used expert of any layer and seed.",
        "",
    ]
    rows += [f"| rule | {' | '.join(found.sources)} |", f"|---|{'---:|' * len(found.sources)}"]
    for rule in found.rules:
        models = found.of(rule)
        if not models[0].measured[found.sources[0]].chosen_NLE.size:
            continue
        cells = []
        for source in found.sources:
            use = np.stack([one.measured[source].chosen_NLE.mean(axis=0) / one.rate for one in models])
            cells.append(f"{use.mean():.2f} ({use.min():.2f} to {use.max():.2f})")
        rows.append(f"| {rule} | {' | '.join(cells)} |")
    return rows


def _draw_losses(found: Trainings, file: Path) -> None:
    with picture((9.0, 3.4)) as figure:
        axes = figure.subplots(1, len(found.sources), squeeze=False)[0]
        for panel, source in zip(axes, found.sources, strict=True):
            for place, rule in enumerate(found.rules):
                losses = [one.measured[source].causal_N.mean() for one in found.of(rule)]
                panel.plot(losses, [place] * len(losses), "o", markersize=4)
            panel.set(title=_titled(found, source), xlabel="nats per token", yticks=range(len(found.rules)))
            panel.set_yticklabels(found.rules if panel is axes[0] else [])
        figure.suptitle("Loss as used: a dot is one training")
        figure.save(file)


def _draw_fan_out(found: Trainings, file: Path, n_bins: int = 8) -> None:
    with picture((10.5, 3.4)) as figure:
        axes = figure.subplots(1, len(found.sources), squeeze=False, sharey=True)[0]
        for panel, source in zip(axes, found.sources, strict=True):
            for rule in found.rules:
                models = [one.measured[source] for one in found.of(rule)]
                if not models[0].chosen_NLE.size:
                    continue
                bins = [np.array_split(np.argsort(each.position_N, kind="stable"), n_bins) for each in models]
                lines = [[each.fan_out_N[rows].mean() for rows in split] for each, split in zip(models, bins, strict=True)]
                panel.plot(range(1, n_bins + 1), np.mean(lines, axis=0), label=rule)
            panel.set(title=_titled(found, source), xlabel="eighth of the window")
        axes[0].set_ylabel("routed experts per token and layer")
        axes[-1].legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.02, 1.0))
        figure.suptitle("Experts that a token takes, by its place: means over seeds")
        figure.save(file)


def _titled(found: Trainings, source: str) -> str:
    return f"{source}, {len(found.trained[0].measured[source].causal_N):,} tokens"
