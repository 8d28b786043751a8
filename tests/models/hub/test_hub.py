"""The hub's names, against a cache of its own layout and no network: what is there is read, what is not is said in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from duo_oracle.models.checkpoint import model_directory, read_checkpoint
from duo_oracle.models.families.toy import write_toy
from duo_oracle.models.hub.model import fetch_model, is_model_name
from duo_oracle.models.text.documents import read_documents

COMMIT, OTHER = "a" * 40, "b" * 40


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def snapshot(cache: Path, kind: str, name: str, commit: str = COMMIT, **refs: str) -> Path:
    """The folder of one commit in the cache, with the names that stand for commits."""
    repository = cache / f"{kind}s--{name.replace('/', '--')}"
    for ref, at in ({"main": commit} | {key.replace("__", "/"): value for key, value in refs.items()}).items():
        (repository / "refs" / ref).parent.mkdir(parents=True, exist_ok=True)
        (repository / "refs" / ref).write_text(at)
    folder = repository / "snapshots" / commit
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def refusal(model: str) -> str:
    with pytest.raises(ValueError) as caught:
        model_directory(model)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_model_in_the_cache_is_read(cache: Path) -> None:
    folder = snapshot(cache, "model", "owner/toy")
    write_toy(folder)
    assert model_directory("owner/toy") == folder
    assert read_checkpoint("owner/toy").fingerprint == read_checkpoint(str(folder)).fingerprint


def test_a_revision_is_another_folder(cache: Path) -> None:
    repository = {"v1": OTHER, "main": COMMIT}
    for seed, commit in enumerate((OTHER, COMMIT)):
        write_toy(snapshot(cache, "model", "owner/toy", commit, **repository), seed)
    assert model_directory("owner/toy@v1").name == OTHER
    assert model_directory("owner/toy").name == COMMIT
    assert model_directory(f"owner/toy@{OTHER}").name == OTHER
    assert "there is no 'owner/toy@v2'" in refusal("owner/toy@v2")


def test_what_the_cache_does_not_have_is_said_with_the_reason(cache: Path) -> None:
    said = refusal("nobody/nothing")
    assert said.startswith(
        "a model is a directory, a shipped name (duo-tiny, et-tiny) or OWNER/NAME of the hub; there is no 'nobody/nothing'"
    )
    assert "not reached (no network, or HF_HUB_OFFLINE) and its cache does not hold it" in said
    assert str(cache) in said


def test_a_cache_that_holds_a_part_of_a_model_is_told_what_is_missing(cache: Path) -> None:
    folder = snapshot(cache, "model", "owner/part")
    assert "owner/part of the hub has no config.json: looked in" in refusal("owner/part")
    (folder / "config.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"x")
    said = refusal("owner/part")
    assert "has no model.safetensors: weights are read from safetensors only" in said
    assert "HF_HUB_OFFLINE is set" in said
    shards = {f"w{i}": f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    (folder / shards["w1"]).write_bytes(b"x")
    assert "has no model-00002-of-00003.safetensors" in refusal("owner/part")
    assert "and 2 of 3 such files are missing" in refusal("owner/part")


def test_only_the_files_that_are_needed_are_asked_for(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = snapshot(cache, "model", "owner/large")
    (folder / "config.json").write_text("{}")
    (folder / "shard.safetensors").write_bytes(b"x")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": "shard.safetensors"}}))
    asked: list[tuple[str | None, list[str]]] = []

    def download(name: str, *, repo_type: str, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((revision, allow_patterns))
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert fetch_model("owner/large@v1") == folder
    (first, small), (second, weights) = asked
    assert (first, second) == ("v1", COMMIT)  # the weights are of the commit that the config is of
    assert weights == ["shard.safetensors"]
    assert not any("safetensors" in name and "index" not in name for name in small)


@pytest.mark.parametrize(
    ("fault", "law"),
    [
        ("RepositoryNotFoundError", "none of this name, or it is private"),
        ("GatedRepoError", "its owner lets in"),
        ("X", "ValueError"),
    ],
)
def test_what_the_hub_answers_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch, fault: str, law: str) -> None:
    from huggingface_hub import errors

    kind: Any = getattr(errors, fault, ValueError)

    def download(*_: object, **__: object) -> str:
        raise kind.__new__(kind)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert law in refusal("owner/name")


@pytest.mark.parametrize("text", ["a/b", "a/b@main", "a/b@refs/pr/1", "a-1/b.2@v1.0"])
def test_names_of_the_hub(text: str) -> None:
    assert is_model_name(text)


@pytest.mark.parametrize("text", ["a", "a/b/c", "/a/b", "a/b@", "a/b c"])
def test_other_texts_are_no_names_of_the_hub(text: str) -> None:
    assert not is_model_name(text)


def texts(source: str) -> list[str | None]:
    return [document.text for document in read_documents(source)]


@pytest.mark.parametrize(
    "file", ["train-00000-of-00001.parquet", "data/train.parquet", "train/0000.parquet", "default/train/0.parquet"]
)
def test_a_dataset_in_the_cache_is_read_by_split(cache: Path, file: str) -> None:
    folder = snapshot(cache, "dataset", "owner/texts")
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"text": ["one"], "content": ["two"]}), folder / file)
    assert texts("hf:owner/texts:train") == ["one"]
    assert texts("hf:owner/texts:train:content") == ["two"]
    assert [document.name for document in read_documents("hf:owner/texts:train")] == ["train/0"]
    with pytest.raises(ValueError, match=r"no Parquet files of a split 'test'|cache does not hold it"):
        texts("hf:owner/texts:test")


def test_a_configuration_of_a_dataset_is_a_folder_of_it(cache: Path) -> None:
    folder = snapshot(cache, "dataset", "owner/texts")
    for name in ("en", "de"):
        (folder / name).mkdir()
        for shard in (1, 0):
            pq.write_table(pa.table({"text": [f"{name} {shard}"]}), folder / name / f"train-0000{shard}-of-00002.parquet")
    assert texts("hf:owner/texts/de:train") == ["de 0", "de 1"]
    (folder / "en/train-00001-of-00002.parquet").unlink()
    with pytest.raises(ValueError, match="1 of its 2 files are there"):
        texts("hf:owner/texts/en:train")


def test_a_dataset_of_another_format_is_read_from_the_hubs_parquet(cache: Path) -> None:
    (snapshot(cache, "dataset", "owner/json") / "train.jsonl").write_text("{}")
    folder = snapshot(cache, "dataset", "owner/json", OTHER, main=COMMIT, refs__convert__parquet=OTHER)
    (folder / "default/train").mkdir(parents=True)
    pq.write_table(pa.table({"text": ["converted"]}), folder / "default/train/0000.parquet")
    assert texts("hf:owner/json:train") == ["converted"]


@pytest.mark.parametrize("source", ["hf:owner/none:train", "hf:owner/none", "hf:none:train", "hf:", "hf:a/b:tr*in"])
def test_a_dataset_that_is_not_to_be_had_is_one_line(source: str) -> None:
    with pytest.raises(ValueError) as caught:
        texts(source)
    assert "\n" not in str(caught.value)
    assert "dataset" in str(caught.value)
