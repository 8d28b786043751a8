"""What the figures of a reproduction are made of, as it lies on disk: runs, routers' routes and the training study.

Kinds that a figure may need, each made by `search/studies/paper.py`:

- `big`: the exact search of a holdout in the context big, every budget, every pattern's loss kept, four drawn labels;
- `random`: one random pattern per position, label and (some) budget, with the same labels: what a gain is worth without choice;
- `sampled`: the exact search of text drawn from all-big itself, documents as in the holdout: where preferences are selection bias;
- `skip`, `sampled-skip`: the same two with the branches skip and big, half of the layers skipped;
- `routes`: what trained routers chose on the holdout, and random ones of their budgets;
- `study`: losses of small models trained in different ways.

Axes: N positions, L layers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from duo_oracle.oracle.base.json_text import read_json
from duo_oracle.oracle.base.threads import ready_arrow
from duo_oracle.oracle.patterns import Branch, RoutingPattern, branch_counts, to_array
from duo_oracle.results.statistics.effects import Ratio
from duo_oracle.results.store.kept_losses import LossTable, read_losses
from duo_oracle.results.store.positions import Positions, read_positions
from duo_oracle.results.store.reader import StoredRun, load

RUN_KINDS = ("big", "random", "sampled", "skip", "sampled-skip")
KINDS = (*RUN_KINDS, "routes", "study")


def random_budgets(n_letters: int) -> tuple[int, ...]:
    """The budgets of the runs `random`: 1, 2, 4, 6, 8, 10 and 11 of 12 layers."""
    some = {1, 2, round(n_letters / 3), round(n_letters / 2), n_letters - round(n_letters / 3), n_letters - 2, n_letters - 1}
    return tuple(sorted(k for k in some if 0 < k < n_letters))


@dataclass(frozen=True)
class Routes:
    """What one router chose at every position, and the loss of a plain pass routed by it. Rows as in the run `big`."""

    router: str
    budget: float | None
    trained: bool
    document_N: np.ndarray
    position_N: np.ndarray
    branches_NL: np.ndarray
    loss_N: np.ndarray

    @property
    def skips(self) -> bool:
        """Whether it chooses to skip at all."""
        return bool((self.branches_NL == Branch.SKIP).any())

    @property
    def n_big(self) -> float:
        """Mean B's per token."""
        return float(branch_counts(self.branches_NL, Branch.BIG).mean())


@dataclass(frozen=True)
class Trained:
    """One model of the training study: how it was trained, and its losses by document under each way to route it."""

    name: str
    p_big: float
    dense: bool
    order: str
    seed: int
    losses: dict[str, Ratio]


@dataclass(frozen=True)
class Material:
    """The directory of a reproduction. Tables are read when a figure asks for them, and kept."""

    directory: Path
    holdouts: tuple[str, ...]

    def run(self, holdout: str, kind: str) -> StoredRun:
        return load(self.directory / "runs" / f"{holdout}-{kind}")

    def positions(self, holdout: str, kind: str) -> Positions:
        return _positions(self.directory / "runs" / f"{holdout}-{kind}")

    def losses(self, holdout: str) -> LossTable:
        """Every pattern's loss, of the run `big`."""
        return _losses(self.directory / "runs" / f"{holdout}-big")

    def routes(self, holdout: str) -> tuple[Routes, ...]:
        """Trained routers by budget, then the random ones beside them."""
        return _routes(self.directory / "routes" / holdout)

    @cached_property
    def n_letters(self) -> int:
        """Of the model, as any of the runs says."""
        folder = next(iter(sorted((self.directory / "runs").glob(f"{self.holdouts[0]}-*/run.json"))))
        return load(folder.parent).n_letters

    def study(self) -> dict[str, Trained]:
        """The models of the training study, by name."""
        content = read_json(self.directory / "study" / "losses.json")
        found = {}
        for name, entry in content["models"].items():
            losses = {
                way: Ratio(tuple(sums), *(np.array(column, dtype=np.float64) for column in zip(*sums.values(), strict=True)))
                for way, sums in entry.pop("losses").items()
            }
            found[name] = Trained(name=name, losses=losses, **entry)
        return found

    def study_notes(self) -> str:
        """One line: on what the study's models were trained."""
        return str(read_json(self.directory / "study" / "losses.json")["about"])


@lru_cache(maxsize=16)
def _positions(path: Path) -> Positions:
    return read_positions(load(path))


@lru_cache(maxsize=2)
def _losses(path: Path) -> LossTable:
    return read_losses(load(path))


@lru_cache(maxsize=4)
def _routes(folder: Path) -> tuple[Routes, ...]:
    found = []
    ready_arrow()
    for file in folder.glob("*.parquet"):
        table = pq.read_table(file).sort_by([("sequence", "ascending"), ("position", "ascending")])
        about = json.loads(table.schema.metadata[b"duo_oracle.reproduce"])
        found.append(
            Routes(
                router=Path(about["router"]).name if about["trained"] else about["router"],
                budget=about["budget"],
                trained=about["trained"],
                document_N=np.array(table["document"].to_pylist()),
                position_N=table["position"].to_numpy(),
                branches_NL=to_array(RoutingPattern.parse(text) for text in table["pattern"].to_pylist()),
                loss_N=table["loss"].to_numpy().astype(np.float64),
            )
        )
    return tuple(sorted(found, key=lambda routes: (not routes.trained, routes.skips, routes.budget or 0.0, routes.router)))
