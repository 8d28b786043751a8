"""Stage 1: trains a Duo-LLM with random routing, so that every layer's big and small FFN work after any choice before them.

Ties the parts together: tokenizer, batches, schedule, progress, evaluation. Everything follows from one seed; an
interrupted run goes on to the same losses. Knows nothing of search.

Axes: B batch, T token, L layer.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import nn
from tqdm import tqdm

from duo_oracle.models.checkpoint import TOKENIZER, read_checkpoint, write_checkpoint
from duo_oracle.models.duo_llm.module import DuoLlama, DuoLlamaConfig
from duo_oracle.models.families.duo_llama import build_module
from duo_oracle.models.family import resolve_device
from duo_oracle.models.text.documents import resolve_source
from duo_oracle.models.text.tokenizer import load_tokenizer, train_tokenizer
from duo_oracle.models.text.windows import read_sequences
from duo_oracle.models.training.batches import Windows, texts_of, tokenised
from duo_oracle.models.training.config import TrainConfig
from duo_oracle.models.training.evaluation import evaluate
from duo_oracle.models.training.progress import (
    LossPoint,
    Progress,
    history_csv,
    read_progress,
    restore_moments,
    restore_weights,
    save_progress,
)
from duo_oracle.models.training.schedule import Phase, phases_of, random_mask
from duo_oracle.oracle.base.allocator import keep_freed_memory
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.whole_file import write_text_whole

STEPS_PER_POINT = 10
"""A loss is recorded, and a checkpoint may be made, every so many steps."""
TOKENIZER_DOCUMENTS = 3000
"""How many documents the tokenizer is made from, spread evenly over the text files."""


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
    """Fresh weights: normal with deviation 0.02, less by sqrt(2 L) where a matrix writes to the residual stream."""
    module = DuoLlama(model_config(config))
    generator = torch.Generator().manual_seed(config.seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.dim() == 2:
                writes_residual = name.endswith(("o_proj.weight", "down_proj.weight"))
                scale = 0.02 / math.sqrt(2 * config.layers) if writes_residual else 0.02
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return module


def new_optimizer(module: nn.Module, phase: Phase, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW over what the phase trains; weight decay on matrices only."""
    learning = [parameter for name, parameter in module.named_parameters() if phase.trains(name)]
    matrices, vectors = [p for p in learning if p.dim() >= 2], [p for p in learning if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=config.learning_rate, betas=(0.9, 0.95), fused=True)


def train(config: TrainConfig) -> None:
    """Trains, or goes on training, into `config.out`: a model directory with `loss.csv`, `evaluation.json` and `progress/`.

    Raises InputError for options out of range, unusable text, and an `out` that holds training with other options.
    """
    config.check()
    resolve_device(config.device)
    keep_freed_memory()
    for source in (*config.text, *config.holdouts):
        resolve_source(source)
    if config.threads:
        torch.set_num_threads(config.threads)
    out = Path(config.out)
    progress = read_progress(out / "progress", config)
    tokenizer = _tokenizer(config, out)
    work = Path(config.work) if config.work else out / "work"
    streams = [tokenised(source, tokenizer, work) for source in config.text]
    windows = Windows(streams, config.positions, config.batch, config.seed)
    module = new_module(config).to(config.device)
    if progress is not None:
        restore_weights(out / "progress", progress, module)
    history = list(progress.history) if progress is not None else []
    with tqdm(
        total=config.n_steps * config.batch * config.positions,
        initial=len(history) and history[-1].tokens,
        unit="token",
        unit_scale=True,
        desc="training",
        disable=not sys.stderr.isatty(),
    ) as bar:
        for phase in phases_of(config):
            if progress is not None and progress.step >= phase.end:
                continue
            _train_phase(phase, config, module, windows, progress, history, bar)
            progress = None
    _export(module, history, config)
    _evaluate(config)


def _tokenizer(config: TrainConfig, out: Path) -> Tokenizer:
    """The tokenizer of `out`, made from the training text where there is none yet."""
    path = out / TOKENIZER
    if path.exists():
        return load_tokenizer(path.read_text("utf-8"))
    texts = itertools.islice(texts_of(config.text), TOKENIZER_DOCUMENTS)
    tokenizer = train_tokenizer(texts, config.vocabulary)
    out.mkdir(parents=True, exist_ok=True)
    write_text_whole(path, tokenizer.to_str())
    return tokenizer


def _train_phase(
    phase: Phase,
    config: TrainConfig,
    module: DuoLlama,
    windows: Windows,
    progress: Progress | None,
    history: list[LossPoint],
    bar: tqdm,
) -> None:
    """The steps of one phase from `progress` (or its start), with checkpoints; appends to `history`."""
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(phase.trains(name))
    optimizer = new_optimizer(module, phase, config)
    step = phase.first_step
    if progress is not None and progress.step > step:
        restore_moments(Path(config.out) / "progress", progress, module, optimizer)
        step = progress.step
    seconds_before = history[-1].seconds if history else 0.0
    started = saved = time.monotonic()
    losses: list[torch.Tensor] = []
    while step < phase.end:
        rate = phase.learning_rate(step, config)
        losses.append(_step(step, rate, phase, config, module, windows, optimizer))
        step += 1
        n_tokens = config.batch * config.positions
        bar.update(n_tokens)
        if step % STEPS_PER_POINT == 0 or step == phase.end:
            loss = torch.stack(losses).mean().item()
            losses.clear()
            if not math.isfinite(loss):
                raise InputError(
                    f"training diverged: the loss is {loss} at step {step}; lower learning-rate (now {config.learning_rate})"
                )
            now = time.monotonic()
            history.append(LossPoint(step, step * n_tokens, loss, rate, seconds_before + now - started))
            bar.set_postfix(loss=f"{loss:.3f}")
            if now - saved >= 60 * config.checkpoint_minutes or step == phase.end:
                save_progress(Path(config.out) / "progress", step, module, optimizer, history, config)
                _export(module, history, config)
                saved = now
    for parameter in module.parameters():
        parameter.requires_grad_(False)


def _step(
    step: int, rate: float, phase: Phase, config: TrainConfig, module: DuoLlama, windows: Windows, optimizer: torch.optim.Optimizer
) -> torch.Tensor:
    """One step; returns its loss in nats per token, detached."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    token_id_BT = torch.from_numpy(windows.batch(step)).to(config.device)
    mask_BTL = random_mask(config.batch, config.positions, config.layers, phase.p_big, config.seed, step).to(config.device)
    with torch.autocast("cuda", torch.bfloat16, enabled=config.device.startswith("cuda")):
        logits_BTV = module(token_id_BT[:, :-1], mask_BTL)
    loss = F.cross_entropy(logits_BTV.float().flatten(0, 1), token_id_BT[:, 1:].flatten())
    loss.backward()
    nn.utils.clip_grad_norm_([p for p in module.parameters() if p.requires_grad], config.clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.detach()


def _export(module: DuoLlama, history: list[LossPoint], config: TrainConfig) -> None:
    """The model as it stands, with its losses: `out` can be used while training goes on. The tokenizer is there already."""
    out = Path(config.out)
    write_checkpoint(out, module.config.to_dict(), module.state_dict(), None, getattr(torch, config.store))
    write_text_whole(out / "loss.csv", history_csv(history))


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
