"""`route` and `compare`: files and routers give the same numbers, plain passes the same losses, and no router beats the oracle."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from duo_oracle import results
from duo_oracle.models.checkpoint import read_checkpoint
from duo_oracle.models.family import load_model, load_module
from duo_oracle.models.router import read_router
from duo_oracle.models.routing import route
from duo_oracle.models.text.windows import read_sequences
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.patterns import Branch, RoutingPattern
from duo_oracle.results.compare.plane import Line, reference_lines, router_line
from duo_oracle.results.statistics.intervals import Estimate
from duo_oracle.search.cli import main
from duo_oracle.search.job.config import SearchConfig
from duo_oracle.search.job.driver import run_search
from duo_oracle.search.rerun.opened import open_run
from duo_oracle.search.rerun.routers import Compared, compare_routers
from tests.small_models import plain_losses

Asks = Callable[..., SearchConfig]
ROUTERS = ("random:1.4", "fixed:BsB", "random:2@3")


def compared(config: SearchConfig, *routers: str, **values: object) -> Compared:
    run_search(config)
    return compare_routers(open_run(results.load(config.out)), routers, **values)  # type: ignore[arg-type]


def same(left: Line, right: Line, but: tuple[str, ...] = ()) -> bool:
    assert left.loss == right.loss
    assert left.values.keys() == right.values.keys()
    assert all(left.values[key] == right.values[key] for key in left.values if key not in but)
    return True


@pytest.mark.parametrize("context", ["full", "same", "sBs", "committed", "router:random:1"])
def test_routes_read_back_give_the_numbers_of_their_router(asks_duo: Asks, tmp_path: Path, context: str) -> None:
    config = asks_duo(context=context, budget="0-3", keep="losses", seq_len=6)
    run_search(config)
    file = tmp_path / "routes.parquet"
    argv = ["route", config.model, "random:1.4", *config.data, "--seq-len", "6", "--out", str(file)]
    assert main(argv) == 0
    run = open_run(results.load(config.out))
    direct = compare_routers(run, ("random:1.4",))
    read = compare_routers(run, (), ((None, str(file)),))
    bare = tmp_path / "bare.parquet"
    pq.write_table(pq.read_table(file).replace_schema_metadata(None), bare)
    foreign = compare_routers(run, (), (("mine", str(bare)),))
    lines = [router_line(found.plane, found.routers[0]) for found in (direct, read, foreign)]
    assert same(lines[0], lines[1])
    assert same(lines[0], lines[2], but=("causal", "target", "budget_error"))
    assert lines[2]["causal"] is None


def test_a_committed_loss_is_that_of_a_plain_pass(asks_duo: Asks, duo: Path) -> None:
    config = asks_duo(context="committed", budget="any,1", branches=".sB", null_draws=0)
    found = compared(config, "random:1+1")
    checkpoint = read_checkpoint(str(duo))
    model = load_model(checkpoint)
    sequences = list(read_sequences(config.data, None, 40, 32))
    masks = route(read_router("random:1+1"), load_module(checkpoint), sequences, SkipReading.FFN, checkpoint.fingerprint)
    loss_N = np.concatenate(
        [
            plain_losses(model, torch.from_numpy(s.token_ids.astype(np.int64)), mask_TL[None, :-1], SkipReading.FFN)[0]
            for s, mask_TL in zip(sequences, masks, strict=True)
        ]
    )
    (routed,) = found.routers
    assert routed.loss_N == pytest.approx(loss_N, abs=1e-5)
    assert routed.real_N == pytest.approx(loss_N, abs=1e-5)
    assert found.plane.average is None
    assert any("no exact budget 0, 2, 3" in note for note in found.notes)
    assert any("committed" in note for note in found.notes)


@pytest.mark.parametrize("context", ["full", "same", "sBs", "router:random:1"])
@pytest.mark.parametrize("keep", ["losses", "none"])
def test_no_router_beats_the_oracle_of_its_budget(asks_duo: Asks, context: str, keep: str) -> None:
    found = compared(asks_duo(context=context, keep=keep, budget="0-3,any"), *ROUTERS)
    plane = found.plane
    assert plane.average is not None
    for routed in found.routers:
        line = router_line(plane, routed)
        assert (routed.loss_N >= plane.any_oracle.loss_N - 1e-5).all()
        own_N = plane.oracle_KN[routed.n_big_N, np.arange(len(routed.loss_N))]
        assert (routed.loss_N >= own_N - 1e-5).all()
        assert line["regret_average"].mean >= -1e-5
        assert line["regret_average"].mean >= line["regret_exact"].mean - 1e-6
        assert line["regret_any"].mean >= line["regret_average"].mean - 1e-6
        assert line.loss.mean - line["regret_exact"].mean == pytest.approx(plane.between(plane.oracle_KN, line.budget).mean())
    assert found.notes == ()


def test_the_lines_are_what_their_names_say(asks_duo: Asks) -> None:
    """Everything against the kept losses, computed here the slow way."""
    config = asks_duo(context="full", keep="losses", budget="0-3")
    found = compared(config, "fixed:BsB", "random:2@3", "random:1.5")
    run, plane = results.load(config.out), found.plane
    losses = run.losses().astype({"pattern": str})
    documents = run.tokens()[["sequence", "document"]].drop_duplicates().set_index("sequence")["document"]
    losses["document"] = losses["sequence"].map(documents)
    wide = losses.pivot(index=["sequence", "position"], columns="pattern", values="loss").sort_index()
    document_N = np.array([documents[sequence] for sequence, _ in wide.index])
    for k in range(4):
        names = [name for name in wide.columns if name.count("B") == k]
        assert plane.random_KN[k] == pytest.approx(wide[names].mean(axis=1).to_numpy(), rel=1e-6)
        expected_N = np.empty(len(wide))
        for document in np.unique(document_N):
            best = wide[names][document_N != document].sum().idxmin()
            expected_N[document_N == document] = wide[best][document_N == document]
        assert plane.fixed_KN[k] == pytest.approx(expected_N, rel=1e-6)
        assert plane.fixed_patterns[k] == wide[names].sum().idxmin()
    fixed, drawn, mixed = found.routers
    assert fixed.loss_N == pytest.approx(wide["BsB"].to_numpy(), rel=1e-6)
    own = [RoutingPattern(tuple(Branch(int(b)) for b in row)) for row in drawn.branches_NL]
    assert drawn.loss_N == pytest.approx([wide.iloc[n][str(pattern)] for n, pattern in enumerate(own)], rel=1e-6)
    ranks = [(wide.iloc[n] < drawn.loss_N[n] - 1e-9).sum() / 7 for n in range(len(wide))]
    assert drawn.rank_N == pytest.approx(ranks)
    n_big_N = mixed.n_big_N
    assert mixed.matched_N == pytest.approx(plane.random_KN[n_big_N, np.arange(len(n_big_N))])
    line = router_line(plane, mixed)
    assert line["minus_fixed"].mean == pytest.approx((mixed.loss_N - plane.between(plane.fixed_KN, line.budget)).mean())
    assert line["gap_closed_exact"].mean == pytest.approx(
        -line["minus_fixed"].mean / (line["regret_exact"].mean - line["minus_fixed"].mean)
    )
    assert line["budget_error"] == pytest.approx(n_big_N.mean() - 1.5)
    assert line["flops"] > plane.flops(np.full((1, 3), Branch.SMALL))


def test_where_nothing_is_chosen_the_gap_has_no_excess(asks_duo: Asks) -> None:
    """At 0 and L there is one pattern: fixed and oracle are the same, on drawn labels too."""
    plane = compared(asks_duo(context="full", keep="losses", budget="0-3", null_draws=3)).plane
    for k in (0, 3):
        assert plane.gap_excess_KN[k] == pytest.approx(0, abs=1e-4)
    assert np.abs(plane.gap_excess_KN[1]).max() > 0.01


def test_budgets_that_are_bounds_are_named_so(asks_duo: Asks) -> None:
    found = compared(asks_duo(context="full", budget="atmost:1,atmost:2"), "random:1.4")
    line = router_line(found.plane, found.routers[0])
    assert line["compared_with"] == "oracle at most 1"
    assert line["regret_exact"].mean > 0
    assert line["regret_average"] is None
    assert "oracle at most 2" in [other.name for other in reference_lines(found.plane, [1.4])]
    assert "no exact budget 0, 1, 2, 3" in found.notes[0]


def test_the_non_routed_lines(asks_duo: Asks) -> None:
    plane = compared(asks_duo(context="full", keep="losses", budget="0-3,any")).plane
    lines = {line.name: line for line in reference_lines(plane, [1.25])}
    assert {"all-small", "all-big", "best fixed 2", "random 1", "oracle 3", "oracle any", "oracle average 1.25"} <= lines.keys()
    assert lines["oracle 0"].loss.mean == pytest.approx(lines["all-small"].loss.mean)
    assert lines["oracle 3"].loss.mean == pytest.approx(lines["all-big"].loss.mean)
    assert lines["random 1"].loss.mean > lines["oracle 1"].loss.mean
    assert lines["oracle average 1.25"].loss.mean <= np.interp(1.25, [1, 2], [lines[f"oracle {k}"].loss.mean for k in (1, 2)])
    flops = [lines[name]["flops"] for name in ("all-small", "random 1", "all-big")]
    assert flops == sorted(flops)


def test_without_all_budgets_one_line_says_what_is_missing(asks_duo: Asks, capsys: pytest.CaptureFixture[str]) -> None:
    config = asks_duo(context="full", budget="1,any", null_draws=0)
    run_search(config)
    assert main(["compare", config.out, "--router", "random:1", "--format", "json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    routed = rows["random:1"]
    assert routed["regret_average"] is None
    assert routed["gap_closed_average"] is None
    assert routed["regret_exact"] is not None
    assert routed["regret_any"] is not None
    assert routed["exact_oracle"] == "1"
    assert main(["compare", config.out, "--router", "random:1.3", "--router", "random:1.6", "--format", "json"]) == 0
    near, far = (row for row in json.loads(capsys.readouterr().out) if row["kind"] == "router")
    assert near["exact_oracle"] == "nearest, 1"
    assert near["loss"] - near["regret_exact"] == pytest.approx(routed["loss"] - routed["regret_exact"])
    assert far["exact_oracle"] is far["regret_exact"] is None
    assert routed["gap_excess"] is None
    assert main(["compare", config.out, "--router", "random:1"]) == 0
    out = capsys.readouterr().out
    assert "no exact budget 0, 2, 3 (search with --budget 0-3)" in out


@pytest.mark.slow
def test_the_command_writes_tables_and_pictures(asks_duo: Asks, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = asks_duo(context="full", budget="0-3", keep="losses")
    run_search(config)
    plot, out = tmp_path / "plane.svg", tmp_path / "out"
    argv = ["compare", config.out, "--router", "random:1.4", "--router", "fixed:ssB", "--plot", str(plot), "--out", str(out)]
    assert main(argv) == 0
    text = capsys.readouterr().out
    assert "random:1.4" in text
    assert "gap closed" in text
    first = plot.read_bytes()
    assert b"oracle of an average budget" in first
    assert main(argv) == 0
    assert plot.read_bytes() == first
    written = ["hulls.parquet", "layers.parquet", "lines.parquet", "tokens.parquet", "usage.svg"]
    assert sorted(path.name for path in out.iterdir()) == written
    tokens = pq.read_table(out / "tokens.parquet").to_pandas()
    lines = pq.read_table(out / "lines.parquet").to_pandas().set_index("name")
    for router, rows in tokens.groupby("router"):
        assert rows["loss"].mean() == pytest.approx(lines.loc[router, "loss"], rel=1e-5)
        assert rows["n_big"].mean() == pytest.approx(lines.loc[router, "budget"])
        assert (rows["loss"] - rows["oracle"]).mean() == pytest.approx(lines.loc[router, "regret_exact"], abs=1e-5)
    layers = pq.read_table(out / "layers.parquet").to_pandas()
    assert layers[layers["router"] == "fixed:ssB"]["big"].tolist() == [0.0, 0.0, 1.0]
    by_layer = lines.loc["random:1.4", "agreement_by_layer"]
    rows = layers[layers["router"] == "random:1.4"]
    assert (rows["agreement"] - rows["majority"]).to_numpy() == pytest.approx(np.array(by_layer))
    assert rows["agreement"].mean() == pytest.approx(lines.loc["random:1.4", "agreement"])
    capsys.readouterr()
    assert main([*argv, "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["name"] for row in rows] == lines.index.tolist()
    assert float(rows[-1]["loss"]) == pytest.approx(lines["loss"].iloc[-1])


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--router", "nowhere"], "there is no 'nowhere'"),
        (["--router", "random:1", "--router", "random:1"], "two named 'random:1'"),
        (["--router", "fixed:BsBs"], "a model of 4 layers; this model has 3"),
        (["--router", "fixed:B.s"], "compares the branches 'sB'; router fixed:B.s chose '.'"),
        (["--routes", "none.parquet"], "there is no 'none.parquet'"),
        (["--plot", "plane.gif"], ".svg, .png or .pdf"),
        (["--sample", "0"], "--sample must be at least 1"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(
    asks_duo: Asks, capsys: pytest.CaptureFixture[str], argv: list[str], said: str
) -> None:
    config = asks_duo(context="full", max_sequences=1, null_draws=0)
    run_search(config)
    assert main(["compare", config.out, *argv]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_route_says_what_it_wrote_and_refuses_what_is_not_there(
    duo: Path, duo_tokens: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "routes.parquet"
    argv = ["route", str(duo), "fixed:BsB", str(duo_tokens), "--out", str(file)]
    assert main(argv) == 0
    assert "30 positions of 4 sequences, 2.000 big layers per token" in capsys.readouterr().out
    metadata = pq.read_schema(file).metadata
    assert metadata[b"duo_oracle.router"] == b"fixed:BsB"
    assert metadata[b"duo_oracle.causal"] == b"true"
    for change, said in ((["--logits"], "computes no logits"), (["--out", "routes.csv"], "file .parquet")):
        assert main([*argv, *change]) == 2
        assert said in capsys.readouterr().err


def test_one_document_leaves_the_fixed_pattern_unknown(asks_duo: Asks) -> None:
    found = compared(asks_duo(context="full", budget="0-3", keep="losses", max_sequences=1), "random:1")
    line = router_line(found.plane, found.routers[0])
    assert line["minus_fixed"] is None
    assert line["gap_closed_exact"] is None
    assert isinstance(line["regret_exact"], Estimate)
    assert any("one document" in note for note in found.notes)
