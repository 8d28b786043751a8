"""Stage-1 training on tiny models: resumed as if never stopped, routed as asked, and nothing of it pickled."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from duo_oracle.models.checkpoint import read_checkpoint
from duo_oracle.models.text import pieces
from duo_oracle.models.text.tokenizer import SEPARATOR, encode, load_tokenizer, train_tokenizer
from duo_oracle.models.training import batches, stage1
from duo_oracle.models.training.batches import Windows, texts_of, tokenised
from duo_oracle.models.training.config import TrainConfig, TrainOrder
from duo_oracle.models.training.schedule import cosine_rate, phases_of, random_mask
from duo_oracle.models.training.stage1 import new_module, new_optimizer, train
from duo_oracle.oracle.patterns import Branch

WORDS = "the cat sat on a mat and saw the other cat run over the hill to the sea".split()


@pytest.fixture
def config(tmp_path) -> TrainConfig:
    generator = np.random.default_rng(0)
    for name in ("a", "b"):
        rows = [{"document": f"{name}{i}", "text": " ".join(generator.choice(WORDS, 60))} for i in range(30)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sizes = {
        "layers": 2,
        "hidden": 16,
        "heads": 2,
        "kv_heads": 1,
        "big": 32,
        "small": 4,
        "vocabulary": 300,
        "positions": 16,
        "batch": 4,
    }
    text = (str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl"))
    holdouts = {"holdouts": text[:1], "holdout_tokens": 100}
    return TrainConfig(
        text=text, out=str(tmp_path / "out"), tokens=40 * 4 * 16, checkpoint_minutes=0.0, threads=1, **sizes, **holdouts
    )


class Stopped(Exception):
    pass


def stop_before(step: int, monkeypatch) -> None:
    """Lets training fail as it starts that step, after whatever checkpoints it has made."""
    gradients = stage1._gradients

    def failing(at, **of_the_training):
        if at == step:
            raise Stopped
        return gradients(at, **of_the_training)

    monkeypatch.setattr(stage1, "_gradients", failing)


def losses_of(out) -> list[str]:
    return [",".join(line.split(",")[:4]) for line in (out / "loss.csv").read_text().splitlines()]


@pytest.mark.parametrize("order", list(TrainOrder))
@pytest.mark.parametrize("stop", [3, 15, 34])
def test_training_that_was_stopped_goes_on_to_the_same_losses_and_weights(config, tmp_path, monkeypatch, stop, order):
    config = replace(config, order=order)
    train(config)
    stopped = replace(config, out=str(tmp_path / "stopped"))
    with monkeypatch.context() as patch:
        stop_before(stop, patch)
        with pytest.raises(Stopped):
            train(stopped)
    train(stopped)
    assert losses_of(tmp_path / "stopped") == losses_of(tmp_path / "out")
    assert read_checkpoint(stopped.out).fingerprint == read_checkpoint(config.out).fingerprint


def test_training_lowers_the_loss_and_leaves_a_usable_model(config, tmp_path, capsys):
    train(config)
    points = [float(line.split(",")[2]) for line in losses_of(tmp_path / "out")[1:]]
    assert len(points) == 4
    assert points[-1] < points[0] - 0.5
    checkpoint = read_checkpoint(config.out)
    assert all(tensor.dtype == torch.float16 for tensor in checkpoint.tensors.values())
    assert load_tokenizer(checkpoint.tokenizer_json).get_vocab_size() <= 300
    evaluation = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert set(evaluation[config.holdouts[0]]) == {"n_tokens", "loss_big", "loss_small"}
    captured = capsys.readouterr()
    assert f"{config.holdouts[0]}: all-big" in captured.out
    assert captured.err == ""


def test_finished_training_is_not_repeated(config, monkeypatch):
    train(config)
    before = read_checkpoint(config.out).fingerprint
    stop_before(0, monkeypatch)
    train(config)
    assert read_checkpoint(config.out).fingerprint == before


def test_nothing_that_training_writes_is_a_pickle(config, tmp_path):
    train(config)
    kinds = {path.suffix for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert kinds == {".json", ".csv", ".safetensors", ".npy", ".md"}
    for path in (tmp_path / "out").rglob("*.npy"):
        assert np.load(path, allow_pickle=False).dtype == np.uint32


def test_progress_of_other_options_is_refused_by_name(config, tmp_path):
    train(config)
    with pytest.raises(ValueError, match=r"holds training with p_big 0\.5, so it cannot go on with 0\.25"):
        train(replace(config, p_big=0.25))
    with pytest.raises(ValueError, match="holds training with layers 2, so it cannot go on with 3"):
        train(replace(config, layers=3))


def test_big_then_small_freezes_all_but_the_small_ffns(config, tmp_path, monkeypatch):
    config = replace(config, order=TrainOrder.BIG_THEN_SMALL)
    first, second = phases_of(config)
    assert (first.first_step, first.end, second.end) == (0, 27, 40)
    fresh = dict(new_module(config).named_parameters())
    with monkeypatch.context() as patch:
        stop_before(first.end, patch)
        with pytest.raises(Stopped):
            train(config)
    state = next((tmp_path / "out" / "progress").glob("*.safetensors"))
    after_big = load_file(state)
    train(config)
    after_small = load_file(next((tmp_path / "out" / "progress").glob("*.safetensors")))
    for name, start in fresh.items():
        is_small = ".small_mlp." in name
        assert torch.equal(after_big[f"weight/{name}"], start) == is_small, name
        assert torch.equal(after_small[f"weight/{name}"], after_big[f"weight/{name}"]) != is_small, name


def test_a_batch_is_a_function_of_seed_and_step_and_draws_evenly(config, tmp_path):
    tokenizer = train_tokenizer(texts_of(config.text), 300)
    streams = [np.arange(1000), np.arange(2000, 2500)]
    windows = Windows(streams, 16, 4, seed=5)
    batches = [windows.batch(step) for step in range(40)]
    assert np.array_equal(Windows(streams, 16, 4, seed=5).batch(17), batches[17])
    assert not np.array_equal(Windows(streams, 16, 4, seed=6).batch(17), batches[17])
    for batch in batches:
        assert batch.shape == (4, 17)
        assert (np.diff(batch, axis=1) == 1).all()
        assert (batch[:, 0] >= 2000).sum() == 2
    # An epoch of the first stream is 62 windows, each once.
    starts = [int(window[0]) for batch in batches for window in batch if window[0] < 1000][:62]
    assert sorted(starts) == list(range(0, 62 * 16, 16))
    separator = tokenizer.token_to_id(SEPARATOR)
    stream = tokenised(config.text[0], tokenizer, separator, tmp_path / "work")
    assert (stream == separator).sum() == 30
    assert np.array_equal(stream, tokenised(config.text[0], tokenizer, separator, tmp_path / "work"))


def test_long_texts_are_tokenised_in_pieces_to_the_same_stream(config, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "texts"
    folder.mkdir()
    texts = [" ".join(texts_of(config.text)) * 3, f"short {SEPARATOR} text", "one two three " * 200]
    for number, text in enumerate(texts):
        (folder / f"{number}.txt").write_text(text)
    (folder / "empty.txt").touch()
    tokenizer = train_tokenizer(texts_of(config.text), 300)
    separator = tokenizer.token_to_id(SEPARATOR)
    whole = [token_id for text in texts for token_id in (*encode(tokenizer, text), separator)]
    assert tokenised(str(folder), tokenizer, separator, tmp_path / "whole").tolist() == whole
    assert "texts: the text holds 1 special token of the tokenizer" in capsys.readouterr().err
    monkeypatch.setattr(batches, "PIECE", 500)
    monkeypatch.setattr(pieces, "PIECE", 500)
    monkeypatch.setattr(pieces, "AROUND", 100)
    assert tokenised(str(folder), tokenizer, separator, tmp_path / "pieces").tolist() == whole


def test_random_routing_has_the_share_asked_for_and_depends_on_the_step():
    mask_BTL = random_mask(8, 64, 12, 0.25, seed=1, step=2)
    assert set(mask_BTL.unique().tolist()) == {Branch.SMALL, Branch.BIG}
    assert abs((mask_BTL == Branch.BIG).float().mean() - 0.25) < 0.02
    assert torch.equal(mask_BTL, random_mask(8, 64, 12, 0.25, seed=1, step=2))
    assert not torch.equal(mask_BTL, random_mask(8, 64, 12, 0.25, seed=1, step=3))
    assert (random_mask(1, 8, 2, 1.0, 0, 0) == Branch.BIG).all()
    assert (random_mask(1, 8, 2, 0.0, 0, 0) == Branch.SMALL).all()


def test_the_rate_rises_to_its_peak_and_falls_to_a_tenth(config):
    config = replace(config, tokens=1000 * 4 * 16, warmup=0.1, learning_rate=1.0)
    (phase,) = phases_of(config)
    rates = [cosine_rate(step, phase.n_steps, config.learning_rate, config.warmup) for step in range(phase.end)]
    assert rates[0] == 0.01
    assert max(rates) == rates[99] == 1.0
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[100:]))
    assert abs(rates[-1] - 0.1) < 1e-4


def test_weight_decay_is_for_matrices_only(config):
    module = new_module(config)
    (phase,) = phases_of(config)
    for group in new_optimizer(module, phase, config).param_groups:
        assert {parameter.dim() >= 2 for parameter in group["params"]} == {group["weight_decay"] > 0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text": ()}, "training needs at least one text file; got none"),
        ({"text": ("nowhere.txt",)}, "there is no file 'nowhere.txt'"),
        ({"holdouts": ("holdout:verse",)}, "unknown holdout 'holdout:verse'"),
        ({"tokens": 0}, "`tokens` must be at least 1; got 0"),
        ({"vocabulary": 100}, "`vocabulary` must be at least 257; got 100"),
        ({"p_big": 1.5}, "`p_big` must lie between 0 and 1; got 1.5"),
        ({"learning_rate": 0.0}, "`learning_rate` must be above 0; got 0.0"),
        ({"weight_decay": -1.0}, "`weight_decay` must be at least 0; got -1.0"),
        ({"hidden": 15}, "`hidden` must be an even multiple of `heads`; got hidden 15 and heads 2"),
        ({"kv_heads": 3}, "`heads` must be a multiple of `kv_heads`; got heads 2 and kv_heads 3"),
        ({"order": "small-first"}, "unknown order 'small-first'; available: joint, big-then-small"),
        ({"device": "toaster"}, "unknown device 'toaster'; available: cpu, cuda, cuda:N"),
        ({"device": "cuda:99"}, "device 'cuda:99' is not on this machine"),
        ({"store": "int8"}, "unknown store 'int8'; available: float16, float32"),
        ({"positions": 100_000}, "every training text must fill a window of 100001 tokens"),
    ],
)
def test_bad_options_are_refused(config, change, message):
    with pytest.raises(ValueError, match=message):
        train(replace(config, **change))


def test_text_that_is_tokens_cannot_be_trained_on(config, tmp_path):
    (tmp_path / "ids.jsonl").write_text('{"tokens": [1, 2]}\n')
    with pytest.raises(ValueError, match="training needs text, because it makes its own tokenizer; this row has tokens"):
        train(replace(config, text=(str(tmp_path / "ids.jsonl"),)))
