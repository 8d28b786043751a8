"""Small FFNs of pretrained models: each way at full size is the big FFN, and each keeps its promises on tiny models."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from duo_oracle.models.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from duo_oracle.models.family import load_family, load_model, load_module
from duo_oracle.models.small_ffns import method as small_method
from duo_oracle.models.small_ffns.config import DuoConfig
from duo_oracle.models.small_ffns.making import SmallMade, make_small
from duo_oracle.models.small_ffns.method import method_names
from duo_oracle.models.text.tokenizer import train_tokenizer
from duo_oracle.models.training import loop
from duo_oracle.models.training.batches import texts_of
from duo_oracle.models.training.progress import save_progress
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.patterns import Branch
from duo_oracle.search.cli import main
from tests.models.pretrained_models import EACH_FAMILY, random_checkpoint
from tests.models.router_fixtures import N_VOCABULARY, write_text
from tests.small_models import random_tokens

Make = Callable[..., SmallMade]


def write_base(directory: Path, family: str, text: str, **changes: Any) -> None:
    """A tiny random pretrained model without small FFNs, with a tokenizer of the text."""
    config, drawn = random_checkpoint(family, 3, vocab_size=N_VOCABULARY, small_intermediate_size=None, **changes)
    del config["small_intermediate_size"]
    generator = torch.Generator().manual_seed(3)
    tensors = {}
    for name, tensor in drawn.items():
        draw = torch.randn(tensor.shape, generator=generator)
        tensors[name] = 1 + 0.2 * draw if draw.dim() == 1 else draw * 0.4
    tokenizer = train_tokenizer(texts_of((text,)), N_VOCABULARY)
    write_checkpoint(directory, config, tensors, tokenizer.to_str(), torch.float32)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Text to make small FFNs on, and held-out text."""
    folder = tmp_path_factory.mktemp("texts")
    return write_text(folder / "text.jsonl"), write_text(folder / "held.jsonl", n_documents=6, seed=7)


@pytest.fixture
def make(tmp_path: Path, texts: tuple[str, str]) -> Make:
    """Makes small FFNs into tmp_path/duo beside a base model of the family in tmp_path/base."""

    def made(family: str = "llama", **options: Any) -> SmallMade:
        if not (tmp_path / "base").exists():
            write_base(tmp_path / "base", family, texts[0])
        given = {"tokens": 400, "seq_len": 16, "batch": 4, "threads": 1, "holdouts": (texts[1],), "holdout_tokens": 100}
        return make_small(
            DuoConfig(model=str(tmp_path / "base"), text=(texts[0],), out=str(tmp_path / "duo"), **{**given, **options})
        )

    return made


@pytest.mark.parametrize("family", EACH_FAMILY)
@pytest.mark.parametrize("method", ["neurons", "lowrank"])
def test_at_full_size_it_is_the_big_ffn(make: Make, tmp_path: Path, family: str, method: str) -> None:
    """Two factors of full rank have more parameters than the matrix: no ratio asks for them, so the sizes are given."""
    options = {"ratio": 1.0}
    full = {"small_intermediate_size": 24, "small_rank": 16}
    if method == "lowrank":
        make(family, method=method, ratio=0.5)
        assert json.loads((tmp_path / "duo" / "config.json").read_text())["small_rank"] < 16
        shutil.rmtree(tmp_path / "duo")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("duo_oracle.models.small_ffns.methods.lowrank.sizes", lambda module, ratio: full)
            (cost,) = make(family, method=method, **options).costs.values()
    else:
        (cost,) = make(family, method=method, **options).costs.values()
    assert abs(cost.cost_small) < 1e-4
    assert all(abs(cost.cost_alone(layer)) < 1e-4 for layer in cost.loss_alone)


@pytest.mark.parametrize("family", EACH_FAMILY)
def test_the_costs_are_those_of_plain_passes(make: Make, tmp_path: Path, texts: tuple[str, str], family: str) -> None:
    (cost,) = make(family, method="neurons", ratio=0.25, layers="1-2", holdout_tokens=30).costs.values()
    checkpoint = read_checkpoint(str(tmp_path / "duo"))
    module = load_module(checkpoint)
    assert module.small_layers == (1, 2)
    from duo_oracle.models.small_ffns.costs import spread_sequences
    from duo_oracle.models.text.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(checkpoint.tokenizer_json or "")
    sequences = spread_sequences(texts[1], tokenizer, module.n_vocabulary, module.n_positions, 16, 30)
    for small, expected in (
        ((1, 2), cost.loss_small),
        ((), cost.loss_big),
        ((1,), cost.loss_alone[1]),
        ((2,), cost.loss_alone[2]),
    ):
        total = n = 0.0
        for sequence in sequences:
            ids = torch.from_numpy(sequence.token_ids.astype("int64"))[None]
            mask = torch.full((1, sequence.n_positions, 3), int(Branch.BIG))
            mask[:, :, list(small)] = int(Branch.SMALL)
            logits = module(ids[:, :-1], mask)[0].double()
            total += torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum").item()
            n += sequence.n_positions
        assert total / n == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt"])
def test_neurons_keeps_those_that_write_most(make: Make, tmp_path: Path, texts: tuple[str, str], family: str) -> None:
    """Neurons 3, 7, 8, 20 are made to write a hundred times as much as the others."""
    write_base(tmp_path / "base", family, texts[0])
    path = tmp_path / "base"
    checkpoint = read_checkpoint(str(path))
    kept = [3, 7, 8, 20]
    name_of = {
        "llama": "model.layers.1.mlp.down_proj.weight",
        "gpt2": "transformer.h.1.mlp.c_proj.weight",
        "opt": "model.decoder.layers.1.fc2.weight",
    }
    tensor = checkpoint.tensors[name_of[family]].clone()
    columns = tensor.T if family != "gpt2" else tensor  # a row per neuron
    columns[kept] *= 100
    tensors = {**checkpoint.tensors, name_of[family]: tensor}
    write_checkpoint(path, checkpoint.config, tensors, checkpoint.tokenizer_json, torch.float32)
    make(family, method="neurons", ratio=4 / 24, layers="1")
    found = read_checkpoint(str(tmp_path / "duo")).tensors
    (out,) = [
        t for n, t in found.items() if "small_mlp" in n and n.rsplit(".", 2)[1] in ("down_proj", "c_proj", "fc2") and t.dim() == 2
    ]
    assert torch.equal(out.T if family != "gpt2" else out, columns[kept])


def error_against_big(directory: Path) -> float:
    """Mean squared error of the small FFNs' output over the big ones' mean square, on the all-big stream of other tokens."""
    module, token_id_BT = load_module(read_checkpoint(str(directory))), random_tokens(200, N_VOCABULARY, seed=5).view(10, 20)
    x_BTD, errors = module.embed(token_id_BT), []
    for layer in range(module.depth):
        attended_BTD = module.attend(layer, x_BTD)
        normed_BTD = module.ffn_input(layer, attended_BTD, x_BTD)
        big_BTD, small_BTD = (module.ffn(layer, branch, normed_BTD) for branch in (Branch.BIG, Branch.SMALL))
        errors.append(((small_BTD - big_BTD).square().mean() / big_BTD.square().mean()).item())
        x_BTD = attended_BTD + big_BTD
    return sum(errors) / len(errors)


@pytest.mark.slow
@pytest.mark.parametrize(
    "family", ["llama", pytest.param("gpt2", marks=pytest.mark.long), pytest.param("opt", marks=pytest.mark.long)]
)
def test_distil_is_nearer_to_the_big_ffn_than_neurons(make: Make, tmp_path: Path, family: str) -> None:
    make(family, method="neurons", ratio=0.25)
    plain = error_against_big(tmp_path / "duo")
    shutil.rmtree(tmp_path / "duo")
    make(family, method="distil", ratio=0.25, tokens=20_000, learning_rate=3e-3)
    assert error_against_big(tmp_path / "duo") < 0.9 * plain
    points = (tmp_path / "duo" / "loss.csv").read_text().splitlines()[1:]
    first, last = (float(line.split(",")[2]) for line in (points[0], points[-1]))
    assert last < first


@pytest.mark.slow
def test_distil_interrupted_goes_on_to_the_same_tensors(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"method": "distil", "ratio": 0.25, "tokens": 40 * 64, "checkpoint_minutes": 0.0}
    make(**options)
    whole = read_checkpoint(str(tmp_path / "duo")).tensors
    shutil.rmtree(tmp_path / "duo")

    def interrupted(folder: Path, step: int, *rest: Any) -> None:
        save_progress(folder, step, *rest)
        if step == 20:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_progress", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make(**options)
    assert not (tmp_path / "duo" / "model.safetensors").exists()
    with pytest.raises(ValueError, match=r"holds training with ratio 0.25"):
        make(**{**options, "ratio": 0.5})
    make(**options)
    again = read_checkpoint(str(tmp_path / "duo")).tensors
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert not (tmp_path / "duo" / "progress").exists()


def test_merged_and_referenced_are_one_model(make: Make, tmp_path: Path) -> None:
    make(method="neurons")
    (tmp_path / "base" / "tokenizer_config.json").write_text('{"eos_token": "<|end|>"}')
    referenced = read_checkpoint(str(tmp_path / "duo"))
    assert json.loads((tmp_path / "duo" / "config.json").read_text())["base_model"] == "../base"
    shutil.rmtree(tmp_path / "duo")
    make(method="neurons", merge=True)
    merged = read_checkpoint(str(tmp_path / "duo"))
    assert referenced.fingerprint == merged.fingerprint
    assert referenced.tokenizer_json == merged.tokenizer_json
    assert referenced.tokenizer_said == merged.tokenizer_said == {"eos_token": "<|end|>"}
    token_id_1T = random_tokens(9)[None]
    mask_BTL = torch.randint(0, 3, (1, 9, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    logits = [load_model(one).forward(token_id_1T, mask_BTL, SkipReading.FFN) for one in (referenced, merged)]
    assert torch.equal(*logits)
    # both lie under one folder and may move together
    shutil.rmtree(tmp_path / "duo")
    make(method="neurons")
    (tmp_path / "elsewhere").mkdir()
    for name in ("base", "duo"):
        shutil.move(tmp_path / name, tmp_path / "elsewhere" / name)
    assert read_checkpoint(str(tmp_path / "elsewhere" / "duo")).fingerprint == referenced.fingerprint


def test_a_duo_model_is_searched_and_verified(make: Make, tmp_path: Path, texts: tuple[str, str], capsys: Any) -> None:
    make(method="neurons", layers="1-2")
    out = str(tmp_path / "run")
    search = ["search", str(tmp_path / "duo"), texts[1], "--seq-len", "5", "--max-sequences", "2", "--local", "--out", out]
    assert main([*search, "--route-layers", "1-2", "--branches", ".sB"]) == 0
    assert main(["verify", out, "--all"]) == 0
    assert "NOT" not in capsys.readouterr().out
    assert main([*search[:-1], str(tmp_path / "other")]) == 2
    assert "only layers 1-2 have one; use branches .B, route those layers" in capsys.readouterr().err


def test_another_base_or_none_is_one_line(make: Make, tmp_path: Path, texts: tuple[str, str]) -> None:
    make(method="neurons")
    write_base(tmp_path / "base", "llama", texts[0], rms_norm_eps=1e-3)
    with pytest.raises(ValueError, match=r"small FFNs were made for a base model of fingerprint \w{12}; '../base' has \w{12}"):
        read_checkpoint(str(tmp_path / "duo"))
    shutil.rmtree(tmp_path / "base")
    with pytest.raises(ValueError, match=r"stand beside the base model '../base', which cannot be read: a model is a directory"):
        read_checkpoint(str(tmp_path / "duo"))


def test_a_base_is_whole_and_keeps_its_tensors(make: Make, tmp_path: Path) -> None:
    make(method="neurons")
    path = tmp_path / "duo" / "config.json"
    config = json.loads(path.read_text())
    for base in (".", "../duo"):
        path.write_text(json.dumps({**config, "base_model": base}))
        with pytest.raises(ValueError, match=r"a base model needs no other; .* names one too"):
            read_checkpoint(str(tmp_path / "duo"))
    path.write_text(json.dumps(config))
    base_tensors = read_checkpoint(str(tmp_path / "base")).tensors
    name = min(base_tensors)
    save_file({name: base_tensors[name]}, tmp_path / "duo" / "model.safetensors")
    with pytest.raises(ValueError, match=f"it holds small FFNs alone; tensor {name} stands in the base model"):
        read_checkpoint(str(tmp_path / "duo"))


def test_the_seed_decides_what_distil_makes(make: Make, tmp_path: Path) -> None:
    made = []
    for seed in (0, 0, 1):
        make(method="distil", tokens=640, seed=seed, overwrite=True)
        made.append(read_checkpoint(str(tmp_path / "duo")).tensors)
    small = [name for name in made[0] if "small_mlp" in name]
    assert all(torch.equal(made[0][name], made[1][name]) for name in small)
    assert not any(torch.equal(made[0][name], made[2][name]) for name in small)


def test_the_command_prints_costs_and_refuses_in_one_line(
    make: Make, tmp_path: Path, texts: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    write_base(tmp_path / "base", "opt", texts[0])
    good = ["duo", str(tmp_path / "base"), texts[0], "--layers", "1-2", "--threads", "1", "--tokens", "100", "--seq-len", "16"]
    good += ["--out", str(tmp_path / "duo"), "--holdouts", texts[1]]
    assert main(good) == 0
    said, err = capsys.readouterr()
    assert err == ""
    form = "small FFNs of 6 of 24 neurons at layers 1-2 of 3, by neurons on 96 tokens of text.jsonl"
    assert said.startswith(f"{tmp_path / 'duo'}: {form}\n")
    assert [line.split(" alone")[0] for line in said.splitlines() if " alone" in line] == ["cost of layer 1", "cost of layer 2"]
    evaluation = json.loads((tmp_path / "duo" / "evaluation.json").read_text())
    assert evaluation["holdouts"]["held.jsonl"]["cost_alone"].keys() == {"1", "2"}
    for bad in ("--layers 2-1", "--ratio nan", "--method lowrnk", f"--holdouts {texts[0]}", "--seed 0"):  # the last: it is there
        assert main([*good, *bad.split()]) == 2
        said, err = capsys.readouterr()
        assert (said, err.count("\n")) == ("", 1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"method": "magic"}, "unknown method 'magic'; available: distil, lowrank, neurons"),
        ({"ratio": 0.0}, "`ratio` must be above 0; got 0"),
        ({"ratio": 2.0}, "`ratio` must lie between 0 and 1; got 2"),
        ({"layers": "2-9"}, "layers are numbers of the model's 3 layers, 0 to 2 and rising"),
        ({"tokens": 0}, "`tokens` must be at least 1; got 0"),
        ({"seq_len": 99}, "seq-len must not exceed the model's 32 positions; got 99"),
        ({"device": "toaster"}, "unknown device 'toaster'"),
    ],
)
def test_bad_options_are_one_line(make: Make, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=r"\w") as refusal:
        make(**options)
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_text_is_not_its_own_holdout(make: Make, texts: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match=r"is text and holdout"):
        make(holdouts=(texts[0],))


def test_what_is_in_the_directory_is_not_lost(make: Make, tmp_path: Path) -> None:
    make(method="neurons")
    with pytest.raises(ValueError, match=r"unless `overwrite=True` replaces what is in it; .* holds model.safetensors"):
        make(method="neurons", ratio=0.5)
    make(method="neurons", ratio=0.5, overwrite=True)
    assert json.loads((tmp_path / "duo" / "config.json").read_text())["small_intermediate_size"] == 12


def test_a_model_that_has_small_ffns_is_refused(make: Make, tmp_path: Path, texts: tuple[str, str]) -> None:
    make(method="neurons")
    with pytest.raises(ValueError, match=r"made for a model that has none; .* has them at layers 0-2"):
        make_small(DuoConfig(str(tmp_path / "duo"), (texts[0],), str(tmp_path / "again"), holdouts=()))


def test_every_method_is_found_by_listing() -> None:
    assert method_names() == ("distil", "lowrank", "neurons")
    for name in method_names():
        assert small_method.load_method(name).TOKENS > 0


def test_a_toy_has_no_small_ffns_to_make(tmp_path: Path, texts: tuple[str, str]) -> None:
    config, tensors = load_family("toy").random_checkpoint(0)
    write_checkpoint(tmp_path / "toy", config, tensors, None, torch.float32)
    with pytest.raises(ValueError, match=r"small FFNs are made for models of transformers; .* is of type 'toy'"):
        make_small(DuoConfig(str(tmp_path / "toy"), (texts[0],), str(tmp_path / "out"), holdouts=()))
    assert isinstance(read_checkpoint(str(tmp_path / "toy")), Checkpoint)
