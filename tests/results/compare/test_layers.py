"""A comparison of routers on a model of which some layers are routed, and that has no small FFNs: lines, files and pictures name
both as the model does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest

from duo_oracle.oracle.flops import Flops
from duo_oracle.oracle.patterns import Branch
from duo_oracle.results.compare.files import layers_table, write_files
from duo_oracle.results.compare.plane import Oracle, Plane, Routed, reference_lines, router_line
from duo_oracle.results.compare.plot import draw_plane
from duo_oracle.results.compare.table import as_text
from duo_oracle.results.compare.training import plot_training_usage, usage_table

N_TOKENS, LAYERS = 12, (3, 8, 9)


def plane_of(cheapest: Branch, layers: tuple[int, ...] | None) -> Plane:
    """Three layers, every budget searched, losses that fall with it."""
    rng = np.random.default_rng(0)
    level_KN = np.sort(rng.gamma(2.0, 1.0, (4, N_TOKENS)), axis=0)[::-1]
    branches_KNL = np.where(np.arange(3) < np.arange(4)[:, None, None], Branch.BIG, cheapest).astype(np.uint8)
    oracles = {
        k: Oracle(level_KN[k] - 0.2, np.repeat(branches_KNL[k], N_TOKENS, axis=0), np.full(N_TOKENS, 0.01)) for k in range(4)
    }
    return Plane(
        sequence_N=np.arange(N_TOKENS) // 2,
        position_N=np.arange(N_TOKENS) % 2,
        document_N=np.array([f"doc{n // 4}" for n in range(N_TOKENS)]),
        context="full",
        independent=True,
        branches=(cheapest, Branch.BIG),
        loss_cheapest_N=level_KN[0],
        loss_full_N=level_KN[3],
        oracles=oracles,
        at_most=False,
        any_oracle=None,
        fixed_KN=level_KN,
        fixed_patterns=("",) * 4,
        random_KN=level_KN + 0.1,
        gap_excess_KN=np.zeros((4, N_TOKENS)),
        random_rank_KN=np.full((4, N_TOKENS), 50.0),
        flops_by_branch=Flops(head=100.0, skip=1.0, small=2.0, big=10.0),
        routed_layers=layers,
        cheapest=cheapest,
    )


def routed_on(plane: Plane) -> Routed:
    branches_NL = np.tile(np.array([plane.cheapest, plane.cheapest, Branch.BIG], np.uint8), (N_TOKENS, 1))
    unknown_N = np.full(N_TOKENS, np.nan)
    return Routed("late", branches_NL, plane.fixed_KN[1] + 0.05, plane.random_KN[1], unknown_N, unknown_N, True, 1.0)


def test_the_line_of_no_big_layer_has_the_cheapest_patterns_name_and_operations() -> None:
    skip, small = plane_of(Branch.SKIP, LAYERS), plane_of(Branch.SMALL, None)
    for plane, name, flops in ((skip, "all-skip", 103.0), (small, "all-small", 106.0)):
        first, last, *others = reference_lines(plane, [])
        assert (first.name, first.kind, first["flops"]) == (name, name, flops)
        assert (last.name, last.kind, last["flops"]) == ("all-big", "all-big", 130.0)
        assert first["minus_fixed"] is None
        assert all(line["minus_fixed"] is not None for line in others)
        text = as_text([first, last, *others, router_line(plane, routed_on(plane))])
        assert name in text
        assert ("all-small" in text) == (name == "all-small")


def test_files_and_pictures_number_layers_as_the_model_does(tmp_path: Path) -> None:
    plane = plane_of(Branch.SKIP, LAYERS)
    routed = routed_on(plane)
    lines = [*reference_lines(plane, [1.0]), router_line(plane, routed)]
    write_files(tmp_path, plane, [routed], lines)
    rows = pq.read_table(tmp_path / "layers.parquet").to_pylist()
    assert [(row["layer"], row["big"]) for row in rows] == [(3, 0.0), (8, 0.0), (9, 1.0)]
    (router,) = (line for line in pq.read_table(tmp_path / "lines.parquet").to_pylist() if line["kind"] == "router")
    assert router["layers"] == list(LAYERS)
    assert router["agreement_by_layer"] == pytest.approx([row["agreement"] - row["majority"] for row in rows])
    assert "all-skip's loss, nats" in (tmp_path / "usage.svg").read_text()
    draw_plane(plane, lines).save(tmp_path / "plane.svg")
    drawn = (tmp_path / "plane.svg").read_text()
    assert "big layers per token, of layers 3,8-9, average" in drawn
    assert "all-skip" in drawn
    assert "all-small" not in drawn
    every = replace(plane, routed_layers=None)
    assert [row["layer"] for row in layers_table(every, [routed]).to_pylist()] == [0, 1, 2]


def test_routers_in_training_number_layers_as_their_record_does(tmp_path: Path) -> None:
    def record(**more: tuple[int, ...]) -> SimpleNamespace:
        numbers_SL = np.full((8, 3), 0.5)
        return SimpleNamespace(
            **{
                "name": "late",
                "layers": None,
                "even": 0.3,
                "usage_SL": numbers_SL,
                "cutoff_SL": numbers_SL,
                "batch_cutoff_SL": numbers_SL,
                "passed_SL": np.full((8, 3), np.nan),
                "held_SL": np.full((8, 3), np.nan),
                **more,
            }
        )

    assert usage_table([record(layers=LAYERS), record()])["layer"].to_pylist() == [3, 8, 9, 0, 1, 2]
    plot_training_usage([record(layers=LAYERS), record()], tmp_path / "usage.svg")
    assert (tmp_path / "usage.svg").stat().st_size > 1000
