"""How fast the exact oracle is, beside the obvious ways to do the same, in one run: same weights, tokens and thread count.

What is compared, per position of a sequence in the context `full`, all 2^L patterns of small and big, all budgets at once:
- ours: the prefix tree, with the certified head;
- the naive way: for each pattern one forward step of the plain module with a key-value cache, as one writes it in an afternoon;
- the batched naive way: the same steps, patterns batched, nothing shared, the full head;
- the two ideas one at a time: the tree with the full head; and the certified head's own time.
The slow ways are timed on a sample and scaled. The machine's own rate of matrix products is measured in the same run.

Axes: N positions, P patterns, R rows, T token, D hidden, F FFN inner, V vocabulary, L layer.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from duo_oracle.models.duo_llm.flops import flops_of
from duo_oracle.models.duo_llm.module import DuoLlama
from duo_oracle.models.duo_llm.packed import PackedDuoLlama
from duo_oracle.oracle.base.allocator import keep_freed_memory
from duo_oracle.oracle.base.chunks import chunks
from duo_oracle.oracle.base.progress import progress
from duo_oracle.oracle.budgets import parse_budgets
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.engine.certify import CertifiedSearch, Draw
from duo_oracle.oracle.engine.exact import ExactOracle
from duo_oracle.oracle.engine.head import Head
from duo_oracle.oracle.engine.labels import NullLabels
from duo_oracle.oracle.engine.reference import reference_of, states_of_full
from duo_oracle.oracle.engine.trie import FullTree, necessary_operations
from duo_oracle.oracle.engine.walk import FixedContext
from duo_oracle.oracle.patterns import Branch, RoutingPattern
from duo_oracle.oracle.records import OraclePaths
from duo_oracle.search.bench.config import BenchConfig
from duo_oracle.search.bench.growth import grown
from duo_oracle.search.bench.naive import PlainDecoder
from duo_oracle.search.bench.result import BenchResult
from duo_oracle.search.bench.subject import subject
from duo_oracle.search.job.config import SearchConfig
from duo_oracle.search.job.driver import run_search

SMALL_BIG = (Branch.SMALL, Branch.BIG)
SHARPER = 2.0
"""What the logits of the bench's reference are multiplied by: it is not the model, whose best pattern would be known."""
POSITIONS_SIDE_BY_SIDE = 2  # of a tree of 4,096 leaves; only the choice of samples depends on it


def run_bench(config: BenchConfig) -> BenchResult:
    """Measure. Medians over rounds in which the ways take turns, since a machine's speed drifts."""
    torch.set_num_threads(config.threads)
    keep_freed_memory()
    module, token_id_T = subject(config)
    bench = _Bench(module, token_id_T)
    seconds: dict[str, list[float]] = {}
    steps: dict[str, Callable[[], float]] = {
        "ours": bench.ours,
        "ours_null_draws": bench.ours_with_null_draws,
        "ours_cpu": bench.ours_cpu,
        "ours_reference_cpu": bench.ours_with_reference_cpu,
        "tree": bench.tree,
        "certified_head": bench.certified_head,
        "full_head": bench.full_head,
        "gemm_flop": bench.gemm_seconds_per_flop,
        "batched_naive": bench.batched_naive,
        "naive": bench.naive,
    }
    with progress(total=config.rounds * len(steps), desc="bench", unit="step") as bar:
        for _ in range(config.rounds):
            for name, step in steps.items():
                seconds.setdefault(name, []).append(step())
                bar.update()
    median = {name: statistics.median(values) for name, values in seconds.items()}
    result = BenchResult(
        n_layers=bench.n_letters,
        n_hidden=module.config.hidden_size,
        n_vocabulary=module.config.vocab_size,
        n_patterns=2**bench.n_letters,
        threads=config.threads,
        tokens_per_second=1 / median["ours"],
        naive_ratio=median["naive"] / median["ours"],
        batched_naive_ratio=median["batched_naive"] / median["ours"],
        gemm_share=bench.flops_per_position * median["gemm_flop"] / median["tree"],
        certified_head_share=median["certified_head"] / median["full_head"],
        leaves_per_token=bench.leaves_per_token,
        null_draws_ratio=median["ours_null_draws"] / median["ours"],
        reference_ratio=median["ours_reference_cpu"] / median["ours_cpu"],
        tree_full_head_ratio=(median["tree"] + median["full_head"]) / median["ours"],
        seconds=median,
    )
    if config.job_seconds:
        result = with_workers(result, config)
    if config.growth:
        result = replace(result, growth=grown(config.hidden or module.config.hidden_size, config.growth_layers, config.seed))
    return result


class _Bench:
    """One sequence under test. Every method measures once, and returns seconds per position."""

    def __init__(self, module: DuoLlama, token_id_T: Tensor) -> None:
        self._module, self._model = module, PackedDuoLlama(module)
        self._token_id_T = token_id_T
        self.n_letters = self._model.n_letters
        self._budgets = parse_budgets(f"0-{self.n_letters}", self.n_letters)
        self._big = RoutingPattern.uniform(Branch.BIG, self.n_letters)
        self._context = FixedContext(self._model, token_id_T[:-1], self._big, SkipReading.FFN)
        self._levels = FullTree(self.n_letters, SMALL_BIG, self._budgets).top(self.n_letters).levels
        self._head = Head(self._model)
        # a few chunks of positions, over the whole length, stand for all in the parts that are timed alone
        every = max(1, (len(token_id_T) - 1) // (4 * POSITIONS_SIDE_BY_SIDE))
        walked = islice(self._oracle(NullLabels()).walk(self._context), 0, None, every)
        self._samples = [(position_N, list(leaves)) for position_N, leaves in walked]
        self._n_sampled = sum(len(position_N) for position_N, _ in self._samples)
        self._naive_positions = [int(position_N[-1]) for position_N, _ in self._samples]
        self.leaves_per_token = 0.0

    @property
    def flops_per_position(self) -> float:
        """Necessary operations of the layers, averaged over the positions (multiply and add count as two)."""
        config, totals = self._module.config.to_dict(), []
        for position in range(len(self._token_id_T) - 1):
            flops = flops_of(config, position + 1, SkipReading.FFN)
            assert flops is not None, "a bench is of a Duo-LLM"
            totals.append(necessary_operations(self._levels, flops))
        return statistics.fmean(totals)

    def ours(self) -> float:
        return self._exact(NullLabels())

    def ours_with_null_draws(self) -> float:
        return self._exact(NullLabels(4))

    def ours_cpu(self) -> float:
        return self._cpu_seconds(lambda: self._oracle(NullLabels()).in_fixed_context(0, self._token_id_T, self._big))

    def ours_with_reference_cpu(self) -> float:
        """The same with the distribution of the full model, sharpened, as reference: one more target at every position."""

        def search() -> OraclePaths:
            h_TD = states_of_full(self._model, self._head, self._token_id_T[:-1])
            log_q_TV = (SHARPER * self._head.logits(h_TD).double()).log_softmax(dim=1)
            reference = reference_of(self._head, log_q_TV, self._token_id_T[1:])
            return self._oracle(NullLabels()).in_fixed_context(0, self._token_id_T, self._big, reference=reference)

        return self._cpu_seconds(search)

    def _cpu_seconds(self, search: Callable[[], OraclePaths]) -> float:
        started = time.process_time()
        search()
        return (time.process_time() - started) / (len(self._token_id_T) - 1)

    def _oracle(self, null: NullLabels) -> ExactOracle:
        return ExactOracle(self._model, SMALL_BIG, self._budgets, SkipReading.FFN, null)

    def _exact(self, null: NullLabels) -> float:
        oracle = self._oracle(null)
        started = time.perf_counter()
        paths = oracle.in_fixed_context(0, self._token_id_T, self._big)
        elapsed = time.perf_counter() - started
        if not null.draws:
            self.leaves_per_token = float(paths.leaves_R.mean())
        return elapsed / (len(self._token_id_T) - 1)

    def tree(self) -> float:
        """The walk of the whole sequence, without any loss."""
        started = time.perf_counter()
        for _, leaves in self._oracle(NullLabels()).walk(self._context):
            for _ in leaves:
                pass
        return (time.perf_counter() - started) / (len(self._token_id_T) - 1)

    def certified_head(self) -> float:
        started = time.perf_counter()
        for position_N, blocks in self._samples:
            target_N1 = self._token_id_T[position_N + 1][:, None]
            search = CertifiedSearch(self._head, self._budgets, _labels(target_N1))
            for h_NPD, groups in blocks:
                search.search(h_NPD, groups)
        return (time.perf_counter() - started) / self._n_sampled

    def full_head(self) -> float:
        started = time.perf_counter()
        for _, blocks in self._samples:
            for h_NPD, _ in blocks:
                self._head.lse(h_NPD.flatten(0, 1))
        return (time.perf_counter() - started) / self._n_sampled

    def gemm_seconds_per_flop(self) -> float:
        """The FFN's two matrix products over the tree's widest level: in blocks or whole, whichever is faster."""
        config = self._module.config
        rows, d_model, inner = 2 * 2**self.n_letters, config.hidden_size, config.intermediate_size
        x_RD, h_RF = torch.randn(rows, d_model), torch.randn(rows, inner)
        gate_up_DF, down_FD = torch.randn(d_model, 2 * inner), torch.randn(inner, d_model)
        best = float("inf")
        for block in (512, rows):
            started = time.perf_counter()
            for part in chunks(rows, block):
                x_RD[part] @ gate_up_DF
                h_RF[part] @ down_FD
            best = min(best, time.perf_counter() - started)
        return best / (6.0 * rows * d_model * inner)

    def naive(self, n_patterns: int = 24) -> float:
        """One forward step with a key-value cache per pattern, on a sample of patterns."""
        generator = np.random.default_rng(0)
        started = time.perf_counter()
        for position in self._naive_positions:
            cache = PlainDecoder(self._module, self._token_id_T[:position])
            for branches_L in generator.integers(1, 3, size=(n_patterns, self.n_letters)):
                logits_1V = cache.step(self._token_id_T[position], branches_L[None].astype(np.uint8))
                F.cross_entropy(logits_1V, self._token_id_T[position + 1][None]).item()
        return (time.perf_counter() - started) / (len(self._naive_positions) * n_patterns) * 2**self.n_letters

    def batched_naive(self, n_patterns: int = 1024, block: int = 512) -> float:
        """The same with the patterns of a block as a batch, on a sample of blocks."""
        generator = np.random.default_rng(0)
        started = time.perf_counter()
        for position in self._naive_positions[-1:]:
            cache = PlainDecoder(self._module, self._token_id_T[:position])
            branches_PL = generator.integers(1, 3, size=(n_patterns, self.n_letters)).astype(np.uint8)
            for part in chunks(n_patterns, block):
                logits_PV = cache.step(self._token_id_T[position], branches_PL[part])
                F.cross_entropy(logits_PV, self._token_id_T[position + 1].expand(len(logits_PV)), reduction="none").min().item()
        return (time.perf_counter() - started) / n_patterns * 2**self.n_letters


def _labels(label_NY: Tensor) -> Draw:
    return lambda _: label_NY


def with_workers(result: BenchResult, config: BenchConfig) -> BenchResult:
    """Whole searches through the driver: in this process, on one Ray worker, and on two.

    The speed-up compares the time between the middle unit and the last, where all workers search; the overhead is that of the whole
    job, Ray's start and end included.
    """
    # one unit a sequence, an even number of them, about `job_seconds` of work for one worker
    n_positions = config.job_seconds * result.tokens_per_second
    n_sequences = max(2, 2 * round(n_positions / (config.job_seq_len - 1) / 2))
    seconds, searching = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for name, how in (("local_job", {"local": True}), ("one_worker_job", {"workers": 1}), ("two_workers_job", {"workers": 2})):
            asked = SearchConfig(
                model=config.model,
                data=(config.data,),
                out=str(Path(folder) / name),
                context="full",
                budget=f"0-{result.n_layers}",
                null_draws=0,
                seq_len=config.job_seq_len,
                max_sequences=n_sequences,
                unit_sequences=1,
                **how,
            )
            started = time.perf_counter()
            run_search(asked)
            seconds[name] = time.perf_counter() - started
            ended = sorted(part.stat().st_mtime for part in Path(asked.out, "paths").iterdir())
            searching[name] = ended[-1] - ended[len(ended) // 2 - 1]
    return replace(
        result,
        workers_2_speedup=searching["one_worker_job"] / searching["two_workers_job"],
        ray_overhead=seconds["one_worker_job"] / seconds["local_job"] - 1,
        seconds=result.seconds | seconds,
    )
