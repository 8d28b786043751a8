"""Where all-big is the truth, an oracle's gain is selection bias alone: the excess is zero, though the gain is not."""

import numpy as np
import pytest
import torch

from duo_oracle.models.text.windows import Window
from duo_oracle.oracle.branches import parse_table
from duo_oracle.oracle.budgets import parse_budgets
from duo_oracle.oracle.contexts import SkipReading, parse_context
from duo_oracle.oracle.patterns import Branch
from duo_oracle.results.statistics.intervals import bootstrap
from duo_oracle.search.job.problem import Problem
from duo_oracle.search.job.unit import solve_sequences
from tests.small_models import small_duo

N_LAYERS, N_SEQUENCES, N_TOKENS = 4, 80, 16


class PathsSink:
    def __init__(self):
        self.paths_of = {}

    def paths(self, sequence, paths):
        self.paths_of[sequence.index] = paths

    def found(self, n_rows):
        pass


def text_of_all_big(model, n_sequences, n_tokens):
    """Sequences drawn token by token from the all-big model itself."""
    generator = torch.Generator().manual_seed(7)
    token_id_BT = torch.randint(model.n_vocabulary, (n_sequences, 1), generator=generator)
    while token_id_BT.shape[1] < n_tokens:
        mask_BTL = torch.full((*token_id_BT.shape, model.n_letters), Branch.BIG, dtype=torch.uint8)
        p_BV = torch.softmax(model.forward(token_id_BT, mask_BTL, SkipReading.FFN)[:, -1], dim=1)
        token_id_BT = torch.cat([token_id_BT, torch.multinomial(p_BV, 1, generator=generator)], dim=1)
    return token_id_BT.numpy().astype(np.int32)


@pytest.mark.parametrize("strategy", ["exhaustive", pytest.param("random_search", marks=[pytest.mark.slow, pytest.mark.long])])
@pytest.mark.parametrize("context", ["full", "same"])
def test_on_text_of_all_big_itself_the_excess_is_zero_and_the_gain_is_not(strategy, context):
    model = small_duo(n_letters=N_LAYERS, n_hidden=16, spread=0.35)
    token_id_BT = text_of_all_big(model, N_SEQUENCES, N_TOKENS)
    sequences = [Window(index, f"document {index}", ids) for index, ids in enumerate(token_id_BT)]
    problem = Problem(
        n_letters=N_LAYERS,
        table=parse_table("sB"),
        budgets=parse_budgets("any,2", N_LAYERS),
        # in both, all-big follows all-big: what the text was drawn from
        context=parse_context(context, N_LAYERS),
        skip=SkipReading.FFN,
        strategy=strategy,
        settings={"n": "5"} if strategy == "random_search" else {},
        null_draws=4,
        seed=3,
    )
    sink = PathsSink()
    solve_sequences(model, sequences, problem, sink)
    for budget in range(len(problem.budgets)):
        rows = [paths.budget_R == budget for paths in sink.paths_of.values()]
        gain_N = np.concatenate(
            [(paths.loss_full_R - paths.loss_R)[mine] for paths, mine in zip(sink.paths_of.values(), rows, strict=True)]
        )
        null_N = np.concatenate([paths.null_gain_R[mine] for paths, mine in zip(sink.paths_of.values(), rows, strict=True)])
        documents = np.repeat(np.arange(N_SEQUENCES), N_TOKENS - 1)
        gain, excess = bootstrap(np.column_stack([gain_N, gain_N - null_N]), documents)
        assert gain.low > 0
        assert excess.low <= 0 <= excess.high
        assert excess.high - excess.low < gain.mean  # the interval is narrow enough to have shown a gain that is no bias
