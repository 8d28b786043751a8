"""Where some layers are routed, everything equals brute force over their letters with all other layers big."""

import numpy as np
import pytest
import torch

from duo_oracle.models.route_layers import SomeLayersRouted
from duo_oracle.oracle.budgets import parse_budgets
from duo_oracle.oracle.contexts import Context, ContextKind, SkipReading, parse_context
from duo_oracle.oracle.engine import exact
from duo_oracle.oracle.engine.exact import ExactOracle
from duo_oracle.oracle.engine.labels import NullLabels
from duo_oracle.oracle.engine.lanes import left_to_right
from duo_oracle.oracle.engine.scorer import CommittedScorer, FixedScorer, SameScorer
from duo_oracle.oracle.patterns import Branch, RoutingPattern, to_strings
from duo_oracle.oracle.spaces import parse_branches
from tests.small_models import all_patterns, brute_force, random_tokens, small_duo

DEPTH = 8
SOME_LAYERS = [(1, 3, 4, 6), (0, 7), (5,), (2, 3, 4)]
CONTEXTS = ["committed", "same", "full", "cheapest", "a pattern"]


def with_the_others_big(branches_PL: np.ndarray, layers: tuple[int, ...]) -> np.ndarray:
    whole_PL = np.full((len(branches_PL), DEPTH), Branch.BIG, dtype=np.uint8)
    whole_PL[:, list(layers)] = branches_PL
    return whole_PL


def context_of(name: str, n_letters: int, layers: tuple[int, ...]) -> tuple[Context, Context]:
    """The context over the letters, and the same over all layers."""
    context = parse_context("Bs.s"[:n_letters] if name == "a pattern" else name, n_letters)
    if context.pattern is None:
        return context, context
    whole_1L = with_the_others_big(np.array([context.pattern.branches], dtype=np.uint8), layers)
    return context, Context(ContextKind.FIXED, RoutingPattern(tuple(Branch(int(b)) for b in whole_1L[0])))


@pytest.mark.parametrize("skip", list(SkipReading))
@pytest.mark.parametrize("layers", SOME_LAYERS)
@pytest.mark.parametrize("name", CONTEXTS)
def test_the_exact_oracle_equals_brute_force_over_the_routable_letters(monkeypatch, name, layers, skip):
    monkeypatch.setattr(exact, "_FEW_LEAVES", 0)
    monkeypatch.setattr(exact, "_TARGET_ROWS", 64)
    n_letters, branches = len(layers), parse_branches(".sB")
    model = SomeLayersRouted(small_duo(n_letters=DEPTH), layers)
    reference = small_duo(n_letters=DEPTH, dtype=torch.float64)
    token_ids = [random_tokens(n, seed=n) for n in (5, 3)]
    context, whole_context = context_of(name, n_letters, layers)
    budgets = parse_budgets("any,1,atmost:1", n_letters)
    oracle = ExactOracle(model, branches, budgets, skip, NullLabels(1))
    if context.kind is ContextKind.COMMITTED:
        found = oracle.in_committed_context([0, 1], token_ids)
    elif context.kind is ContextKind.SAME:
        found = [oracle.in_same_context(index, tokens) for index, tokens in enumerate(token_ids)]
    else:
        found = [oracle.in_fixed_context(index, tokens, context.pattern) for index, tokens in enumerate(token_ids)]
    patterns_PL = all_patterns(n_letters, branches)
    for token_id_T, paths in zip(token_ids, found, strict=True):
        for index, budget in enumerate(budgets):
            rows = np.flatnonzero(paths.budget_R == index)
            admitted_PL = patterns_PL[budget.allows(n_letters)[(patterns_PL == Branch.BIG).sum(axis=1)]]
            chosen_TL = with_the_others_big(paths.branches_RL[rows], layers)
            for position, row in enumerate(rows):
                loss_P = brute_force(
                    reference, token_id_T, position, with_the_others_big(admitted_PL, layers), whole_context, skip, chosen_TL
                )
                assert paths.loss_R[row] == pytest.approx(loss_P.min(), abs=1e-4)
                chosen = to_strings(admitted_PL).index(to_strings(paths.branches_RL[[row]])[0])
                assert loss_P[chosen] == pytest.approx(loss_P.min(), abs=1e-4)
                uniform_PL = with_the_others_big(np.array([[1] * n_letters, [2] * n_letters], dtype=np.uint8), layers)
                small, big = brute_force(reference, token_id_T, position, uniform_PL, whole_context, skip, chosen_TL)
                assert (paths.loss_cheapest_R[row], paths.loss_full_R[row]) == pytest.approx((small, big), abs=1e-4)


@pytest.mark.parametrize("skip", list(SkipReading))
@pytest.mark.parametrize("layers", SOME_LAYERS)
def test_a_scorer_gives_the_losses_of_brute_force(layers, skip):
    model, token_id_T = SomeLayersRouted(small_duo(n_letters=DEPTH), layers), random_tokens(6)
    reference = small_duo(n_letters=DEPTH, dtype=torch.float64)
    generator = np.random.default_rng(0)
    patterns_PL = all_patterns(len(layers), tuple(Branch))
    place_R = generator.integers(0, 5, 60)
    branches_RL = patterns_PL[generator.integers(0, len(patterns_PL), 60)]
    chosen_TL = patterns_PL[generator.integers(0, len(patterns_PL), 5)]
    for name in ("full", "same", "committed"):
        context, whole_context = context_of(name, len(layers), layers)
        if name == "same":
            loss_R = SameScorer(model, 0, token_id_T, skip).score(place_R, branches_RL)
        elif name == "full":
            loss_R = FixedScorer(model, 0, token_id_T, context.pattern, skip).score(place_R, branches_RL)
        else:
            loss_R = np.full(60, np.nan)
            for step in left_to_right(model, [token_id_T], skip):
                rows = np.flatnonzero(place_R == step.position)
                loss_R[rows] = CommittedScorer(model, step, [0], skip).score(np.zeros(len(rows), dtype=np.int64), branches_RL[rows])
                step.commit(chosen_TL[[step.position]])
        for row in range(60):
            whole_1L = with_the_others_big(branches_RL[[row]], layers)
            whole_TL = with_the_others_big(chosen_TL, layers)
            loss_1 = brute_force(reference, token_id_T, int(place_R[row]), whole_1L, whole_context, skip, whole_TL)
            assert loss_R[row] == pytest.approx(loss_1[0], abs=1e-4), (name, row)


def test_layers_before_the_first_routed_one_run_once_per_token():
    model = small_duo(n_letters=DEPTH)
    rows: dict[int, int] = {}
    ffn = model.ffn

    def counted(layer, branch, x, before=None):
        rows[layer] = rows.get(layer, 0) + x[..., 0].numel()
        return ffn(layer, branch, x)

    model.ffn = counted
    oracle = ExactOracle(SomeLayersRouted(model, (5, 6, 7)), (Branch.SMALL, Branch.BIG), parse_budgets("any", 3), SkipReading.FFN)
    big = RoutingPattern.uniform(Branch.BIG, 3)
    oracle.in_fixed_context(0, random_tokens(6), big)
    assert [rows[layer] for layer in range(5)] == [5] * 5
    assert rows[7] == 5 * (1 + 8)  # the context's own pass, and every state
    rows.clear()
    oracle.in_committed_context([0, 1], [random_tokens(6), random_tokens(6, seed=1)])
    assert [rows[layer] for layer in range(5)] == [10] * 5
