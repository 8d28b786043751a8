"""Records become rows: columns, types, nulls, and every number where it belongs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from duo_oracle.oracle.patterns import to_strings
from duo_oracle.results import load
from duo_oracle.results.store import schemas
from duo_oracle.results.store.parts import UnitWriter
from duo_oracle.results.store.writer import RunWriter
from tests.results.synthetic import WORDS, Synthetic

DESIGN = {
    "tokens": {"sequence": "int32", "document": "string", "position": "int32", "token_id": "int32", "token": "string"}
    | {"target_id": "int32", "target": "string"},
    "paths": {"sequence": "int32", "position": "int32", "budget": "string", "budget_low": "int16"}
    | {"budget_high": "int16", "pattern": "string", "cost": "int16"}
    | {"n_big": "int16", "n_small": "int16", "n_skip": "int16", "loss": "float", "loss_cheapest": "float", "loss_full": "float"}
    | {"difficulty": "float", "evaluations": "int32", "certified": "bool", "null_gain": "float", "excess": "float"},
}


@pytest.mark.parametrize("table", DESIGN)
def test_columns_have_their_names_and_types(table: str) -> None:
    columns = {field.name: str(field.type) for field in schemas.schema(table, "id")}
    assert DESIGN[table].items() <= columns.items()


def test_every_part_says_version_and_run(tmp_path: Path) -> None:
    run = Synthetic(keep="trials").write(tmp_path / "x")
    for table in ("tokens", "paths", "trials"):
        metadata = pq.read_schema(run.path / table / "part-00001.parquet").metadata
        assert metadata[b"duo_oracle.schema_version"] == b"2"
        assert metadata[b"duo_oracle.run_id"] == run.manifest.run_id.encode()


def test_tokens_round_trip(tmp_path: Path) -> None:
    work = Synthetic()
    frame = work.write(tmp_path / "x").tokens()
    assert len(frame) == 6 * 2 * 6
    rows = frame[frame["sequence"] == 5].sort_values("position")
    ids = work.token_ids(5)
    assert rows["document"].unique().tolist() == ["doc2"]
    assert rows["token_id"].tolist() == ids[:-1].tolist()
    assert rows["target_id"].tolist() == ids[1:].tolist()
    assert rows["target"].tolist() == [WORDS[i] for i in ids[1:]]


def test_without_a_tokenizer_texts_are_null(tmp_path: Path) -> None:
    frame = Synthetic(texts=False).write(tmp_path / "x").tokens()
    assert frame["token"].isna().all()
    assert frame["target"].isna().all()


def test_an_id_past_the_tokenizer_has_no_text() -> None:
    rows = schemas.tokens_table("id", 0, "d", np.array([0, 5, 1]), ["a", "b"]).to_pydict()
    assert rows["token"] == ["a", None]
    assert rows["target"] == [None, "b"]


def test_paths_round_trip(tmp_path: Path) -> None:
    work = Synthetic(budgets="any,1,atmost:2")
    frame = work.write(tmp_path / "x").paths()
    rows = frame[frame["sequence"] == 3].reset_index(drop=True)
    paths = work.paths(3)
    assert rows["position"].tolist() == paths.position_R.tolist()
    assert rows["budget"].tolist() == ["any", "1", "atmost:2"] * 6
    assert rows["budget_low"].tolist() == [0, 1, 0] * 6
    assert rows["budget_high"].tolist() == [4, 1, 2] * 6
    assert rows["cost"].tolist() == rows["n_big"].tolist()
    assert rows["pattern"].tolist() == to_strings(paths.branches_RL)
    for name, values in {"loss": paths.loss_R, "loss_cheapest": paths.loss_cheapest_R, "loss_full": paths.loss_full_R}.items():
        assert np.array_equal(rows[name], values.astype(np.float32))
    assert np.allclose(rows["difficulty"], paths.loss_cheapest_R - paths.loss_R)
    assert np.allclose(rows["excess"], paths.loss_full_R - paths.loss_R - paths.null_gain_R, atol=1e-6)
    assert (rows["n_big"] + rows["n_small"] + rows["n_skip"] == 4).all()
    assert (rows["n_big"] == rows["pattern"].str.count("B")).all()


def test_rows_of_a_sequence_stand_by_position_and_budget_whatever_order_they_came_in() -> None:
    work = Synthetic()
    paths = work.paths(0)
    shuffled = np.random.default_rng(0).permutation(len(paths.loss_R))
    mixed = type(paths)(**{name: values[shuffled] for name, values in vars(paths).items()})
    assert schemas.paths_table("id", 0, mixed, work.parsed_budgets).equals(schemas.paths_table("id", 0, paths, work.parsed_budgets))


def test_without_draws_null_gain_and_excess_are_null(tmp_path: Path) -> None:
    run = Synthetic(nulls=False).write(tmp_path / "x")
    table = run.dataset("paths").to_table()
    assert table["null_gain"].null_count == table["excess"].null_count == table.num_rows
    assert table["loss"].null_count == 0


@pytest.mark.parametrize("context", ["full", "committed"])
def test_losses_round_trip(tmp_path: Path, context: str) -> None:
    work = Synthetic(context=context, budgets="0,any")
    frame = work.write(tmp_path / "x").losses()
    passes = 2 if context == "committed" else 1
    assert len(frame) == 12 * 6 * 16 * passes
    rows = frame[(frame["sequence"] == 4) & (frame["budget"].isna() if context == "full" else frame["budget"] == "any")]
    wide = rows.pivot(index="position", columns="pattern", values="loss")
    assert np.array_equal(wide[to_strings(work.branches_PL)].to_numpy(), work.loss_NP(4))
    assert (rows["cost"] == rows["pattern"].astype(str).str.count("B")).all()


def test_long_blocks_of_losses_are_written_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = Synthetic()
    whole = work.write(tmp_path / "whole").losses()
    monkeypatch.setattr("duo_oracle.results.store.parts.ROW_GROUP", 40)
    pieces = work.write(tmp_path / "pieces")
    assert pq.ParquetFile(pieces.path / "losses" / "part-00000.parquet").num_row_groups > 3
    assert pieces.losses().astype({"pattern": str}).equals(whole.astype({"pattern": str}))


def test_trials_keep_their_order_states_and_messages(tmp_path: Path) -> None:
    work = Synthetic(keep="trials")
    frame = work.write(tmp_path / "x").trials()
    rows = frame[(frame["sequence"] == 2) & (frame["position"] == 1)]
    assert rows["trial"].tolist() == list(range(16))
    assert rows["state"].tolist() == ["failed"] + ["complete"] * 15
    assert rows["message"].iloc[0] == "no such state"
    assert rows["message"].iloc[1:].isna().all()
    assert np.isnan(rows["loss"].iloc[0])
    assert np.array_equal(rows["loss"].iloc[1:], work.loss_NP(2)[1, 1:])


def test_trials_are_counted_on_over_blocks(tmp_path: Path) -> None:
    work = Synthetic(keep="trials")
    with RunWriter.open(tmp_path / "x", work.identity) as run:
        with UnitWriter(tmp_path / "x", run.run_id, 0, work.parsed_budgets, "trials") as writer:
            writer.add_trials(0, work.trials(0))
            writer.add_trials(0, work.trials(0))
            writer.add_trials(1, work.trials(1))
            writer.add_sequence(0, "doc0", work.token_ids(0), work.paths(0))
        run.add_unit(writer.record)
    frame = load(tmp_path / "x").trials()
    rows = frame[(frame["sequence"] == 0) & (frame["position"] == 0)]
    assert rows["trial"].tolist() == list(range(32))
    assert frame[frame["sequence"] == 1]["trial"].max() == 15


def test_loading_what_is_not_a_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds run\.json"):
        load(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(ValueError, match="not a run's manifest"):
        load(tmp_path)


def test_a_table_that_was_not_kept_is_an_error_that_says_how_to_keep_it(tmp_path: Path) -> None:
    run = Synthetic(keep=None).write(tmp_path / "x")
    assert run.tables == ("tokens", "paths")
    with pytest.raises(ValueError, match="`keep='losses'`"):
        run.losses()


def test_a_named_part_that_is_gone_is_an_error(tmp_path: Path) -> None:
    run = Synthetic().write(tmp_path / "x")
    (run.path / "paths" / "part-00002.parquet").unlink()
    with pytest.raises(ValueError, match=r"part-00002\.parquet is named by the run and missing"):
        run.paths()


def test_a_run_without_a_unit_has_empty_tables(tmp_path: Path) -> None:
    RunWriter.open(tmp_path / "x", Synthetic(keep=None).identity).close()
    run = load(tmp_path / "x")
    assert len(run.paths()) == 0
    assert run.dataset("tokens").to_table().schema.names == schemas.schema("tokens", "").names


def test_budgets_are_found_as_they_are_written(tmp_path: Path) -> None:
    run = Synthetic(budgets="0-2,atmost:3,any").write(tmp_path / "x")
    assert str(run.budget()) == "any"
    assert str(run.budget("atmost:3")) == "atmost:3"
    with pytest.raises(ValueError, match="not searched under budget '4'; available: 0, 1, 2, atmost:3, any"):
        run.budget("4")
    ranged = Synthetic(budgets="0-4").write(tmp_path / "y")
    means = ranged.paths().groupby("budget")["loss"].mean()
    assert str(ranged.budget()) == str(means.idxmin())


def test_dictionaries_of_patterns_do_not_grow_the_file(tmp_path: Path) -> None:
    part = Synthetic(n_letters=8, budgets="any", length=60).write(tmp_path / "x").path / "losses" / "part-00000.parquet"
    column = pq.ParquetFile(part).metadata.row_group(0)
    sizes = {column.column(i).path_in_schema: column.column(i).total_compressed_size for i in range(column.num_columns)}
    assert sizes["pattern"] < sizes["loss"] / 2
    assert pa.types.is_dictionary(pq.read_schema(part).field("pattern").type)
