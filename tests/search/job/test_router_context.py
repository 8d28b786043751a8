"""`--context router:ROUTER`: against brute force, verified by plain passes, and told apart by what the router chooses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from duo_oracle import results
from duo_oracle.models.checkpoint import read_checkpoint
from duo_oracle.models.family import load_model, load_module
from duo_oracle.models.router import read_router
from duo_oracle.models.text.windows import Window
from duo_oracle.oracle.contexts import ContextKind, SkipReading, parse_context
from duo_oracle.oracle.patterns import to_strings
from duo_oracle.oracle.spaces import parse_branches
from duo_oracle.search.cli import main
from duo_oracle.search.job.config import SearchConfig
from duo_oracle.search.job.driver import run_search
from duo_oracle.search.job.routed import routed
from tests.small_models import all_patterns, plain_losses

Asks = Callable[..., SearchConfig]
N_LAYERS = 3


@pytest.mark.parametrize(("branches", "skip"), [("sB", "ffn"), (".sB", "layer"), (".sB", "ffn")])
@pytest.mark.parametrize("strategy", ["exhaustive", "random_search"])
def test_the_best_is_that_of_brute_force(asks_duo: Asks, duo: Path, branches: str, skip: str, strategy: str) -> None:
    router = "random:1.5+1" if "." in branches else "random:1.5"
    settings = {"n": "27"} if strategy == "random_search" else {}
    run_search(
        asks_duo(context=f"router:{router}", branches=branches, skip=SkipReading(skip), strategy=strategy, settings=settings)
    )
    run = results.load(asks_duo().out)
    checkpoint = read_checkpoint(str(duo))
    model = load_model(checkpoint)
    tokens, paths = run.tokens(), run.paths()
    patterns_PL = all_patterns(N_LAYERS, parse_branches(branches))
    for index in tokens["sequence"].unique():
        rows = tokens[tokens["sequence"] == index].sort_values("position")
        ids = torch.tensor([*rows["token_id"], rows["target_id"].iloc[-1]])
        sequence = Window(int(index), "", ids.numpy().astype(np.int32))
        chosen = next(routed(read_router(router), load_module(checkpoint), [sequence], SkipReading(skip), checkpoint.fingerprint))
        assert rows["context_pattern"].tolist() == to_strings(chosen.mask_NL)
        assert len(set(rows["context_pattern"])) > 1
        stored = paths[paths["sequence"] == index].sort_values("position")
        for position in range(len(rows)):
            mask_PTL = np.repeat(chosen.mask_NL[None], len(patterns_PL), axis=0)
            mask_PTL[:, position] = patterns_PL
            loss_P = plain_losses(model, ids, mask_PTL, SkipReading(skip))[:, position]
            assert stored["loss"].iloc[position] == pytest.approx(loss_P.min(), abs=1e-4)


def test_a_fixed_router_is_a_fixed_context(asks_duo: Asks, tmp_path: Path) -> None:
    tables = []
    for context in ("router:fixed:BsB", "BsB"):
        out = str(tmp_path / context.replace(":", "-"))
        run_search(asks_duo(context=context, out=out, budget="0-3", keep="losses"))
        tables.append(results.load(out))
    left, right = tables
    assert left.dataset("paths").to_table().equals(right.dataset("paths").to_table())
    assert left.dataset("losses").to_table().equals(right.dataset("losses").to_table())
    assert left.manifest.run_id != right.manifest.run_id


def test_verify_and_strategies_work_without_the_router(
    asks_duo: Asks, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = asks_duo(context="router:random:1.5", keep="losses")
    run_search(config)
    monkeypatch.setattr("duo_oracle.models.routing.route_with_logits", None)
    assert main(["verify", config.out, "--all"]) == 0
    assert "NOT" not in capsys.readouterr().out
    assert main(["strategies", config.out, "--strategy", "beam:width=99", "--format", "json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["regret"] == pytest.approx(0, abs=1e-5)


def test_verify_finds_a_context_that_was_another(asks_duo: Asks, capsys: pytest.CaptureFixture[str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from duo_oracle.results.store.manifest import file_sha256, part_path

    config = asks_duo(context="router:random:1.5")
    run_search(config)
    run = results.load(config.out)
    part = part_path(run.path, "tokens", 0)
    table = pq.read_table(part)
    swapped = pa.array(["sss"] * table.num_rows, pa.string())
    pq.write_table(table.set_column(table.column_names.index("context_pattern"), "context_pattern", swapped), part)
    manifest = json.loads((run.path / "run.json").read_text())
    manifest["units"][0]["parts"]["tokens"] |= {"sha256": file_sha256(part), "bytes": part.stat().st_size}
    (run.path / "run.json").write_text(json.dumps(manifest))
    assert main(["verify", config.out, "--all"]) == 1
    assert "NOT reproduced" in capsys.readouterr().out


def test_a_run_of_another_router_is_another_run(asks_duo: Asks, capsys: pytest.CaptureFixture[str]) -> None:
    config = asks_duo(context="router:random:1")
    run_search(config)
    run = results.load(config.out)
    assert run.context.startswith("router:")
    assert parse_context(run.context, N_LAYERS).kind is ContextKind.ROUTER
    assert run_search(asks_duo(context="router:random:1.0")).solved == 0  # the same choices, written otherwise
    with pytest.raises(ValueError, match="context"):
        run_search(asks_duo(context="router:random:1@7"))


@pytest.mark.parametrize(
    ("context", "said"),
    [
        ("router", "unknown context 'router'"),
        ("router:", "unknown context 'router:'"),
        ("router:nowhere", "there is no 'nowhere'"),
        ("router:fixed:BsBs", "a model of 4 layers; this model has 3"),
    ],
)
def test_what_is_no_router_is_refused(asks_duo: Asks, context: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        run_search(asks_duo(context=context))


def test_a_model_that_no_router_routes_is_refused(asks: Asks) -> None:
    with pytest.raises(ValueError, match="models of type 'toy' can be searched, but no router runs on them"):
        run_search(asks(context="router:random:1"))
