"""The law of the reference: pattern, expected gain and real loss are those of brute force over the whole vocabulary in float64."""

import numpy as np
import pytest
import torch

from duo_oracle.oracle.budgets import parse_budgets
from duo_oracle.oracle.contexts import ContextKind, SkipReading, parse_context
from duo_oracle.oracle.engine import exact
from duo_oracle.oracle.engine.exact import ExactOracle
from duo_oracle.oracle.engine.head import Head
from duo_oracle.oracle.engine.labels import NullLabels
from duo_oracle.oracle.engine.reference import reference_of, states_of_full
from duo_oracle.oracle.patterns import Branch, to_strings
from duo_oracle.oracle.spaces import parse_branches
from tests.small_models import all_patterns, random_tokens, small_duo

N_LETTERS, N_VOCABULARY = 3, 40


@pytest.fixture
def certifying(monkeypatch):
    monkeypatch.setattr(exact, "_FEW_LEAVES", 0)
    monkeypatch.setattr(exact, "_TARGET_ROWS", 64)


def log_q_of(model, token_id_T):
    """ln q(v) of every position but the last, by a plain forward pass of all-big: float64 (T - 1, V)."""
    mask_1TL = torch.full((1, len(token_id_T) - 1, model.n_letters), int(Branch.BIG), dtype=torch.uint8)
    return model.forward(token_id_T[None, :-1], mask_1TL, SkipReading.FFN)[0].double().log_softmax(dim=1)


def every_loss(model, token_id_T, position, branches_PL, context, skip, chosen_TL):
    """-ln p(v) of every pattern and word at one position: float64 (P, V)."""
    n_scored = len(token_id_T) - 1
    if context.kind is ContextKind.SAME:
        mask_PTL = np.repeat(branches_PL[:, None], n_scored, axis=1)
    elif context.kind is ContextKind.COMMITTED:
        mask_PTL = np.repeat(chosen_TL[None], len(branches_PL), axis=0)
    else:
        mask_PTL = np.tile(np.array(context.pattern.branches, dtype=np.uint8), (len(branches_PL), n_scored, 1))
    mask_PTL[:, position] = branches_PL
    logits_PTV = model.forward(token_id_T[:-1].expand(len(mask_PTL), -1), torch.from_numpy(mask_PTL), skip)
    return -logits_PTV[:, position].double().log_softmax(dim=1)


def solve(oracle, context, token_ids, references):
    names = list(range(len(token_ids)))
    if context.kind is ContextKind.COMMITTED:
        return oracle.in_committed_context(names, token_ids, None, references)
    both = list(zip(names, token_ids, references, strict=True))
    if context.kind is ContextKind.SAME:
        return [oracle.in_same_context(name, ids_T, 0, reference) for name, ids_T, reference in both]
    return [oracle.in_fixed_context(name, ids_T, context.pattern, 0, reference) for name, ids_T, reference in both]


def references_for(model, other, token_ids):
    """What `other`'s full model says, as targets of `model`'s head."""
    head = Head(model)
    return [reference_of(head, log_q_of(other, ids_T), ids_T[1:]) for ids_T in token_ids]


def assert_equal_to_brute_force(model, other, token_ids, branches, budgets, context, skip, found, by_reference=False):
    everything_PL = all_patterns(model.n_letters, branches)
    full_1L = np.full((1, model.n_letters), Branch.BIG, dtype=np.uint8)
    for ids_T, paths in zip(token_ids, found, strict=True):
        log_q_TV = log_q_of(other, ids_T)
        for index, budget in enumerate(budgets):
            rows = np.flatnonzero(paths.budget_R == index)
            admitted_PL = everything_PL[budget.allows(model.n_letters)[(everything_PL == Branch.BIG).sum(axis=1)]]
            chosen_TL = (paths.ref_branches_RL if by_reference else paths.branches_RL)[rows]
            for position, row in enumerate(rows):
                with_full_PL = np.concatenate([admitted_PL, full_1L])
                loss_PV = every_loss(model, ids_T, position, with_full_PL, context, skip, chosen_TL)
                expected_P = (loss_PV @ log_q_TV[position].exp()).numpy()
                *expected, full = expected_P
                assert paths.ref_expected_gain_R[row] == pytest.approx(full - min(expected), abs=2e-5)
                chosen = to_strings(admitted_PL).index(to_strings(paths.ref_branches_RL[[row]])[0])
                assert expected[chosen] == pytest.approx(min(expected), abs=2e-5)
                real_P = loss_PV[:, ids_T[position + 1]]
                assert paths.ref_loss_R[row] == pytest.approx(float(real_P[chosen]), abs=2e-5)
                assert paths.loss_R[row] == pytest.approx(float(real_P[:-1].min()), abs=2e-5)


@pytest.mark.parametrize("branches", [".B", "sB", ".sB"])
@pytest.mark.parametrize(
    ("context", "skip"), [("committed", "ffn"), ("same", "layer"), ("full", "ffn"), ("cheapest", "ffn"), ("B.s", "layer")]
)
def test_the_reference_is_that_of_brute_force(certifying, context, branches, skip):
    model, exactly, other = small_duo(), small_duo(dtype=torch.float64), small_duo(seed=9, n_letters=4, dtype=torch.float64)
    token_ids, skip = [random_tokens(n, seed=n) for n in (5, 3)], SkipReading(skip)
    letters, where = parse_branches(branches), parse_context(context, N_LETTERS)
    budgets = parse_budgets("0-3,any,atmost:2", N_LETTERS)
    oracle = ExactOracle(model, letters, budgets, skip, NullLabels(1))
    found = solve(oracle, where, token_ids, references_for(model, other, token_ids))
    assert_equal_to_brute_force(exactly, other, token_ids, letters, budgets, where, skip, found)
    assert any((paths.ref_branches_RL != paths.branches_RL).any() for paths in found)


def test_what_is_committed_may_be_the_references_choice(certifying):
    model, exactly, other = small_duo(), small_duo(dtype=torch.float64), small_duo(seed=9, dtype=torch.float64)
    token_ids = [random_tokens(n, seed=n) for n in (5, 7)]
    budgets, where = parse_budgets("any,1", N_LETTERS), parse_context("committed", N_LETTERS)
    oracle = ExactOracle(model, (Branch.SMALL, Branch.BIG), budgets, SkipReading.FFN, by_reference=True)
    found = solve(oracle, where, token_ids, references_for(model, other, token_ids))
    letters = (Branch.SMALL, Branch.BIG)
    assert_equal_to_brute_force(exactly, other, token_ids, letters, budgets, where, SkipReading.FFN, found, by_reference=True)


@pytest.mark.parametrize("branches", [".B", "sB", ".sB"])
def test_under_itself_the_full_model_is_best_and_nothing_is_gained(branches):
    """Gibbs: no distribution has a smaller expected loss under q than q itself."""
    model = small_duo(n_letters=4)
    ids_T = random_tokens(9)
    reference = reference_of(Head(model), log_q_of(model, ids_T), ids_T[1:])
    oracle = ExactOracle(model, parse_branches(branches), parse_budgets("any,2", 4), SkipReading.FFN)
    paths = oracle.in_fixed_context(0, ids_T, parse_context("full", 4).pattern, 0, reference)
    anything = paths.budget_R == 0
    assert set(to_strings(paths.ref_branches_RL[anything])) == {"BBBB"}
    np.testing.assert_allclose(paths.ref_expected_gain_R[anything], 0, atol=3e-6)
    np.testing.assert_allclose(paths.ref_loss_R[anything], paths.loss_full_R[anything], atol=3e-6)
    assert (paths.ref_expected_gain_R[~anything] < 0).all()


def test_a_reference_that_is_sure_of_the_label_is_the_label(certifying):
    model, ids_T = small_duo(n_letters=4), random_tokens(8)
    log_q_TV = torch.full((7, N_VOCABULARY), -torch.inf, dtype=torch.float64)
    log_q_TV[torch.arange(7), ids_T[1:]] = 0.0
    reference = reference_of(Head(model), log_q_TV, ids_T[1:])
    np.testing.assert_array_equal(reference.loss_target_N, 0)
    np.testing.assert_array_equal(reference.entropy_N, 0)
    oracle = ExactOracle(model, tuple(Branch), parse_budgets("0-4,any", 4), SkipReading.FFN, NullLabels(2))
    paths = oracle.in_fixed_context(0, ids_T, parse_context("full", 4).pattern, 0, reference)
    assert to_strings(paths.ref_branches_RL) == to_strings(paths.branches_RL)
    np.testing.assert_allclose(paths.ref_loss_R, paths.loss_R, atol=1e-6)


def test_a_reference_changes_nothing_of_the_labels(certifying):
    model, ids_T = small_duo(n_letters=4), random_tokens(8)
    other = small_duo(seed=3)
    oracle = ExactOracle(model, tuple(Branch), parse_budgets("0-4,any", 4), SkipReading.FFN, NullLabels(2))
    full = parse_context("full", 4).pattern
    alone = oracle.in_fixed_context(0, ids_T, full)
    beside = oracle.in_fixed_context(0, ids_T, full, 0, references_for(model, other, [ids_T])[0])
    assert not alone.has_reference
    assert beside.has_reference
    assert to_strings(alone.branches_RL) == to_strings(beside.branches_RL)
    for name in ("loss_R", "loss_full_R", "loss_cheapest_R", "null_gain_R", "null_difficulty_R", "entropy_full_R"):
        np.testing.assert_allclose(getattr(beside, name), getattr(alone, name), atol=2e-6, err_msg=name)


class Bent:
    """A small Duo-LLM whose head has a bias, or whose logits are softly capped."""

    def __init__(self, model, softcap=None, bias_V=None):
        self._model, self.logit_softcap, self.logit_bias_V = model, softcap, bias_V

    def __getattr__(self, name):
        return getattr(self._model, name)

    def forward(self, token_id_BT, mask_BTL, skip):
        logits_BTV = self._model.forward(token_id_BT, mask_BTL, skip)
        if self.logit_bias_V is not None:
            logits_BTV = logits_BTV + self.logit_bias_V
        return logits_BTV if self.logit_softcap is None else self.logit_softcap * torch.tanh(logits_BTV / self.logit_softcap)


@pytest.mark.parametrize("softcap", [None, 0.7])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("context", ["committed", "full"])
def test_heads_with_a_bias_and_softly_capped_logits(certifying, context, softcap, biased):
    bias_V = torch.randn(N_VOCABULARY, generator=torch.Generator().manual_seed(1), dtype=torch.float64) if biased else None
    model = Bent(small_duo(), softcap, None if bias_V is None else bias_V.float())
    exactly, other = Bent(small_duo(dtype=torch.float64), softcap, bias_V), small_duo(seed=9, dtype=torch.float64)
    token_ids, letters = [random_tokens(6)], (Branch.SMALL, Branch.BIG)
    budgets, where = parse_budgets("any,1", N_LETTERS), parse_context(context, N_LETTERS)
    references = references_for(model, other, token_ids)
    assert (references[0].q_NV is not None) == (softcap is not None)
    found = solve(ExactOracle(model, letters, budgets, SkipReading.FFN), where, token_ids, references)
    assert_equal_to_brute_force(exactly, other, token_ids, letters, budgets, where, SkipReading.FFN, found)


def test_the_states_of_the_full_model_are_those_of_a_plain_pass():
    model, ids_T = small_duo(n_letters=4, dtype=torch.float64), random_tokens(9)
    head = Head(model)
    log_q_TV = head.logits(states_of_full(model, head, ids_T[:-1])).log_softmax(dim=1)
    torch.testing.assert_close(log_q_TV, log_q_of(model, ids_T))
