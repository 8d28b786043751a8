"""How fast the exact oracle is on a run's own model and question, beside the naive way, on one thread of one process.

The naive way: for each position and pattern one forward step through the whole model with a key-value cache, and the whole
vocabulary head. Nothing is shared between patterns. Both are timed on a sample of the run's first sequence.

Axes: T token, L routed layer, D hidden.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from duo_oracle.oracle.contexts import ContextKind, SkipReading
from duo_oracle.oracle.engine.exact import ExactOracle
from duo_oracle.oracle.engine.labels import NullLabels
from duo_oracle.oracle.engine.walk import Attend, FixedContext
from duo_oracle.oracle.model import OracleModel, token_ids_on
from duo_oracle.oracle.patterns import Branch, RoutingPattern
from duo_oracle.search.job.worker import prepare_worker
from duo_oracle.search.rerun.opened import OpenedRun

POSITIONS = 6  # searched by the oracle
STEPS = 24  # steps of the naive way


@dataclass(frozen=True)
class Speed:
    """Seconds of one thread per token, null draws included, and of the naive way for all patterns, without them."""

    patterns: int
    ours: float
    naive: float

    @property
    def ratio(self) -> float:
        return self.naive / self.ours


@torch.inference_mode()
def measure_speed(opened: OpenedRun) -> Speed:
    """Times both ways. The process is left with the number of threads that it had."""
    threads = torch.get_num_threads()
    prepare_worker(1)
    try:
        model, problem, sequence = opened.model, opened.problem, opened.sequences[0]
        token_id_T = token_ids_on(model.device, sequence.token_ids)
        n_warm, n = sequence.n_warm, min(POSITIONS, sequence.n_positions)
        token_id_M = token_id_T[: n_warm + n + 1]
        draws = int(opened.run.identity.get("null_draws") or 0)
        oracle = ExactOracle(model, problem.branches, problem.budgets, problem.skip, NullLabels(draws, problem.seed))
        started = time.perf_counter()
        if problem.context.kind is ContextKind.COMMITTED:
            oracle.in_committed_context([0], [token_id_M], [n_warm])
        else:
            assert problem.context.pattern is not None
            oracle.in_fixed_context(0, token_id_M, problem.context.pattern, n_warm)
        ours = (time.perf_counter() - started) / n
        naive = _naive_step(model, token_id_T, problem.branches, problem.skip)
    finally:
        torch.set_num_threads(threads)
    patterns = len(problem.branches) ** problem.n_letters
    return Speed(patterns, ours, naive * patterns)


def _naive_step(model: OracleModel, token_id_T: Tensor, branches: tuple[Branch, ...], skip: SkipReading) -> float:
    """Seconds of one pattern at one position, in the mean over random patterns and positions."""
    generator = np.random.default_rng(0)
    context = FixedContext(model, token_id_T[:-1], RoutingPattern.uniform(Branch.BIG, model.n_letters), skip)
    seconds = []
    for _ in range(STEPS + 2):
        position = torch.tensor([int(generator.integers(len(token_id_T) - 1))], device=model.device)
        pattern = generator.choice(np.array(branches), model.n_letters)
        attend = context.attend(position)
        started = time.perf_counter()
        _step(model, token_id_T[position], position, pattern, attend, skip)
        seconds.append(time.perf_counter() - started)
    return float(np.mean(seconds[2:]))  # the first ones warm up


def _step(
    model: OracleModel, token_id_1: Tensor, position_1: Tensor, pattern_L: np.ndarray, attend: Attend, skip: SkipReading
) -> Tensor:
    """logits_1V of one token under one pattern."""
    x_11D = model.embed(token_id_1, position_1)[None]
    letters = {layer: letter for letter, layer in enumerate(model.routed_layers)}
    for layer in range(model.depth):
        branch = Branch(int(pattern_L[letters[layer]])) if layer in letters else Branch.BIG
        if branch is Branch.SKIP and skip is SkipReading.LAYER:
            continue
        before_11D, x_11D = x_11D, attend(layer, x_11D)
        if branch is not Branch.SKIP:
            x_11D = model.ffn(layer, branch, x_11D, before_11D)
    return model.final_norm(x_11D)[0] @ model.unembedding_VD.T
