"""Documents and windows: nothing lost, nothing crossed, nothing bad let through."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duo_oracle.models.families.toy import byte_tokenizer
from duo_oracle.models.text.documents import read_documents
from duo_oracle.models.text.windows import data_fingerprint, read_sequences, resolve_seq_len


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def refusal(source, tokenizer=None, n_vocabulary=256, n_positions=8, **options) -> str:
    with pytest.raises(ValueError) as caught:
        list(read_sequences(str(source), tokenizer, n_vocabulary, n_positions, **options))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=6), seq_len=st.integers(2, 9))
def test_windows_cover_each_document_in_order_and_cross_none(tmp_path_factory, lengths, seq_len):
    rows = [{"tokens": list(range(10 * d, 10 * d + n)), "document": f"d{d}"} for d, n in enumerate(lengths)]
    source = write_jsonl(tmp_path_factory.mktemp("data") / "a.jsonl", rows)
    if max(lengths) == 1:
        assert "data must have a position to score" in refusal(source, seq_len=seq_len, n_positions=16)
        return
    sequences = list(read_sequences(source, None, 256, 16, seq_len))
    assert [sequence.index for sequence in sequences] == list(range(len(sequences)))
    for d, length in enumerate(lengths):
        windows = [sequence.token_ids for sequence in sequences if sequence.document == f"d{d}"]
        assert all(len(window) == seq_len for window in windows[:-1])
        assert all(2 <= len(window) <= seq_len and window.dtype == np.int32 for window in windows)
        covered = [int(token) for window in windows for token in window]
        left_out = 1 if length % seq_len == 1 else 0
        assert covered == rows[d]["tokens"][: length - left_out]


def test_text_jsonl_and_parquet_of_the_same_text_give_the_same_tokens(tmp_path):
    text = "One line.\nAnother line, naïve.\n"
    (tmp_path / "a.txt").write_text(text)
    write_jsonl(tmp_path / "a.jsonl", [{"text": text, "document": "a"}])
    ids = byte_tokenizer().encode(text).ids
    pq.write_table(pa.table({"text": [text], "document": ["a"]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"tokens": [ids], "document": ["a"]}), tmp_path / "b.parquet")
    prints = {
        data_fingerprint(read_sequences(str(tmp_path / name), byte_tokenizer(), 256, 8))
        for name in ("a.txt", "a.jsonl", "a.parquet", "b.parquet")
    }
    assert len(prints) == 1


def test_documents_without_names_are_named_by_file_and_row(tmp_path):
    source = write_jsonl(tmp_path / "a.jsonl", [{"text": "x y"}, {"text": "z"}, {"text": "w", "document": "own"}])
    assert [document.name for document in read_documents(source)] == ["a/0", "a/1", "own"]


def test_max_sequences_is_a_prefix_and_reads_no_further(tmp_path):
    source = write_jsonl(tmp_path / "a.jsonl", [{"tokens": list(range(20))}, {"tokens": [-1]}])
    sequences = list(read_sequences(source, None, 256, 8, max_sequences=2))
    assert [sequence.token_ids.tolist() for sequence in sequences] == [list(range(8)), list(range(8, 16))]


def test_the_fingerprint_sees_tokens_documents_and_windows(tmp_path):
    def print_of(rows, seq_len):
        return data_fingerprint(read_sequences(write_jsonl(tmp_path / "a.jsonl", rows), None, 256, 8, seq_len))

    base = [{"tokens": [1, 2, 3, 4], "document": "a"}]
    assert print_of(base, 4) == print_of(base, 5)
    others = (
        print_of([{"tokens": [1, 2, 3, 5], "document": "a"}], 4),
        print_of([{**base[0], "document": "b"}], 4),
        print_of(base, 2),
    )
    assert len({print_of(base, 4), *others}) == 4


def test_seq_len_is_the_models_positions_or_256():
    assert resolve_seq_len(None, 64) == 64
    assert resolve_seq_len(None, 4096) == 256
    assert resolve_seq_len(512, 4096) == 512


@pytest.mark.parametrize(
    ("name", "characters"),
    [
        ("prose", (60_000, 120_000)),
        ("code", (60_000, 120_000)),
        ("recent-prose", (30_000, 60_000)),
        ("recent-code", (30_000, 60_000)),
    ],
)
def test_the_shipped_holdouts_are_whole_named_documents(name, characters):
    documents = list(read_documents(f"holdout:{name}"))
    assert len(documents) >= 12
    assert len({document.name for document in documents}) == len(documents)
    assert characters[0] < sum(len(document.text) for document in documents) < characters[1]
    assert all(document.text.endswith("\n") for document in documents)


def test_an_unknown_source_is_answered_with_the_choices(tmp_path):
    assert refusal("holdout:verse") == (
        "unknown holdout 'holdout:verse'; did you mean 'holdout:prose'? available: holdout:code, holdout:prose, "
        "holdout:recent-code, holdout:recent-prose"
    )
    assert "there is no file 'nowhere.txt'" in refusal("nowhere.txt")
    (tmp_path / "a.csv").write_text("a")
    assert "a .csv file is a table or a text; rows are read from .jsonl" in refusal(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"tokens": [1, 2]}, {"tokens": [1, 999]}],
            "row 2: a token id must lie in the model's vocabulary, 0 to 255; got 999 at token 1",
        ),
        ([{"tokens": [1, -2]}], "got -2 at token 1"),
        ([{"tokens": [1, 2.5]}], "row 1: tokens must be whole numbers; got 2.5"),
        ([{"tokens": [1, True]}], "tokens must be whole numbers; got True"),
        ([{"tokens": "12"}], "tokens must be a list of whole numbers; got '12'"),
        ([{"tokens": []}], "row 1: a document must not be empty; got tokens []"),
        ([{"text": " \n"}], "row 1: a document must not be empty; got text ' \\n'"),
        ([{"text": 7}], "row 1: text must be a string; got 7"),
        ([{"body": "x"}], "row 1: a row must have text, tokens or input_ids; it has body"),
        ([[1]], "row 1: each line must be a JSON object; got [1]"),
        ([{"text": "words"}], "row 1: the model has no tokenizer.json, so its data must carry tokens, not text"),
        ([], "data must hold at least one document; it holds none"),
    ],
)
def test_bad_rows_are_refused_by_file_row_and_value(tmp_path, rows, message):
    source = write_jsonl(tmp_path / "a.jsonl", rows)
    got = refusal(source)
    assert message in got
    assert got.startswith(source)


def test_bad_files_are_refused(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"ok \xff")
    assert "text must be UTF-8; byte 3 is 0xff" in refusal(tmp_path / "a.txt")
    (tmp_path / "b.txt").write_text("")
    assert "a document must not be empty" in refusal(tmp_path / "b.txt")
    (tmp_path / "c.jsonl").write_text('{"text": "a b"}\n{"text": \n')
    assert "c.jsonl, row 2: each line must be a JSON object; Expecting value" in refusal(tmp_path / "c.jsonl", byte_tokenizer())
    (tmp_path / "d.parquet").write_text("not parquet")
    assert "d.parquet: not a readable Parquet file" in refusal(tmp_path / "d.parquet")
    pq.write_table(pa.table({"body": ["x"]}), tmp_path / "e.parquet")
    assert "a row must have text, tokens or input_ids; it has body" in refusal(tmp_path / "e.parquet")


def test_per_document_takes_the_first_windows_of_every_document(tmp_path):
    rows = [{"tokens": list(range(n)), "document": str(n)} for n in (20, 3, 9)]
    source = write_jsonl(tmp_path / "a.jsonl", rows)
    sequences = list(read_sequences(source, None, 256, 8, seq_len=4, per_document=2))
    found = [(sequence.document, sequence.token_ids.tolist()) for sequence in sequences]
    assert found == [("20", [0, 1, 2, 3]), ("20", [4, 5, 6, 7]), ("3", [0, 1, 2]), ("9", [0, 1, 2, 3]), ("9", [4, 5, 6, 7])]


@pytest.mark.parametrize("options", [{"seq_len": 9}, {"seq_len": 1}, {"max_sequences": 0}, {"per_document": 0}])
def test_bad_limits_are_refused(tmp_path, options):
    source = write_jsonl(tmp_path / "a.jsonl", [{"tokens": [1, 2, 3]}])
    assert str(next(iter(options.values()))) in refusal(source, **options)
