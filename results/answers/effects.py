"""What single letters do, from a run's table `effects`: a letter's effect on its own token beside that on the tokens after it.

Means are over flips, with intervals over documents. The later tokens of a flip are those that its window has, up to `ahead`.

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
from duo_oracle.results.sql import query
from duo_oracle.results.statistics.effects import estimate, ratio
from duo_oracle.results.statistics.intervals import Estimate
from duo_oracle.results.store.columns import EFFECT_DISTANCES
from duo_oracle.results.store.reader import StoredRun

if TYPE_CHECKING:
    from duo_oracle.results.drawing import Picture

_SURE = 4.0
"""A share of losses is given where the whole is so many standard errors from zero: nearer to it, a ratio says little."""
_SUMS = ("own_effect", "later_effect", "kl_own", "kl_later")


@dataclass(frozen=True)
class LayerEffects:
    """The flips of one letter from one branch to another; all flips where `layer` and `change` are None."""

    layer: int | None
    change: str | None  # s>B
    flips: int
    own: Estimate
    later: Estimate
    kl_own: Estimate
    kl_later: Estimate
    kl_share: Estimate
    """Of the whole disturbance, kl_own + kl_later, the part of later tokens."""
    loss_share: Estimate | None
    """Of the whole effect on losses, own + later, the part of later tokens; None where the whole is too near zero."""


@dataclass(frozen=True)
class DistanceEffects:
    """What later tokens so far away get of a flip, per token."""

    near: int
    far: int | None
    tokens: int
    loss: Estimate
    kl: Estimate
    share: Estimate
    """Of kl_later, the part of these tokens."""


@dataclass(frozen=True)
class Effects:
    """The answer for one base and length."""

    run: StoredRun
    base: str
    ahead: int
    layers: tuple[LayerEffects, ...]
    whole: LayerEffects
    distances: tuple[DistanceEffects, ...]
    correlation: float
    """Of own and later effects over flips; NaN where one of them does not vary."""
    misled: Estimate
    """Of the flips that lower their own token's loss, the share that raise the sum of own and later losses."""
    order: float
    """Spearman's correlation of the letters' order by mean own effect with that by mean own + later effect."""


def effects_of_run(run: StoredRun, base: str, ahead: int) -> Effects:
    """The answer from the run's table. Raises InputError where it has no flips of this base and length."""
    groups = _read(run, base, ahead)
    if not groups.num_rows:
        raise InputError(f"{run.path} has no effects of base {base} over {ahead} tokens; `duo-oracle effects` measures them")
    letters = sorted({(row["layer"], row["change"]) for row in groups.select(["layer", "change"]).to_pylist()})
    layer_R, change_R = groups["layer"].to_numpy(), np.array(groups["change"].to_pylist())
    layers = [_layer(groups, (layer_R == layer) & (change_R == change), layer, change) for layer, change in letters]
    whole = _layer(groups, np.ones(groups.num_rows, dtype=bool), None, None)
    document_R = np.array(groups["document"].to_pylist())
    helped = [groups[name].to_numpy() for name in ("misled", "helped")]
    misled = estimate((1.0, ratio(document_R, *helped)))
    own, total = (np.array([value(one) for one in layers]) for value in (lambda one: one.own.mean, _total))
    distances = [_distance(groups, name, near, far) for name, (near, far) in EFFECT_DISTANCES.items()]
    return Effects(
        run=run,
        base=base,
        ahead=ahead,
        layers=tuple(layers),
        whole=whole,
        distances=tuple(one for one in distances if one is not None),
        correlation=_correlation(groups),
        misled=misled,
        order=_spearman(own, total),
    )


def sections(found: Effects) -> list[Section]:
    """The answer as tables."""
    return [_layers_section(found), _distances_section(found), _sum_section(found)]


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
                [value.mean for value in values] for values in zip(*((one.kl_own, one.kl_later) for one in mine), strict=True)
            )
            left.bar(x, own, width, color=f"C{2 * number}", label=f"{change}: its own token")
            left.bar(x, later, width, bottom=own, color=f"C{2 * number + 1}", label=f"{change}: the next {found.ahead} together")
        left.set(xlabel="layer", ylabel="KL to the base, nats per flip", title="what one letter disturbs")
        left.set_xticks(sorted({one.layer for one in found.layers if one.layer is not None}))
        left.legend(frameon=False)
        place = np.arange(len(found.distances))
        values = [one.kl for one in found.distances]
        right.bar(place, [value.mean for value in values], color="C1")
        low, high = ([getattr(value, name) for value in values] for name in ("low", "high"))
        if np.all(np.isfinite(low)):
            right.vlines(place, low, high, color="black", linewidth=1)
        right.set_xticks(place, [_distance_name(one) for one in found.distances])
        right.set(xlabel="tokens after the flip", ylabel="KL to the base, nats per token", title="how far it reaches")
        for axes in (left, right):
            axes.spines[["top", "right"]].set_visible(False)
        figure.suptitle(title, fontsize=8)
    return figure


def _read(run: StoredRun, base: str, ahead: int) -> pa.Table:
    """Sums and numbers of the flips of every document, letter and change."""
    pairs = {
        name: f"least(n_later, {far}) - {near - 1}" if far is not None else f"n_later - {near - 1}"
        for name, (near, far) in EFFECT_DISTANCES.items()
    }
    sums = [f"sum({name}) AS {name}" for name in _SUMS]
    for name, pair in pairs.items():
        sums += [
            f"sum(greatest({pair}, 0))::DOUBLE AS pairs_{name}",
            *(f"sum({of}_{name}) AS {of}_{name}" for of in ("later", "kl")),
        ]
    text = f"""SELECT document, layer, before || '>' || after AS change, count(*)::DOUBLE AS flips, {", ".join(sums)},
            sum((own_effect < 0)::INT)::DOUBLE AS helped,
            sum((own_effect < 0 AND own_effect + later_effect > 0)::INT)::DOUBLE AS misled,
            sum(own_effect * later_effect) AS product, sum(own_effect ** 2) AS own_square, sum(later_effect ** 2) AS later_square
        FROM effects JOIN tokens USING (run, sequence, position)
        WHERE base = '{RoutingPattern.parse(base, run.n_letters)}' AND ahead = {int(ahead)}
        GROUP BY ALL ORDER BY document, layer, change"""
    return query([run], text)


def _layer(groups: pa.Table, mine_R: np.ndarray, layer: int | None, change: str | None) -> LayerEffects:
    document_R = np.array(groups["document"].to_pylist())[mine_R]
    flips_R = groups["flips"].to_numpy()[mine_R]
    own_R, later_R, kl_own_R, kl_later_R = (groups[name].to_numpy()[mine_R] for name in _SUMS)

    def per_flip(value_R: np.ndarray) -> Estimate:
        return estimate((1.0, ratio(document_R, value_R, flips_R)))

    total = per_flip(own_R + later_R)
    return LayerEffects(
        layer,
        change,
        int(flips_R.sum()),
        own=per_flip(own_R),
        later=per_flip(later_R),
        kl_own=per_flip(kl_own_R),
        kl_later=per_flip(kl_later_R),
        kl_share=estimate((1.0, ratio(document_R, kl_later_R, kl_own_R + kl_later_R))),
        loss_share=_signed_share(document_R, later_R, own_R + later_R) if abs(total.mean) > _SURE * total.error else None,
    )


def _signed_share(document_R: np.ndarray, part_R: np.ndarray, whole_R: np.ndarray) -> Estimate:
    sign = np.sign(whole_R.sum())  # a ratio's weights are positive in sum; a share is the same of both negated
    return estimate((1.0, ratio(document_R, sign * part_R, sign * whole_R)))


def _distance(groups: pa.Table, name: str, near: int, far: int | None) -> DistanceEffects | None:
    document_R = np.array(groups["document"].to_pylist())
    pairs_R, later_R, kl_R, all_R = (
        groups[column].to_numpy() for column in (f"pairs_{name}", f"later_{name}", f"kl_{name}", "kl_later")
    )
    if not pairs_R.sum():
        return None
    loss, kl = (estimate((1.0, ratio(document_R, value_R, pairs_R))) for value_R in (later_R, kl_R))
    share = estimate((1.0, ratio(document_R, kl_R, all_R)))
    return DistanceEffects(near, far, int(pairs_R.sum()), loss, kl, share)


def _correlation(groups: pa.Table) -> float:
    names = ("flips", "own_effect", "later_effect", "product", "own_square", "later_square")
    n, own, later, product, own_square, later_square = (float(groups[name].to_numpy().sum()) for name in names)
    variances = (own_square / n - (own / n) ** 2) * (later_square / n - (later / n) ** 2)
    return (product / n - own * later / n**2) / variances**0.5 if variances > 0 else float("nan")


def _spearman(left: np.ndarray, right: np.ndarray) -> float:
    ranks = [np.argsort(np.argsort(values)).astype(np.float64) for values in (left, right)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1]) if len(left) > 1 else float("nan")


def _total(one: LayerEffects) -> float:
    return one.own.mean + one.later.mean


def _layers_section(found: Effects) -> Section:
    columns = ("layer", "change", "flips", "own loss", f"next {found.ahead}", "KL own", "KL next", "next's share of KL", "of loss")
    rows: list[tuple[Cell, ...]] = []
    for one in (*found.layers, found.whole):
        where = ("all", "any") if one.layer is None else (str(one.layer), one.change)
        rows.append((*where, one.flips, one.own, one.later, one.kl_own, one.kl_later, one.kl_share, one.loss_share))
    title = (
        f"one letter changed, every token else {found.base}: nats per flip, the later tokens' summed [95% over "
        f"{found.whole.own.n_documents} documents]"
    )
    note = "KL: of the base's distribution to that after the flip; of loss: where own + next is four standard errors from zero"
    return Section("layers", title, columns, tuple(rows), note)


def _distances_section(found: Effects) -> Section:
    rows = tuple((_distance_name(one), one.tokens, _thousand(one.loss), _thousand(one.kl), one.share) for one in found.distances)
    columns = ("tokens after", "pairs", "1000 x loss per token", "1000 x KL per token", "share of KL next")
    return Section("distances", "by distance, all letters together; thousandths of a nat per later token [95%]", columns, rows)


def _sum_section(found: Effects) -> Section:
    rows: list[tuple[Cell, ...]] = [
        ("correlation of own and later effect over flips", found.correlation),
        ("of the flips that help their own token, those that hurt in sum", found.misled),
        ("rank correlation of letters by own effect and by the sum", found.order),
    ]
    return Section("together", "does the own token's loss decide rightly?", ("", "value"), tuple(rows))


def _thousand(value: Estimate) -> Estimate:
    scaled = {name: 1e3 * getattr(value, name) for name in ("mean", "low", "high", "error", "detectable")}
    return replace(value, **scaled)


def _distance_name(one: DistanceEffects) -> str:
    return f"{one.near}+" if one.far is None else str(one.near) if one.near == one.far else f"{one.near}-{one.far}"
