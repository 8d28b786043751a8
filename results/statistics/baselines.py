"""What one pattern for all tokens would do: the label-free lines that stand beside the oracle, from kept losses.

- The best fixed pattern is chosen on other documents than those it is reported on: for each document, the pattern of
  least mean loss over all the *other* documents (leave one document out). Its mean over tokens is an honest figure; the
  in-sample one, chosen on the very tokens it is reported on, stands beside it and is named so.
- The mean pattern is the mean over all patterns in the budget, each as likely as any other.

In the context `same` a pattern's mean is the perplexity of a model that runs it; in any other, earlier tokens took what
the context says. Losses are reduced to sums per document and pattern before anything else, so memory does not grow with
the number of tokens.

Axes: N tokens, D documents, P patterns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.branches import DUO, BranchTable, pattern_costs
from duo_oracle.oracle.budgets import Budget
from duo_oracle.oracle.patterns import to_strings
from duo_oracle.results.statistics.intervals import Estimate, bootstrap_sums
from duo_oracle.results.store.kept_losses import KeptLosses
from duo_oracle.results.store.reader import StoredRun


@dataclass(frozen=True)
class DocumentSums:
    """The sum of every pattern's losses over every document's tokens, patterns in the order in which ties are decided."""

    documents: tuple[str, ...]
    n_tokens_D: np.ndarray
    branches_PL: np.ndarray
    sum_DP: np.ndarray
    table: BranchTable = DUO

    def within(self, budget: Budget) -> DocumentSums:
        """The patterns that `budget` allows."""
        most = self.branches_PL.shape[1] * max(1, self.table.dearest)
        allowed_P = budget.allows(most)[pattern_costs(self.branches_PL, self.table.branches)]
        return DocumentSums(self.documents, self.n_tokens_D, self.branches_PL[allowed_P], self.sum_DP[:, allowed_P], self.table)


@dataclass(frozen=True)
class FixedPatterns:
    """One budget's label-free lines. Losses in nats; `best` is None with a single document, where nothing is left to choose on."""

    best: Estimate | None
    """Best fixed pattern, chosen on the other documents."""
    best_in_sample: Estimate
    best_pattern: str
    """The pattern that is best in-sample, the one to run."""
    mean: Estimate
    n_patterns: int


def document_sums(run: StoredRun, budget: str | None = None) -> DocumentSums:
    """Sums of the losses that `run` kept; `budget` names the pass where earlier tokens' choices depend on it (committed).

    Raises InputError where no losses were kept, or no pattern was scored at every token.
    """
    kept = KeptLosses(run)
    of_pass = None if budget is None else run.budget(budget)
    branches_PL = np.empty((0, run.n_letters), dtype=np.uint8)
    sums: dict[str, np.ndarray] = {}
    counts: dict[str, int] = {}
    for span, table in zip(kept.spans, kept.tables(of_pass), strict=True):
        if not sums:
            branches_PL = table.branches_PL  # a pattern that is not among them was not scored at every token
        total_P = table.over(branches_PL).loss_NP.sum(axis=0, dtype=np.float64)
        sums[span.document] = sums.get(span.document, 0.0) + total_P
        counts[span.document] = counts.get(span.document, 0) + span.n_positions
    documents = tuple(sorted(sums))
    sum_DP = np.stack([sums[document] for document in documents]) if sums else np.empty((0, 0))
    # A pattern that was not scored at every token has no mean to compare: its sum is NaN, and it is left out.
    complete_P = ~np.isnan(sum_DP).any(axis=0)
    if not complete_P.any():
        raise InputError(f"fixed patterns are compared over every token; {run.place} scored no pattern at all of them")
    n_tokens_D = np.array([counts[document] for document in documents])
    return DocumentSums(documents, n_tokens_D, branches_PL[complete_P], sum_DP[:, complete_P], run.table)


def fixed_patterns(sums: DocumentSums, budget: Budget) -> FixedPatterns:
    """The label-free lines of `budget`. Raises InputError where no scored pattern is within it.

    The intervals resample documents with each document's chosen pattern held; that the choice itself would vary is in the
    differences between the documents' choices, and not added again.
    """
    allowed = sums.within(budget)
    n_documents, n_patterns = allowed.sum_DP.shape
    if not n_patterns:
        raise InputError(f"no pattern that was scored has a budget of {budget}")
    total_P = allowed.sum_DP.sum(axis=0)
    best = int(total_P.argmin())
    columns = [allowed.sum_DP[:, best], allowed.sum_DP.mean(axis=1)]
    if n_documents > 1:
        chosen_D = (total_P - allowed.sum_DP).argmin(axis=1)
        columns.append(allowed.sum_DP[np.arange(n_documents), chosen_D])
    sums_DM = np.stack(columns, axis=1)
    counts_DM = np.broadcast_to(sums.n_tokens_D[:, None], sums_DM.shape)
    in_sample, mean, *crossed = bootstrap_sums(sums_DM, counts_DM.astype(np.float64))
    pattern = to_strings(allowed.branches_PL[[best]], sums.table.letters)[0]
    return FixedPatterns(crossed[0] if crossed else None, in_sample, pattern, mean, n_patterns)


def means_on_others(loss_NP: np.ndarray, document_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each token's document as a number, int (N,), and every pattern's mean loss over all tokens of the *other* documents, (D, P):
    what a pattern is chosen by that is then reported on the document. Raises InputError for a single document.

    >>> of_N, mean_DP = means_on_others(np.array([[1.0, 4.0], [3.0, 2.0], [5.0, 0.0]]), np.array(["a", "a", "b"]))
    >>> of_N.tolist(), mean_DP.tolist()
    ([0, 0, 1], [[5.0, 0.0], [2.0, 3.0]])
    """
    names, of_N = np.unique(document_N, return_inverse=True)
    if len(names) < 2:
        raise InputError(f"a pattern is chosen on other documents; there is one, {names[0]}")
    sum_DP = np.zeros((len(names), loss_NP.shape[1]))
    np.add.at(sum_DP, of_N, loss_NP)
    n_others_D = len(of_N) - np.bincount(of_N)
    return of_N, (sum_DP.sum(axis=0) - sum_DP) / n_others_D[:, None]


def fixed_patterns_of_run(run: StoredRun, budgets: tuple[str, ...] | None = None) -> dict[str, FixedPatterns]:
    """The label-free lines of each of the run's budgets (or those named), by the budget as it is written."""
    wanted = run.budgets if budgets is None else budgets
    shared = None if run.context == "committed" else document_sums(run)
    answers = {}
    for text in wanted:
        sums = document_sums(run, text) if shared is None else shared
        answers[text] = fixed_patterns(sums, run.budget(text))
    return answers
