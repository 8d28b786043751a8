"""Trains a mixture of experts from scratch, and evaluates it. Everything follows from one seed; an interrupted run goes on
to the same losses. Knows nothing of search.

Axes: B batch, T token.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from duo_oracle.models.checkpoint import TOKENIZER, model_directory, read_checkpoint, save_file_whole, write_checkpoint
from duo_oracle.models.families.moe_llama import build_module
from duo_oracle.models.family import resolve_device
from duo_oracle.models.moe_llm.module import MoeLlama
from duo_oracle.models.moe_llm.routing import kept_names
from duo_oracle.models.moe_training.config import MoeTrainConfig
from duo_oracle.models.moe_training.evaluation import evaluate_mixture
from duo_oracle.models.moe_training.learner import RECORDED, Learner, new_module
from duo_oracle.models.router_training.data import calibration_sequences, split_stream
from duo_oracle.models.text.sources import find_files
from duo_oracle.models.text.windows import Window, read_sequences
from duo_oracle.models.training.batches import Windows, document_numbers, separator_of, texts_of, tokenised, work_folder
from duo_oracle.models.training.beginning import adamw, training_tokenizer_in
from duo_oracle.models.training.card import Card, options_of, write_card
from duo_oracle.models.training.loop import PROGRESS, Stretch, Training, prepare_process
from duo_oracle.models.training.processes import check_alone
from duo_oracle.models.training.progress import read_progress
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.whole_file import write_text_whole

USAGE, EVALUATION, EARLY = "usage.safetensors", "evaluation.json", "early"
EARLY_SHARE = 0.25
"""Share of the training after which the model is kept as it was, in `OUT/early`, so that routes can be compared."""
HELD_OUT = "held-out"
"""What the evaluation calls the documents that training held out of its text."""


def train_moe(config: MoeTrainConfig) -> None:
    """Trains, or goes on training, into `config.out`: a model directory with `loss.csv`, `usage.safetensors`, `evaluation.json` and
    `progress/`; for router `all`, one such directory by each rule in it.

    Raises InputError for options out of range, unusable text, and an `out` that holds training with other options.
    """
    config.check()
    check_alone("a mixture of experts, whose routing is of whole batches,")
    resolve_device(config.device)
    for source in (*config.text, *config.holdouts):
        find_files(source)
    if config.tokenizer is not None and not (model_directory(config.tokenizer) / TOKENIZER).is_file():
        raise InputError(f"`tokenizer` must name a model with a {TOKENIZER}; {config.tokenizer} has none")
    prepare_process(config.threads)
    for one in config.one_by_one():
        _train(one)


def _train(config: MoeTrainConfig) -> None:
    out = Path(config.out)
    progress = read_progress(out / PROGRESS, config)
    tokenizer = _tokenizer(config, out)
    windows, held = texts(config, tokenizer)
    module = new_module(config, tokenizer.get_vocab_size()).to(config.device)
    learner = Learner(module, config).to(config.device)
    training = Training(
        f"training {config.router}",
        learner,
        config,
        out,
        config.n_steps,
        windows.n_tokens,
        on_save=lambda: _export(learner, out),
    )
    gradients = partial(_gradients, config=config, learner=learner, windows=windows)

    def after(step: int) -> None:
        learner.finish(step)
        if step + 1 == max(1, round(EARLY_SHARE * config.n_steps)):
            _export(learner, out / EARLY)

    optimizer = adamw((parameter for parameter in module.parameters() if parameter.requires_grad), config)
    training.learn([Stretch(range(config.n_steps), optimizer, gradients, after)], progress)
    _export(learner, out)
    _evaluate(config, tokenizer, held)


def texts(config: MoeTrainConfig, tokenizer: Tokenizer) -> tuple[Windows, list[Window]]:
    """The windows that are trained on, and those of documents held out."""
    separator, work = separator_of(tokenizer, {}), work_folder(config.out, config.work)
    splits = [
        split_stream(tokenised(source, tokenizer, separator, work), separator, document_numbers(source)) for source in config.text
    ]
    windows = Windows([stream for stream, _ in splits], config.positions, config.batch, config.seed)
    held = calibration_sequences([kept for _, kept in splits], separator, config.positions, config.holdout_tokens, seed=0)
    return windows, held


def _tokenizer(config: MoeTrainConfig, out: Path) -> Tokenizer:
    if config.tokenizer is not None:
        out.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(model_directory(config.tokenizer) / TOKENIZER, out / TOKENIZER)
    return training_tokenizer_in(out, texts_of(config.text), config.vocabulary)


def _gradients(step: int, config: MoeTrainConfig, learner: Learner, windows: Windows) -> Tensor:
    with torch.autocast("cuda", torch.bfloat16, enabled=config.device.startswith("cuda")):
        loss, penalty = learner.loss(windows.token_id_BT(step, config.device), step)
    (loss + penalty).backward()
    nn.utils.clip_grad_norm_([p for p in learner.parameters() if p.requires_grad], config.clip)
    # an expert that no token took has no gradient in this step, and AdamW goes on without it as it would with zeros
    for parameter in learner.parameters():
        if parameter.requires_grad and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    return loss.detach()


def _export(learner: Learner, out: Path) -> None:
    """The model as it stands, and what its routing was at every step. The tokenizer is there already."""
    module = learner.module
    exact = [
        name
        for layer in module.config.expert_layers
        for name in kept_names(f"model.layers.{layer}.mlp.gate", module.mixture(layer).gate)
    ]
    stored = getattr(torch, learner.config.store)
    write_checkpoint(out, module.config.to_dict(), module.state_dict(), None, stored, as_they_are=exact)
    save_file_whole(out / USAGE, {name: getattr(learner, name).detach().cpu().contiguous() for name in RECORDED})


def read_usage(directory: Path) -> dict[str, Tensor]:
    """What every step's routing was: used, passed and held, each (S, L, E)."""
    return load_file(directory / USAGE)


def _evaluate(config: MoeTrainConfig, tokenizer: Tokenizer, held: list[Window]) -> None:
    """The model as it is stored on held-out documents and the holdouts; printed, and kept in `evaluation.json`."""
    module = read_mixture(config.out).to(config.device)
    results = {}
    for source in (HELD_OUT, *config.holdouts):
        windows = held if source == HELD_OUT else read_sequences(source, tokenizer, module.n_vocabulary, config.positions)
        pool = config.batch if source == HELD_OUT else None
        found = evaluate_mixture(module, windows, config.holdout_tokens, pool).to_dict(module.config.rate)
        results[source] = found
        used = f", experts' use {found['usage_mean']:.4f} of {found['usage_target']:.4f}" if "usage_mean" in found else ""
        trained = f", {found['loss_protocol']:.4f} as in training" if "loss_protocol" in found else ""
        print(f"{config.router}, {source}: {found['loss']:.4f} nats per token over {found['tokens']} tokens{trained}{used}")
    write_text_whole(Path(config.out) / EVALUATION, json.dumps(results, indent=1) + "\n")
    write_card(Path(config.out), _card(config, results))


def _card(config: MoeTrainConfig, results: Mapping[str, Mapping[str, Any]]) -> Card:
    n_experts = config.granularity * config.expansion
    mixture = f"{n_experts} experts of {config.ffn // config.granularity}" + (" and a shared one" if config.shared_expert else "")
    routed = config.shared_expert and config.router != "dense"
    layers = f"--route-layers {config.dense_layers}-{config.layers - 1}" if routed else "--branches .B"
    what = f"FFNs of {config.ffn}" if config.router == "dense" else f"{mixture} in all but its first {config.dense_layers}"
    return Card(
        what=f"A language model of {config.layers} layers of width {config.hidden}, with {what}, routed by {config.router}.",
        tags=("mixture-of-experts", config.router),
        headings=("text", "tokens", "loss", "loss as in training", "experts' use over target"),
        rows=[
            (
                f"`{Path(source).name}`",
                f"{found['tokens']:,}",
                f"{found['loss']:.4f}",
                f"{found['loss_protocol']:.4f}" if "loss_protocol" in found else "",
                f"{found['usage_mean'] / found['usage_target']:.3f}" if "usage_mean" in found else "",
            )
            for source, found in results.items()
        ],
        options=options_of(config),
        commands=(f"duo-oracle search {Path(config.out).name} my.txt {layers} --out runs/first",),
        limits=(f"It has read {config.tokens:,} tokens of the texts named above, and knows nothing else.",),
    )


def read_mixture(directory: str) -> MoeLlama:
    """The mixture of a model directory. Raises InputError for another model."""
    checkpoint = read_checkpoint(directory)
    return build_module(checkpoint.config, checkpoint.tensors)
