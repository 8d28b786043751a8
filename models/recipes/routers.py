"""Trains the routers that ship with duo-tiny on its corpus. `python -m duo_oracle.models.recipes.routers`.

Hours on a CPU; each router resumes where it was interrupted, and those that are done are passed over. What ships is seed 0; the
other seeds are for comparing routers. Routers distilled from an oracle need its runs, and are not made here.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from duo_oracle.models.checkpoint import SHIPPED
from duo_oracle.models.recipes import duo_tiny
from duo_oracle.models.recipes.corpus import built, training_text
from duo_oracle.models.router import RECORD, WEIGHTS
from duo_oracle.models.router_training.config import RouterConfig
from duo_oracle.models.router_training.stage3 import train_router
from duo_oracle.oracle.base.errors import ends_in_a_line
from duo_oracle.oracle.base.whole_file import write_text_whole

OUT = Path("work/routers")
TOKENS = 600_000
SEEDS = 3
NOVELS = "austen/"
"""Documents of the training text that are most like holdout:prose: routers that are no experts are calibrated on them."""


@dataclass(frozen=True)
class Recipe:
    """One shipped router."""

    name: str
    router: str
    budget: float
    settings: dict[str, str] = field(default_factory=dict)
    branches: str = "sB"
    prose_alone: bool = False
    compared: bool = False
    """Whether it is trained from three seeds, because tables compare it with others."""


EXPERTS = ("expert_threshold", "expert_choice")


def recipes() -> tuple[Recipe, ...]:
    """All, those that are compared first."""
    return (
        *(
            Recipe(f"{router}-{budget}", router, budget, compared=True)
            for budget in (4, 6, 8)
            for router in ("expert_threshold", "token_choice", "expert_choice", "budget")
        ),
        Recipe("expert_threshold_pooled-4", "expert_threshold", 4, {"cutoff": "pooled"}),
        Recipe("token_choice_aux-6", "token_choice", 6, {"balance": "aux"}),
        Recipe("expert_threshold_prose-6", "expert_threshold", 6, prose_alone=True),
        Recipe("skip-6", "budget", 6, branches=".B"),
        Recipe("three-6", "budget", 6, branches=".sB"),
    )


def trainings(seeds: int) -> Iterator[tuple[Recipe, int]]:
    """All seed 0 first: what ships."""
    for seed in range(seeds):
        yield from ((recipe, seed) for recipe in recipes() if seed == 0 or recipe.compared)


def place(recipe: Recipe, out: Path, seed: int = 0) -> Path:
    """The directory of one training."""
    return out / f"{recipe.name}@{seed}"


def is_trained(directory: Path) -> bool:
    """Whether the directory of a training holds its router."""
    return (directory / RECORD).is_file()


def options(recipe: Recipe, seed: int, corpus: Path, out: Path, tokens: int = TOKENS, threads: int = 1) -> RouterConfig:
    """The options of one training: steps of 1,024 tokens, evaluated on both whole holdouts."""
    prose, code = training_text(corpus)
    expert = recipe.router in EXPERTS
    return RouterConfig(
        model="duo-tiny",
        text=(prose,) if recipe.prose_alone else (prose, code),
        router=recipe.router,
        out=str(place(recipe, out, seed)),
        budget=recipe.budget,
        settings=recipe.settings,
        tokens=tokens,
        seed=seed,
        branches=recipe.branches,
        batch=4,
        calibration_text=() if expert else (str(novels(corpus, out)),),
        calibration_tokens=64_000,
        threads=threads,
        work=str(out / "work"),
    )


def novels(corpus: Path, out: Path) -> Path:
    """The file of the training text's novels, made where it is not there."""
    path = out / "novels.jsonl"
    if not path.is_file():
        out.mkdir(parents=True, exist_ok=True)
        with (corpus / "train_prose.jsonl").open(encoding="utf-8") as lines:
            write_text_whole(path, "".join(line for line in lines if json.loads(line)["document"].startswith(NOVELS)))
    return path


def publish(recipe: Recipe, out: Path, target: Path) -> None:
    """Copies what is shipped of a finished training."""
    target.mkdir(parents=True, exist_ok=True)
    for name in (WEIGHTS, RECORD):
        shutil.copyfile(place(recipe, out) / name, target / name)


def parser_of(program: str, description: str) -> argparse.ArgumentParser:
    """The options that every part of the recipe has."""
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("--out", type=Path, default=OUT, help="directory of the trainings (default %(default)s)")
    parser.add_argument("--corpus", type=Path, default=duo_tiny.WORK / "corpus", help="training corpus (default %(default)s)")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="seeds of the routers that are compared (default %(default)s)")
    parser.add_argument("--publish", action="store_true", help="copy finished trainings of seed 0 into the package")
    return parser


def main() -> None:
    parser = parser_of("python -m duo_oracle.models.recipes.routers", "Train the shipped routers: hours; resumable.")
    parser.add_argument("--tokens", type=int, default=TOKENS, help="tokens to train each on (default %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default %(default)s)")
    arguments = parser.parse_args()
    with ends_in_a_line():
        built(arguments.corpus)
        for recipe, seed in trainings(arguments.seeds):
            if not is_trained(place(recipe, arguments.out, seed)):
                print(f"{recipe.name}, seed {seed}", flush=True)
                train_router(options(recipe, seed, arguments.corpus, arguments.out, arguments.tokens, arguments.threads))
            if arguments.publish and seed == 0:
                publish(recipe, arguments.out, SHIPPED["duo-tiny"] / "routers" / recipe.name)


if __name__ == "__main__":
    main()
