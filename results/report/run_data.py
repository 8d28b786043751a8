"""One run as the page wants it: its words, texts, summary numbers with intervals, and its columns packed. Knows no HTML.

Axes: N positions, K budgets in the run's order, L routed layers, A alternatives.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from duo_oracle.oracle.patterns import to_strings
from duo_oracle.results.answers.curve import BudgetLine, budget_lines
from duo_oracle.results.answers.reached import Reached, reached_of_run
from duo_oracle.results.answers.verdict import verdict
from duo_oracle.results.ladder.rungs import Line
from duo_oracle.results.report import words
from duo_oracle.results.report.alternatives import Beside, read_beside
from duo_oracle.results.report.beside_search import beside_search
from duo_oracle.results.report.packing import Blocks, as_numbers
from duo_oracle.results.report.positions import RunPositions, read_run
from duo_oracle.results.report.routers import router_rows
from duo_oracle.results.statistics.intervals import bootstrap
from duo_oracle.results.store.reader import StoredRun
from duo_oracle.results.store.route_files import Routes

CLASSES = ("easy", "reducible", "within bias", "helped", "stubborn")
"""Of tokens, as the view of measures names them."""
STEP = 1 / 4000
"""Nats: alternatives' losses above the path's are packed as whole numbers of steps, up to 16 nats."""
_SATURATE = 0.98


def run_data(run: StoredRun, routes: Sequence[Routes], blocks: Blocks, ladders: Sequence[Sequence[Line]] = ()) -> dict[str, Any]:
    """The run's part of the page's data; its columns go to `blocks`."""
    positions, lines = read_run(run), budget_lines(run)
    said = verdict(lines)
    reached = {line.budget: line for line in reached_of_run(run)}
    kept = read_beside(positions, [one.branches_NL for one in routes]) if "losses" in run.tables else None
    routed_RN = kept.routed_RN if kept is not None else None
    patterns = _Patterns()
    columns = _columns(positions, blocks, patterns)
    if kept is not None:
        columns |= _alternatives(kept, blocks, patterns)
    for number, one in enumerate(routes):
        columns[f"route.{number}"] = _strings(patterns, to_strings(one.branches_NL, run.table.letters), blocks)
        if routed_RN is not None:
            columns[f"routed.{number}"] = blocks.add(routed_RN[number], "f4")
    default = run.budgets.index(said.budget)  # so that the page is of what its first sentence says
    return {
        "name": run.name,
        "verdict": {"kind": said.kind, "text": said.text, "budget": default},
        "searched": words.searched(positions),
        "how": words.how_to_read(lines[0].null_gain is not None, run.words),
        "warnings": words.warnings(run, lines),
        "details": words.details(run),
        "context": run.context,
        "layers": run.n_letters,
        "layerNumbers": list(run.layers),
        "routed": run.route_layers,
        "cheapest": run.cheapest_name,
        "branches": run.identity.get("branches", "sB"),
        "words": words.page_words(run),
        "letters": words.letters_of(run),
        "budgets": [_budget(text, n, run.words.unit) for text, n in zip(run.budgets, words.pattern_counts(run), strict=True)],
        "budget": default,
        "documents": list(positions.documents),
        **_texts(positions, blocks, columns),
        "rows": positions.n_positions,
        "lines": [_line(line, reached.get(line.budget)) for line in lines],
        "layerShares": [_layer_shares(positions, k) for k in range(len(run.budgets))],
        "scales": _scales(positions, routed_RN),
        "routers": router_rows(positions, routes, routed_RN),
        "beside": beside_search(run, ladders),
        "kept": kept is not None,
        "classes": CLASSES,
        "columns": columns,
        "patterns": patterns.texts,  # last: the columns have named them by now
    }


class _Patterns:
    """Distinct patterns, numbered as they come."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._code_of: dict[str, int] = {}

    def codes(self, texts: Sequence[str]) -> np.ndarray:
        found = pa.array(texts, pa.string()).dictionary_encode()
        code_of = np.array([self._code(text) for text in found.dictionary.to_pylist()], dtype=np.int64)
        return code_of[found.indices.to_numpy()]

    def _code(self, text: str) -> int:
        code = self._code_of.setdefault(text, len(self.texts))
        if code == len(self.texts):
            self.texts.append(text)
        return code


def _strings(patterns: _Patterns, texts: Sequence[str], blocks: Blocks) -> dict[str, Any]:
    codes_N = patterns.codes(texts)
    return blocks.add_codes(codes_N, len(patterns.texts))


def _columns(positions: RunPositions, blocks: Blocks, patterns: _Patterns) -> dict[str, Any]:
    columns: dict[str, Any] = {
        "document": blocks.add_codes(positions.document_N, len(positions.documents)),
        "sequence": blocks.add(positions.sequence_N, "i4"),
        "position": blocks.add(positions.position_N, "i4"),
    }
    values = positions.values_KN
    # Outside of a committed context the cheapest pattern and all-big are the same under every budget: packed once, named often.
    shared = {
        name: blocks.add(values[name][0], "f4")
        for name in ("loss_cheapest", "loss_full")
        if all(np.array_equal(values[name][0], other) for other in values[name][1:])
    }
    for k in range(len(positions.pattern_KN)):
        columns[f"pattern.{k}"] = _strings(patterns, positions.pattern_KN[k], blocks)
        columns[f"loss.{k}"] = blocks.add(values["loss"][k], "f4")
        columns[f"null_gain.{k}"] = blocks.add(values["null_gain"][k], "f4")
        for name in ("loss_cheapest", "loss_full"):
            columns[f"{name}.{k}"] = shared.get(name) or blocks.add(values[name][k], "f4")
        columns[f"evaluations.{k}"] = blocks.add(positions.evaluations_KN[k], "i4")
        columns[f"certified.{k}"] = blocks.add(positions.certified_KN[k], "u1")
        columns[f"class.{k}"] = blocks.add(np.array([CLASSES.index(name) for name in positions.class_KN[k]]), "u1")
        columns[f"doubtful.{k}"] = blocks.add(values["null_above"][k] > 0, "u1")  # some drawn label gains as much
        columns[f"excess_difficulty.{k}"] = blocks.add(values["excess_difficulty"][k], "f4")
    columns["entropy_full"] = blocks.add(values["entropy_full"][0], "f4")
    return columns


def _alternatives(kept: Beside, blocks: Blocks, patterns: _Patterns) -> dict[str, Any]:
    columns = {}
    for k, found in enumerate(kept.alternatives):
        missing_NA = np.isnan(found.above_NA)
        steps_NA = np.where(missing_NA, 0xFFFF, np.minimum(np.round(np.nan_to_num(found.above_NA) / STEP), 0xFFFE))
        codes_NA = patterns.codes(found.pattern_NA.ravel().tolist())
        columns[f"alternative.{k}"] = blocks.add_codes(codes_NA, len(patterns.texts))
        columns[f"above.{k}"] = blocks.add(steps_NA, "u2")
    return columns


def _texts(positions: RunPositions, blocks: Blocks, columns: dict[str, Any]) -> dict[str, Any]:
    """The distinct pieces of text, and which of them each passage reads: rows + 1 of them a passage, one after the other."""
    code_of: dict[str, int] = {}
    codes = [code_of.setdefault(piece, len(code_of)) for passage in positions.passages for piece in passage.pieces]
    columns["piece"] = blocks.add_codes(np.array(codes), len(code_of))
    passages = [[p.sequence, p.document, p.start, p.length, p.first_position] for p in positions.passages]
    indented = sum("\n" in piece or "\t" in piece or piece.startswith("  ") for piece in code_of) + codes.count(
        code_of.get("\n", -1)
    )
    return {"pieces": list(code_of), "passages": passages, "prose": indented < 0.04 * len(codes)}


def _budget(text: str, n_patterns: int, unit: str) -> dict[str, Any]:
    label = words.budget_label(text, unit)
    return {"name": text, "label": label, "patterns": n_patterns, "big": int(text) if text.isdecimal() else None}


def _line(line: BudgetLine, reached: Reached | None) -> dict[str, Any]:
    fixed = line.fixed
    return {
        "small": as_numbers(line.all_small),
        "mean": as_numbers(fixed.mean if fixed else None),
        "fixed": as_numbers(fixed.best if fixed else None),
        "fixedInSample": as_numbers(fixed.best_in_sample if fixed else None),
        "fixedPattern": fixed.best_pattern if fixed else None,
        "big": as_numbers(line.all_big),
        "oracle": as_numbers(line.oracle),
        "gain": as_numbers(line.gain),
        "nullGain": as_numbers(line.null_gain),
        "excess": as_numbers(line.excess),
        "control": as_numbers(line.control),
        "beyond": as_numbers(line.beyond),
        "expected": as_numbers(None if reached is None else reached.expected),
        "realised": as_numbers(None if reached is None else reached.realised),
        "nBig": as_numbers(line.n_big),
        "certified": line.certified.mean,
        "tokens": line.oracle.n_tokens,
        "documents": line.oracle.n_documents,
        "detectable": None if line.excess is None else line.excess.detectable,
    }


def _layer_shares(positions: RunPositions, k: int) -> list[list[float] | None]:
    """Each layer's share of B's over tokens, or what it spends of the dearest branch's cost, with its interval."""
    table = positions.run.table
    letters = np.frombuffer("".join(positions.pattern_KN[k]).encode("ascii"), dtype=np.uint8)
    cost_c = np.zeros(128)
    for branch in table.branches:
        cost_c[ord(branch.letter)] = branch.cost / max(1, table.dearest)
    shares = bootstrap(cost_c[letters].reshape(positions.n_positions, positions.run.n_letters), positions.document_N)
    return [as_numbers(share) for share in shares]


def _scales(positions: RunPositions, routed_RN: list[np.ndarray] | None) -> dict[str, list[float]]:
    """For every measure how far its colours go, down and up: the same under all budgets, so that these can be compared.

    The rarest fiftieth saturates, or one token's colour would leave all the others pale.
    """
    values = positions.values_KN
    loss, small, big = values["loss"], values["loss_cheapest"], values["loss_full"]
    measures = {
        "difficulty": [s - x for s, x in zip(small, loss, strict=True)],
        "gain": [b - x for b, x in zip(big, loss, strict=True)],
        "null_gain": values["null_gain"],
        "excess": values["excess"],
        "compute": [s - b for s, b in zip(small, big, strict=True)],
        "loss": loss,
        "loss_cheapest": small,
        "loss_full": big,
        "excess_difficulty": values["excess_difficulty"],
        "entropy_full": values["entropy_full"],
    }
    for number, routed_N in enumerate(routed_RN or ()):
        measures[f"routed.{number}"] = [routed_N]
        measures[f"regret.{number}"] = [routed_N - x for x in loss]
    return {name: _scale(np.concatenate(arrays)) for name, arrays in measures.items()} | {
        "n_big": [0.0, float(positions.run.n_letters * max(1, positions.run.table.dearest))]
    }


def _scale(values: np.ndarray) -> list[float]:
    known = values[np.isfinite(values)]
    if not len(known):
        return [0.0, 1.0]
    least, most = (float(np.quantile(known, q)) for q in (1 - _SATURATE, _SATURATE))
    most = max(most, 1e-3)
    least = 0.0 if least > -0.02 * most else least
    return [math.floor(least * 10) / 10, math.ceil(most * 10) / 10]
