"""The toy's known optimum is the optimum: compared with every pattern's loss by its own forward pass."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from duo_oracle.models.checkpoint import read_checkpoint
from duo_oracle.models.families.toy import best_pattern, random_toy, write_toy
from duo_oracle.models.family import load_model
from duo_oracle.models.text.tokenizer import encode, load_tokenizer
from duo_oracle.oracle.budgets import ANY, Budget, BudgetKind, parse_budgets
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.patterns import Branch, RoutingPattern

BRANCHES = [(Branch.SMALL, Branch.BIG), (Branch.SKIP, Branch.BIG), tuple(Branch)]


def brute_force(model, token_id, target_id, branches, budget):
    """The least loss by forward, then fewer B's, then the string; losses equal to 12 decimals are equal."""
    patterns = [RoutingPattern(p) for p in itertools.product(sorted(branches), repeat=model.n_letters)]
    patterns = [pattern for pattern in patterns if budget.allows(model.n_letters)[pattern.n_big]]
    mask_BTL = torch.tensor([[pattern.branches] for pattern in patterns])
    logits_BV = model.forward(torch.full((len(patterns), 1), token_id), mask_BTL, SkipReading.FFN)[:, 0]
    losses = F.cross_entropy(logits_BV, torch.full((len(patterns),), target_id), reduction="none").round(decimals=12).tolist()
    return min(zip(losses, [pattern.n_big for pattern in patterns], patterns, strict=True))[2]


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 1000),
    n_letters=st.integers(1, 4),
    interaction=st.sampled_from([0.0, 1.0, 2.0]),
    branches=st.sampled_from(BRANCHES),
    token_id=st.integers(0, 7),
    target_id=st.integers(0, 7),
)
def test_best_pattern_is_the_brute_force_optimum(seed, n_letters, interaction, branches, token_id, target_id):
    model = random_toy(seed, n_letters, 8, interaction=interaction, dtype="float64")
    for budget in parse_budgets(f"any,0-{n_letters},atmost:{n_letters // 2}", n_letters):
        wanted = brute_force(model, token_id, target_id, branches, budget)
        assert best_pattern(model, token_id, target_id, branches, budget) == wanted


def test_ties_prefer_fewer_big_layers_and_then_the_first_string():
    model = random_toy(0, 3, 4, dtype="float64")
    model.table_VLR.zero_()
    assert str(best_pattern(model, 1, 2, tuple(Branch))) == "..."
    assert str(best_pattern(model, 1, 2)) == "sss"
    assert str(best_pattern(model, 1, 2, budget=Budget(BudgetKind.EXACT, 1))) == "ssB"


def test_interaction_makes_layers_depend_on_each_other():
    plain, joined = (random_toy(5, 6, 8, interaction=interaction, dtype="float64") for interaction in (0.0, 3.0))
    pairs = list(itertools.product(range(8), repeat=2))
    assert any(best_pattern(plain, *pair) != best_pattern(joined, *pair) for pair in pairs)


def test_a_budget_that_no_pattern_satisfies_is_refused():
    model = random_toy(0, 3, 4)
    with pytest.raises(ValueError, match="no pattern of the branches s has the budget 2"):
        best_pattern(model, 0, 0, (Branch.SMALL,), Budget(BudgetKind.EXACT, 2))
    assert str(best_pattern(model, 0, 0, (Branch.SMALL,), ANY)) == "sss"


def test_a_written_toy_is_the_toy_and_encodes_any_text(tmp_path):
    write_toy(tmp_path / "toy", seed=3, n_letters=5, tokenizer=True)
    checkpoint = read_checkpoint(str(tmp_path / "toy"))
    model = load_model(checkpoint, "float64")
    same = random_toy(3, 5, 256, dtype="float64")
    assert torch.equal(model.unembedding_VD, same.unembedding_VD)
    tokenizer = load_tokenizer(checkpoint.tokenizer_json)
    text = "naïve 12\n\tcafé ☕"
    assert len(encode(tokenizer, text)) == len(text.encode())
    assert tokenizer.decode(encode(tokenizer, text)) == text
