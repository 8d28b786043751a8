"""What stands in a file: UTF-8 and nothing else, by file, row and byte; every format gives the same text."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from duo_oracle.models.text import rows
from duo_oracle.models.text.documents import read_documents

TEXT = "One line.\nAnother line, naïve: 漢字 🙂\r\n"


def texts(path: object) -> list[str | None]:
    return [document.text for document in read_documents(str(path))]


def refusal(path: object) -> str:
    with pytest.raises(ValueError) as caught:
        texts(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(path))
    return str(caught.value).removeprefix(str(path))


def compressed(codec: str, content: bytes) -> bytes:
    return gzip.compress(content) if codec == "gz" else pa.Codec("zstd").compress(content, asbytes=True)


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.py", "a.PY", "README", "a.tar.log"])
def test_any_text_suffix_is_one_document(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(TEXT.encode())
    assert texts(tmp_path / name) == [TEXT]


@pytest.mark.parametrize("codec", ["gz", "zst"])
def test_compressed_files_are_read_and_so_are_joined_ones(tmp_path: Path, codec: str) -> None:
    (tmp_path / f"a.txt.{codec}").write_bytes(compressed(codec, TEXT.encode()) + compressed(codec, b"more"))
    assert texts(tmp_path / f"a.txt.{codec}") == [TEXT + "more"]
    row = json.dumps({"text": TEXT}).encode() + b"\n"
    (tmp_path / f"a.jsonl.{codec}").write_bytes(compressed(codec, row * 3))
    assert texts(tmp_path / f"a.jsonl.{codec}") == [TEXT] * 3


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
@pytest.mark.parametrize("codec", ["gz", "zst"])
def test_a_compressed_file_that_is_cut_off_or_none_is_refused(tmp_path: Path, name: str, codec: str) -> None:
    path = tmp_path / f"{name}.{codec}"
    path.write_bytes(compressed(codec, json.dumps({"text": TEXT}).encode() * 9)[:-6])
    assert ": not a whole " in refusal(path)
    path.write_bytes(b'{"text": "plain"}\n')
    assert ": not a whole " in refusal(path)


def test_all_table_formats_give_the_same_documents(tmp_path: Path) -> None:
    table = pa.table({"text": [TEXT, "two"], "document": ["a", "b"]})
    pq.write_table(table, tmp_path / "a.parquet")
    feather.write_feather(table, tmp_path / "file.arrow")
    with pa.OSFile(str(tmp_path / "stream.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    (tmp_path / "a.ndjson").write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    for name in ("a.parquet", "file.arrow", "stream.arrow", "a.ndjson"):
        found = list(read_documents(str(tmp_path / name)))
        assert [(document.name, document.text) for document in found] == [("a", TEXT), ("b", "two")]


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.binary(), pa.dictionary(pa.int32(), pa.string())])
def test_every_arrow_type_of_text_is_text(tmp_path: Path, kind: pa.DataType) -> None:
    column = pa.array([TEXT, TEXT]) if not pa.types.is_binary(kind) else pa.array([TEXT.encode()] * 2)
    table = pa.table({"text": column.cast(kind), "document": pa.array(["a", "b"]).cast(kind)})
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    assert texts(tmp_path / "a.arrow") == [TEXT, TEXT]


@pytest.mark.parametrize("kind", [pa.list_(pa.int16()), pa.large_list(pa.uint32()), pa.list_(pa.int64(), 3)])
def test_every_arrow_type_of_whole_numbers_is_tokens(tmp_path: Path, kind: pa.DataType) -> None:
    pq.write_table(pa.table({"tokens": pa.array([[1, 2, 3]], kind)}), tmp_path / "a.parquet")
    (document,) = read_documents(str(tmp_path / "a.parquet"))
    assert document.token_ids == [1, 2, 3]


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    mark = "\ufeff"
    (tmp_path / "a.txt").write_text(mark + TEXT, newline="")
    (tmp_path / "b.jsonl").write_text((mark + json.dumps({"text": TEXT}) + "\n") * 2)  # two files, joined
    (tmp_path / "c.jsonl").write_text(json.dumps({"text": mark + TEXT}) + "\n")
    pq.write_table(pa.table({"text": [mark + TEXT]}), tmp_path / "d.parquet")
    (tmp_path / "e.txt.gz").write_bytes(gzip.compress((mark + TEXT).encode()))
    for name in ("a.txt", "b.jsonl", "c.jsonl", "d.parquet", "e.txt.gz"):
        assert set(texts(tmp_path / name)) == {TEXT}


def test_a_mark_within_a_text_stays(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a\ufeffb")
    assert texts(tmp_path / "a.txt") == ["a\ufeffb"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32", "latin-1", "cp1252", "shift-jis"])
@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.jsonl"])
def test_other_encodings_are_refused(tmp_path: Path, encoding: str, name: str) -> None:
    text = "漢字 and words" if encoding == "shift-jis" else "naïve words"
    content = (json.dumps({"text": text}, ensure_ascii=False) if name == "a.jsonl" else text).encode(encoding)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    said = refusal(tmp_path / name)
    assert "must be UTF-8" in said or "NUL" in said or "must be a JSON object" in said


@pytest.mark.parametrize("n_before", [0, 1, 7, (1 << 16) - 1, 1 << 16, (1 << 16) + 1])
@pytest.mark.parametrize(
    ("bad", "law"), [(b"\xff", "byte {} is 0xff"), (b"\xed\xa0\xbd", "byte {} is 0xed"), (b"\0", "byte {} is one")]
)
def test_a_bad_byte_of_a_text_is_named_wherever_it_stands(tmp_path: Path, n_before: int, bad: bytes, law: str) -> None:
    (tmp_path / "a.txt").write_bytes(b"x" * n_before + bad + b"and on")
    assert law.format(n_before) in refusal(tmp_path / "a.txt")


def test_a_character_that_is_cut_off_at_the_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("word 漢".encode()[:-1])
    assert "text must be UTF-8; byte 5 is 0xe6" in refusal(tmp_path / "a.txt")


def test_characters_across_the_parts_that_are_read_stay_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for part in range(1, 9):
        monkeypatch.setattr(rows, "_PART", part)
        (tmp_path / "a.txt").write_bytes(TEXT.encode() * 3)
        assert texts(tmp_path / "a.txt") == [TEXT * 3]


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.jsonl", "a.parquet", "a.arrow", "a.jsonl.gz"])
def test_a_git_lfs_pointer_is_called_so(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    assert "git lfs pull" in refusal(tmp_path / name)


def test_a_column_s_name_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    for suffix, write in (("parquet", pq.write_table), ("arrow", feather.write_feather)):
        path = tmp_path / f"a.{suffix}"
        write(pa.table({"text": ["a"], "notes": ["b"]}), path, compression="none" if suffix == "parquet" else "uncompressed")
        path.write_bytes(path.read_bytes().replace(b"notes", b"n\xe9\xfees"))
        assert "not a readable" in refusal(path) or "UTF-8" in refusal(path)


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_text_of_a_table_that_is_no_utf8_is_refused_by_row(tmp_path: Path, suffix: str) -> None:
    raw = b"fine" + b"caf\xe9 noir"
    offsets = pa.py_buffer(b"".join(n.to_bytes(4, "little") for n in (0, 4, 13)))
    bad = pa.StringArray.from_buffers(2, offsets, pa.py_buffer(raw))
    for columns in ({"text": bad}, {"text": ["a", "b"], "document": bad}):
        table = pa.table(columns)
        if suffix == "parquet":
            pq.write_table(table, tmp_path / "a.parquet")
        else:
            feather.write_feather(table, tmp_path / "a.arrow")
        assert refusal(tmp_path / f"a.{suffix}").startswith(", row 2: text must be UTF-8; byte 3 is 0xe9")


@pytest.mark.parametrize(
    ("line", "law"),
    [
        (r'{"text": "bad \ud83d here"}', r", row 2: text must be UTF-8; character 4 is '\ud83d', half of a surrogate pair"),
        (r'{"text": "fine", "document": "a\udc00"}', r", row 2: document must be UTF-8; character 1 is '\udc00'"),
        (r'{"text": "\udc00\ud800"}', "half of a surrogate pair"),
        ('{"tokens": [' + "9" * 30 + "]}", "tokens must be whole numbers of the model's vocabulary; got 9999999"),
        ('{"tokens": [1, -' + "9" * 400 + "]}", "tokens must be whole numbers of the model's vocabulary; got -999999"),
        ('{"tokens": [' + "9" * 5000 + "]}", "each line must be a JSON object"),
        ("[" * 100_000, "it is nested too deeply"),
        ('{"text": null, "body": 1}', "a row must have text, tokens or input_ids; it has body, text (null)"),
        ('{"document": {"a": 1}, "text": "x y"}', "document must be a name; got {'a': 1}"),
    ],
)
def test_bad_rows_of_json_are_refused_by_row(tmp_path: Path, line: str, law: str) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "all is well"}\n' + line + "\n")
    assert law in refusal(tmp_path / "a.jsonl")


def test_a_pair_of_surrogates_in_json_is_the_character(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(r'{"text": "\ud83d\ude42"}')
    assert texts(tmp_path / "a.jsonl") == ["🙂"]


def tokens_of(tmp_path: Path, **row: object) -> list[int] | None:
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
    (document,) = read_documents(str(tmp_path / "a.jsonl"))
    return document.token_ids


def test_input_ids_are_tokens_without_what_the_mask_calls_padding(tmp_path: Path) -> None:
    assert tokens_of(tmp_path, input_ids=[5, 6, 7]) == [5, 6, 7]
    assert tokens_of(tmp_path, input_ids=[5, 6, 0, 0], attention_mask=[1, 1, 0, 0]) == [5, 6]
    assert tokens_of(tmp_path, input_ids=[0, 5, 6], attention_mask=[0, 1, 1]) == [5, 6]
    pq.write_table(pa.table({"input_ids": [[1, 2, 9]], "attention_mask": [[1, 1, 0]]}), tmp_path / "b.parquet")
    (document,) = read_documents(str(tmp_path / "b.parquet"))
    assert document.token_ids == [1, 2]


@pytest.mark.parametrize("mask", [[1, 0, 1], [1, 1], "111", [1, 2, 1], [0, 0, 0]])
def test_a_mask_that_leaves_out_the_middle_or_does_not_fit_is_refused(tmp_path: Path, mask: object) -> None:
    with pytest.raises(ValueError, match=r"attention_mask must|must not be empty"):
        tokens_of(tmp_path, input_ids=[5, 6, 7], attention_mask=mask)


def test_compressed_tables_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.parquet.gz").write_bytes(b"x")
    assert "may be compressed as a whole" in refusal(tmp_path / "a.parquet.gz")
