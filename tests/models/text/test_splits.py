"""Documents of a document's parts: paragraphs and runs of tokens, nothing lost between them but blank lines."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duo_oracle.models.families.toy import byte_tokenizer
from duo_oracle.models.text import documents, rows
from duo_oracle.models.text.windows import read_sequences


def windows_of(path: Path, split: str | None, **options: int) -> list[tuple[str, str]]:
    found = read_sequences(str(path), byte_tokenizer(), 256, 1000, split=split, **options)
    return [(window.document, byte_tokenizer().decode(window.token_ids)) for window in found]


def test_blank_lines_make_a_document_of_every_paragraph(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n \none\nline\n\n\t\n\ntwo\r\n\r\nthree")
    assert windows_of(tmp_path / "a.txt", "blank-lines") == [("a#0", "one\nline\n"), ("a#1", "two\r\n"), ("a#2", "three")]


@given(text=st.text(alphabet="ab \n", max_size=60).filter(lambda text: len(text.strip()) > 0), part=st.integers(1, 9))
def test_paragraphs_are_those_of_the_text_however_it_is_read(
    tmp_path_factory: pytest.TempPathFactory, text: str, part: int
) -> None:
    path = tmp_path_factory.mktemp("data") / "a.txt"
    path.write_text(text + "\n\nthe end")
    paragraphs = [found[0] for found in re.finditer(r"(?:[^\n]*\S[^\n]*(?:\n|\Z))+", path.read_text())]
    kept = [paragraph for paragraph in paragraphs if len(paragraph) > 1]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(rows, "_PART", part)
        assert [content for _, content in windows_of(path, "blank-lines")] == kept


def test_a_number_makes_a_document_of_every_so_many_tokens(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("abcdefghij")
    assert windows_of(tmp_path / "a.txt", "4") == [("a#0", "abcd"), ("a#1", "efgh"), ("a#2", "ij")]
    assert windows_of(tmp_path / "a.txt", "4", seq_len=3) == [("a#0", "abc"), ("a#1", "efg"), ("a#2", "ij")]
    (tmp_path / "b.jsonl").write_text(json.dumps({"tokens": byte_tokenizer().encode("abcdef").ids, "document": "own"}))
    assert windows_of(tmp_path / "b.jsonl", "4") == [("own#0", "abcd"), ("own#1", "ef")]


def test_per_document_is_of_the_documents_that_are_made(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("abcdefghij")
    assert windows_of(tmp_path / "a.txt", "5", seq_len=2, per_document=1) == [("a#0", "ab"), ("a#1", "fg")]


def test_pieces_of_one_name_are_one_document(tmp_path: Path) -> None:
    rows_ = [{"text": text, "document": name} for text, name in (("abcd", "x"), ("efgh", "y"), ("ijkl", "x"))]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows_))
    found = windows_of(tmp_path / "a.jsonl", None, seq_len=2, per_document=3)
    assert found == [("x", "ab"), ("x", "cd"), ("y", "ef"), ("y", "gh"), ("x", "ij")]


def test_parts_of_pieces_of_one_name_are_numbered_on(tmp_path: Path) -> None:
    rows_ = [{"text": text, "document": "x"} for text in ("abcd", "efgh")]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows_))
    assert [name for name, _ in windows_of(tmp_path / "a.jsonl", "2")] == ["x#0", "x#1", "x#2", "x#3"]


@pytest.mark.parametrize("split", ["1", "0", "-3", "2.5", "lines", ""])
def test_a_split_that_is_none_is_refused(tmp_path: Path, split: str) -> None:
    (tmp_path / "a.txt").write_text("some text")
    with pytest.raises(ValueError, match="`split` is blank-lines, or a number of tokens, at least 2; got"):
        windows_of(tmp_path / "a.txt", split)


def test_blank_lines_are_not_looked_for_in_tokens(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"tokens": [1, 2, 3]}))
    with pytest.raises(ValueError, match="row 1: `split='blank-lines'` is of text, and the row has tokens"):
        windows_of(tmp_path / "a.jsonl", "blank-lines")


def test_a_long_line_is_one_paragraph_though_it_is_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "_PART", 3)
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "one long line   with spaces\n\nend."}))
    assert [text for _, text in windows_of(tmp_path / "a.jsonl", "blank-lines")] == ["one long line   with spaces\n", "end."]
