"""The options of `duo-oracle search`, each declared once, and how they resolve into a Problem once the model is known.

Knows the words of the oracle; no torch, no Ray, no files. The command line and YAML files are derived from the fields
(`search/cli/options.py`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from enum import StrEnum

from duo_oracle.models.text.options import TextOptions
from duo_oracle.models.tracker import check_tracker
from duo_oracle.oracle.base.choices import check_choice
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.ranges import at_least, within
from duo_oracle.oracle.base.remote import written_place
from duo_oracle.oracle.base.sizes import parse_bytes
from duo_oracle.oracle.branches import Gate, parse_table
from duo_oracle.oracle.budgets import parse_budgets
from duo_oracle.oracle.contexts import ContextKind, SkipReading, parse_context
from duo_oracle.oracle.patterns import Branch
from duo_oracle.oracle.spaces import SearchSpace
from duo_oracle.search.job.problem import Keep, Objective, Problem
from duo_oracle.search.strategy import load_strategy, parse_settings

UNIT_PATTERNS = 1 << 20  # a unit is about this many pattern evaluations: some seconds of work on a small model
PROPOSED_PATTERNS = 1 << 9  # what a strategy that is not exhaustive is taken to evaluate per position
MAX_UNIT_SEQUENCES = 64
ALL_SEQUENCES = 1 << 20  # one unit, where all tokens are searched as one set

SELF = "self"
"""The reference that is the searched model, with more of the document before each position."""

LEAST_TEMPERATURE = 1e-6
LEAST_TOLERANCE = 1e-4
MOST_NULL_DRAWS = 2**15 - 1  # null_above counts them in 16 bits
MOST_THREADS = 4096


def parse_temperature(text: str) -> float | None:
    """The temperature that `text` says, None for `fit`. Raises InputError for anything else than a number above 0."""
    if text == "fit":
        return None
    form = re.fullmatch(r"\d*\.?\d+(e[+-]?\d+)?", text.strip())
    if not form or not 0 < float(text) < float("inf"):
        raise InputError(f"a null temperature is a number above 0, or fit; got {text!r}")
    if not LEAST_TEMPERATURE <= float(text) <= 1 / LEAST_TEMPERATURE:
        raise InputError(
            f"a null temperature lies between {LEAST_TEMPERATURE:g} and {1 / LEAST_TEMPERATURE:g}, "
            f"where logits divided by it are finite and differ; got {text!r}"
        )
    return float(text)


class Dtype(StrEnum):
    FLOAT32 = "float32"
    FLOAT64 = "float64"
    BFLOAT16 = "bfloat16"


@dataclass(frozen=True)
class SearchConfig(TextOptions):
    """What `duo-oracle search` is asked. Raises InputError for a value that no model could make good.

    Args:
        model: model directory, or the name of a shipped model (duo-tiny, or et-tiny, a mixture)
        # what is searched
        strategy: search strategy, which proposes patterns; exhaustive is exact
        settings: a setting of the strategy's own, KEY=VALUE; repeatable
        branches: branches that a layer may take, any of: . (skip) s (small) B (big); of a mixture of experts also top:K,K (the K
            best experts), ranks:R+R,R+R or sets:E+E,E+E
        gate: how the experts of a set weigh, with branches top:, ranks: or sets:. own: by the router's rule, under which fewer
            experts may be a smaller step (as where norm_topk_prob is false); renormalised: divided by the set's sum
        skip: what a skip leaves out, the FFN or the whole layer
        route_layers: layers that are routed, such as 18-27 or 3,5,8-11; the others are always big; default all
        seed: seed of everything random
        # context and budget
        context: routing of the earlier tokens: committed, same, full, cheapest, a pattern such as Bs.s, or router:ROUTER
        budget: big layers (or active experts) per token: any, K, LOW-HIGH (each that patterns cost), atmost:K or own (a
            mixture's own router); several with commas between
        tolerance: end a token's search once a path is proven to be within so many nats of the best; 0 is the best itself
        # selection bias
        null_draws: labels drawn per position from the full model to measure selection bias; default 4 for an exhaustive search,
            else 0
        null_temperature: temperature of the distribution that those labels are drawn from: a number, or fit (on other documents)
        # reference
        reference: source that knows more of the next token: a model of the same vocabulary, self (the searched model with more
            context), or a FILE.parquet of log-probabilities; the pattern of least expected loss under it is found as well
        reference_context: the reference sees up to so many tokens of the document before a position; default what the sequence
            holds, and for self all that it has positions for, at most 1024
        objective: whose pattern a token runs as context of later ones, in context committed: the best for its label, or the
            reference's
        # data
        offset: begin so many tokens into each document; who has more context, a reference, sees those before
        # machine
        dtype: floating-point type of the model
        device: cpu, cuda, or cuda:N
        memory: bound on one worker's working memory
        unit_sequences: sequences per unit of work; default by the size of the search
        workers: worker processes; default one per core, or per GPU with --device cuda
        threads: threads of one worker; another number changes the last digits of losses
        address: address of the Ray cluster to use, or auto; its nodes share the run directory
        local: work in this process, without Ray
        # output
        out: run directory to make, or to resume; also a URI: s3://BUCKET/PATH, gs:// or az://
        keep: what to store besides the oracle paths
        dry_run: read model and data, say what would be searched and about how long it takes, and make nothing
        overwrite: replace what the run directory holds, where that is a run of another configuration
        track: send the curve, at the end, to a tracker as well, by name: wandb (extra `tracking`)
    """

    model: str = field(metadata={"uri": True})
    out: str = field(metadata={"uri": True})
    strategy: str = "exhaustive"
    settings: dict[str, str] = field(default_factory=dict, metadata={"flag": "set"})
    branches: str = "sB"
    gate: Gate = Gate.OWN
    skip: SkipReading = SkipReading.FFN
    route_layers: str | None = None
    context: str = "committed"
    budget: str = "any"
    tolerance: float = 0.0
    null_draws: int | None = None
    null_temperature: str = "1"
    reference: str | None = field(default=None, metadata={"uri": True})
    reference_context: int | None = None
    objective: Objective = Objective.LABEL
    offset: int = 0
    dtype: Dtype = Dtype.FLOAT32
    device: str = "cpu"
    seed: int = 0
    keep: Keep = Keep.NONE
    memory: str = "1GiB"
    unit_sequences: int | None = None
    workers: int | None = None
    threads: int = 1
    address: str | None = None
    local: bool = False
    overwrite: bool = False
    dry_run: bool = False
    track: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "out", written_place("out", self.out))
        parse_settings(self.strategy, self.settings)
        for name, choices in (("skip", SkipReading), ("dtype", Dtype), ("keep", Keep), ("objective", Objective)):
            check_choice(name, getattr(self, name), choices)
        check_tracker(self.track)
        self._check_reference()
        self._check_tolerance()
        self._check_branches()
        parse_bytes(self.memory)
        if not re.fullmatch(r"cpu|cuda(:\d+)?", self.device):
            raise InputError(f"a device is cpu, cuda or cuda:N; got {self.device!r}")
        parse_temperature(self.null_temperature)
        at_least(self, unit_sequences=1, workers=1, threads=1, null_draws=0, seed=0, offset=0, reference_context=1)
        within(self, null_draws=(0, MOST_NULL_DRAWS), threads=(1, MOST_THREADS))
        if self.local and self.address is not None:
            raise InputError("`local=True` works in this process and `address` on a Ray cluster; give one of them")
        if self.local and self.workers not in (None, 1):
            raise InputError(f"`local=True` works in this one process; got `workers={self.workers}`")
        if self.keep == Keep.LOSSES and not self.exact:
            raise InputError(
                "`keep='losses'` stores every pattern of the space, which only an exhaustive search evaluates; "
                f"with `strategy={self.strategy!r}` use `keep='trials'`"
            )

    def _check_reference(self) -> None:
        if self.reference is None:
            if self.reference_context is not None:
                raise InputError(f"`reference_context={self.reference_context}` is of a reference; give `reference` as well")
            if self.objective == Objective.REFERENCE:
                raise InputError("`objective='reference'` commits a reference's choice; give `reference` as well")
            return
        if self.reference.endswith(".parquet") and self.reference_context is not None:
            raise InputError("`reference_context` is of a model; a file of log-probabilities has the context that it was made with")
        if self.objective == Objective.REFERENCE and self.context != ContextKind.COMMITTED:
            raise InputError(
                f"`objective='reference'` says what is committed, in the context committed; got `context={self.context!r}`, in "
                "which nothing is (the reference's patterns are found in every context)"
            )
        if parse_settings(self.strategy, self.settings).pooled:
            raise InputError("one pattern for all tokens is searched by their real labels alone; got a `reference`")

    def _check_branches(self) -> None:
        table = parse_table(self.branches, self.gate)
        if not table.of_experts:
            return
        if self.context.startswith(f"{ContextKind.ROUTER}:"):
            raise InputError(
                f"a router's context is of letters of . s B, which routers choose among; got `branches={table.spec!r}` with "
                f"`context={self.context!r}`"
            )
        if self.tolerance:
            raise InputError(f"a `tolerance` is of branches . s B; got `branches={table.spec!r}`")

    def _check_tolerance(self) -> None:
        if not self.tolerance:
            return
        if not LEAST_TOLERANCE <= self.tolerance < float("inf"):
            raise InputError(
                f"a `tolerance` is 0 or at least {LEAST_TOLERANCE:g} nats, for losses are rounded; got {self.tolerance:g}"
            )
        if not self.exact:
            raise InputError(f"a `tolerance` is of an exhaustive search, which proves its paths; got `strategy={self.strategy!r}`")
        if self.keep != Keep.NONE:
            raise InputError(
                f"`keep={str(self.keep)!r}` stores every pattern, and a `tolerance` leaves most of a token's out; give one of them"
            )
        if self.context == ContextKind.SAME:
            raise InputError(
                "in the context same every pattern runs the whole sequence at once, so a `tolerance` saves nothing; leave it out"
            )

    @property
    def exact(self) -> bool:
        """Whether every pattern of the space is tried."""
        return load_strategy(self.strategy).covers_space

    def resolved(self, n_letters: int, seq_len: int, own_cost: int | None = None) -> SearchConfig:
        """The same with the defaults filled in that depend on the model: `seq_len` is the length of its windows."""
        null_draws = self.null_draws
        if null_draws is None:
            null_draws = 4 if self.exact else 0
        if not null_draws and parse_temperature(self.null_temperature) != 1.0:
            raise InputError(f"`null_temperature={self.null_temperature}` is of drawn labels; give `null_draws` 1 or more as well")
        unit_sequences = self.unit_sequences
        if unit_sequences is None and parse_settings(self.strategy, self.settings).pooled:
            unit_sequences = ALL_SEQUENCES
        if unit_sequences is None:
            most = None if self.exact else PROPOSED_PATTERNS
            per_position = sum(min(space.size, most or space.size) for space in self.problem(n_letters, own_cost=own_cost).spaces())
            unit_sequences = min(max(UNIT_PATTERNS // (seq_len * per_position), 1), MAX_UNIT_SEQUENCES)
        return replace(self, seq_len=seq_len, null_draws=null_draws, unit_sequences=unit_sequences)

    def problem(self, n_letters: int, cheapest: Branch = Branch.SMALL, own_cost: int | None = None) -> Problem:
        """The question as the engine takes it; `cheapest` is the branch of the model's cheapest pattern, `own_cost` what a
        mixture's own router spends on a token.

        Raises InputError where an option does not fit a model of `n_letters` routed layers.
        """
        table = parse_table(self.branches, self.gate)
        costs = SearchSpace(n_letters, table.branches).held_costs if table.of_experts else None
        return Problem(
            n_letters=n_letters,
            table=table,
            budgets=parse_budgets(self.budget, n_letters, max(1, table.dearest), own_cost, costs),
            context=parse_context(self.context, n_letters, cheapest, table),
            skip=SkipReading(self.skip),
            strategy=self.strategy,
            settings=dict(self.settings),
            null_draws=self.null_draws or 0,
            null_temperature=parse_temperature(self.null_temperature) or 1.0,
            seed=self.seed,
            keep=Keep(self.keep),
            memory_bytes=parse_bytes(self.memory),
            tolerance=self.tolerance,
            objective=Objective(self.objective),
        )
