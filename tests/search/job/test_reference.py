"""`--reference`: models, self and files, against plain passes in float64; through workers, and resumed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from duo_oracle import results
from duo_oracle.models.checkpoint import read_checkpoint, write_checkpoint
from duo_oracle.models.families import duo_llama
from duo_oracle.models.family import load_model
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.model import OracleModel
from duo_oracle.oracle.patterns import Branch
from duo_oracle.oracle.spaces import parse_branches
from duo_oracle.search.api.references import ExportConfig, export_reference
from duo_oracle.search.cli import main
from duo_oracle.search.job.config import SearchConfig
from duo_oracle.search.job.driver import run_search
from duo_oracle.search.job.unit import solve_sequences
from tests.small_models import all_patterns, plain_losses

Asks = Callable[..., SearchConfig]
N_LETTERS = 3


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another Duo-LLM of the same vocabulary."""
    directory = tmp_path_factory.mktemp("models") / "other"
    write_checkpoint(directory, *duo_llama.random_checkpoint(7), None, torch.float32)
    return directory


@pytest.fixture(scope="session")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two documents of several windows each, one of them longer than a model's positions."""
    file = tmp_path_factory.mktemp("data") / "long.jsonl"
    generator = np.random.default_rng(8)
    rows = [{"document": f"book {n}", "tokens": generator.integers(0, 40, length).tolist()} for n, length in enumerate((25, 9))]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def opened(model: Path) -> OracleModel:
    return load_model(read_checkpoint(str(model)), "float64")


def log_q(model: OracleModel, ids: list[int]) -> torch.Tensor:
    """ln p of what follows the last of these tokens, by a plain pass of the full model: float64 (V,)."""
    mask_1TL = torch.full((1, len(ids), model.n_letters), int(Branch.BIG), dtype=torch.uint8)
    return model.forward(torch.tensor([ids]), mask_1TL, SkipReading.FFN)[0, -1].double().log_softmax(dim=0)


def found(config: SearchConfig) -> tuple[pd.DataFrame, pd.DataFrame]:
    run_search(config)
    run = results.load(config.out)
    return run.tokens(), run.paths()


def assert_tokens(tokens: pd.DataFrame, expected: list[torch.Tensor]) -> None:
    """That the reference of every position, in order, is this: ln q of every token."""
    for (_, row), log_q_V in zip(tokens.iterrows(), expected, strict=True):
        assert row["reference_loss_target"] == pytest.approx(-float(log_q_V[row["target_id"]]), abs=2e-5)
        assert row["reference_entropy"] == pytest.approx(-float((log_q_V.exp() * log_q_V).sum()), abs=2e-5)


def windows_of(tokens: pd.DataFrame) -> list[list[int]]:
    return [[*rows["token_id"], rows["target_id"].iloc[-1]] for _, rows in tokens.groupby("sequence")]


@pytest.mark.parametrize(("strategy", "settings"), [("exhaustive", {}), ("random_search", {"n": "64"}), ("beam", {"width": "9"})])
def test_another_model_as_reference_is_that_of_brute_force(
    asks_duo: Asks, duo: Path, other: Path, strategy: str, settings: dict[str, str]
) -> None:
    config = asks_duo(reference=str(other), context="full", budget="any,1", strategy=strategy, settings=settings)
    tokens, paths = found(config)
    model, speaker = opened(duo), opened(other)
    windows = windows_of(tokens)
    assert_tokens(tokens, [log_q(speaker, window[: n + 1]) for window in windows for n in range(len(window) - 1)])
    patterns_PL = all_patterns(N_LETTERS, parse_branches("sB"))
    rows = iter(paths.to_dict("records"))
    for window in windows:
        for position in range(len(window) - 1):
            q_V = log_q(speaker, window[: position + 1]).exp().numpy()
            mask_PTL = torch.full((len(patterns_PL), position + 1, N_LETTERS), int(Branch.BIG), dtype=torch.uint8)
            mask_PTL[:, -1] = torch.from_numpy(patterns_PL)
            ids_PT = torch.tensor(window[: position + 1]).expand(len(patterns_PL), -1)
            loss_PV = -model.forward(ids_PT, mask_PTL, SkipReading.FFN)[:, -1].log_softmax(dim=1).numpy()
            expected_P, full = loss_PV @ q_V, (loss_PV @ q_V)[-1]
            for admitted_P in (np.ones(8, dtype=bool), (patterns_PL == Branch.BIG).sum(axis=1) == 1):
                row = next(rows)
                best = np.flatnonzero(admitted_P)[expected_P[admitted_P].argmin()]
                if strategy == "exhaustive" or row["budget"] == "1":
                    assert row["ref_pattern"] == "".join(".sB"[b] for b in patterns_PL[best])
                assert row["ref_cost"] == row["ref_pattern"].count("B")
                if row["ref_pattern"] == "".join(".sB"[b] for b in patterns_PL[best]):
                    assert row["ref_expected_gain"] == pytest.approx(full - expected_P[best], abs=2e-5)
                    assert row["ref_loss"] == pytest.approx(loss_PV[best, window[position + 1]], abs=2e-5)


def test_self_with_no_more_than_its_window_is_the_full_model(asks_duo: Asks, duo: Path) -> None:
    for reference in ("self", str(duo)):
        tokens, paths = found(asks_duo(reference=reference, context="full", overwrite=True))
        assert set(paths["ref_pattern"]) == {"BBB"}
        np.testing.assert_allclose(paths["ref_expected_gain"], 0, atol=3e-6)
        np.testing.assert_allclose(paths["ref_loss"], paths["loss_full"], atol=3e-6)
        np.testing.assert_allclose(tokens["reference_loss_target"], paths["loss_full"], atol=3e-6)
        np.testing.assert_allclose(tokens["reference_entropy"], paths["entropy_full"], atol=3e-6)


@pytest.mark.parametrize("values", [{}, {"stride": 4, "bos": "3"}, {"offset": 7}])
@pytest.mark.parametrize("context", [1, 5, 9])
def test_self_sees_the_document_before_a_window(
    asks_duo: Asks, duo: Path, long: Path, context: int, values: dict[str, object]
) -> None:
    config = asks_duo(data=str(long), seq_len=6, reference="self", reference_context=context, context="full", **values)
    tokens, paths = found(config)
    model = opened(duo)
    texts = {row["document"]: row["tokens"] for row in map(json.loads, long.read_text().splitlines())}
    front, stride = ([3], 4) if "bos" in values else ([], 6)
    expected = []
    for _, rows in tokens.groupby("sequence"):
        text, start = texts[rows["document"].iloc[0]], 0
        first = int(rows["position"].iloc[0])
        start = int(values.get("offset", 0)) + stride * int(
            rows["sequence"].iloc[0] - tokens[tokens["document"] == rows["document"].iloc[0]]["sequence"].min()
        )
        places = [start + first + n for n in range(len(rows))]
        step = max(1, context // 4)
        for block in (places[n : n + step] for n in range(0, len(places), step)):
            begin = max(0, block[-1] - context)
            expected += [log_q(model, [*front, *text[begin : place + 1]]) for place in block]
    assert_tokens(tokens, expected)
    assert (paths["ref_expected_gain"] >= -1e-6).all()
    assert paths["ref_expected_gain"].max() > 0.01


def test_objective_reference_commits_the_references_choice(asks_duo: Asks, duo: Path, other: Path) -> None:
    tokens, paths = found(asks_duo(reference=str(other), objective="reference", budget="2"))
    model = opened(duo)
    start = 0
    for window in windows_of(tokens):
        rows = paths.iloc[start : start + len(window) - 1]
        mask_1TL = np.array([[".sB".index(letter) for letter in pattern] for pattern in rows["ref_pattern"]], dtype=np.uint8)[None]
        loss_T = plain_losses(model, torch.tensor(window), mask_1TL, SkipReading.FFN)[0]
        np.testing.assert_allclose(rows["ref_loss"], loss_T, atol=2e-5)  # a real routing of the whole sequence
        start += len(window) - 1
    assert (paths["ref_pattern"] != paths["pattern"]).any()


def table_of(model: OracleModel, tokens: pd.DataFrame, top: int, by: str) -> pa.Table:
    rows = []
    for _, group in tokens.groupby("sequence"):
        ids = group["token_id"].tolist()
        for n, (_, row) in enumerate(group.iterrows()):
            log_p, listed = log_q(model, ids[: n + 1]).topk(top)
            rows.append({by: row[by], "position": n, "token_ids": listed.tolist(), "log_probs": log_p.tolist()})
    return pa.Table.from_pylist(rows)


@pytest.mark.parametrize("by", ["document", "sequence"])
def test_a_file_of_log_probabilities_and_the_rest_as_the_full_model_spreads_it(
    asks_duo: Asks, duo: Path, other: Path, tmp_path: Path, by: str
) -> None:
    tokens, _ = found(asks_duo(out=str(tmp_path / "plain"), context="full"))
    model, speaker, file = opened(duo), opened(other), tmp_path / "reference.parquet"
    pq.write_table(table_of(speaker, tokens, 5, by), file)
    tokens, _ = found(asks_duo(reference=str(file), context="full"))
    expected = []
    for window in windows_of(tokens):
        for n in range(len(window) - 1):
            p_V, q_V = log_q(model, window[: n + 1]).exp(), torch.zeros(model.n_vocabulary, dtype=torch.float64)
            log_p, listed = log_q(speaker, window[: n + 1]).topk(5)
            q_V[listed] = log_p.exp()
            others = torch.ones_like(q_V, dtype=torch.bool)
            others[listed] = False
            q_V[others] = (1 - q_V.sum()) * p_V[others] / p_V[others].sum()
            expected.append(q_V.log())
    assert_tokens(tokens, expected)


def test_an_exported_file_of_the_whole_vocabulary_is_its_model(
    asks_duo: Asks, other: Path, duo_tokens: Path, tmp_path: Path
) -> None:
    file = tmp_path / "tables" / "other.parquet"
    said = export_reference(ExportConfig(str(other), str(file), data=(str(duo_tokens),), top=40))
    assert said.startswith("30 positions, the 40 likeliest tokens each; the model loses ")
    of_file = found(asks_duo(reference=str(file), context="full", out=str(tmp_path / "file")))
    of_model = found(asks_duo(reference=str(other), context="full", out=str(tmp_path / "model")))
    for left, right in zip(of_file, of_model, strict=True):
        for name in ("reference_loss_target", "reference_entropy", "ref_loss", "ref_expected_gain"):
            if name in left:
                np.testing.assert_allclose(left[name], right[name], atol=2e-5, err_msg=name)
    assert of_file[1]["ref_pattern"].tolist() == of_model[1]["ref_pattern"].tolist()


def test_without_a_reference_nothing_is_different(asks_duo: Asks, other: Path, tmp_path: Path) -> None:
    plain = found(asks_duo(out=str(tmp_path / "plain"), context="full"))
    beside = found(asks_duo(out=str(tmp_path / "beside"), context="full", reference=str(other)))
    for left, right in zip(plain, beside, strict=True):
        added = [name for name in left if name.startswith("ref")]
        assert left[added].isna().all().all()
        assert right[added].notna().all().all()
        own = [name for name in left if name not in (*added, "leaves")]
        pd.testing.assert_frame_equal(left[own], right[own], atol=1e-5)
    identity = results.load(tmp_path / "plain").identity
    assert not {"reference", "reference_context", "objective"} & set(identity)


def test_a_resumed_run_has_the_tables_of_one_that_was_never_stopped(asks_duo: Asks, long: Path, tmp_path: Path) -> None:
    values = {"data": str(long), "seq_len": 6, "reference": "self", "reference_context": 12, "unit_sequences": 1}
    run_search(asks_duo(out=str(tmp_path / "whole"), **values))
    stopped = asks_duo(out=str(tmp_path / "stopped"), **values)

    def stops(model, sequences, problem, sink):  # type: ignore[no-untyped-def]
        if sequences[0].index == 3:
            raise KeyboardInterrupt
        solve_sequences(model, sequences, problem, sink)

    with pytest.raises(KeyboardInterrupt):
        run_search(stopped, solve=stops)
    run_search(stopped)
    whole, resumed = (results.load(tmp_path / name) for name in ("whole", "stopped"))
    assert whole.manifest.run_id == resumed.manifest.run_id
    for table in ("tokens", "paths"):
        assert whole.dataset(table).to_table().equals(resumed.dataset(table).to_table())


@pytest.mark.long
def test_workers_find_what_this_process_finds(asks_duo: Asks, other: Path, long: Path, tmp_path: Path) -> None:
    values = {"data": str(long), "seq_len": 6, "reference": str(other), "unit_sequences": 2}
    run_search(asks_duo(out=str(tmp_path / "here"), **values))
    run_search(asks_duo(out=str(tmp_path / "workers"), local=False, workers=1, **values))
    here, workers = (results.load(tmp_path / name) for name in ("here", "workers"))
    for table in ("tokens", "paths"):
        assert here.dataset(table).to_table().equals(workers.dataset(table).to_table())


def test_what_a_reference_is_decides_whether_a_run_resumes(asks_duo: Asks, other: Path, duo: Path) -> None:
    run_search(asks_duo(reference=str(other), context="full"))
    run_search(asks_duo(reference=str(other) + "/", context="full"))  # another spelling of the same
    for values in ({}, {"reference": str(duo)}, {"reference": "self"}, {"reference": str(other), "reference_context": 4}):
        with pytest.raises(InputError, match="reference"):
            run_search(asks_duo(context="full", **values))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"reference_context": 3}, "is of a reference; give `reference` as well"),
        ({"objective": "reference"}, "give `reference` as well"),
        ({"reference": "self", "reference_context": 0}, "`reference_context` must be at least 1"),
        ({"reference": "self", "objective": "reference", "context": "full"}, "in which nothing is"),
        ({"reference": "x.parquet", "reference_context": 3}, "the context that it was made with"),
        ({"reference": "self", "objective": "truth"}, "label, reference"),
    ],
)
def test_options_that_do_not_fit_are_refused(asks_duo: Asks, values: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        asks_duo(**values)


def test_references_that_do_not_fit_are_refused(asks_duo: Asks, toy: Path, tmp_path: Path) -> None:
    for values, said in (
        ({"reference": str(toy)}, "has the vocabulary of the searched model, 40 tokens; .* has 16"),
        ({"reference": str(tmp_path / "none.parquet")}, "cannot be read as Parquet"),
        ({"reference": str(tmp_path / "none")}, "a model is a directory"),
        ({"reference": "self", "reference_context": 10**6}, "`reference_context` must be at most"),
    ):
        with pytest.raises(InputError, match=said):
            run_search(asks_duo(context="full", **values))
        assert not Path(asks_duo().out).exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows[1:], "position 0: a reference file has a row for every scored position"),
        (lambda rows: [*rows, rows[0]], "position 0 stands there twice"),
        (lambda rows: [{**rows[0], "token_ids": [40]}, *rows[1:]], "different tokens of the vocabulary, 0 to 39"),
        (lambda rows: [{**rows[0], "token_ids": [4, 4], "log_probs": [-1.0, -1.0]}, *rows[1:]], "different tokens"),
        (lambda rows: [{**rows[0], "log_probs": [0.5]}, *rows[1:]], "add up to more than 0 and at most 1; these add up to 1.6"),
        (lambda rows: [{**rows[0], "log_probs": [float("nan")]}, *rows[1:]], "natural logarithms"),
        (lambda rows: [{**rows[0], "log_probs": [-1.0, -2.0]}, *rows[1:]], "two lists|lists of one length"),
        (lambda rows: [{**row, "token_id": 39} for row in rows], "and the file was made for token 39"),
        (
            lambda rows: [{key: value for key, value in row.items() if key != "log_probs"} for row in rows],
            "has the columns document",
        ),
    ],
)
def test_files_that_are_no_references_are_refused(
    asks_duo: Asks, duo_tokens: Path, tmp_path: Path, change: Callable, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"document": row["document"], "position": n, "token_ids": [5], "log_probs": [-1.0]}
        for row in map(json.loads, duo_tokens.read_text().splitlines())
        for n in range(len(row["tokens"]) - 1)
    ]
    file = tmp_path / "reference.parquet"
    pq.write_table(pa.Table.from_pylist(change(rows)), file)
    with pytest.raises(InputError, match=said):
        run_search(asks_duo(reference=str(file), context="full"))


def test_the_command_line(duo: Path, other: Path, duo_tokens: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "other.parquet"
    assert main(["export-reference", str(other), str(duo_tokens), "--top", "8", "--out", str(file)]) == 0
    assert "the 8 likeliest tokens each" in capsys.readouterr().out
    arguments = ["search", str(duo), str(duo_tokens), "--context", "full", "--local", "--out", str(tmp_path / "run")]
    assert main([*arguments, "--reference", str(file)]) == 0
    assert main([*arguments, "--reference-context", "3"]) == 2
    assert "--reference" in capsys.readouterr().err
