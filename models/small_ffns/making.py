"""Makes small FFNs beside the big ones of a pretrained model: from the options to a model directory, and what the small FFNs cost.

Ties the parts together: base model, text, a way to make them (`models/small_methods/`), measurement on held-out text, files. The
directory holds the small FFNs alone and names its base model; with `merge`, all tensors.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from duo_oracle.models.checkpoint import (
    BASE,
    BASE_FINGERPRINT,
    CONFIG,
    INDEX,
    TOKENIZER,
    TOKENIZER_SAYS,
    WEIGHTS,
    Checkpoint,
    model_directory,
    read_checkpoint,
    save_file_whole,
)
from duo_oracle.models.family import RoutableFamily, load_family, load_module, resolve_device
from duo_oracle.models.hf.pretrained import PretrainedModule
from duo_oracle.models.hf.small_ffn import attach_small
from duo_oracle.models.small_ffns.config import DuoConfig
from duo_oracle.models.small_ffns.costs import SmallCosts, small_costs, spread_sequences
from duo_oracle.models.small_ffns.method import SmallMethod, SmallTask, load_method, n_inner
from duo_oracle.models.text.sources import HOLDOUT_PREFIX, find_files
from duo_oracle.models.text.windows import Window, resolve_seq_len
from duo_oracle.models.training.batches import WORK, Windows, tokenised, training_tokenizer, work_folder
from duo_oracle.models.training.card import CARD, Card, options_of, write_card
from duo_oracle.models.training.config import steps_for
from duo_oracle.models.training.loop import HISTORY, PROGRESS, prepare_process
from duo_oracle.models.training.progress import read_progress
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.whole_file import write_text_whole
from duo_oracle.oracle.layers import format_layers, parse_layers

EVALUATION = "evaluation.json"


@dataclass(frozen=True)
class SmallMade:
    """What was made: where, of what form, on how many tokens, and the costs on each holdout."""

    form: str
    costs: dict[str, SmallCosts]


def make_small(config: DuoConfig) -> SmallMade:
    """Makes the model directory `config.out`, its weights last.

    Raises InputError, one line, for options out of range, a model that has small FFNs or can have none, unusable text, text that is
    held out too, and an `out` that holds something to keep.
    """
    config.check()
    method, device = load_method(config.method), resolve_device(config.device)
    _check_text(config)
    _check_out(config)
    prepare_process(config.threads)
    base = read_checkpoint(config.model)
    module = _base_module(base, config.model)
    layers = tuple(range(module.depth)) if config.layers is None else parse_layers(config.layers, module.depth, "layers")
    sizes = method.sizes(module, config.ratio)
    with torch.device("meta"):
        attach_small(module.layers, module.new_small_ffn, {**sizes, "small_layers": list(layers)})
    for layer in layers:
        cast(nn.Module, module.layers[layer].small_mlp).to_empty(device="cpu").requires_grad_(False)
    module.eval().to(device)  # eval, because an FFN may hold a dropout
    task, held_out = _task(config, method, base, module, layers)
    started = time.monotonic()
    facts = {"method": config.method, **method.make(task), "seconds": round(time.monotonic() - started, 1)}
    costs = {source: small_costs(module, layers, sequences, source) for source, sequences in held_out.items()}
    n_tokens = task.n_steps * task.windows.n_tokens
    names = [_source_name(source) for source in config.text]
    record = {
        "name": config.method,
        "ratio": config.ratio,
        "text": names,
        "tokens": n_tokens,
        "seed": config.seed,
    }
    own = {**base.config, **sizes, "small_layers": list(layers), "method": record}
    _write(
        config, base, own, module, {"making": facts, "holdouts": {_source_name(at): cost.to_dict() for at, cost in costs.items()}}
    )
    size = f"rank {sizes['small_rank']}" if "small_rank" in sizes else f"{sizes['small_intermediate_size']:,}"
    form = (
        f"small FFNs of {size} of {n_inner(module):,} neurons at layers {format_layers(layers)} of {module.depth}, by "
        f"{config.method} on {n_tokens:,} tokens of {' and '.join(names)}"
    )
    name = Path(config.out).name
    rows = [
        (f"`{_source_name(at)}`", f"{cost.n_tokens:,}", f"{cost.loss_big:.4f}", f"{cost.loss_small:.4f}")
        for at, cost in costs.items()
    ]
    write_card(
        Path(config.out),
        Card(
            what=f"`{config.model}`, whose own weights stay as they are, with {form}: branch `s` beside its big FFNs.",
            tags=("duo-llm",),
            headings=("text", "tokens", "all-big", "with all these small"),
            rows=rows,
            options=options_of(config),
            commands=(f"duo-oracle search {name} my.txt --route-layers {format_layers(layers)} --branches sB --out runs/duo",),
            base_model=config.model,
        ),
    )
    return SmallMade(form, costs)


def _check_text(config: DuoConfig) -> None:
    """Raises InputError for text that is none, and for a source that is both made on and held out."""
    made_on = {file.path.resolve() for source in config.text for file in find_files(source)}
    for source in config.holdouts:
        if any(file.path.resolve() in made_on for file in find_files(source)):
            raise InputError(f"costs are measured on text that the small FFNs were not made on; {source!r} is text and holdout")


def _check_out(config: DuoConfig) -> None:
    """Raises InputError where `out` is no place for the model; makes room for it where `overwrite` says so."""
    out = Path(config.out)
    if out.exists() and not out.is_dir():
        raise InputError(f"`out` is a directory; {out} is a file")
    if out.resolve() == model_directory(config.model).resolve():
        raise InputError(f"`out` is another directory than the model's; got {out} for both")
    resumable = {CONFIG, TOKENIZER, EVALUATION, HISTORY, PROGRESS, WORK, CARD}  # without weights, a run that was interrupted
    kept = sorted(path.name for path in out.iterdir() if path.name not in resumable and path.name[0] != ".") if out.is_dir() else []
    if kept and not config.overwrite:
        raise InputError(
            f"`out` is new, empty, or a making to resume, unless `overwrite=True` replaces what is in it; {out} holds {kept[0]}"
        )
    try:
        read_progress(out / PROGRESS, config)
    except ValueError:
        if not config.overwrite:
            raise
        shutil.rmtree(out / PROGRESS)


def _base_module(base: Checkpoint, model: str) -> PretrainedModule:
    """The model's plain module. Raises InputError where it has small FFNs, or its family has none to make them of."""
    model_type = base.config.get("model_type")
    if not isinstance(load_family(model_type), RoutableFamily):
        raise InputError(f"small FFNs are made for models of transformers; {model!r} is of type {model_type!r}")
    module = load_module(base)
    if module.small_layers:
        raise InputError(
            f"small FFNs are made for a model that has none; {model!r} has them at layers {format_layers(module.small_layers)}"
        )
    assert isinstance(module, PretrainedModule), "a family whose models have a big FFN alone is one over transformers"
    return module


def _task(
    config: DuoConfig, method: SmallMethod, base: Checkpoint, module: PretrainedModule, layers: tuple[int, ...]
) -> tuple[SmallTask, dict[str, list[Window]]]:
    """The text to make them on, and the windows of each holdout. Raises InputError for those that are unusable."""
    tokenizer, separator = training_tokenizer(base, config.model)
    work = work_folder(config.out, config.work)
    seq_len = resolve_seq_len(config.seq_len, module.n_positions)
    held_out = {
        source: spread_sequences(source, tokenizer, module.n_vocabulary, module.n_positions, seq_len, config.holdout_tokens)
        for source in config.holdouts
    }
    streams = [tokenised(source, tokenizer, separator, work) for source in config.text]
    windows = Windows(streams, seq_len, config.batch, config.seed)
    n_steps = steps_for(config.tokens or method.TOKENS, windows.n_tokens)
    return SmallTask(module, layers, windows, n_steps, config, Path(config.out)), held_out


def _write(
    config: DuoConfig, base: Checkpoint, own: Mapping[str, Any], module: PretrainedModule, evaluation: Mapping[str, Any]
) -> None:
    """The model directory, each file whole or not at all, the weights last; then what an interrupted run would have needed goes."""
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    for name in (WEIGHTS, INDEX, TOKENIZER, TOKENIZER_SAYS[-1]):
        (out / name).unlink(missing_ok=True)
    tensors: dict[str, Tensor] = {
        name: tensor.detach().cpu().contiguous() for name, tensor in module.model.state_dict().items() if ".small_mlp." in name
    }
    if config.merge:
        tensors = {**base.tensors, **tensors}
        if base.tokenizer_json is not None:
            write_text_whole(out / TOKENIZER, base.tokenizer_json)
        if base.tokenizer_said:
            write_text_whole(out / TOKENIZER_SAYS[-1], json.dumps(base.tokenizer_said, indent=2) + "\n")
    else:
        own = {**own, BASE: _base_name(config.model, out), BASE_FINGERPRINT: base.fingerprint}
    write_text_whole(out / CONFIG, json.dumps(own, indent=2) + "\n")
    write_text_whole(out / EVALUATION, json.dumps(evaluation, indent=2) + "\n")
    save_file_whole(out / WEIGHTS, tensors)
    for folder in (PROGRESS, WORK):
        shutil.rmtree(out / folder, ignore_errors=True)


def _base_name(model: str, out: Path) -> str:
    """How the directory names its base: from itself where both lie in one folder, so that they can move together; else absolute.
    A model of the hub keeps its name."""
    path = Path(model)
    if not path.is_dir():
        return model
    path, out = path.resolve(), out.resolve()
    return os.path.relpath(path, out) if path.is_relative_to(out.parent) else str(path)


def _source_name(source: str) -> str:
    return source if source.startswith(HOLDOUT_PREFIX) else Path(source).name
