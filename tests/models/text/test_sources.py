"""What DATA names: files, globs, folders, holdouts and datasets, each file once and in order; what is none is refused."""

import json
import os
from pathlib import Path

import pyarrow as pa
import pytest

from duo_oracle.models.text.documents import read_documents
from duo_oracle.models.text.sources import find_files, source_name


def written(folder: Path, *names: str, text: str = "some text\n") -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def names_of(*sources: object) -> list[str]:
    return [document.name for document in read_documents([str(source) for source in sources])]


def refusal(*sources: object) -> str:
    with pytest.raises(ValueError) as caught:
        list(read_documents([str(source) for source in sources]))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_is_its_files_at_any_depth_sorted_without_hidden_ones(tmp_path: Path) -> None:
    written(tmp_path, "b.py", "a/z.md", "a/b/c.rs", "README", ".hidden.txt", ".git/config", "a/.cache/x.txt", "Upper.TXT")
    assert names_of(tmp_path) == ["README", "Upper.TXT", "a/b/c.rs", "a/z.md", "b.py"]


def test_a_hidden_folder_that_is_named_is_read(tmp_path: Path) -> None:
    assert names_of(written(tmp_path / ".data", "a.txt")) == ["a.txt"]


def test_links_to_files_and_folders_are_followed_and_a_loop_ends(tmp_path: Path) -> None:
    written(tmp_path / "elsewhere", "x.txt", "more/y.txt")
    data = written(tmp_path / "data", "a.txt")
    (data / "link.txt").symlink_to(tmp_path / "elsewhere/x.txt")
    (data / "more").symlink_to(tmp_path / "elsewhere/more")
    (data / "round").symlink_to(data)
    assert names_of(data) == ["a.txt", "link.txt", "more/y.txt"]


def test_a_glob_is_the_files_that_it_fits_named_below_its_folder(tmp_path: Path) -> None:
    written(tmp_path, "s/a.py", "s/b.py", "s/c.md", "s/t/d.py", "s/.e.py")
    assert names_of(tmp_path / "s/*.py") == ["a.py", "b.py"]
    assert names_of(tmp_path / "s/**/*.py") == ["a.py", "b.py", "t/d.py"]
    assert names_of(tmp_path / "*/?.md") == ["s/c.md"]


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path: Path) -> None:
    written(tmp_path, "a[1].txt", "a1.txt")
    assert names_of(tmp_path / "a[1].txt") == ["a[1]"]


def test_empty_files_of_a_folder_are_no_documents_and_a_named_one_is_refused(tmp_path: Path) -> None:
    written(tmp_path, "a.py")
    written(tmp_path, "__init__.py", text="")
    assert names_of(tmp_path) == ["a.py"]
    assert "a document must not be empty" in refusal_on_reading(tmp_path / "__init__.py")


def refusal_on_reading(source: object) -> str:
    with pytest.raises(ValueError) as caught:
        [document.text for document in read_documents(str(source))]
    return str(caught.value)


def test_one_name_in_two_sources_is_two_documents_and_in_one_source_one(tmp_path: Path) -> None:
    rows = json.dumps({"text": "some text", "document": "same"}) + "\n"
    written(tmp_path, "a/x.jsonl", "a/y.jsonl", "b/x.jsonl", text=rows)
    assert set(names_of(tmp_path / "a")) == {"same"}
    assert names_of(tmp_path / "a", tmp_path / "b") == ["a/same", "a/same", "b/same"]
    written(tmp_path, "a/t.txt", "b/t.txt")
    assert names_of(tmp_path / "a/t.txt", tmp_path / "b/t.txt") == ["a/t.txt", "b/t.txt"]
    assert names_of(tmp_path / "a/t.txt") == ["t"]


def test_names_of_several_sources_do_not_hold_the_place_of_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, "one/a.txt", "one/sub/b.txt", "two/a.txt", "two/sub/b.txt")
    monkeypatch.chdir(tmp_path / "one")
    assert names_of("a.txt", "sub") == names_of(tmp_path / "two/a.txt", tmp_path / "two/sub") == ["a.txt", "sub/b.txt"]


def test_holdouts_and_files_stand_side_by_side(tmp_path: Path) -> None:
    names = names_of("holdout:prose", written(tmp_path, "a.txt") / "a.txt")
    assert names[-1] == "a.txt"
    assert all(name.startswith("holdout:prose/") for name in names[:-1])


@pytest.mark.parametrize("again", ["a.txt", ".", "*.txt", "./a.txt"])
def test_a_file_is_data_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: str) -> None:
    monkeypatch.chdir(written(tmp_path, "a.txt"))
    assert refusal("a.txt", again).startswith("a file is data once; ")


def test_what_names_no_file_is_refused(tmp_path: Path) -> None:
    assert "there is no file 'nowhere.txt'" in refusal("nowhere.txt")
    assert "no file is like" in refusal(tmp_path / "*.txt")
    assert "must hold a file that is not hidden" in refusal(written(tmp_path / "d", ".a.txt"))
    assert "unknown holdout" in refusal("holdout:verse")
    assert "got none" in refusal()
    for empty in ("", " ", "hf:", "hf::train"):
        assert "data is a file, a folder, a glob" in refusal(empty)


@pytest.mark.parametrize("name", ["a.json", "a.csv", "a.TSV", "a.json.gz"])
def test_a_file_that_may_be_a_table_or_a_text_is_refused_with_what_to_do(tmp_path: Path, name: str) -> None:
    assert "rows are read from .jsonl" in refusal(written(tmp_path, name) / name)


def test_names_that_are_no_utf8_are_refused(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.txt")
    try:
        written(tmp_path, name)
    except OSError:
        pytest.skip("this file system has UTF-8 names alone")
    assert "must be UTF-8" in refusal(tmp_path / name)
    assert "must be UTF-8" in refusal(tmp_path)


def saved(folder: Path, column: dict[str, list], parts: int = 1, **state: object) -> Path:
    """A dataset as `datasets.Dataset.save_to_disk` lays it out."""
    folder.mkdir(parents=True)
    table = pa.table(column)
    names = [f"data-{part:05}-of-{parts:05}.arrow" for part in range(parts)]
    step = -(-table.num_rows // parts)
    for part, name in enumerate(names):
        rows = table.slice(part * step, step)
        with pa.OSFile(str(folder / name), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(rows)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names], **state}))
    (folder / "dataset_info.json").write_text("{}")
    return folder


def test_a_saved_dataset_is_read_with_its_shards_in_order(tmp_path: Path) -> None:
    folder = saved(tmp_path / "train", {"text": [f"text {i}" for i in range(7)]}, parts=3, _split="train")
    for source in (folder, f"hf:{folder}", f"hf:{folder}:train"):
        documents = list(read_documents(str(source)))
        assert [document.text for document in documents] == [f"text {i}" for i in range(7)]
        assert [document.name for document in documents] == [f"train/{i}" for i in range(7)]


def test_a_split_and_a_column_of_a_saved_dataset_are_named(tmp_path: Path) -> None:
    saved(tmp_path / "all/train", {"content": ["one"]}, _split="train")
    saved(tmp_path / "all/test", {"content": ["two"], "ids": [[1, 2]]}, _split="test")
    (tmp_path / "all/dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert [document.text for document in read_documents(f"hf:{tmp_path}/all:test:content")] == ["two"]
    assert [document.token_ids for document in read_documents(f"hf:{tmp_path}/all:test:ids")] == [[1, 2]]
    said = refusal(tmp_path / "all")
    assert "name one: " in said
    assert str(tmp_path / "all/train") in said
    assert "there is no split 'dev'" in refusal(f"hf:{tmp_path}/all:dev")
    assert "a row must have body; it has content, ids" in refusal(f"hf:{tmp_path}/all:test:body")
    assert "a row must have text, tokens or input_ids; it has content" in refusal(tmp_path / "all/train")


def test_a_saved_dataset_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path / "d", {"text": ["x y"]}, _split="train")
    assert "is the split 'train'; got 'test'" in refusal(f"hf:{folder}:test")
    (folder / "data-00000-of-00001.arrow").unlink()
    assert "names the file 'data-00000-of-00001.arrow', which is not in" in refusal(folder)
    (folder / "state.json").write_text("[]")
    assert "is no saved dataset" in refusal(folder)
    indexed = saved(tmp_path / "e", {"text": ["x y"]}, _indices_data_files=[{"filename": "indices.arrow"}])
    assert "flatten_indices()" in refusal(indexed)


def test_every_source_has_a_short_name(tmp_path: Path) -> None:
    written(tmp_path, "d/a.b.txt", "d/c.jsonl.gz")
    assert source_name(str(tmp_path / "d/a.b.txt")) == "a.b"
    assert source_name(str(tmp_path / "d/c.jsonl.gz")) == "c"
    assert source_name(str(tmp_path / "d")) == "d"
    assert source_name("holdout:prose") == "prose"
    assert "/" not in source_name(str(tmp_path / "d/*.txt"))
    assert len(find_files(str(tmp_path / "d"))) == 2
