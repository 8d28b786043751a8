"""What single letters do, from a run's table `effects`: a letter's effect on its own token beside that on the tokens after it.

Means are over flips, with intervals over documents. Losses are real ones and, where the run has a reference, what that expects.

Axes: D documents, M measures, R groups of rows (document x letter x change), F flips.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.patterns import RoutingPattern
from duo_oracle.results.answers.controls import Cell, Section
from duo_oracle.results.colours import CYCLE, INK
from duo_oracle.results.sql import query
from duo_oracle.results.statistics.effects import estimate, ratio
from duo_oracle.results.statistics.intervals import Estimate
from duo_oracle.results.store.columns import EFFECT_DISTANCES
from duo_oracle.results.store.reader import StoredRun

if TYPE_CHECKING:
    from duo_oracle.results.drawing import Picture

_SURE = 4.0
"""A share of losses is given where the whole is so many standard errors from zero: nearer to it, a ratio says little."""
_REAL, _EXPECTED, _KL = ("own_effect", "later_effect"), ("own_expected", "later_expected"), ("kl_own", "kl_later")


@dataclass(frozen=True)
class Sides:
    """One measure of some flips: on their own token, on the later ones together, and the later ones' part of both."""

    own: Estimate
    later: Estimate
    share: Estimate | None
    """None where own + later is too near zero for a ratio."""


@dataclass(frozen=True)
class LayerEffects:
    """The flips of one letter from one branch to another; all flips where `layer` and `change` are None."""

    layer: int | None
    change: str | None  # s>B
    flips: int
    loss: Sides
    expected: Sides | None  # under the run's reference
    kl: Sides


@dataclass(frozen=True)
class DistanceEffects:
    """What later tokens so far away get of a flip, per token."""

    near: int
    far: int
    tokens: int
    loss: Estimate
    expected: Estimate | None
    kl: Estimate
    share: Estimate
    """Of kl_later, the part of these tokens."""


@dataclass(frozen=True)
class Together:
    """How a flip's own and later effects on one measure of losses go together."""

    correlation: float
    """Over flips; NaN where one of them does not vary."""
    misled: Estimate
    """Of the flips that lower their own token's loss, the share that raise the sum of own and later losses."""
    order: float
    """Spearman's correlation of the letters' order by mean own effect with that by mean own + later effect."""


@dataclass(frozen=True)
class Effects:
    """The answer for one base and length."""

    run: StoredRun
    base: str
    ahead: int
    layers: tuple[LayerEffects, ...]
    whole: LayerEffects
    distances: tuple[DistanceEffects, ...]
    loss: Together
    expected: Together | None


def effects_of_run(run: StoredRun, base: str, ahead: int) -> Effects:
    """The answer from the run's table. Raises InputError where it has no flips of this base and length."""
    groups = _read(run, base, ahead)
    if not groups.num_rows:
        raise InputError(f"{run.place} has no effects of base {base} over {ahead} tokens; `duo-oracle effects` measures them")
    letters = sorted({(row["layer"], row["change"]) for row in groups.select(["layer", "change"]).to_pylist()})
    layer_R, change_R = groups["layer"].to_numpy(), np.array(groups["change"].to_pylist())
    layers = [_layer(groups, (layer_R == layer) & (change_R == change), layer, change) for layer, change in letters]
    distances = [
        _distance(groups, name, near, ahead if far is None else min(far, ahead), ahead)
        for name, (near, far) in EFFECT_DISTANCES.items()
        if near <= ahead
    ]
    return Effects(
        run=run,
        base=base,
        ahead=ahead,
        layers=tuple(layers),
        whole=_layer(groups, np.ones(groups.num_rows, dtype=bool), None, None),
        distances=tuple(distances),
        loss=_together(groups, _REAL, [one.loss for one in layers]),
        expected=_together(groups, _EXPECTED, [one.expected for one in layers if one.expected]) if _has_expected(groups) else None,
    )


def sections(found: Effects) -> list[Section]:
    """The answer as tables."""
    return [_layers_section(found), *_expected_section(found), _distances_section(found), _together_section(found)]


def draw_effects(found: Effects, title: str) -> Picture:
    """Left, how much each letter's flip disturbs its own token and the later ones; right, the later tokens by distance."""
    from duo_oracle.results.drawing import picture

    changes = list(dict.fromkeys(one.change for one in found.layers))
    with picture((8.4, 3.4), {"font.size": 8}) as figure:
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        for number, change in enumerate(changes):
            mine = [one for one in found.layers if one.change == change]
            width = 0.8 / len(changes)
            x = np.array([one.layer for one in mine]) + (number - (len(changes) - 1) / 2) * width
            own, later = (
                [value.mean for value in values] for values in zip(*((one.kl.own, one.kl.later) for one in mine), strict=True)
            )
            left.bar(x, own, width, color=CYCLE[2 * number % 10], label=f"{change}: its own token")
            left.bar(
                x, later, width, bottom=own, color=CYCLE[(2 * number + 1) % 10], label=f"{change}: the next {found.ahead} together"
            )
        left.set(xlabel="layer", ylabel="KL to the base, nats per flip", title="what one letter disturbs")
        left.set_xticks(sorted({one.layer for one in found.layers if one.layer is not None}))
        left.legend(frameon=False)
        place = np.arange(len(found.distances))
        values = [one.kl for one in found.distances]
        right.bar(place, [value.mean for value in values], color=CYCLE[1])
        low, high = ([getattr(value, name) for value in values] for name in ("low", "high"))
        if np.all(np.isfinite(low)):
            right.vlines(place, low, high, color=INK, linewidth=1)
        right.set_xticks(place, [_distance_name(one) for one in found.distances])
        right.set(xlabel="tokens after the flip", ylabel="KL to the base, nats per token", title="how far it reaches")
        for axes in (left, right):
            axes.spines[["top", "right"]].set_visible(False)
        figure.suptitle(title, fontsize=8)
    return figure


def _checked(base: str, run: StoredRun) -> str:
    """The pattern, as it is written. Raises InputError for one that is none of the run's."""
    RoutingPattern.parse(base, run.n_letters, run.table)
    return base


def _read(run: StoredRun, base: str, ahead: int) -> pa.Table:
    """Sums and numbers of the flips of every document, letter and change."""
    names = [*_REAL, *_EXPECTED, *_KL, *(f"{of}_{name}" for name in EFFECT_DISTANCES for of in ("later", "kl", "expected"))]
    together = [
        text.format(own=own, later=later)
        for own, later in (_REAL, _EXPECTED)
        for text in (
            "sum(({own} < 0)::INT)::DOUBLE AS helped_{own}",
            "sum(({own} < 0 AND {own} + {later} > 0)::INT)::DOUBLE AS misled_{own}",
            "sum({own} * {later}) AS product_{own}",
            "sum({own} ** 2) AS square_{own}",
            "sum({later} ** 2) AS square_{later}",
        )
    ]
    text = f"""SELECT document, layer, before || '>' || after AS change, count(*)::DOUBLE AS flips,
            {", ".join([f"sum({name}) AS {name}" for name in names] + together)}
        FROM effects JOIN tokens USING (run, sequence, position)
        WHERE base = '{_checked(base, run)}' AND ahead = {int(ahead)}
        GROUP BY ALL ORDER BY document, layer, change"""
    return query([run], text)


def _has_expected(groups: pa.Table) -> bool:
    return groups[_EXPECTED[0]].null_count == 0


def _layer(groups: pa.Table, mine_R: np.ndarray, layer: int | None, change: str | None) -> LayerEffects:
    document_R = np.array(groups["document"].to_pylist())[mine_R]
    flips_R = groups["flips"].to_numpy()[mine_R]

    def sides(names: tuple[str, str]) -> Sides:
        own_R, later_R = (groups[name].to_numpy()[mine_R] for name in names)
        own, later, total = (estimate((1.0, ratio(document_R, value_R, flips_R))) for value_R in (own_R, later_R, own_R + later_R))
        sure = names == _KL or abs(total.mean) > _SURE * total.error  # no KL is below zero
        return Sides(own, later, _signed_share(document_R, later_R, own_R + later_R) if sure else None)

    expected = sides(_EXPECTED) if _has_expected(groups) else None
    return LayerEffects(layer, change, int(flips_R.sum()), sides(_REAL), expected, sides(_KL))


def _signed_share(document_R: np.ndarray, part_R: np.ndarray, whole_R: np.ndarray) -> Estimate:
    sign = np.sign(whole_R.sum())  # a ratio's weights are positive in sum; a share is the same of both negated
    return estimate((1.0, ratio(document_R, sign * part_R, sign * whole_R)))


def _distance(groups: pa.Table, name: str, near: int, far: int, ahead: int) -> DistanceEffects:
    document_R = np.array(groups["document"].to_pylist())
    pairs_R = groups["flips"].to_numpy() * (far - near + 1)
    all_R = groups["kl_later"].to_numpy()

    def per_token(of: str) -> Estimate:
        return estimate((1.0, ratio(document_R, groups[f"{of}_{name}"].to_numpy(), pairs_R)))

    expected = per_token("expected") if _has_expected(groups) else None
    share = estimate((1.0, ratio(document_R, groups[f"kl_{name}"].to_numpy(), all_R)))
    return DistanceEffects(near, far, int(pairs_R.sum()), per_token("later"), expected, per_token("kl"), share)


def _together(groups: pa.Table, names: tuple[str, str], layers: list[Sides]) -> Together:
    document_R = np.array(groups["document"].to_pylist())
    own, later = names
    misled = estimate((1.0, ratio(document_R, *(groups[f"{of}_{own}"].to_numpy() for of in ("misled", "helped")))))
    order = _spearman(*(np.array(values) for values in ([one.own.mean for one in layers], list(map(_total, layers)))))
    return Together(_correlation(groups, own, later), misled, order)


def _correlation(groups: pa.Table, own: str, later: str) -> float:
    names = ("flips", own, later, f"product_{own}", f"square_{own}", f"square_{later}")
    n, own_sum, later_sum, product, own_square, later_square = (float(groups[name].to_numpy().sum()) for name in names)
    variances = (own_square / n - (own_sum / n) ** 2) * (later_square / n - (later_sum / n) ** 2)
    return (product / n - own_sum * later_sum / n**2) / variances**0.5 if variances > 0 else float("nan")


def _spearman(left: np.ndarray, right: np.ndarray) -> float:
    ranks = [np.argsort(np.argsort(values)).astype(np.float64) for values in (left, right)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1]) if len(left) > 1 else float("nan")


def _total(one: Sides) -> float:
    return one.own.mean + one.later.mean


def _where(one: LayerEffects) -> tuple[Cell, Cell]:
    return ("all", "any") if one.layer is None else (str(one.layer), one.change)


def _layers_section(found: Effects) -> Section:
    columns = ("layer", "change", "flips", "own loss", f"next {found.ahead}", "KL own", "KL next", "next's share of KL", "of loss")
    rows = tuple(
        (*_where(one), one.flips, one.loss.own, one.loss.later, one.kl.own, one.kl.later, one.kl.share, one.loss.share)
        for one in (*found.layers, found.whole)
    )
    title = (
        f"one letter changed, every token else {found.base}: nats per flip, the later tokens' summed [95% over "
        f"{found.whole.loss.own.n_documents} documents]"
    )
    note = "KL: of the base's distribution to that after the flip; of loss: where own + next is four standard errors from zero"
    return Section("layers", title, columns, rows, note)


def _expected_section(found: Effects) -> list[Section]:
    pairs = [(one, one.expected) for one in (*found.layers, found.whole) if one.expected is not None]
    if not pairs:
        return []
    rows = tuple((*_where(one), sides.own, sides.later, sides.share) for one, sides in pairs)
    columns = ("layer", "change", "own loss", f"next {found.ahead}", "next's share")
    title = "the same, as the run's reference expects the losses: nats per flip"
    return [Section("expected", title, columns, rows, "share: where own + next is four standard errors from zero")]


def _distances_section(found: Effects) -> Section:
    columns = ("tokens after", "pairs", "1000 x loss per token", "1000 x KL per token", "share of KL next")
    expected = found.expected is not None
    rows = tuple(
        (_distance_name(one), one.tokens, _thousand(one.loss), _thousand(one.kl), one.share)
        + ((_thousand(one.expected),) if one.expected is not None else ())
        for one in found.distances
    )
    title = "by distance, all letters together; thousandths of a nat per later token [95%]"
    return Section("distances", title, (*columns, "1000 x expected loss") if expected else columns, rows)


def _together_section(found: Effects) -> Section:
    pairs = [("", found.loss)] + ([(", as the reference expects", found.expected)] if found.expected is not None else [])
    rows: list[tuple[Cell, ...]] = []
    for of, one in pairs:
        rows += [
            (f"correlation of own and later effect over flips{of}", one.correlation),
            (f"of the flips that help their own token, those that hurt in sum{of}", one.misled),
            (f"rank correlation of letters by own effect and by the sum{of}", one.order),
        ]
    return Section("together", "does the own token's loss decide rightly?", ("", "value"), tuple(rows))


def _thousand(value: Estimate) -> Estimate:
    scaled = {name: 1e3 * getattr(value, name) for name in ("mean", "low", "high", "error", "detectable")}
    return replace(value, **scaled)


def _distance_name(one: DistanceEffects) -> str:
    return str(one.near) if one.near == one.far else f"{one.near}-{one.far}"
