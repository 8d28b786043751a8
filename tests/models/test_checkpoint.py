"""Model directories: what is written is read, and every broken one is refused in one line that names law, value and file."""

import ast
import json

import pytest
import torch
from safetensors.torch import save_file

from duo_oracle.models.checkpoint import SHIPPED, fingerprint_of, read_checkpoint, write_checkpoint
from duo_oracle.models.families.toy import random_checkpoint, write_toy
from duo_oracle.models.text.tokenizer import load_tokenizer, train_tokenizer
from duo_oracle.models.text.windows import read_sequences


@pytest.fixture
def toy(tmp_path):
    write_toy(tmp_path / "toy", seed=1)
    return tmp_path / "toy"


def refusal(directory) -> str:
    with pytest.raises(ValueError) as caught:
        read_checkpoint(str(directory))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_what_is_written_is_read(tmp_path):
    config, tensors = random_checkpoint(2)
    tokenizer_json = train_tokenizer(["some text"], 300).to_str()
    write_checkpoint(tmp_path / "m", {**config, "vocab_size": 300}, tensors, tokenizer_json, torch.float32)
    checkpoint = read_checkpoint(str(tmp_path / "m"))
    assert checkpoint.config == {**config, "vocab_size": 300}
    assert checkpoint.tokenizer_json == tokenizer_json
    assert all(torch.equal(checkpoint.tensors[name], tensors[name]) for name in tensors)
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]


def test_shards_read_as_one_file_does(toy, tmp_path):
    whole = read_checkpoint(str(toy))
    shards = tmp_path / "shards"
    shards.mkdir()
    (shards / "config.json").write_bytes((toy / "config.json").read_bytes())
    names = sorted(whole.tensors)
    files = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(names)}
    for file in set(files.values()):
        save_file({name: whole.tensors[name] for name in names if files[name] == file}, shards / file)
    index = shards / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": files}))
    assert read_checkpoint(str(shards)).fingerprint == whole.fingerprint
    index.write_text(json.dumps({"weight_map": {**files, "extra": files[names[0]]}}))
    assert "the index says that it holds tensor extra; it does not" in refusal(shards)
    index.write_text(json.dumps({"weight_map": {**files, "extra": "../toy/model.safetensors"}}))
    assert "a shard is a file of the same directory" in refusal(shards)
    index.write_text(json.dumps({"weight_map": files}))
    (shards / files[names[0]]).unlink()
    assert f"names the shard {files[names[0]]}, which is missing" in refusal(shards)


def test_the_fingerprint_follows_every_part_and_no_order():
    config, tensors = random_checkpoint(0)
    plain = fingerprint_of(config, tensors, None)
    assert plain == fingerprint_of(dict(reversed(config.items())), dict(reversed(tensors.items())), None)
    changed = {**tensors, "sign": tensors["sign"] * -1}
    others = [
        fingerprint_of({**config, "vocab_size": 17}, tensors, None),
        fingerprint_of(config, changed, None),
        fingerprint_of(config, {name: tensor.double() for name, tensor in tensors.items()}, None),
        fingerprint_of(config, tensors, "{}"),
    ]
    assert len({plain, *others}) == 5


def test_the_shipped_model_is_read_by_name_and_is_small():
    checkpoint = read_checkpoint("duo-tiny")
    assert checkpoint.config["num_hidden_layers"] == 12
    assert checkpoint.config["small_intermediate_size"] * 16 == checkpoint.config["intermediate_size"]
    assert all(tensor.dtype == torch.float16 for tensor in checkpoint.tensors.values())
    assert sum(path.stat().st_size for path in SHIPPED["duo-tiny"].iterdir() if path.is_file()) < 12e6


def test_no_directory_lists_the_shipped_names():
    assert (
        refusal("nowhere")
        == "a model is a directory, a shipped name (duo-tiny, et-tiny) or OWNER/NAME of the hub; there is no 'nowhere'"
    )


def test_a_missing_file_is_named(toy):
    (toy / "model.safetensors").unlink()
    assert refusal(toy).endswith("must hold model.safetensors or model.safetensors.index.json; it holds neither")
    (toy / "config.json").unlink()
    assert refusal(toy).endswith("must hold config.json; it does not")


def test_a_pickle_is_refused_with_the_reason(toy):
    (toy / "model.safetensors").rename(toy / "pytorch_model.bin")
    assert "because a pickle can run code; convert pytorch_model.bin to model.safetensors" in refusal(toy)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_git_lfs_pointer_is_called_so(toy, name):
    (toy / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    assert refusal(toy) == f"{toy / name}: this is a Git LFS pointer and not the file itself; git lfs pull fetches it"


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_a_truncated_file_is_refused(toy, keep):
    path = toy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    assert f"{path}: not a whole safetensors file" in refusal(toy)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "config.json: must be JSON; Expecting property name enclosed in double quotes at line 1"),
        ("[1]", r"config.json: must be a JSON object; got [1]"),
        ("\udcff", "config.json: must be UTF-8 text"),
    ],
)
def test_a_broken_config_is_refused(toy, content, message):
    (toy / "config.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    assert message in refusal(toy)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(toy, value):
    tensors = read_checkpoint(str(toy)).tensors
    tensors["bonus"][0] = value
    save_file(tensors, toy / "model.safetensors")
    assert "weights must be finite numbers; tensor bonus has an infinity or NaN" in refusal(toy)


def test_a_tokenizer_larger_than_the_vocabulary_is_read_and_a_text_that_uses_what_is_beyond_is_refused(toy):
    (toy / "tokenizer.json").write_text(train_tokenizer(["text"], 257).to_str())
    tokenizer = load_tokenizer(read_checkpoint(str(toy)).tokenizer_json)
    (toy / "data.jsonl").write_text('{"text": "!\\"#"}\n{"text": "!\\"#a"}\n')
    law = r"data\.jsonl, row 2: a token id must lie in the model's vocabulary, 0 to 15; got 65 at token 3"
    with pytest.raises(ValueError, match=law):
        list(read_sequences(str(toy / "data.jsonl"), tokenizer, 16, 8))


def test_a_tokenizer_that_is_none_is_refused(toy):
    (toy / "tokenizer.json").write_text('{"model": 3}')
    assert "tokenizer.json is not a tokenizer of the tokenizers library" in refusal(toy)


def test_the_project_calls_nothing_that_unpickles():
    root = SHIPPED["duo-tiny"].parents[1]
    for package in ("oracle", "models", "results", "search"):
        for path in (root / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    modules = {alias.name for alias in node.names} | {getattr(node, "module", None)}
                    assert not modules & {"pickle", "joblib", "shelve", "marshal"}, path
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "torch":
                    assert node.attr not in ("load", "save"), path
                assert not (isinstance(node, ast.keyword) and node.arg == "allow_pickle" and ast.unparse(node.value) != "False"), (
                    path
                )
