"""What the exact oracle finds over a table of experts in every context, beside the routings of whole passes that it is held to."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
from torch import Tensor

from duo_oracle.models.experts.over_table import OverTable
from duo_oracle.oracle.branches import Branch
from duo_oracle.oracle.budgets import parse_budgets
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.engine.exact import ExactOracle
from duo_oracle.oracle.records import OraclePaths

Found = tuple[OraclePaths, np.ndarray, np.ndarray]


def searched_in_contexts(model: OverTable, token_id_T: Tensor, position: int) -> Iterator[Found]:
    """In the contexts full, same and committed: what is found, all patterns_PL, and mask_PTL, in which `position` takes each of
    them and all others what the context says."""
    table, n_letters, n = model.table, len(model.routed_layers), len(token_id_T) - 1
    patterns_PL = np.array(list(product(table.branches, repeat=n_letters)), dtype=np.uint8)
    oracle = ExactOracle(model, table.branches, parse_budgets("any", n_letters, table.dearest), SkipReading.FFN)
    full_TL = np.full((n, n_letters), Branch.BIG, dtype=np.uint8)
    for context in ("full", "same", "committed"):
        if context == "full":
            found, others_PTL = oracle.in_fixed_context(0, token_id_T, full_TL), full_TL[None]
        elif context == "same":
            found, others_PTL = oracle.in_same_context(0, token_id_T), patterns_PL[:, None]
        else:
            found = oracle.in_committed_context([0], [token_id_T])[0]
            others_PTL = found.branches_RL[None]
        mask_PTL = np.broadcast_to(others_PTL, (len(patterns_PL), n, n_letters)).copy()
        mask_PTL[:, position] = patterns_PL
        yield found, patterns_PL, mask_PTL
