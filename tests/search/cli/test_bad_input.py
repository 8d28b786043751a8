"""Bad input of every kind: exit status 2, one line on stderr that states the law, nothing on stdout, no run directory.

Flags, model directories, data, run directories and queries. A broken thing is made by one function of a good one.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from duo_oracle.models.duo_llm.module import DuoLlama, DuoLlamaConfig
from duo_oracle.models.families.toy import write_toy
from duo_oracle.search.cli import main

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Place:
    """A good model (toy), a good Duo-LLM, good data and a finished run, for the test to spoil."""

    model: Path
    llama: Path
    data: Path
    run: Path
    folder: Path


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("good")
    place = Place(folder / "toy", folder / "llama", folder / "data.jsonl", folder / "run", folder)
    write_toy(place.model, n_letters=3, n_vocabulary=16, n_positions=12)
    config = DuoLlamaConfig(16, 8, 16, 4, 2, 2, 1, 12, 4)
    place.llama.mkdir()
    (place.llama / "config.json").write_text(json.dumps(config.to_dict()))
    save_file(DuoLlama(config).state_dict(), place.llama / "model.safetensors", metadata={"format": "pt"})
    place.data.write_text(json.dumps({"tokens": [1, 2, 3, 4], "document": "a"}) + "\n")
    assert main(["search", str(place.model), str(place.data), "--local", "--out", str(place.run)]) == 0
    return place


@pytest.fixture
def place(good: Place, tmp_path: Path) -> Place:
    shutil.copytree(good.folder, tmp_path, dirs_exist_ok=True)
    return Place(tmp_path / "toy", tmp_path / "llama", tmp_path / "data.jsonl", tmp_path / "run", tmp_path)


def refused(capsys: pytest.CaptureFixture[str], *argv: str | Path) -> str:
    """Runs the command in this process, and returns the one line that it says."""
    capsys.readouterr()
    status = main([str(argument) for argument in argv])
    out, err = capsys.readouterr()
    assert status == 2, err
    assert out == ""
    assert err.endswith("\n")
    assert err.count("\n") == 1, err
    assert err.startswith("duo-oracle: ")
    return err


DIGITS = "9" * 5000  # Python reads it from no text

SEARCH_FLAGS = {
    "--strategy bean": "available: ",
    "--strategy exaustive": "did you mean 'exhaustive'",
    "--strategy random_search --set width=3": "unknown setting of strategy random_search 'width'; available: n, shared",
    "--strategy random_search --set n=many": "n of strategy random_search is a whole number",
    "--set width": "KEY=VALUE",
    "--branches sX": "letters . s B",
    "--branches ss": "each once",
    "--skip all": "available: ffn, layer",
    "--context huge": "available: committed, same, full, cheapest",
    "--context Bs": "3 letters",
    "--budget some": "any, K, LOW-HIGH or atmost:K",
    "--budget 9": "3 layers",
    "--budget 3-1": "rises",
    "--budget average:2": "not searched",
    "--branches s --budget 2": "no pattern",
    "--null-draws -1": "at least 0",
    "--seq-len 1": "at least 2",
    "--seq-len 400": "12 positions",
    "--seq-len long": "whole number",
    "--max-sequences 0": "at least 1",
    "--dtype float8": "available: float32",
    "--device tpu": "cpu, cuda or cuda:N",
    "--device cuda:99": "cuda:99",
    "--seed x": "whole number",
    "--seed 10000000000000000000000": "--seed must be at most 9223372036854775807",
    "--max-sequences 10000000000000000000000": "--max-sequences must be at most",
    f"--seed {DIGITS}": "got 1.00e+5000",
    f"--budget {DIGITS}": "a whole number of 64 bits",
    f"--split {DIGITS}": "or a number of tokens, at least 2",
    f"--bos {DIGITS}": "--bos is auto, none, a token of the tokenizer, or a token's id",
    f"--context router:random:1@{DIGITS}": "random:BUDGET@SEED; got random:1@",
    "--null-draws 40000": "--null-draws must lie between 0 and 32767",
    "--null-temperature 1e-320": "lies between 1e-06 and 1e+06",
    "--null-temperature 1e300": "lies between 1e-06 and 1e+06",
    "--memory 99999999999999999999T": "less than 8388608TiB",
    "--threads 1000000000": "--threads must lie between 1 and 4096",
    "--keep everything": "available: none, losses, trials",
    "--strategy random_search --keep losses": "--keep trials",
    "--memory much": "at least 1MiB",
    "--workers 2": "this one process",
    "--threads 0": "at least 1",
    "--address auto": "give one of them",
    "--stratgy exhaustive": "did you mean --strategy",
    "--frobnicate": "unknown option",
    "surplus": "there is no file 'surplus'",
    "--seed": "expected one argument",
    "--config nowhere.yaml": "cannot be read as YAML",
}


@pytest.mark.parametrize("flags", SEARCH_FLAGS, ids=lambda flags: flags[:60])
def test_a_bad_flag_of_search(place: Place, capsys: pytest.CaptureFixture[str], flags: str) -> None:
    said = refused(capsys, "search", place.model, place.data, "--local", "--out", place.folder / "new", *flags.split())
    assert SEARCH_FLAGS[flags] in said
    assert not (place.folder / "new").exists()


def config_without(key: str) -> Callable[[Path], None]:
    def spoil(model: Path) -> None:
        config = json.loads((model / "config.json").read_text())
        del config[key]
        (model / "config.json").write_text(json.dumps(config))

    return spoil


def config_with(**values: object) -> Callable[[Path], None]:
    def spoil(model: Path) -> None:
        config = json.loads((model / "config.json").read_text())
        (model / "config.json").write_text(json.dumps({**config, **values}))

    return spoil


def tensors_with(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def spoil(model: Path) -> None:
        tensors = load_file(model / "model.safetensors")
        change(tensors)
        save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})

    return spoil


def without_weights(model: Path) -> None:
    (model / "model.safetensors").unlink()


def pickled(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")


def truncated(model: Path) -> None:
    file = model / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-40])


def write(name: str, text: str) -> Callable[[Path], None]:
    return lambda model: (model / name).write_text(text)  # type: ignore[func-returns-value]


def lost_shard(model: Path) -> None:
    without_weights(model)
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "model-00001.safetensors"}}))


SMALL = "model.layers.1.small_mlp.up_proj.weight"
MODELS = {
    "no such directory": (shutil.rmtree, "there is no"),
    "no config.json": (lambda model: (model / "config.json").unlink(), "config.json"),
    "config.json is no JSON": (write("config.json", "{,"), "must be JSON"),
    "config.json is a list": (write("config.json", "[]"), "JSON object"),
    "no weights": (without_weights, "model.safetensors"),
    "pickled weights": (pickled, "pickle"),
    "truncated weights": (truncated, "safetensors"),
    "a shard is missing": (lost_shard, "is missing"),
    "weights that are not finite": (tensors_with(lambda tensors: tensors[SMALL].fill_(float("nan"))), "finite"),
    "no small FFN": (tensors_with(lambda tensors: tensors.pop(SMALL)), SMALL),
    "a tensor of another shape": (tensors_with(lambda tensors: tensors.update({SMALL: torch.zeros(3, 3)})), "shape"),
    "no small_intermediate_size": (config_without("small_intermediate_size"), "small_intermediate_size"),
    "an unknown family": (config_with(model_type="gpt9"), "unknown model_type 'gpt9'; transformers"),
    "a size that is none": (config_with(num_hidden_layers=-2), "num_hidden_layers"),
    "layers that no file holds": (config_with(num_hidden_layers=10**9), "num_hidden_layers is 1000000000, and the weights"),
    "layers that take half a minute": (config_with(num_hidden_layers=10**5), "num_hidden_layers is 100000, and the weights"),
    "rotary positions that are a text": (config_with(rope_scaling="x"), "rope_parameters must be an object"),
    "a width that no tensor has": (config_with(intermediate_size=2**62), "sizes that no tensor can have"),
    "positions without end": (config_with(max_position_embeddings=float("inf")), "max_position_embeddings"),
    "a norm without end": (config_with(rms_norm_eps=float("inf")), "rms_norm_eps must be a finite number"),
    "a rotation that no tensor takes": (config_with(rope_theta=10**400), "rope_theta must be a number of 64 bits"),
    "a norm that no tensor takes": (config_with(rms_norm_eps=2**70), "rms_norm_eps must be a number of 64 bits"),
    "JSON of any depth": (write("config.json", "[" * 100_000), "config.json"),
    "heads that do not divide": (config_with(num_attention_heads=3, num_key_value_heads=2), "multiple"),
    "scaled rotary positions": (config_with(rope_scaling={"rope_type": "yarn"}), "rope_type"),
    "another activation": (config_with(hidden_act="gelu"), "hidden_act"),
    "a tokenizer that is none": (write("tokenizer.json", "{}"), "tokenizer"),
}


@pytest.mark.parametrize("fault", MODELS)
def test_a_bad_model_directory(place: Place, capsys: pytest.CaptureFixture[str], fault: str) -> None:
    spoil, law = MODELS[fault]
    spoil(place.llama)
    assert law in refused(capsys, "search", place.llama, place.data, "--local", "--out", place.folder / "new")


def test_weights_of_which_no_loss_is_finite_cost_their_units_a_line(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    tensors_with(lambda tensors: tensors[SMALL].fill_(3e38))(place.llama)
    assert main(["search", str(place.llama), str(place.data), "--local", "--out", str(place.folder / "new")]) == 1
    out, err = capsys.readouterr()
    assert "a loss is a finite number" in err
    assert "the same command tries them again" in err
    assert "Traceback" not in err
    assert out == ""


def parquet(**columns: list[object]) -> Callable[[Path], None]:
    return lambda file: pq.write_table(pa.table(columns), file)


DATA = {
    "no such file": ("missing.txt", lambda file: None, "there is no file"),
    "an empty folder": ("folder.txt", Path.mkdir, "must hold a file that is not hidden"),
    "another ending": ("data.csv", lambda file: file.write_text("a,b"), "a .csv file is a table or a text"),
    "nothing in it": ("empty.jsonl", lambda file: file.write_text(""), "at least one document"),
    "an empty document": ("empty.txt", lambda file: file.write_text(" \n"), "must not be empty"),
    "no tokens": ("data.jsonl", lambda file: file.write_text('{"tokens": []}\n'), "row 1"),
    "a token outside the vocabulary": (
        "data.jsonl",
        lambda file: file.write_text('{"tokens": [1, 2]}\n{"tokens": [1, 99]}\n'),
        "row 2",
    ),
    "a negative token": ("data.jsonl", lambda file: file.write_text('{"tokens": [1, -2]}\n'), "-2"),
    "a token that is a word": ("data.jsonl", lambda file: file.write_text('{"tokens": [1, "two"]}\n'), "'two'"),
    "one token alone": ("data.jsonl", lambda file: file.write_text('{"tokens": [1]}\n'), "position to score"),
    "a row that is no JSON": ("data.jsonl", lambda file: file.write_text('{"tokens": [1, 2]}\n{tokens\n'), "row 2"),
    "a row that is no object": ("data.jsonl", lambda file: file.write_text("[1, 2]\n"), "JSON object"),
    "a row of other fields": ("data.jsonl", lambda file: file.write_text('{"words": "x"}\n'), "text, tokens or input_ids"),
    "text without a tokenizer": ("data.txt", lambda file: file.write_text("hello"), "tokenizer.json"),
    "text that is not UTF-8": ("data.txt", lambda file: file.write_bytes(b"caf\xe9 au lait"), "UTF-8"),
    "a Parquet file that is none": ("data.parquet", lambda file: file.write_text("PAR0"), "Parquet"),
    "a Parquet file of other columns": ("data.parquet", parquet(words=["x"]), "text, tokens or input_ids"),
}


@pytest.mark.parametrize("fault", DATA)
def test_bad_data(place: Place, capsys: pytest.CaptureFixture[str], fault: str) -> None:
    name, make, law = DATA[fault]
    file = place.folder / "bad" / name
    file.parent.mkdir()
    make(file)
    said = refused(capsys, "search", place.model, file, "--local", "--out", place.folder / "new")
    assert law in said
    assert not (place.folder / "new").exists()


def test_an_unknown_holdout(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "search", place.model, "holdout:verse", "--local", "--out", place.folder / "new")
    assert "holdout:code, holdout:prose" in said


def not_a_run(place: Place) -> None:
    shutil.rmtree(place.run)
    place.run.mkdir()
    (place.run / "thesis.txt").touch()


def spoiled_manifest(place: Place) -> None:
    (place.run / "run.json").write_text("{}")


def another_model(place: Place) -> None:
    write_toy(place.model, seed=9, n_letters=3, n_vocabulary=16, n_positions=12)


def lost_part(place: Place) -> None:
    (place.run / "paths" / "part-00000.parquet").unlink()


def unchanged(place: Place) -> None:
    pass


COMMANDS = {
    "serch MODEL DATA": (unchanged, "did you mean 'search'"),
    "search": (unchanged, "MODEL is required"),
    "search MODEL": (unchanged, "DATA is required"),
    "search MODEL DATA": (unchanged, "--out is required"),
    "search MODEL DATA --local --seed 5 --out RUN": (unchanged, "--overwrite"),
    "search MODEL DATA --local --out RUN": (another_model, "model_fingerprint"),
    "search MODEL DATA --local --out RUN ": (not_a_run, "thesis.txt"),
    "search MODEL DATA --local --out DATA": (unchanged, "--out is a directory"),
    "search MODEL DATA --address nowhere:1 --out NEW --dtype int4": (unchanged, "available: float32"),
    "search MODEL DATA --address 127.0.0.1:9 --out NEW": (unchanged, "no Ray cluster answers at --address 127.0.0.1:9"),
    "search MODEL DATA --address somewhere --out NEW": (unchanged, "HOST:PORT"),
    "query": (unchanged, "one SELECT"),
    "query RUN": (unchanged, "one SELECT"),
    "query NEW hardest_tokens": (unchanged, "run.json"),
    "query RUN hardest_token": (unchanged, "did you mean 'hardest_tokens'"),
    "query RUN SELEC": (unchanged, "unknown question"),
    "query RUN SELECT+nonsense+FROM+paths": (unchanged, "nonsense"),
    "query RUN DROP+TABLE+paths": (unchanged, "one SELECT"),
    "query RUN SELECT+1;SELECT+2": (unchanged, "one SELECT"),
    "query RUN SELECT+*+FROM+losses": (unchanged, "--keep losses"),
    "query RUN SELECT+*+FROM+read_text('/etc/hostname')": (unchanged, "disabled"),
    "query RUN SELECT+1 --format xml": (unchanged, "available: table, markdown, csv, json, parquet"),
    "query RUN luck": (spoiled_manifest, "run.json"),
    "difficulty RUN --top 0": (unchanged, "--top must be at least 1"),
    "difficulty RUN --by beauty": (unchanged, "available: difficulty"),
    "difficulty RUN --budget 3": (unchanged, "3"),
    "verify RUN --model MODEL": (another_model, "fingerprint"),
    "verify RUN": (lost_part, "part-00000.parquet"),
    "verify RUN --sample 0": (unchanged, "--sample must be at least 1"),
    "train": (unchanged, "TEXT is required"),
    "train NEW --out OUT": (unchanged, "there is no file"),
    "train DATA --out OUT --p-big 2": (unchanged, "between 0 and 1"),
    "train DATA --out OUT --heads 3": (unchanged, "--hidden must be an even multiple of --heads"),
    "train DATA --out OUT --order sideways": (unchanged, "available: joint"),
    "bench --threads 0": (unchanged, "at least 1"),
    "bench --format xml": (unchanged, "available: table, json"),
}


@pytest.mark.parametrize("line", COMMANDS)
def test_a_bad_command(place: Place, capsys: pytest.CaptureFixture[str], line: str) -> None:
    spoil, law = COMMANDS[line]
    spoil(place)
    names = {"MODEL": place.model, "DATA": place.data, "RUN": place.run, "NEW": place.folder / "new", "OUT": place.folder / "out"}
    argv = [str(names.get(word, word.replace("+", " "))) for word in line.split()]
    assert law in refused(capsys, *argv)


@pytest.mark.slow
@pytest.mark.parametrize("argv", [["search", "nowhere", "data.txt", "--out", "x"], ["query", "nowhere", "SELECT 1"]])
def test_a_process_of_its_own_says_the_same(argv: list[str], tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "duo_oracle", *argv], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
