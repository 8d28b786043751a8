"""DATA on the command line: several sources, what tokenizer files bring along, and the run that each makes."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer

from duo_oracle import results
from duo_oracle.models import family
from duo_oracle.models.families.toy import write_toy
from duo_oracle.search.cli import main
from duo_oracle.search.job import driver

TEXT = "A clerk counted 37 crates twice, wrote the number down, and went to look for the foreman."


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_toy(tmp_path / "model", n_letters=2, n_vocabulary=258, n_positions=64, tokenizer=True)
    return tmp_path / "model"


def search(model: Path, *arguments: object, out: str = "run") -> results.StoredRun:
    """The run of a search that does well."""
    run = model.parent / out
    argv = ["search", str(model), *map(str, arguments), "--local", "--null-draws", "0", "--out", str(run)]
    assert main(argv) == 0
    return results.load(run)


def refused(capsys: pytest.CaptureFixture[str], model: Path, *arguments: object) -> str:
    capsys.readouterr()
    assert main(["search", str(model), *map(str, arguments), "--local", "--out", str(model.parent / "refused")]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert not (model.parent / "refused").exists()
    return said.err


def with_tokens(model: Path, *special: str) -> None:
    """The model's tokenizer with added special tokens: ids from 256 on."""
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.add_special_tokens(list(special))
    tokenizer.save(str(model / "tokenizer.json"))


def test_several_words_are_one_run_and_say_which_data_it_was(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = model.parent / "texts"
    folder.mkdir()
    for name in ("a.txt", "b.md"):
        (folder / name).write_text(TEXT)
    (model.parent / "c.jsonl").write_text(json.dumps({"text": TEXT, "document": "own"}) + "\n")
    run = search(model, folder, model.parent / "c.jsonl", "--max-sequences", "6")
    assert list(dict.fromkeys(run.tokens()["document"])) == ["texts/a.txt", "texts/b.md", "c.jsonl/own"]
    assert f"data {folder} {model.parent / 'c.jsonl'}" in capsys.readouterr().out
    assert run.manifest.facts["config"]["data"] == [str(folder), str(model.parent / "c.jsonl")]


def test_one_text_is_the_same_run_however_it_is_kept(model: Path) -> None:
    def identity(name: str) -> dict[str, object]:
        return search(model, model.parent / name, out=f"run-{name}").identity

    (model.parent / "a.txt").write_text(TEXT)
    (model.parent / "a.md").write_bytes(b"\xef\xbb\xbf" + TEXT.encode())
    pq.write_table(pa.table({"text": [TEXT], "document": ["a"]}), model.parent / "a.parquet")
    assert identity("a.txt") == identity("a.md") == identity("a.parquet")


def test_how_the_data_is_read_is_in_a_runs_identity_by_its_windows_alone(model: Path) -> None:
    (model.parent / "a.txt").write_text(TEXT)
    plain = search(model, model.parent / "a.txt").identity
    assert not {"split", "special_tokens", "data"} & set(plain)
    assert search(model, model.parent / "a.txt", "--special-tokens", "parse", out="parsed").identity == plain
    assert search(model, model.parent / "a.txt", "--split", "20", out="split").identity != plain


@pytest.mark.parametrize("change", ["enable_truncation", "enable_padding"])
def test_a_tokenizer_that_was_saved_with_truncation_or_padding_reads_the_whole_text(model: Path, change: str) -> None:
    (model.parent / "a.txt").write_text(TEXT)
    wanted = search(model, model.parent / "a.txt").tokens()
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    getattr(tokenizer, change)(**({"max_length": 20} if change == "enable_truncation" else {"length": 250}))
    tokenizer.save(str(model / "tokenizer.json"))
    assert search(model, model.parent / "a.txt", out="changed").tokens().equals(wanted)
    assert len(wanted) == len(TEXT) - -(-len(TEXT) // 64)


def test_special_tokens_in_a_text_are_told_or_parsed(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with_tokens(model, "<|im_start|>", "<|im_end|>")
    (model.parent / "chat.txt").write_text("<|im_start|>user\nWhere is he?<|im_end|>\n")
    run = search(model, model.parent / "chat.txt")
    said = capsys.readouterr().err
    assert said.count("special-tokens parse") == 1
    assert "the text holds 2 special tokens" in said
    assert 256 not in set(run.tokens()["token_id"])
    run = search(model, model.parent / "chat.txt", "--special-tokens", "parse", out="parsed")
    assert capsys.readouterr().err == ""
    assert next(iter(run.tokens()["token_id"])) == 256
    assert len(run.tokens()) == len("_user\nWhere is he?_\n") - 1


def test_a_token_beyond_the_vocabulary_that_no_text_uses_is_no_fault(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with_tokens(model, "<one>", "<two>", "[PAD]")
    (model.parent / "a.txt").write_text(TEXT)
    search(model, model.parent / "a.txt")
    (model.parent / "b.jsonl").write_text(json.dumps({"text": TEXT}) + "\n" + json.dumps({"text": "so it is [PAD]"}) + "\n")
    search(model, model.parent / "b.jsonl", out="b")
    said = refused(capsys, model, model.parent / "b.jsonl", "--special-tokens", "parse")
    assert "b.jsonl, row 2: a token id must lie in the model's vocabulary, 0 to 257; got 258 at token 9" in said


def test_a_table_without_text_is_told_its_columns(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pq.write_table(pa.table({"content": ["x"], "label": [1]}), model.parent / "a.parquet")
    said = refused(capsys, model, model.parent / "a.parquet")
    assert "row 1: a row must have text, tokens or input_ids; it has content, label" in said
    pq.write_table(pa.table({"input_ids": [[1, 2, 3]]}), model.parent / "b.parquet")
    assert list(search(model, model.parent / "b.parquet").tokens()["target_id"]) == [2, 3]


@pytest.mark.parametrize(
    ("arguments", "law"),
    [
        (("nowhere.txt",), "there is no file 'nowhere.txt'"),
        (("holdout:prose", "holdout:prose"), "a file is data once; holdout:prose is named twice"),
        (("holdout:prose", "--split", "lines"), "--split is blank-lines, or a number of tokens, at least 2; got 'lines'"),
        (("holdout:prose", "--special-tokens", "no"), "no"),
    ],
)
def test_bad_data_is_refused(model: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], law: str) -> None:
    assert law in refused(capsys, model, *arguments)


def test_options_may_stand_between_the_words_of_data(model: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (model.parent / name).write_text(TEXT)
    run = search(model, model.parent / "a.txt", "--max-sequences", "3", model.parent / "b.txt")
    assert list(dict.fromkeys(run.tokens()["document"])) == ["a.txt", "b.txt"]


@pytest.mark.parametrize("command", ["search duo-tiny", "plan duo-tiny", "route duo-tiny random:1", "export-reference duo-tiny"])
def test_a_name_of_no_data_is_said_before_a_model_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    for source in (driver, family):
        for name in ("load_model", "load_module"):
            monkeypatch.setattr(source, name, lambda *_, **__: pytest.fail("a model was loaded"))
    out = [] if command.startswith("plan") else ["--out", str(tmp_path / "new.parquet")]
    assert main([*command.split(), "holdout:pros", *out]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert "did you mean 'holdout:prose'" in said.err
