"""The law: the exact oracle equals brute force, by plain forward passes, in every context x skip x branches x budget kind."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from duo_oracle.oracle.budgets import parse_budgets
from duo_oracle.oracle.contexts import ContextKind, SkipReading, parse_context
from duo_oracle.oracle.engine import exact
from duo_oracle.oracle.engine.exact import ExactOracle
from duo_oracle.oracle.engine.labels import NullLabels
from duo_oracle.oracle.patterns import Branch, to_strings
from duo_oracle.oracle.spaces import parse_branches
from tests.small_models import all_patterns, brute_force, plain_losses, random_tokens, small_duo


@pytest.fixture
def certifying(monkeypatch):
    """Certify even the smallest tree, in blocks of a few leaves."""
    monkeypatch.setattr(exact, "_FEW_LEAVES", 0)
    monkeypatch.setattr(exact, "_TARGET_ROWS", 64)


def solve(oracle, context, token_ids):
    names = list(range(len(token_ids)))
    if context.kind is ContextKind.COMMITTED:
        return oracle.in_committed_context(names, token_ids)
    if context.kind is ContextKind.SAME:
        return [oracle.in_same_context(name, tokens) for name, tokens in zip(names, token_ids, strict=True)]
    return [oracle.in_fixed_context(name, tokens, context.pattern) for name, tokens in zip(names, token_ids, strict=True)]


def assert_equal_to_brute_force(model, token_ids, branches, budgets, context, skip, found, tolerance=1e-4):
    everything_PL = all_patterns(model.n_letters, branches)
    for token_id_T, paths in zip(token_ids, found, strict=True):
        n_scored = len(token_id_T) - 1
        assert paths.position_R.tolist() == np.repeat(np.arange(n_scored), len(budgets)).tolist()
        assert paths.certified_R.all()
        for index, budget in enumerate(budgets):
            rows = np.flatnonzero(paths.budget_R == index)
            admitted_PL = everything_PL[budget.allows(model.n_letters)[(everything_PL == Branch.BIG).sum(axis=1)]]
            chosen_TL = paths.branches_RL[rows]
            assert (paths.evaluations_R[rows] == len(admitted_PL)).all()
            for position, row in enumerate(rows):
                loss_P = brute_force(model, token_id_T, position, admitted_PL, context, skip, chosen_TL)
                assert paths.loss_R[row] == pytest.approx(loss_P.min(), abs=tolerance)
                chosen = to_strings(admitted_PL).index(to_strings(paths.branches_RL[[row]])[0])
                assert loss_P[chosen] == pytest.approx(loss_P.min(), abs=tolerance)
                references = np.array([[Branch.SMALL] * model.n_letters, [Branch.BIG] * model.n_letters], dtype=np.uint8)
                small, big = brute_force(model, token_id_T, position, references, context, skip, chosen_TL)
                assert (paths.loss_cheapest_R[row], paths.loss_full_R[row]) == pytest.approx((small, big), abs=tolerance)


@pytest.mark.parametrize("skip", list(SkipReading))
@pytest.mark.parametrize("branches", ["sB", ".sB", ".B", ".s"])
@pytest.mark.parametrize("context", ["committed", "same", "full", "cheapest", "B.s"])
def test_exhaustive_equals_brute_force(certifying, context, branches, skip):
    model = small_duo(dtype=torch.float32)
    reference = small_duo(dtype=torch.float64)
    token_ids = [random_tokens(n, seed=n) for n in (6, 4)]
    letters = parse_branches(branches)
    budgets = parse_budgets("0-3,any,atmost:2" if "B" in branches else "0,any,atmost:1", 3)
    oracle = ExactOracle(model, letters, budgets, skip)
    found = solve(oracle, parse_context(context, 3), token_ids)
    assert_equal_to_brute_force(reference, token_ids, letters, budgets, parse_context(context, 3), skip, found)


@given(
    seed=st.integers(0, 10_000),
    n_letters=st.integers(1, 5),
    heads=st.sampled_from([(1, 1), (4, 2), (3, 1), (2, 2)]),
    n_hidden=st.sampled_from([8, 12, 24]),
    n_vocabulary=st.integers(2, 60),
    n_tokens=st.integers(2, 6),
    branches=st.sampled_from(["sB", ".sB", ".B"]),
    context=st.sampled_from(["committed", "same", "full", "cheapest"]),
    skip=st.sampled_from(list(SkipReading)),
    spread=st.sampled_from([0.1, 0.4]),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_exhaustive_equals_brute_force_on_any_shape(
    certifying, seed, n_letters, heads, n_hidden, n_vocabulary, n_tokens, branches, context, skip, spread
):
    shape = {
        "seed": seed,
        "n_letters": n_letters,
        "n_hidden": n_hidden,
        "n_heads": heads[0],
        "n_kv_heads": heads[1],
        "n_vocabulary": n_vocabulary,
        "spread": spread,
    }
    token_ids = [random_tokens(n_tokens, n_vocabulary, seed)]
    budgets = parse_budgets(f"any,{n_letters // 2},atmost:{n_letters - 1}", n_letters)
    where = parse_context(context, n_letters)
    oracle = ExactOracle(small_duo(**shape), parse_branches(branches), budgets, skip)
    found = solve(oracle, where, token_ids)
    reference = small_duo(**shape, dtype=torch.float64)
    assert_equal_to_brute_force(reference, token_ids, parse_branches(branches), budgets, where, skip, found)


@pytest.mark.parametrize("context", [pytest.param("committed", marks=pytest.mark.slow), "same", "full"])
def test_memory_bound_changes_no_answer_but_the_blocks(context, monkeypatch):
    monkeypatch.setattr(exact, "_FEW_LEAVES", 0)
    model, token_ids = small_duo(n_letters=5), [random_tokens(5)]
    budgets = parse_budgets("0-5,any", 5)
    where = parse_context(context, 5)
    wide = solve(ExactOracle(model, tuple(Branch), budgets, SkipReading.FFN, NullLabels(2)), where, token_ids)[0]
    monkeypatch.setattr(exact, "_TARGET_ROWS", 8)
    narrow = solve(
        ExactOracle(model, tuple(Branch), budgets, SkipReading.FFN, NullLabels(2), memory_bytes=1 << 14), where, token_ids
    )[0]
    assert to_strings(wide.branches_RL) == to_strings(narrow.branches_RL)
    np.testing.assert_allclose(wide.loss_R, narrow.loss_R, atol=1e-5)
    np.testing.assert_allclose(wide.null_gain_R, narrow.null_gain_R, atol=1e-5)


def test_a_committed_run_is_a_real_routing_of_the_whole_sequence():
    model, token_id_T = small_duo(n_letters=4), random_tokens(8)
    budgets = parse_budgets("any,2", 4)
    paths = ExactOracle(model, tuple(Branch), budgets, SkipReading.LAYER).in_committed_context([0], [token_id_T])[0]
    for index in range(len(budgets)):
        rows = paths.budget_R == index
        loss_T = plain_losses(model, token_id_T, paths.branches_RL[rows][None], SkipReading.LAYER)[0]
        np.testing.assert_allclose(paths.loss_R[rows], loss_T, atol=1e-4)


def test_neighbours_in_a_unit_change_nothing_in_a_sequence():
    model = small_duo(n_letters=4)
    token_ids = [random_tokens(n, seed=n) for n in (5, 8, 5, 3)]
    oracle = ExactOracle(model, (Branch.SMALL, Branch.BIG), parse_budgets("any", 4), SkipReading.FFN, NullLabels(2))
    together = oracle.in_committed_context([0, 1, 2, 3], token_ids)
    for index, token_id_T in enumerate(token_ids):
        alone = oracle.in_committed_context([index], [token_id_T])[0]
        assert to_strings(alone.branches_RL) == to_strings(together[index].branches_RL)
        np.testing.assert_allclose(alone.loss_R, together[index].loss_R, atol=1e-5)
        np.testing.assert_allclose(alone.null_gain_R, together[index].null_gain_R, atol=1e-5)


def test_every_loss_is_handed_over_and_the_least_is_the_oracle_path():
    model, token_id_T = small_duo(n_letters=4), random_tokens(5)
    blocks = []
    budgets = parse_budgets("any,2", 4)
    oracle = ExactOracle(model, tuple(Branch), budgets, SkipReading.FFN, on_losses=lambda sequence, block: blocks.append(block))
    where = parse_context("full", 4)
    paths = oracle.in_fixed_context(3, token_id_T, where.pattern)
    everything_PL = all_patterns(4, tuple(Branch))
    for position in range(4):
        loss_P = brute_force(model, token_id_T, position, everything_PL, where, SkipReading.FFN, everything_PL[:1])
        known = {
            text: loss
            for block in blocks
            for row in np.flatnonzero(block.position_N == position)
            for text, loss in zip(to_strings(block.branches_PL), block.loss_NP[row], strict=True)
        }
        assert sorted(known) == sorted(to_strings(everything_PL))
        np.testing.assert_allclose([known[text] for text in to_strings(everything_PL)], loss_P, atol=1e-4)
        assert paths.loss_R[(paths.position_R == position) & (paths.budget_R == 0)] == pytest.approx(loss_P.min(), abs=1e-4)


def test_equal_losses_go_by_fewer_big_then_the_string(certifying):
    """With FFNs that add nothing every pattern of a position has one loss, to the bit."""
    model = small_duo(n_letters=4)
    for layer in model._layers:
        for down_FD in layer.down_FD.values():
            down_FD.zero_()
    budgets = parse_budgets("any,2,atmost:1,4", 4)
    paths = ExactOracle(model, tuple(Branch), budgets, SkipReading.FFN).in_fixed_context(
        0, random_tokens(4), parse_context("full", 4).pattern
    )
    assert to_strings(paths.branches_RL) == ["....", "..BB", "....", "BBBB"] * 3


def test_scoring_twice_gives_equal_bytes_and_leaves_the_weights_alone():
    model, token_id_T = small_duo(n_letters=4), random_tokens(6)
    before = [tensor.clone() for layer in model._layers for tensor in layer.gate_up_DF.values()]
    oracle = ExactOracle(model, tuple(Branch), parse_budgets("any", 4), SkipReading.FFN, NullLabels(3))
    first, second = (oracle.in_same_context(0, token_id_T) for _ in range(2))
    for name, value in vars(first).items():
        assert value.tobytes() == getattr(second, name).tobytes(), name
    after = [tensor for layer in model._layers for tensor in layer.gate_up_DF.values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_certify_too(certifying, dtype):
    model, token_id_T = small_duo(n_letters=4, dtype=dtype), random_tokens(5)
    paths = ExactOracle(model, (Branch.SMALL, Branch.BIG), parse_budgets("0-4,any", 4), SkipReading.FFN).in_same_context(
        0, token_id_T
    )
    assert paths.certified_R.all()
    assert np.isfinite(paths.loss_R).all()
    reference = ExactOracle(small_duo(n_letters=4), (Branch.SMALL, Branch.BIG), parse_budgets("0-4,any", 4), SkipReading.FFN)
    np.testing.assert_allclose(
        paths.loss_R, reference.in_same_context(0, token_id_T).loss_R, atol=1e-5 if dtype is torch.float64 else 0.2
    )
