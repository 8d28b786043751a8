"""Routers distilled from an oracle, as they ship, and the tables of all shipped routers.

`python -m duo_oracle.search.studies.shipped_routers`, behind `python -m duo_oracle.models.recipes.routers`, which trains those that
learn by gradient, in the same directory. Resumable: labels, trainings and losses that are there are passed over.

Axes: N tokens of a text, L layer.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from duo_oracle.models.checkpoint import SHIPPED, read_checkpoint
from duo_oracle.models.family import load_module
from duo_oracle.models.recipes.corpus import built, training_text
from duo_oracle.models.recipes.routers import EXPERTS, Recipe, is_trained, options, parser_of, place, publish, recipes
from duo_oracle.models.router import RECORD, read_router
from duo_oracle.models.router_training.config import RouterConfig
from duo_oracle.models.router_training.stage3 import train_router
from duo_oracle.models.routing import big_per_token
from duo_oracle.models.text.sources import source_name
from duo_oracle.models.text.tokenizer import load_tokenizer
from duo_oracle.models.text.windows import read_sequences
from duo_oracle.oracle.base.errors import ends_in_a_line
from duo_oracle.oracle.base.whole_file import write_text_whole
from duo_oracle.oracle.patterns import Branch
from duo_oracle.results.statistics.intervals import Estimate, paired
from duo_oracle.search.job.config import SearchConfig
from duo_oracle.search.job.problem import Keep
from duo_oracle.search.rerun.labels import read_labels
from duo_oracle.search.studies.routed_losses import chosen_of, kept_routes, stem_of
from duo_oracle.search.studies.searched import searched

MODEL = "duo-tiny"
HOLDOUTS = RouterConfig.holdouts
PATTERNS = 8
"""Random patterns that label each token."""
EVERY = 3
"""One document of so many is labelled."""
PAGE = "README.md"


def distilled() -> tuple[Recipe, ...]:
    """The shipped routers that learn from an oracle."""
    return (
        *(Recipe(f"distilled-{budget}", "distilled", budget) for budget in (4, 6, 8)),
        Recipe("distilled_tuned-4", "distilled", 4, {"tune": "yes"}),
    )


def label(corpus: Path, out: Path, workers: int) -> Path:
    """Searches random patterns at one whole window of every third document of the training text; the run's directory.

    Raises InputError where units fail.
    """
    texts = []
    for text in training_text(corpus):
        part = out / f"labelled_{Path(text).name}"
        if not part.is_file():
            out.mkdir(parents=True, exist_ok=True)
            with Path(text).open(encoding="utf-8") as lines:
                write_text_whole(part, "".join(islice(lines, 0, None, EVERY)))
        texts.append(str(part))
    return searched(
        SearchConfig(
            data=tuple(texts),
            model=MODEL,
            out=str(out / "labels"),
            strategy="random_search",
            settings={"n": str(PATTERNS)},
            context="router:random:6",
            budget="any",
            null_draws=0,
            keep=Keep.TRIALS,
            per_document=1,
            workers=workers,
            local=workers == 1,
        )
    )


def distil(corpus: Path, out: Path, workers: int) -> None:
    """Fits what is missing of the routers distilled from an oracle."""
    missing = [recipe for recipe in distilled() if not is_trained(place(recipe, out))]
    if not missing:
        return
    run = str(label(corpus, out, workers))
    for recipe in missing:
        print(recipe.name, flush=True)
        config = replace(options(recipe, 0, corpus, out, tokens=64_000), run=(run,))  # the tokens are of `tune`
        train_router(config, read_labels(config.run, config.model))


@dataclass(frozen=True)
class Routed:
    """What a router chose on a text, and what its choices cost in the pass that they routed."""

    loss_N: np.ndarray
    chosen_NL: np.ndarray
    document_N: np.ndarray

    @property
    def budget(self) -> float:
        return big_per_token(self.chosen_NL)

    @property
    def usage_L(self) -> np.ndarray:
        """The share of tokens that each layer makes big."""
        return (self.chosen_NL == Branch.BIG).mean(axis=0)


class Texts:
    """Whole holdouts under any router, each pass made once and kept in a file."""

    def __init__(self, folder: Path, texts: Sequence[str] = HOLDOUTS) -> None:
        self.folder, self.names = folder, tuple(texts)
        checkpoint = read_checkpoint(MODEL)
        assert checkpoint.tokenizer_json is not None  # a shipped model has one
        self.fingerprint, self.module = checkpoint.fingerprint, load_module(checkpoint)
        tokenizer = load_tokenizer(checkpoint.tokenizer_json)
        self.windows = {
            text: list(read_sequences(text, tokenizer, self.module.n_vocabulary, self.module.n_positions)) for text in texts
        }

    def routed(self, name: str, text: str) -> Routed:
        """Raises InputError as `read_router`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / f"{stem_of(name)}-{source_name(text)}.parquet"
        trained = read_router(name).fingerprint is not None
        table = kept_routes(file, name, trained, self.module, self.windows[text], self.fingerprint)
        return Routed(table["loss"].to_numpy(), chosen_of(table), table["document"].to_numpy())

    def less_random(self, name: str, text: str) -> tuple[Routed, Estimate]:
        """The router, and its loss less that of random routing of as many B's: between two whole numbers, of their mixture.

        Beside a router that skips stands random routing of its whole number of B's, skipping the rest.
        """
        found, router = self.routed(name, text), read_router(name)
        if Branch.SMALL not in router.branches:
            n_big = round(found.budget)
            other_N = self.routed(f"random:{n_big}+{self.module.n_letters - n_big}", text).loss_N
        else:
            below = math.floor(found.budget)
            share = found.budget - below
            above = min(below + 1, self.module.n_letters)
            other_N = (1 - share) * self.exactly(below, text).loss_N + share * self.exactly(above, text).loss_N
        return found, paired(found.loss_N, other_N, found.document_N)

    def exactly(self, n_big: int, text: str) -> Routed:
        """Random routing of so many B's for every token; at the ends there is but one."""
        n_letters = self.module.n_letters
        ends = {0: f"fixed:{'s' * n_letters}", n_letters: f"fixed:{'B' * n_letters}"}
        return self.routed(ends.get(n_big, f"random:{n_big}"), text)


def trained(out: Path, seeds: int) -> Iterator[tuple[Recipe, list[str]]]:
    """Every shipped router by name, and the directories of its trainings, seed 0 first."""
    for recipe in sorted((*recipes(), *distilled()), key=lambda recipe: recipe.name):
        places = (place(recipe, out, seed) for seed in range(seeds))
        if found := [str(directory) for directory in places if is_trained(directory)]:
            yield recipe, found


def loss_table(texts: Texts, routers: Sequence[tuple[Recipe, list[str]]], text: str) -> Iterator[str]:
    """A Markdown table: seed 0 with its interval, the other seeds' differences, and the mean over seeds with theirs."""
    yield "| router | B's | loss | less random [95%] | other seeds | mean of seeds |"
    yield "|---|---:|---:|---:|---:|---:|"
    for recipe, places in routers:
        (first, less), *others = (texts.less_random(place, text) for place in places)
        seeds = [less.mean, *(other.mean for _, other in others)]
        rest = ", ".join(f"{mean:+.4f}" for mean in seeds[1:])
        mean = f"{np.mean(seeds):+.4f}" if others else ""
        bounds = f"{less.mean:+.4f} [{less.low:+.4f}, {less.high:+.4f}]"
        yield f"| {recipe.name} | {first.budget:.2f} | {first.loss_N.mean():.4f} | {bounds} | {rest} | {mean} |"


def usage_table(texts: Texts, routers: Sequence[tuple[Recipe, list[str]]]) -> Iterator[str]:
    """A Markdown table of the experts of seed 0, cutoffs as trained: B's, and the least and most used layer's share."""
    yield f"| router | held-out training text | {' | '.join(map(source_name, texts.names))} |"
    yield f"|---|{'---:|' * (1 + len(texts.names))}"
    for recipe, (first, *_) in routers:
        if recipe.router in EXPERTS:
            held = json.loads((Path(first) / RECORD).read_text("utf-8"))["calibration"]
            found = [(held["budget_after"], np.array(held["usage_L"]))]
            found += [(one.budget, one.usage_L) for one in (texts.routed(first, text) for text in texts.names)]
            yield f"| {recipe.name} | {' | '.join(f'{big:.2f} ({use_L.min():.2f}-{use_L.max():.2f})' for big, use_L in found)} |"


def page(texts: Texts, routers: Sequence[tuple[Recipe, list[str]]]) -> str:
    """The page of tables."""
    parts = ["# The shipped routers\n"]
    for text in texts.names:
        document_N = texts.exactly(0, text).document_N
        beside = {n: texts.exactly(n, text).loss_N.mean() for n in (0, 4, 6, 8, texts.module.n_letters)}
        parts += [
            f"## {text}: {len(document_N):,} tokens of {len(set(document_N))} documents\n",
            "Random routing, by its number of B's: " + ", ".join(f"{n}: {loss:.4f}" for n, loss in beside.items()) + ".\n",
            *loss_table(texts, routers, text),
            "",
        ]
    parts += ["## Use with the cutoffs as trained\n", *usage_table(texts, routers)]
    return "\n".join(parts) + "\n"


def main() -> None:
    description = "Distil the shipped routers, and write the tables of all: an hour or two; resumable."
    parser = parser_of("python -m duo_oracle.search.studies.shipped_routers", description)
    parser.add_argument("--workers", type=int, default=1, help="processes of the search for labels (default %(default)s)")
    arguments = parser.parse_args()
    with ends_in_a_line():
        built(arguments.corpus)
        distil(arguments.corpus, arguments.out, arguments.workers)
        for recipe in distilled() if arguments.publish else ():
            publish(recipe, arguments.out, SHIPPED[MODEL] / "routers" / recipe.name)
        text = page(Texts(arguments.out / "losses"), list(trained(arguments.out, arguments.seeds)))
        write_text_whole(arguments.out / PAGE, text)
        print(text, end="")


if __name__ == "__main__":
    main()
