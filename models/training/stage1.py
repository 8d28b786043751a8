"""Stage 1: trains a Duo-LLM with random routing, so that every layer's big and small FFN work after any choice before them.

Ties the parts together: tokenizer, batches, schedule, progress, evaluation. Everything follows from one seed; an
interrupted run goes on to the same losses. Knows nothing of search.

Axes: B batch, T token, L layer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from duo_oracle.models.checkpoint import read_checkpoint, write_checkpoint
from duo_oracle.models.duo_llm.module import DuoLlama, DuoLlamaConfig
from duo_oracle.models.families.duo_llama import build_module
from duo_oracle.models.family import resolve_device
from duo_oracle.models.plain_losses import evaluate
from duo_oracle.models.text.shards import row_groups
from duo_oracle.models.text.sources import find_files
from duo_oracle.models.text.tokenizer import load_tokenizer
from duo_oracle.models.text.windows import read_sequences
from duo_oracle.models.training.batches import Windows, separator_of, texts_of, tokenised, work_folder
from duo_oracle.models.training.beginning import adamw, freshen, training_tokenizer_in
from duo_oracle.models.training.card import Card, options_of, write_card
from duo_oracle.models.training.config import TrainConfig
from duo_oracle.models.training.loop import PROGRESS, Stretch, Training, prepare_process
from duo_oracle.models.training.processes import Processes, joined
from duo_oracle.models.training.progress import read_progress
from duo_oracle.models.training.schedule import Phase, phases_of, random_mask
from duo_oracle.models.training.streamed import AnyWindows, StreamedWindows, WindowCounts, counts_key, texts_in
from duo_oracle.oracle.base.chunks import chunks
from duo_oracle.oracle.base.whole_file import write_text_whole


def model_config(config: TrainConfig) -> DuoLlamaConfig:
    """The architecture that the options describe."""
    return DuoLlamaConfig(
        vocab_size=config.vocabulary,
        hidden_size=config.hidden,
        intermediate_size=config.big,
        small_intermediate_size=config.small,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.kv_heads,
        max_position_embeddings=config.positions,
        head_dim=config.hidden // config.heads,
        tie_word_embeddings=config.tie,
    )


def new_module(config: TrainConfig) -> DuoLlama:
    """A model with fresh weights, of the config's seed."""
    module = DuoLlama(model_config(config))
    freshen(module, config.layers, config.seed)
    return module


def new_optimizer(module: nn.Module, phase: Phase, config: TrainConfig) -> torch.optim.AdamW:
    """Over what the phase trains."""
    return adamw((parameter for name, parameter in module.named_parameters() if phase.trains(name)), config)


def train(config: TrainConfig, start: DuoLlama | None = None) -> None:
    """Trains, or goes on training, into `config.out`: a model directory with `loss.csv`, `evaluation.json` and `progress/`.

    It begins with `start`, of the architecture that the options describe, or else with fresh weights. Under torchrun each process
    takes its rows of every batch, and the steps are those of the whole batches.

    Raises InputError for options out of range, unusable text, and an `out` that holds training with other options.
    """
    config.check()
    for source in (*(() if config.stream else config.text), *config.holdouts):
        find_files(source)
    prepare_process(config.threads)
    with joined(config.device) as processes:
        resolve_device(processes.device)
        processes.check(config.batch, config.accumulate)
        _learn(config, start, processes)
    if processes.writes:
        _evaluate(config)


def _learn(config: TrainConfig, start: DuoLlama | None, processes: Processes) -> None:
    out = Path(config.out)
    progress = read_progress(out / PROGRESS, config)
    windows = _windows(config, processes)
    module = (new_module(config) if start is None else start).to(processes.device)
    training = Training(
        "training",
        module,
        config,
        out,
        config.n_steps,
        windows.n_tokens,
        on_save=lambda: _export(module, config),
        processes=processes,
    )
    training.learn(_stretches(config, module, windows, processes), progress)
    if processes.writes:
        _export(module, config)


def _windows(config: TrainConfig, processes: Processes) -> AnyWindows:
    """The training text in windows: from a tokenised copy, or from its shards as batches come to them."""
    out, work = Path(config.out), work_folder(config.out, config.work)
    sources = [row_groups(source) for source in config.text] if config.stream else []
    with processes.first_alone():
        tokenizer = training_tokenizer_in(out, texts_in(sources) if config.stream else texts_of(config.text), config.vocabulary)
        separator = separator_of(tokenizer, {})
        streams = [] if config.stream else [tokenised(source, tokenizer, separator, work) for source in config.text]
    if not config.stream:
        return Windows(streams, config.positions, config.batch, config.seed)
    counts = WindowCounts(work, counts_key(tokenizer, separator, config.positions), processes.rank)
    return StreamedWindows(sources, tokenizer, separator, config.positions, config.batch, config.seed, counts)


def _stretches(config: TrainConfig, module: DuoLlama, windows: AnyWindows, processes: Processes) -> Iterator[Stretch]:
    """The steps of each phase. While a phase learns, its parameters alone take gradients; after the last none does."""
    for phase in phases_of(config):
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(phase.trains(name))
        run = processes.wrapped(cast(nn.Module, torch.compile(module)) if config.compile else module)
        of_all: dict[str, Any] = {"config": config, "module": module, "run": run, "windows": windows, "processes": processes}
        yield Stretch(
            range(phase.first_step, phase.end),
            new_optimizer(module, phase, config),
            partial(_gradients, p_big=phase.p_big, **of_all),
        )
    module.requires_grad_(False)


def _gradients(
    step: int,
    p_big: float,
    config: TrainConfig,
    module: DuoLlama,
    run: nn.Module,
    windows: AnyWindows,
    processes: Processes,
) -> Tensor:
    """Those of the whole batch, of which this process runs its rows, in pieces."""
    mine = processes.rows(config.batch)
    token_id_BT = torch.from_numpy(windows.batch(step, mine)).to(processes.device)
    mask_BTL = random_mask(config.batch, config.positions, config.layers, p_big, config.seed, step)[mine].to(processes.device)
    pieces = list(chunks(len(token_id_BT), len(token_id_BT) // config.accumulate))
    losses = []
    for number, rows in enumerate(pieces):
        with _unsynced(run) if number + 1 < len(pieces) else nullcontext():
            with torch.autocast(processes.device.partition(":")[0], torch.bfloat16, enabled=config.bfloat16):
                logits_BTV = run(token_id_BT[rows, :-1], mask_BTL[rows])
            loss = F.cross_entropy(logits_BTV.float().flatten(0, 1), token_id_BT[rows, 1:].flatten()) / len(pieces)
            loss.backward()
        losses.append(loss.detach())
    nn.utils.clip_grad_norm_([p for p in module.parameters() if p.requires_grad], config.clip)
    return losses[0] if len(losses) == 1 else torch.stack(losses).sum()


def _unsynced(run: nn.Module) -> AbstractContextManager[None]:
    """Gradients stay with this process until a later piece of the step sends them."""
    return run.no_sync() if isinstance(run, nn.parallel.DistributedDataParallel) else nullcontext()


def _export(module: DuoLlama, config: TrainConfig) -> None:
    """The model as it stands: `out` can be used while training goes on. The tokenizer is there already."""
    write_checkpoint(Path(config.out), module.config.to_dict(), module.state_dict(), None, getattr(torch, config.store))


def _evaluate(config: TrainConfig) -> None:
    """All-big and all-small on the holdouts, by the model as it is stored; printed, and kept in `evaluation.json`."""
    checkpoint = read_checkpoint(config.out)
    module = build_module(checkpoint.config, checkpoint.tensors).to(config.device)
    assert checkpoint.tokenizer_json is not None
    tokenizer = load_tokenizer(checkpoint.tokenizer_json)
    results = {}
    for source in config.holdouts:
        sequences = read_sequences(source, tokenizer, config.vocabulary, config.positions)
        result = evaluate(module, sequences, config.holdout_tokens)
        results[source] = result.to_dict()
        losses = f"all-big {result.loss_big:.4f}, all-small {result.loss_small:.4f}"
        print(f"{source}: {losses} nats per token over {result.n_tokens} tokens")
    write_text_whole(Path(config.out) / "evaluation.json", json.dumps(results, indent=2) + "\n")
    write_card(Path(config.out), _card(config, results))


def _card(config: TrainConfig, results: Mapping[str, Mapping[str, float]]) -> Card:
    name = Path(config.out).name
    return Card(
        what=f"A Duo-LLM: {config.layers} layers of width {config.hidden}, each with a big FFN ({config.big}) and a small one "
        f"({config.small}) behind one attention, trained so that every token may take either at each layer.",
        tags=("duo-llm",),
        headings=("text", "tokens", "all-big", "all-small"),
        rows=[
            (f"`{Path(source).name}`", f"{found['n_tokens']:,}", f"{found['loss_big']:.4f}", f"{found['loss_small']:.4f}")
            for source, found in results.items()
        ],
        options=options_of(config),
        commands=(
            f"duo-oracle search {name} my.txt --out runs/first",
            f"duo-oracle train-router {name} my.txt --out routers/mine ...",
        ),
        limits=(f"It has read {config.tokens:,} tokens of the texts named above, and knows nothing else.",),
    )
