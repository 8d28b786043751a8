"""A run, read: its tables as Arrow or pandas, and what its manifest says.

Reads only parts that the manifest names, so a run that is still being written can be asked too. Knows no torch: a laptop
reads what a cluster wrote.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.dataset as ds

from duo_oracle.oracle.base.errors import InputError, Said
from duo_oracle.oracle.base.places import file_path
from duo_oracle.oracle.base.remote import Remote, is_remote
from duo_oracle.oracle.base.threads import ready_arrow
from duo_oracle.oracle.branches import Branch, BranchTable, Gate, parse_table
from duo_oracle.oracle.budgets import Budget, parse_budgets
from duo_oracle.oracle.contexts import Context, parse_context
from duo_oracle.oracle.layers import format_layers
from duo_oracle.results.store.columns import OLD_NAMES, SCHEMA_VERSION, TABLES, budget_kind
from duo_oracle.results.store.identity_check import Identity
from duo_oracle.results.store.manifest import JOURNAL, MANIFEST, Manifest, damaged_journal, manifest_of, part_path, read_manifest
from duo_oracle.results.store.part_check import letters_fault, order_fault, part_fault
from duo_oracle.results.store.records import UnitRecord
from duo_oracle.results.store.schemas import schema
from duo_oracle.results.store.version1 import ConvertedDataset, converted_identity
from duo_oracle.results.store.words import Words, words_of

if TYPE_CHECKING:
    import pandas as pd

_REPAIR = "the search that wrote the run, or duo-oracle verify --repair, searches it again"


@dataclass(frozen=True)
class StoredRun:
    """One run directory. `tokens()`, `paths()`, `losses()`, `trials()` give pandas; `dataset(table)` reads lazily.

    `remote` is the store's folder where the run lies in one; `path` is then this machine's folder for copies of its parts,
    each made when it is first asked for.
    """

    path: Path
    manifest: Manifest = field(repr=False)
    remote: Remote | None = None
    _checked: set[tuple[str, int]] = field(default_factory=set, repr=False, compare=False)
    _ordered: set[str] = field(default_factory=set, repr=False, compare=False)

    @property
    def name(self) -> str:
        return self.path.resolve().name if self.remote is None else self.remote.name

    @property
    def place(self) -> str:
        """Where the run lies, as it is named: a path or a URI."""
        return os.fspath(self.path) if self.remote is None else self.remote.uri

    @property
    def config(self) -> dict[str, Any]:
        """The resolved config that the run was searched with."""
        return self.manifest.facts.get("config", {})

    @property
    def identity(self) -> dict[str, Any]:
        """All that decides the run's tables, in the words of this version."""
        identity = self.manifest.identity
        return Identity(identity if self.manifest.schema_version == SCHEMA_VERSION else converted_identity(Identity(identity)))

    @property
    def budgets(self) -> tuple[str, ...]:
        """The budgets as they are written on the command line, in the run's order: `any`, `4`, `atmost:4`."""
        return tuple(self.identity["budgets"])

    @property
    def context(self) -> str:
        return self.identity["context"]

    @property
    def parsed_context(self) -> Context:
        return parse_context(self.context, self.n_letters, self.cheapest, self.table)

    @cached_property
    def table(self) -> BranchTable:
        """The branches that a layer may take."""
        return parse_table(self.identity.get("branches", "sB"), self.identity.get("gate") or Gate.OWN)

    def check_letters(self, what: str) -> None:
        """Raises InputError where the run is of a table of experts, which `what` cannot answer of."""
        if self.table.of_experts:
            raise InputError(f"{what} is answered for branches . s B; {self.place} was searched over {self.table.spec}")

    @property
    def words(self) -> Words:
        """What the run's full model, cheapest pattern and costs are called."""
        return words_of(self.table, self.cheapest)

    @property
    def full_name(self) -> str:
        """What the model as it is without routing is called in tables: all-big, or full where it is a mixture's own routing."""
        return self.words.full

    @property
    def n_letters(self) -> int:
        """How many letters a pattern has: one for each routed layer."""
        return self.identity["n_letters"]

    @property
    def layers(self) -> tuple[int, ...]:
        """The numbers that the routed layers have in the model, letter by letter: all layers, or those that the run names."""
        return tuple(self.identity.get("route_layers", range(self.n_letters)))

    @property
    def route_layers(self) -> str | None:
        """The routed layers as they are written, such as 18-27; None where all layers are routed."""
        return format_layers(self.layers) if "route_layers" in self.identity else None

    @property
    def depth(self) -> int | None:
        """How many layers the model has; None where only some are routed and the run does not say."""
        return self.n_letters if self.route_layers is None else self.manifest.facts.get("depth")

    @property
    def cheapest(self) -> Branch:
        """The branch whose loss at every layer all-big's is compared with: small, or skip in a model without small FFNs."""
        return self.table.of_letter(self.identity.get("cheapest", Branch.SMALL.letter))

    @property
    def cheapest_name(self) -> str:
        """What the pattern of that branch alone is called, whose loss is in the column loss_cheapest: all-small, or all-skip."""
        return self.words.cheapest

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables that the run holds: tokens and paths, and losses or trials where they were kept."""
        held = {table for record in self.manifest.units.values() for table in record.parts}
        return tuple(table for table in TABLES if table in held or table in ("tokens", "paths"))

    @cached_property
    def n_tokens(self) -> int:
        return sum(record.tokens for record in self.manifest.units.values())

    def budget(self, text: str | None = None) -> Budget:
        """The run's budget that `text` writes; None takes `any` where it was searched, else the one of least mean loss.

        Raises InputError for a budget that was not searched.
        """
        if text is None:
            text = "any" if "any" in self.budgets else self._least_budget()
        if text not in self.budgets:
            raise InputError(f"{self.place} was not searched under budget {text!r}; available: {', '.join(self.budgets)}")
        return parse_budgets(text, self.n_letters, max(1, self.table.dearest))[0]

    def dataset(self, table: str, unit: int | None = None) -> ds.Dataset | ConvertedDataset:
        """The rows of `table`, read when they are asked for; of one unit where it is given.

        Raises InputError where the run does not hold them.
        """
        wanted = schema(table, self.manifest.run_id)
        if table not in self.tables:
            raise InputError(f"{self.place} kept no {table}; it holds {', '.join(self.tables)} (search with `keep={table!r}`)")
        ready_arrow()
        units = sorted(self.manifest.units) if unit is None else [unit]
        self._check(table, [self.manifest.units[number] for number in units])
        files = [part_path(self.path, table, number) for number in units]
        if not files:
            return ds.dataset(wanted.empty_table())
        names = [os.fspath(file) for file in files]
        if self.manifest.schema_version != SCHEMA_VERSION:
            return ConvertedDataset(names, table, wanted, self.n_letters)
        return ds.dataset(names, schema=wanted, format="parquet")

    def tokens(self) -> pd.DataFrame:
        """One row per scored position: sequence, document, position, token_id, token, target_id, target."""
        return self._pandas("tokens")

    def paths(self) -> pd.DataFrame:
        """One row per position and budget: the oracle path, its loss in nats, and what it is compared with.

        The last columns repeat some under version 1's names: loss_big, loss_small, entropy_big, budget_kind.
        """
        return self._pandas("paths")

    def losses(self) -> pd.DataFrame:
        """One row per position and pattern (of a search that kept losses)."""
        return self._pandas("losses")

    def trials(self) -> pd.DataFrame:
        """One row per evaluated pattern in the order asked for (of a search that kept trials)."""
        return self._pandas("trials")

    def _check(self, table: str, records: list[UnitRecord]) -> None:
        """Raises InputError for a part that is not the one that the run wrote. Each is looked at once."""
        for record in records:
            if (table, record.unit) in self._checked:
                continue
            path = part_path(self.path, table, record.unit)
            name, fault = path.relative_to(self.path).as_posix(), part_fault(self.path, table, record)
            if fault is not None and self.remote is not None:
                path.unlink(missing_ok=True)
                with contextlib.suppress(FileNotFoundError):
                    self.remote.fetch(name, path)
                fault = part_fault(self.path, table, record)
            if fault is not None:
                raise InputError(f"{self.place}/{name} {fault}; {_REPAIR}")
            said = letters_fault(self.path, table, record, self.n_letters)
            if said is not None:
                raise InputError(f"{self.place}/{name} {said}")
            self._checked.add((table, record.unit))
        if table not in self._ordered and len(records) == len(self.manifest.units):
            fault = order_fault(self.path, table, records)
            if fault is not None:
                raise InputError(f"{fault}; {_REPAIR}")
            self._ordered.add(table)

    def _least_budget(self) -> str:
        if len(self.budgets) == 1:
            return self.budgets[0]
        rows = self.dataset("paths").to_table(columns=["budget", "loss"])
        means = rows.group_by("budget").aggregate([("loss", "mean")]).sort_by("loss_mean")
        return means["budget"][0].as_py() if means.num_rows else self.budgets[0]

    def _pandas(self, table: str) -> pd.DataFrame:
        frame: pd.DataFrame = self.dataset(table).to_table().to_pandas()
        for old, new in OLD_NAMES.get(table, {}).items():
            frame[old] = frame[new]
        if "budget" in frame:
            kinds = {text: budget_kind(text) for text in self.budgets}
            frame["budget_kind"] = frame["budget"].map(kinds)
        return frame


def load(path: str | os.PathLike[str]) -> StoredRun:
    """The run in directory `path`. Raises InputError where there is none, or one of a later version of the tables."""
    remote = Remote(str(path)) if is_remote(path) else None
    path = str(path) if remote is not None else file_path(path)
    manifest = read_manifest(Path(path)) if remote is None else remote_manifest(remote)
    if manifest.schema_version > SCHEMA_VERSION:
        raise InputError(
            f"tables up to version {SCHEMA_VERSION} can be read; {path} has version {manifest.schema_version}: update duo-oracle"
        )
    if manifest.damaged_lines:
        warnings.warn(f"{path}: {damaged_journal(manifest)}; their units are left out until a search goes on", Said, stacklevel=2)
    whole = manifest.facts.get("positions")
    if manifest.state == "complete" and whole not in (None, manifest.positions):
        warnings.warn(
            f"{path}: its manifest says complete and names {manifest.positions:,} of {whole:,} positions; the search that wrote it "
            "searches the others again",
            Said,
            stacklevel=2,
        )
    return StoredRun(Path(path), manifest) if remote is None else StoredRun(remote.mirror(), manifest, remote)


def manifest_at(place: Path | str) -> Manifest:
    """The manifest of the run at a path or a URI. Raises InputError where there is none."""
    return remote_manifest(Remote(str(place))) if is_remote(place) else read_manifest(Path(place))


def remote_manifest(remote: Remote) -> Manifest:
    """The manifest of a run in a store. Raises InputError where there is none."""
    try:
        journal = remote.read(JOURNAL)  # first: what is folded away meanwhile is in the manifest that is read then
    except FileNotFoundError:
        journal = b""
    try:
        content = remote.read(MANIFEST)
    except FileNotFoundError:
        raise InputError(f"a run is a folder that holds {MANIFEST}; {remote.uri} does not") from None
    return manifest_of(content, journal, f"{remote.uri}/{MANIFEST}")
