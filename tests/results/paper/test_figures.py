"""The paper's figures on data of which the truth is known: a trend, the same trend from noise alone, or none."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from duo_oracle.oracle.patterns import Branch
from duo_oracle.results.paper.figure import by_layer, figure_names, load_figure, thirds
from duo_oracle.results.paper.figures.fig2d import preferred_elsewhere
from duo_oracle.results.paper.figures.fig3 import over_positions, router_pairs
from duo_oracle.results.paper.figures.fig4b import gain_effect
from duo_oracle.results.paper.figures.fig4c import scheduled, schedules
from duo_oracle.results.paper.figures.fig6 import GROUPS, groups
from duo_oracle.results.paper.material import KINDS, Material, Routes, random_budgets
from duo_oracle.results.statistics.effects import Verdict, estimate, ratio
from duo_oracle.results.statistics.intervals import Estimate
from duo_oracle.results.store.positions import Positions

N_LAYERS, N_DOCUMENTS, N_POSITIONS = 6, 12, 40


def positions_of(effect_NL: np.ndarray, null_gain_NK: np.ndarray | None = None, texts: list[str] | None = None) -> Positions:
    """A token's loss is 8 plus the effect of each layer that is big: the oracle takes the k most negative effects."""
    n, n_letters = effect_NL.shape
    order_NL = np.argsort(effect_NL, axis=1, kind="stable")
    rank_NL = np.argsort(order_NL, axis=1, kind="stable")
    loss_NK = 8 + np.concatenate([np.zeros((n, 1)), np.cumsum(np.take_along_axis(effect_NL, order_NL, axis=1), axis=1)], axis=1)
    big_NKL = rank_NL[:, None, :] < np.arange(n_letters + 1)[None, :, None]
    text_N = np.array((texts or ["x"] * n), dtype=object)
    return Positions(
        budgets=tuple(str(k) for k in range(n_letters + 1)),
        sequence_N=np.arange(n) // N_POSITIONS,
        position_N=np.arange(n) % N_POSITIONS,
        document_N=np.array([f"document {i // N_POSITIONS:02}" for i in range(n)]),
        token_N=text_N,
        target_N=text_N,
        branches_NKL=np.where(big_NKL, Branch.BIG, Branch.SMALL).astype(np.uint8),
        loss_NK=loss_NK,
        null_gain_NK=np.zeros_like(loss_NK) if null_gain_NK is None else null_gain_NK,
        small_N=loss_NK[:, 0],
        big_N=loss_NK[:, -1],
    )


def noise(seed: int, mean_L: np.ndarray | float = 0.0) -> np.ndarray:
    """Effects without any truth in them but `mean_L`: their spread grows with depth."""
    rng = np.random.default_rng(seed)
    return rng.normal(0, 1, (N_DOCUMENTS * N_POSITIONS, N_LAYERS)) * np.linspace(0.2, 0.4, N_LAYERS) + mean_L


@dataclass
class Made:
    """Material in memory."""

    found: dict[tuple[str, str], Positions]
    routed: tuple[Routes, ...] = ()
    holdouts: tuple[str, ...] = ("prose",)
    n_letters: int = N_LAYERS
    directory: Path = field(default_factory=Path)

    def positions(self, holdout: str, kind: str) -> Positions:
        return self.found[holdout, kind]

    def routes(self, holdout: str) -> tuple[Routes, ...]:
        return self.routed


def answer(name: str, material: Any) -> Any:
    return load_figure(name).answer(material)


@pytest.mark.parametrize("name", figure_names())
def test_every_figure_says_what_it_is_and_needs_what_there_is(name: str) -> None:
    figure = load_figure(name)
    assert figure.title.startswith("Figure ")
    assert figure.finding
    assert figure.control.endswith(".")
    assert set(figure.needs) <= set(KINDS)


def test_the_papers_trend_from_noise_alone_is_luck_and_a_true_preference_is_found() -> None:
    control = positions_of(noise(1))
    by_luck = answer("fig2", Made({("prose", "big"): positions_of(noise(0)), ("prose", "sampled"): control}))
    assert all(one.raw.low > 0 for one in by_luck.effects)  # late at few B's, early at many: the paper's figure, from noise
    assert by_luck.deciding.verdict is Verdict.BIAS
    late_L = np.linspace(0.1, -0.3, N_LAYERS)
    true = answer("fig2", Made({("prose", "big"): positions_of(noise(0, late_L)), ("prose", "sampled"): control}))
    few, many = true.effects
    assert few.verdict is Verdict.FOUND
    assert many.verdict is Verdict.NOT_FOUND  # truly later layers are later at every budget


def test_one_holdout_without_the_finding_decides() -> None:
    trend = positions_of(noise(0, np.linspace(0.1, -0.3, N_LAYERS)))
    flat = positions_of(np.random.default_rng(5).normal(0, 0.3, (N_DOCUMENTS * N_POSITIONS, N_LAYERS)))
    found = {("prose", "big"): trend, ("code", "big"): flat, ("prose", "sampled"): flat, ("code", "sampled"): flat}
    assert answer("fig2", Made(found, holdouts=("prose", "code"))).deciding.verdict is Verdict.NOT_FOUND


def test_by_layer_is_the_least_squares_rise() -> None:
    share_NL = np.random.default_rng(0).random((50, 7))
    slope = np.polyfit(np.arange(7), share_NL.mean(axis=0), 1)[0]
    assert by_layer(share_NL, 7).mean() == pytest.approx(6 * slope)


def test_thirds_are_the_papers_budgets() -> None:
    assert thirds(12) == (4, 6, 8)
    assert set(thirds(12)) | {1} <= set(random_budgets(12))
    for n_letters in range(3, 17):
        assert {1, *thirds(n_letters)} <= set(random_budgets(n_letters)) | {0, n_letters}


def test_layers_kept_in_other_documents_too_are_a_preference_and_noise_is_none() -> None:
    rng = np.random.default_rng(0)
    document_N = np.repeat(np.arange(20), 30)
    kept_NL = np.argsort(np.argsort(rng.random((600, 8)), axis=1), axis=1) < 4
    even = estimate((1, preferred_elsewhere(kept_NL, document_N)))
    assert even.low < 0 < even.high
    always_NL = np.repeat([[True] * 4 + [False] * 4], 600, axis=0)
    assert estimate((1, preferred_elsewhere(always_NL, document_N))).mean == pytest.approx(0.5)
    # each document its own layers: within documents a preference, but not one that comes back
    own_NL = np.stack([np.isin(np.arange(8), rng.permutation(8)[:4]) for _ in range(20)])[document_N]
    assert estimate((1, preferred_elsewhere(own_NL, document_N))).low < 0


def test_a_gain_is_luck_where_the_null_gain_and_calibration_are_as_large() -> None:
    effect_NL = noise(0)
    real = positions_of(effect_NL)
    gain_NK = real.big_N[:, None] - real.loss_NK
    rng = np.random.default_rng(1)
    jitter_NK = rng.normal(0, 0.05, gain_NK.shape)
    plain = replace(real, null_gain_NK=gain_NK + jitter_NK - 0.2)  # an excess of 0.2 at every budget ...
    random = replace(real, null_gain_NK=gain_NK - 0.2)  # ... that a random pattern has as well
    overconfident = Made({("prose", "big"): plain, ("prose", "random"): random})
    one = gain_effect(overconfident, "prose", 3, "gain")  # type: ignore[arg-type]
    assert estimate((1, ratio(plain.document_N, plain.excess_NK[:, 3]))).low > 0.1
    assert one.verdict is Verdict.BIAS
    random = replace(real, null_gain_NK=gain_NK)
    chosen = Made({("prose", "big"): plain, ("prose", "random"): random})
    assert gain_effect(chosen, "prose", 3, "gain").verdict is Verdict.FOUND  # type: ignore[arg-type]


def test_a_constant_budget_is_best_by_convexity_alone() -> None:
    real = positions_of(noise(0))
    convex = Made(
        {("prose", "big"): replace(real, null_gain_NK=positions_of(noise(1)).big_N[:, None] - positions_of(noise(1)).loss_NK)}
    )
    found = answer("fig4c", convex)
    assert all(one.raw.low > 0 for one in found.effects)
    assert found.deciding.verdict is Verdict.BIAS
    no_luck = answer("fig4c", Made({("prose", "big"): real}))
    assert no_luck.deciding.verdict is Verdict.FOUND


def test_schedules_have_one_average_and_equal_steps() -> None:
    assert schedules(12) == {"falling": [6, 5, 4, 3, 2], "rising": [2, 3, 4, 5, 6], "constant": [4] * 5}
    for n_letters in range(3, 17):
        named = schedules(n_letters)
        assert {sum(steps) for steps in named.values()} == {sum(named["constant"])}
        assert all(0 <= k <= n_letters for steps in named.values() for k in steps)
    real = positions_of(noise(0))
    budget_NK = np.tile(np.arange(N_LAYERS + 1.0), (len(real.small_N), 1))
    falling = scheduled(real, [3, 2, 1], budget_NK)
    assert np.all(np.diff(falling[:N_POSITIONS]) <= 0)
    assert np.bincount(falling[:N_POSITIONS].astype(int)).tolist() == [0, 13, 13, 14]


def test_losses_that_compute_does_not_help_are_found_beyond_those_of_luck() -> None:
    helped_NL = noise(0, -0.5)
    stubborn_NL = np.where((np.arange(len(helped_NL)) % 2 == 0)[:, None], 0.01 * helped_NL, helped_NL)
    control = positions_of(noise(1, -0.5))
    rise_N = np.random.default_rng(0).gamma(2, 1, len(helped_NL))  # so that some losses are higher than others

    def shifted(positions: Positions) -> Positions:
        return replace(positions, loss_NK=positions.loss_NK + rise_N[:, None], small_N=positions.small_N + rise_N)

    real = shifted(positions_of(stubborn_NL))
    found = answer("fig5", Made({("prose", "big"): real, ("prose", "sampled"): shifted(control)}))
    assert found.deciding.verdict is Verdict.FOUND
    assert found.deciding.raw.mean == pytest.approx(0.5, abs=0.15)
    same = answer("fig5", Made({("prose", "big"): real, ("prose", "sampled"): real}))
    assert same.deciding.verdict is Verdict.BIAS


def test_tokens_of_code_fall_into_their_groups() -> None:
    texts = [
        "def",
        " total",
        "(",
        "items",
        "):",
        "\n",
        "   ",
        " return",
        " total",
        " +",
        " items",
        " #",
        " total",
        "\n",
        "\n",
        "x",
        "\n",
        '"""',
        "total",
        '"""',
        "\n",
        "items",
    ]
    positions = positions_of(np.zeros((len(texts) - 1, 2)))
    positions = replace(positions, token_N=np.array(texts[:-1], dtype=object), target_N=np.array(texts[1:], dtype=object))
    named = [(text, GROUPS[group]) for text, group in zip(texts[1:], groups(positions), strict=True)]
    assert [text for text, group in named if group == "first of a line"] == [" return", "x", "items"]
    commented = [text for text, group in named if group == "comment or docstring"]
    assert commented == [" #", " total", "\n", '"""', "total", '"""']
    assert [text for text, group in named if group == "determined by the context"] == [" total", " items"]


def test_names_that_compute_helps_more_than_line_starts_are_found() -> None:
    rng = np.random.default_rng(0)
    line = ["\n", "alpha", " =", " alpha"]
    texts = line * (N_DOCUMENTS * N_POSITIONS // len(line))
    saves_N = np.array([0.2 if text == " alpha" else 0.05 for text in texts])
    real = positions_of(-rng.gamma(2, 0.2, (len(texts), N_LAYERS)) * saves_N[:, None], texts=texts)
    flat = positions_of(-rng.gamma(2, 0.2, (len(texts), N_LAYERS)) * 0.1, texts=texts)
    from duo_oracle.results.paper.figures.fig6 import share_saved

    def difference(positions: Positions) -> Estimate:
        group_N = groups(positions)
        return estimate((1, share_saved(positions, group_N == 1)), (-1, share_saved(positions, group_N == 0)))

    assert difference(real).low > 0
    assert difference(flat).low < 0 < difference(flat).high


def routes_of(name: str, trained: bool, branches_NL: np.ndarray) -> Routes:
    position_N = np.arange(len(branches_NL)) % N_POSITIONS
    document_N = np.array([f"document {i // N_POSITIONS:02}" for i in range(len(branches_NL))])
    return Routes(name, None, trained, document_N, position_N, branches_NL, np.zeros(len(branches_NL)))


def test_a_router_that_favours_late_layers_and_early_tokens_is_found_to() -> None:
    rng = np.random.default_rng(0)
    n = N_DOCUMENTS * N_POSITIONS
    early_N1 = 0.4 - 0.01 * (np.arange(n) % N_POSITIONS)[:, None]
    chance_NL = np.clip(np.linspace(0, 0.8, N_LAYERS) + early_N1, 0, 1)
    router = np.where(rng.random((n, N_LAYERS)) < chance_NL, Branch.BIG, Branch.SMALL).astype(np.uint8)
    plain = np.where(rng.random((n, N_LAYERS)) < chance_NL.mean(), Branch.BIG, Branch.SMALL).astype(np.uint8)
    skipping = np.where(rng.random((n, N_LAYERS)) < 0.5, Branch.BIG, Branch.SKIP).astype(np.uint8)
    routed = (routes_of("r", True, router), routes_of("random-s", False, skipping), routes_of("random-r", False, plain))
    material = Made({}, routed)
    assert [(one.router, other.router) for one, other in router_pairs(material, "prose")] == [("r", "random-r")]  # type: ignore[arg-type]
    assert answer("fig3", material).deciding.verdict is Verdict.FOUND
    assert answer("fig7", material).deciding.verdict is Verdict.FOUND
    same = Made({}, (routes_of("r", True, plain), routes_of("random-r", False, plain)))
    assert answer("fig3", same).deciding.verdict is not Verdict.FOUND
    assert answer("fig7", same).deciding.verdict is not Verdict.FOUND


def test_a_change_over_positions_is_the_least_squares_slope() -> None:
    routes = routes_of("r", True, np.full((200, 3), Branch.BIG, dtype=np.uint8))
    value_N = np.random.default_rng(0).random(200) - 0.01 * routes.position_N
    slope = np.polyfit(routes.position_N, value_N, 1)[0]
    assert estimate((1, over_positions(routes, value_N))).mean == pytest.approx(100 * slope)


def study(folder: Path, loss_of: dict[str, float]) -> Material:
    """Losses of made-up models on ten documents: a document's own level, the model's, and a little noise."""
    rng = np.random.default_rng(0)
    level_D = rng.normal(0, 0.5, 10)
    models = {}
    for name, loss in loss_of.items():
        losses = {
            way: {f"d{d}": (float(100 * (loss + level_D[d] + rng.normal(0, 0.01))), 100) for d in range(10)}
            for way in ("own", "big", "small")
        }
        kind, _, share = name.partition("-")
        known = share.removesuffix("-again").replace("then-small", "0.5")
        models[name] = {"p_big": float(known), "dense": kind == "dense", "order": "joint", "seed": 0, "losses": losses}
    (folder / "study").mkdir(parents=True)
    (folder / "study" / "losses.json").write_text(json.dumps({"about": "nothing", "models": models}))
    return Material(folder, ("code",))


def test_the_cost_of_random_routing_is_judged_beside_what_a_seed_changes(tmp_path: Path) -> None:
    dense = {"dense-0": 5.0, "dense-0.5": 4.5, "dense-1": 4.0}
    behind = study(tmp_path / "a", {**dense, "duo-0": 5.0, "duo-0.5": 4.8, "duo-1": 4.1})
    assert answer("fig8ab", behind).deciding.verdict is Verdict.FOUND
    for sign, folder in ((1, "b"), (-1, "c")):  # whichever of the two seeds is the better one
        as_a_seed = study(tmp_path / folder, {**dense, "duo-0": 5.0 + 0.2 * sign, "duo-0.5": 4.6, "duo-1": 4.1})
        assert answer("fig8ab", as_a_seed).deciding.verdict is Verdict.BIAS


def test_joint_training_is_judged_beside_another_seed(tmp_path: Path) -> None:
    better = study(tmp_path / "a", {"duo-0.5": 4.0, "duo-0.5-again": 4.02, "big-then-small": 4.3})
    assert answer("fig8c", better).deciding.verdict is Verdict.FOUND
    worse = study(tmp_path / "b", {"duo-0.5": 4.0, "duo-0.5-again": 4.02, "big-then-small": 3.9})
    assert answer("fig8c", worse).deciding.verdict is Verdict.NOT_FOUND
