"""Runs with a token in front of every window and with windows that overlap: by plain passes, verified, asked again, resumed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from duo_oracle import results
from duo_oracle.models.checkpoint import read_checkpoint
from duo_oracle.models.family import load_model
from duo_oracle.models.text.windows import read_sequences
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.patterns import Branch, RoutingPattern
from duo_oracle.oracle.spaces import parse_branches
from duo_oracle.results.store.manifest import run_id_of
from duo_oracle.search.api.routing import RouteConfig, write_choices
from duo_oracle.search.cli import main
from duo_oracle.search.job.all_full import full_tokens
from duo_oracle.search.job.config import SearchConfig
from duo_oracle.search.job.driver import run_search
from duo_oracle.search.rerun.labels import read_labels
from duo_oracle.search.rerun.opened import open_run
from tests.search.conftest import assert_same_tables, tables_of
from tests.small_models import all_patterns, plain_losses

Asks = Callable[..., SearchConfig]
N_LAYERS, BOS = 3, 39
WARM = {"seq_len": 5, "stride": 2, "bos": str(BOS)}  # of a window's five tokens two are warm, but in a document's first
CONTEXTS = ["committed", "same", "full", "cheapest", "sBs", "router:random:1.5"]


def documents_of(duo_tokens: Path) -> dict[str, list[int]]:
    return {row["document"]: row["tokens"] for row in map(json.loads, duo_tokens.read_text().splitlines())}


@pytest.mark.parametrize("strategy", ["exhaustive", "random_search"])
@pytest.mark.parametrize("context", CONTEXTS)
def test_every_loss_is_that_of_a_plain_pass_behind_the_token_and_the_warm_ones(
    asks_duo: Asks, duo: Path, duo_tokens: Path, context: str, strategy: str
) -> None:
    settings = {"n": "8"} if strategy == "random_search" else {}
    run_search(asks_duo(context=context, strategy=strategy, settings=settings, unit_sequences=3, **WARM))
    run, model = results.load(asks_duo().out), load_model(read_checkpoint(str(duo)))
    table = run.tokens().merge(run.paths(), on=["sequence", "position"])
    patterns_PL = all_patterns(N_LAYERS, parse_branches("sB"))
    seen: dict[str, list[int]] = {}
    for _, rows in table.groupby("sequence"):
        rows = rows.sort_values("position")
        document = documents_of(duo_tokens)[rows["document"].iloc[0]]
        start = 0 if rows["position"].iloc[0] == 0 else len(seen[rows["document"].iloc[0]]) - 2
        seen.setdefault(rows["document"].iloc[0], []).extend(rows["token_id"])
        n_warm = 1 + int(rows["position"].iloc[0])
        assert rows["context_tokens"].tolist() == rows["position"].tolist() == list(range(n_warm - 1, n_warm - 1 + len(rows)))
        ids = torch.tensor([BOS, *document[start : start + 5]])
        assert ids[n_warm:-1].tolist() == rows["token_id"].tolist()
        taken_NL = np.array([RoutingPattern.parse(text).branches for text in rows["pattern"]], dtype=np.uint8)
        if context.startswith("router"):
            taken_NL = np.array([RoutingPattern.parse(text).branches for text in rows["context_pattern"]], dtype=np.uint8)
        uniform = {"full": "BBB", "cheapest": "sss", "sBs": "sBs"}.get(context)
        if uniform:
            taken_NL = np.tile(np.array(RoutingPattern.parse(uniform).branches, dtype=np.uint8), (len(rows), 1))
        for place in range(len(rows)):
            mask_PTL = np.full((len(patterns_PL), len(ids) - 1, N_LAYERS), Branch.BIG, dtype=np.uint8)
            mask_PTL[:, n_warm:] = patterns_PL[:, None] if context == "same" else taken_NL
            mask_PTL[:, n_warm + place] = patterns_PL
            loss_P = plain_losses(model, ids, mask_PTL, SkipReading.FFN)[:, n_warm + place]
            stored = rows.iloc[place]
            assert (stored["loss"], stored["loss_full"], stored["loss_cheapest"]) == pytest.approx(
                (loss_P.min(), loss_P[-1], loss_P[0]), abs=1e-4
            )
    assert seen == {name: ids[:-1] for name, ids in documents_of(duo_tokens).items()}


@pytest.mark.parametrize("context", CONTEXTS)
def test_verify_reproduces_it(asks_duo: Asks, context: str, capsys: pytest.CaptureFixture[str]) -> None:
    config = asks_duo(context=context, unit_sequences=1, **WARM)  # warm tokens are those of other units
    run_search(config)
    assert main(["verify", config.out, "--all"]) == 0
    assert "NOT" not in capsys.readouterr().out


def test_verify_finds_another_token_in_front(asks_duo: Asks, capsys: pytest.CaptureFixture[str]) -> None:
    config = asks_duo(**WARM)
    run_search(config)
    file = Path(config.out, "run.json")
    manifest = json.loads(file.read_text())
    assert (manifest["identity"]["bos"], manifest["identity"]["stride"]) == ([BOS], 2)
    manifest["identity"]["bos"] = [BOS - 1]
    manifest["run_id"] = run_id_of(manifest["identity"])
    file.write_text(json.dumps(manifest))
    assert main(["verify", config.out, "--all"]) == 1
    assert "NOT reproduced" in capsys.readouterr().out


@pytest.mark.parametrize("other", [{"bos": "none"}, {"bos": "38"}, {"stride": 3}, {"stride": None}])
def test_another_token_or_stride_is_another_run(asks_duo: Asks, other: dict[str, object]) -> None:
    run_search(asks_duo(**WARM))
    assert run_search(asks_duo(**WARM)).solved == 0
    with pytest.raises(ValueError, match=r"holds a run with .*data_fingerprint") as refused:
        run_search(asks_duo(**{**WARM, **other}))
    assert f"{next(iter(other))} " in str(refused.value)


def test_a_run_of_before_there_was_a_choice_goes_on(asks_duo: Asks) -> None:
    """Without either, identity and tables are those of a run that knew neither."""
    run_search(asks_duo(bos="none", stride=None, seq_len=5))
    assert not {"bos", "stride"} & set(results.load(asks_duo().out).identity)
    assert run_search(asks_duo(seq_len=5, stride=5)).solved == 0  # a model without a tokenizer: auto is none


def test_what_asks_a_run_again_meets_the_same_losses(asks_duo: Asks, capsys: pytest.CaptureFixture[str]) -> None:
    """Strategies that try every pattern lose nothing to the exact oracle."""
    for context in ("committed", "sBs", "router:random:1.5"):
        config = asks_duo(context=context, keep="losses", out=asks_duo().out + context[:3], **WARM)
        run_search(config)
        assert main(["strategies", config.out, "--strategy", "beam:width=99", "--format", "json"]) == 0
        (row,) = json.loads(capsys.readouterr().out)
        assert row["regret"] == pytest.approx(0, abs=1e-5)
        assert main(["difficulty", config.out, "--top", "3"]) == 0
        assert main(["controls", config.out, "--log-z", "4"]) == 0
        capsys.readouterr()


@pytest.mark.parametrize("keep", ["losses", "trials"])
def test_labels_of_a_run_stand_behind_its_warm_tokens(asks_duo: Asks, duo: Path, keep: str) -> None:
    config = asks_duo(context="cheapest", keep=keep, **WARM)
    run_search(config)
    model = load_model(read_checkpoint(str(duo)))
    for labels in read_labels((config.out,), str(duo)):
        ids = torch.from_numpy(labels.token_ids.astype(np.int64))
        assert labels.n_warm >= 1
        assert labels.context_TL.shape == (len(ids) - 1, N_LAYERS)
        for position in np.unique(labels.position_R):
            mine = labels.position_R == position
            mask_RTL = np.repeat(labels.context_TL[None], mine.sum(), axis=0)
            mask_RTL[:, position] = labels.branches_RL[mine]
            expected = plain_losses(model, ids, mask_RTL, SkipReading.FFN)[:, position]
            assert labels.loss_R[mine] == pytest.approx(expected, abs=1e-4)


def test_routes_are_of_the_same_windows(asks_duo: Asks, duo: Path, duo_tokens: Path, tmp_path: Path) -> None:
    from duo_oracle.results.store.route_files import read_routes

    run_search(asks_duo(context="router:random:1.5", **WARM))
    run = results.load(asks_duo().out)
    file = str(tmp_path / "routes.parquet")
    write_choices(RouteConfig(str(duo), "random:1.5", file, data=(str(duo_tokens),), **WARM))  # type: ignore[arg-type]
    routes = read_routes(file, run)
    stored = run.dataset("tokens").to_table().sort_by([("sequence", "ascending"), ("position", "ascending")])
    chosen = [RoutingPattern.parse(text).branches for text in stored["context_pattern"].to_pylist()]
    assert np.array_equal(routes.branches_NL, np.array(chosen))
    write_choices(RouteConfig(str(duo), "random:1.5", file, data=(str(duo_tokens),), **{**WARM, "bos": "none"}))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"its data fingerprint .* `stride`, `min_context`, `offset`, `bos`"):
        read_routes(file, run)


def test_routers_are_compared_at_the_scored_positions(asks_duo: Asks, capsys: pytest.CaptureFixture[str]) -> None:
    for context in ("full", "committed"):
        config = asks_duo(context=context, budget="any,0-3", out=asks_duo().out + context, **WARM)
        run_search(config)
        assert main(["compare", config.out, "--router", "fixed:sBs", "--router", "random:1.5"]) == 0
        assert "random:1.5" in capsys.readouterr().out


def test_the_full_model_is_asked_of_the_scored_positions_alone(asks_duo: Asks) -> None:
    """Calibration and fitted temperatures: the losses are those of the run in the full context."""
    config = asks_duo(context="full", null_temperature="fit", **WARM)
    run_search(config)
    run = results.load(config.out)
    opened = open_run(run)
    found = full_tokens(opened.model, opened.sequences)
    stored = run.tokens().merge(run.paths(), on=["sequence", "position"]).sort_values(["sequence", "position"])
    assert found.document_N.tolist() == stored["document"].tolist()
    assert found.loss_N == pytest.approx(stored["loss_full"].to_numpy(), abs=1e-4)


def test_the_report_says_what_stood_in_front(asks_duo: Asks) -> None:
    config = asks_duo(**WARM)
    run_search(config)
    assert main(["report", config.out, "--out", config.out + ".html"]) == 0
    page = Path(config.out + ".html").read_text()
    assert "Every window has token 39 in front, which all-big ran. Windows of 5 tokens begin 2 apart" in page


def test_a_run_that_lacks_a_window_has_the_others_whole(asks_duo: Asks) -> None:
    config = asks_duo(unit_sequences=1, **WARM)
    run_search(config)
    whole = {window.index: window.token_ids.tolist() for window in open_run(results.load(config.out)).sequences}
    file = Path(config.out, "run.json")
    manifest = json.loads(file.read_text())
    manifest["units"] = [unit for unit in manifest["units"] if unit["unit"] != 3]
    file.write_text(json.dumps({**manifest, "state": "running"}))
    left = {window.index: window.token_ids.tolist() for window in open_run(results.load(config.out)).sequences}
    assert left == {index: token_ids for index, token_ids in whole.items() if index != 3}


@pytest.mark.parametrize("context", ["full", "same", "committed"])
def test_tokens_with_little_context_are_run_and_not_scored(
    asks_duo: Asks, duo_tokens: Path, context: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = asks_duo(context=context, budget="any,1", seq_len=9, min_context=5, out=asks_duo().out + context)
    run_search(config)
    run = results.load(config.out)
    windows = open_run(run).sequences
    assert run.tokens()["context_tokens"].min() == 4  # the token with so many before it predicts one with five
    assert [window.n_warm for window in windows] == [4] * len(windows)
    read = list(read_sequences(str(duo_tokens), None, 1 << 30, 1 << 30, 9, min_context=5))
    assert [(w.document, w.token_ids.tolist()) for w in windows] == [(w.document, w.token_ids.tolist()) for w in read]
    assert main(["verify", config.out, "--all"]) == 0
    assert "reproduced" in capsys.readouterr().out
    with pytest.raises(ValueError, match="min_context"):
        run_search(replace(config, min_context=4))


def test_an_offset_is_part_of_what_a_run_is(asks_duo: Asks, capsys: pytest.CaptureFixture[str]) -> None:
    config = asks_duo(offset=2)
    run_search(config)
    assert main(["verify", config.out, "--all"]) == 0
    assert "reproduced" in capsys.readouterr().out
    with pytest.raises(ValueError, match="offset"):
        run_search(replace(config, offset=0))


@pytest.mark.long
@pytest.mark.parametrize("context", ["committed", "router:random:1.5"])
def test_workers_write_what_one_process_does(asks_duo: Asks, context: str) -> None:
    here, there = (asks_duo(context=context, out=asks_duo().out + place, unit_sequences=2, **WARM) for place in ("-here", "-there"))
    run_search(here)
    run_search(replace(there, local=False, workers=2))
    assert_same_tables(tables_of(here.out), tables_of(there.out))
