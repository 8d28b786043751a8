"""Expert Threshold's claims on mixtures trained here: trains them by every rule, measures them, writes the page. Resumable.

`python -m duo_oracle.search.studies.experts`. Each training, and what is measured of it, is a directory of its own; those
that are done are passed over. Knows the plan; the claims are `results/experts/`.

Axes: S training steps, L layers with experts, E experts.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from duo_oracle.models.checkpoint import TOKENIZER
from duo_oracle.models.moe_training.config import VARIANTS, MoeTrainConfig
from duo_oracle.models.moe_training.evaluation import evaluate_mixture
from duo_oracle.models.moe_training.training import EARLY, EVALUATION, HELD_OUT, read_mixture, read_usage, texts, train_moe
from duo_oracle.models.recipes import duo_tiny
from duo_oracle.models.recipes.corpus import built, training_text
from duo_oracle.models.text.sources import source_name
from duo_oracle.models.text.tokenizer import load_tokenizer
from duo_oracle.models.text.windows import read_sequences
from duo_oracle.oracle.base.errors import ends_in_a_line
from duo_oracle.oracle.base.whole_file import written_whole
from duo_oracle.results.experts.beside_patterns import ONE_EXPERT, BesidePatterns, read_beside
from duo_oracle.results.experts.claims import COLD, ET, SEARCHED, TC
from duo_oracle.results.experts.material import Measured, Trained, Trainings
from duo_oracle.results.experts.page import write_page
from duo_oracle.results.store.reader import load
from duo_oracle.search.job.config import SearchConfig
from duo_oracle.search.job.problem import Keep
from duo_oracle.search.studies.searched import searched
from duo_oracle.search.studies.steps import check_settings, side_by_side

TOKENS, SEEDS, COMPARED_SEEDS = 800_000, 3, 5
MEASURED, SEARCHES = "measured", "searched"


@dataclass(frozen=True)
class Windows:
    """The windows whose routes are searched: so many of each of the first documents, with context before what is scored."""

    context: int = 96
    scored: int = 12
    per_document: int = 2
    most: int = 24


@dataclass(frozen=True)
class Plan:
    """What is trained: every rule from so many seeds, threshold and token choice from more, as they lie closest."""

    base: MoeTrainConfig
    out: Path
    seeds: int = SEEDS
    compared_seeds: int = COMPARED_SEEDS
    windows: Windows = Windows()

    def trainings(self) -> list[tuple[str, MoeTrainConfig]]:
        """Every training, by its rule: seed 0 of all first."""
        rules = [*VARIANTS, COLD]
        found = []
        for seed in range(max(self.seeds, self.compared_seeds)):
            for rule in rules:
                if seed < (self.compared_seeds if rule in (ET, TC) else self.seeds):
                    warmup = 0.0 if rule == COLD else self.base.expert_warmup
                    router = ET if rule == COLD else rule
                    out = str(self.out / f"{rule}@{seed}")
                    found.append((rule, replace(self.base, router=router, seed=seed, out=out, expert_warmup=warmup)))
        return found

    def searches(self, rule: str, config: MoeTrainConfig) -> bool:
        """Whether a training's routes are searched: as many seeds of each of three rules."""
        return rule in SEARCHED and config.seed < self.seeds


def run_experts(plan: Plan, workers: int = 1) -> Trainings:
    """Trains and measures what is missing, so many side by side; then writes the page into the plan's directory.

    Raises InputError for a directory that holds another plan's work, and as `train_moe`.
    """
    shared = {key: value for key, value in vars(plan.base).items() if key not in ("out", "work", "threads", "checkpoint_minutes")}
    decisive = {**shared, "seeds": plan.seeds, "compared_seeds": plan.compared_seeds, "windows": vars(plan.windows)}
    check_settings(plan.out / "experts.json", decisive, "mixtures")
    trainings = plan.trainings()
    missing = [config for _, config in trainings if not _measured_file(config, _sources(config)[-1]).is_file()]
    if missing:
        train_and_measure(missing[0])  # the text is tokenised once
    searched = [config for rule, config in trainings if plan.searches(rule, config)]
    for work, configs in ((train_and_measure, missing[1:]), (partial(search_routes, windows=plan.windows), searched)):
        for _ in side_by_side(work, configs, workers):
            pass
    found = Trainings([read_trained(rule, config, plan.searches(rule, config)) for rule, config in trainings])
    made_by = (
        f"{len(trainings)} models of {plan.base.tokens:,} tokens each: {plan.base.layers} layers, "
        f"{plan.base.granularity * plan.base.expansion} experts of {plan.base.ffn // plan.base.granularity} and a shared one. "
        "Text: documents held out of the training text, and the holdouts. Made by `make experts`."
    )
    write_page(found, plan.out, made_by)
    return found


def search_routes(config: MoeTrainConfig, windows: Windows) -> None:
    """Searches every number of experts at every layer, and one expert of every rank, for tokens of every holdout. Resumable."""
    n_layers, n_experts = config.layers - config.dense_layers, config.granularity * config.expansion
    numbers = f"top:{','.join(map(str, range(n_experts + 1)))}"
    ranks = f"ranks:{','.join(map(str, range(1, n_experts + 1)))}"
    for source in config.holdouts:
        for name, branches, budget in (("numbers", numbers, f"0-{n_layers * n_experts}"), ("ranks", ranks, ONE_EXPERT)):
            searched(
                SearchConfig(
                    data=(source,),
                    model=config.out,
                    out=str(_search_directory(config, source, name)),
                    branches=branches,
                    route_layers=f"{config.dense_layers}-{config.layers - 1}",
                    context="full",
                    budget=budget,
                    null_draws=1,
                    keep=Keep.LOSSES if name == "numbers" else Keep.NONE,
                    seq_len=windows.context + windows.scored,
                    min_context=windows.context,
                    per_document=windows.per_document,
                    max_sequences=windows.most,
                    workers=1,
                    local=True,
                )
            )


def train_and_measure(config: MoeTrainConfig) -> None:
    """Trains one mixture, and keeps losses and routes of every scored token of every source."""
    if not (Path(config.out) / EVALUATION).is_file():
        train_moe(replace(config, holdouts=()))  # they are measured below
    module, early = read_mixture(config.out), read_mixture(str(Path(config.out) / EARLY))
    tokenizer = load_tokenizer((Path(config.out) / TOKENIZER).read_text("utf-8"))
    for source in _sources(config):
        windows = (
            texts(config, tokenizer)[1]
            if source == HELD_OUT
            else list(read_sequences(source, tokenizer, module.n_vocabulary, config.positions))
        )
        found, then = (
            evaluate_mixture(model, windows, config.holdout_tokens, pool)
            for model, pool in ((module, config.batch if source == HELD_OUT else None), (early, None))
        )
        arrays = {
            "document": found.document_N,
            "position": found.position_N,
            "causal": np.concatenate(found.causal_WN),
            "protocol": np.concatenate(found.protocol_WN or [np.empty(0)]),
            "chosen": np.concatenate(found.chosen_WNLE),
            "early": np.concatenate(then.chosen_WNLE),
        }
        path = _measured_file(config, source)
        path.parent.mkdir(exist_ok=True)
        with written_whole(path) as aside, aside.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def read_trained(rule: str, config: MoeTrainConfig, searched: bool) -> Trained:
    """One training and what was measured of it, and where its routes were `searched`, what was found."""
    measured = {}
    for source in _sources(config):
        with np.load(_measured_file(config, source)) as file:
            protocol_N = file["protocol"] if len(file["protocol"]) else None
            document_N, position_N, causal_N, chosen_NLE, early_NLE = (
                file[name] for name in ("document", "position", "causal", "chosen", "early")
            )
        measured[_named(source)] = Measured(document_N, position_N, causal_N, protocol_N, chosen_NLE, early_NLE)
    held_SLE = read_usage(Path(config.out))["held"].numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a step without cutoffs has no mean: NaN
        known_S = ~np.isnan(held_SLE).all(axis=(1, 2)) if held_SLE.size else np.zeros(len(held_SLE), bool)
        below_S, above_S = (np.where(known_S, side.mean(axis=(1, 2)), np.nan) for side in (held_SLE < 0, held_SLE > 0))
    rate = (config.granularity - int(config.shared_expert)) / (config.granularity * config.expansion)
    beside = {source_name(source): _beside(config, source) for source in config.holdouts} if searched else {}
    return Trained(rule, config.seed, rate, measured, below_S, above_S, beside)


def _beside(config: MoeTrainConfig, source: str) -> BesidePatterns:
    return read_beside(*(load(_search_directory(config, source, name)) for name in ("numbers", "ranks")))


def _sources(config: MoeTrainConfig) -> tuple[str, ...]:
    return (HELD_OUT, *config.holdouts)


def _search_directory(config: MoeTrainConfig, source: str, name: str) -> Path:
    return Path(config.out) / SEARCHES / f"{source_name(source)}-{name}"


def _measured_file(config: MoeTrainConfig, source: str) -> Path:
    return Path(config.out) / MEASURED / f"{_named(source)}.npz"


def _named(source: str) -> str:
    return source if source == HELD_OUT else source_name(source)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m duo_oracle.search.studies.experts",
        description="Train mixtures of experts by every rule, and hold Expert Threshold's claims to them: resumable.",
    )
    parser.add_argument("--out", type=Path, default=Path("runs/experts"), help="directory (default %(default)s)")
    parser.add_argument("--corpus", type=Path, default=duo_tiny.WORK / "corpus", help="training corpus (default %(default)s)")
    parser.add_argument("--tokens", type=int, default=TOKENS, help="tokens to train each on (default %(default)s)")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="seeds of every rule (default %(default)s)")
    parser.add_argument(
        "--compared-seeds", type=int, default=COMPARED_SEEDS, help="of threshold and token choice (default %(default)s)"
    )
    parser.add_argument("--workers", type=int, default=2, help="trainings side by side, of one thread each (default %(default)s)")
    arguments = parser.parse_args(argv)
    with ends_in_a_line():
        text = training_text(built(arguments.corpus))
        work = str(arguments.out / "work")
        base = MoeTrainConfig(text, "", tokens=arguments.tokens, tokenizer="duo-tiny", threads=1, work=work)
        run_experts(Plan(base, arguments.out, arguments.seeds, arguments.compared_seeds), arguments.workers)
    print(arguments.out / "README.md")


if __name__ == "__main__":
    main()
