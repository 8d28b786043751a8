"""Stage 3: trains a router on a frozen Duo-LLM, sets its cutoffs to the budget on held-out training text, and evaluates it.

Only the router's weights learn. Everything follows from one seed; an interrupted run goes on to the same losses. Knows no router in
particular: what a step does with its tokens is `models/router_training/method.py`, one file in `models/routers/` each.

Axes: B batch, T token, L layer, D hidden, S step.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from duo_oracle.models.checkpoint import Checkpoint, read_checkpoint
from duo_oracle.models.family import load_module, resolve_device
from duo_oracle.models.linear_router import LinearMaps, LinearRouter, write_linear
from duo_oracle.models.routable import RoutableModule
from duo_oracle.models.router import ROUTERS, StoredRouter, router_module
from duo_oracle.models.router_training.calibration import Calibration, RouterEvaluation, calibrate, evaluate_router
from duo_oracle.models.router_training.config import RouterConfig
from duo_oracle.models.router_training.data import calibration_sequences, documents_of, split_stream
from duo_oracle.models.router_training.labels import PatternLabels
from duo_oracle.models.router_training.method import LabelLearner, Method, Task
from duo_oracle.models.router_training.mixture import mixed_logits
from duo_oracle.models.text.sources import find_files
from duo_oracle.models.text.tokenizer import load_tokenizer
from duo_oracle.models.text.windows import Window, read_sequences, resolve_seq_len
from duo_oracle.models.training.batches import Windows, document_numbers, tokenised, training_tokenizer, work_folder
from duo_oracle.models.training.card import Card, options_of, write_card
from duo_oracle.models.training.config import steps_for
from duo_oracle.models.training.loop import PROGRESS, Stretch, Training, prepare_process
from duo_oracle.models.training.processes import Processes, check_alone, joined
from duo_oracle.models.training.progress import LossPoint, Progress, read_progress
from duo_oracle.oracle.base.choices import check_choice
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.settings import read_settings
from duo_oracle.oracle.model import check_small
from duo_oracle.oracle.spaces import parse_branches


@dataclass(frozen=True)
class Prepared:
    """All that a training run has before its first step."""

    checkpoint: Checkpoint
    module: RoutableModule
    task: Task
    windows: Windows
    held: list[Window]
    seq_len: int
    processes: Processes


def trainable_routers() -> tuple[str, ...]:
    """The names of the folder's routers that are trained."""
    return tuple(name for name in ROUTERS.own_names() if isinstance(router_module(name), StoredRouter))


def train_router(config: RouterConfig, labels: Iterable[PatternLabels] | None = None) -> None:
    """Trains, or goes on training, into `config.out`: a router directory with `loss.csv` and `progress/`.

    `labels` are the losses of patterns, for a router that learns from an oracle's: a list, or a `Teacher` who can be asked for
    more. Raises InputError for options out of range, unusable text, labels that are missing or not wanted, and an `out` that holds
    training with other options.
    """
    config.check()
    if config.router not in ROUTERS.names() or config.router in ROUTERS.own_names():
        check_choice("trained router", config.router, trainable_routers())
    implementation = router_module(config.router)
    settings = read_settings(f"router {config.router}", implementation.Settings, config.settings)
    learns_from_labels = isinstance(implementation, LabelLearner)
    if learns_from_labels != (labels is not None):
        raise InputError(
            f"router {config.router} learns from an oracle's losses; name search runs on training text with `run`"
            if learns_from_labels
            else f"router {config.router} learns from text alone; `run` is for a router that learns from an oracle's losses"
        )
    prepare_process(config.threads)
    if learns_from_labels:
        check_alone(f"router {config.router}, which learns in one go,")
    with joined(config.device) as processes:
        _train(config, implementation, settings, labels, prepare(config, processes))


def _train(
    config: RouterConfig, implementation: Any, settings: Any, labels: Iterable[PatternLabels] | None, prepared: Prepared
) -> None:
    skip, started = config.skip, time.monotonic()
    progress = read_progress(Path(config.out) / PROGRESS, config)
    early: dict[int, LinearMaps] = {}
    record: dict[str, Tensor] = {}
    method: Method | None = None
    training: dict[str, Any] = {}
    if labels is not None:
        maps, how, report = implementation.fit(prepared.task, settings, prepared.module, labels, skip, config.seed)
        training = {"seconds": round(time.monotonic() - started, 1), **report}
        if settings.tune == "yes":
            method = implementation.tuned(prepared.task, settings, maps, prepared.module, labels, skip)
    else:
        method = implementation.METHOD(prepared.task, settings)
    if method is not None:
        last = _learn(config, prepared, method.to(prepared.processes.device), progress)[-1]
        maps, how, early = method.maps(), method.calibration, method.snapshots()
        record = method.record()
        seconds = last.seconds + training.get("seconds", 0)
        training |= {"steps": prepared.task.n_steps, "seconds": round(seconds, 1), "loss": round(last.loss, 5)}
    if not prepared.processes.writes:
        return
    repair = how if method is None or how != "none" else method.repair
    _finish(config, prepared, settings, training, maps, early, config.calibrate or how, repair, record)


def prepare(config: RouterConfig, processes: Processes | None = None) -> Prepared:
    """Reads model and text. Raises InputError for those that are unusable."""
    processes = processes or Processes(device=config.device)
    processes.check(config.batch)
    device = resolve_device(processes.device)
    for source in (*config.text, *config.calibration_text, *config.holdouts):
        find_files(source)
    checkpoint = read_checkpoint(config.model)
    module = load_module(checkpoint, config.route_layers).to(device)
    check_small(parse_branches(config.branches), module.routed_layers, module.small_layers)
    tokenizer, separator = training_tokenizer(checkpoint, config.model)
    config.check_layers(module.n_letters)
    work = work_folder(config.out, config.work)
    with processes.first_alone():
        splits = [
            split_stream(tokenised(source, tokenizer, separator, work), separator, document_numbers(source))
            for source in config.text
        ]
        taken = [documents_of(tokenised(source, tokenizer, separator, work), separator) for source in config.calibration_text]
    n_positions = resolve_seq_len(config.seq_len, module.n_positions)
    windows = Windows([stream for stream, _ in splits], n_positions, config.batch, config.seed)
    held = taken or [documents for _, documents in splits]
    n_steps = steps_for(config.tokens, windows.n_tokens)
    task = Task(module.n_letters, module.n_hidden, parse_branches(config.branches), config.budget, n_steps)
    sequences = calibration_sequences(held, separator, n_positions, config.calibration_tokens, config.seed)
    return Prepared(checkpoint, module, task, windows, sequences, n_positions, processes)


def _learn(config: RouterConfig, prepared: Prepared, method: Method, progress: Progress | None) -> list[LossPoint]:
    """All steps that are not yet done."""
    learning = [parameter for parameter in method.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(learning, lr=config.learning_rate, betas=(0.9, 0.95))
    n_steps = prepared.task.n_steps

    def after(step: int) -> None:
        method.finish(step)
        method.take_snapshot(step + 1)

    training = Training(
        f"router {config.router}",
        method,
        config,
        Path(config.out),
        n_steps,
        prepared.windows.n_tokens,
        processes=prepared.processes,
        shown=lambda n_done: {"big": f"{method.usage_SL[n_done - 1].sum().item():.2f}"},
    )
    gradients = partial(_gradients, config=config, prepared=prepared, method=method)
    return training.learn([Stretch(range(n_steps), optimizer, gradients, after)], progress)


def _gradients(step: int, config: RouterConfig, prepared: Prepared, method: Method) -> Tensor:
    processes = prepared.processes
    mine = processes.rows(config.batch)
    token_id_BT = torch.from_numpy(prepared.windows.batch(step, mine)).to(processes.device)

    def mix(layer: int, x_BTD: Tensor) -> Tensor:
        """What becomes of a token may depend on the whole batch: every process asks for all of it, and keeps its rows."""
        shares = method.mix(layer, processes.gathered(x_BTD), step)
        return shares if processes.count == 1 else shares[mine]

    logits_BTV = mixed_logits(
        prepared.module,
        token_id_BT[:, :-1],
        mix,
        prepared.task.branches,
        config.skip,
        method.everywhere,
    )
    loss = F.cross_entropy(logits_BTV.flatten(0, 1), token_id_BT[:, 1:].flatten())
    (loss + method.penalty()).backward()
    processes.average_gradients(method)
    return loss.detach()


def _finish(
    config: RouterConfig,
    prepared: Prepared,
    settings: Any,
    training: dict[str, Any],
    maps: LinearMaps,
    early: dict[int, LinearMaps],
    how: str,
    repair: str,
    record: dict[str, Tensor],
) -> None:
    """Calibrates the router and its early checkpoints, evaluates it, prints what it reached, and writes the directory.

    Where its cutoffs stay as trained (`how` none), cutoffs set by `repair` are kept and evaluated beside them."""
    task, module = prepared.task, prepared.module
    fingerprint = prepared.checkpoint.fingerprint
    layers = None if config.route_layers is None else module.routed_layers

    def calibrated(given: LinearMaps, how: str = how) -> Calibration:
        return calibrate(given, task.branches, task.budget, module, prepared.held, config.skip, how)

    def router_of(calibration: Calibration) -> LinearRouter:
        maps, out = calibration.maps, config.out
        return LinearRouter(config.router, maps, task.branches, fingerprint, config.skip, task.budget, out, layers=layers)

    calibration = calibrated(maps)
    router = router_of(calibration)
    repaired = calibrated(maps, repair) if how == "none" else None
    tensors = {"uncalibrated/cutoff": maps.cutoff_L.float().cpu()}
    if repaired is not None:
        tensors["calibrated/cutoff"] = repaired.maps.cutoff_L.float().cpu()
    for step, then in early.items():
        tensors |= calibrated(then).maps.to_tensors(f"step-{step}/")
    tensors |= {f"training/{name}": values.detach().cpu().contiguous() for name, values in record.items()}
    names = " and ".join(Path(text).name for text in config.calibration_text or config.text)
    kept = "" if config.calibration_text else "documents that the router's training held out of "
    where = f"on {calibration.tokens} tokens of {kept}{names}"
    if repaired is None:
        before, after = calibration.budget_before, calibration.budget_after
        print(f"calibrated ({how}) {where}: {before:.3f} -> {after:.3f} B's per token, target {task.budget:g}")
    else:
        print(f"cutoffs as trained {where}: {calibration.budget_after:.3f} B's per token, target {task.budget:g}")
    evaluation: dict[str, Any] = {}
    evaluation_repaired: dict[str, Any] = {}
    tokenizer = load_tokenizer(prepared.checkpoint.tokenizer_json or "")
    for source in config.holdouts:
        sequences = list(read_sequences(source, tokenizer, module.n_vocabulary, module.n_positions, prepared.seq_len))

        def reached_by(router: LinearRouter, sequences: list[Window] = sequences) -> RouterEvaluation:
            found = evaluate_router(router, module, sequences, config.skip, config.holdout_tokens)
            return replace(found, loss=round(found.loss, 5), budget=round(found.budget, 4))

        reached = reached_by(router)
        evaluation[source] = reached.to_dict()
        off = reached.budget / task.budget - 1
        said = (
            f"{source}: {reached.loss:.4f} nats per token, {reached.budget:.3f} B's per token ({off:+.1%} of the target "
            f"{task.budget:g}), over {reached.tokens} tokens"
        )
        if repaired is not None:
            again = reached_by(router_of(repaired))
            evaluation_repaired[source] = again.to_dict()
            said += f"; with cutoffs calibrated ({repair}) {again.loss:.4f} at {again.budget:.3f}"
        print(said)
    facts = {
        **({} if layers is None else {"layers": list(layers)}),
        "settings": vars(settings),
        "seed": config.seed,
        "text": [Path(text).name for text in config.text],
        "tokens": config.tokens,
        "batch": config.batch,
        "learning_rate": config.learning_rate,
        "training": training,
        "calibration": {"text": [Path(text).name for text in config.calibration_text or config.text], **calibration.to_dict()},
        "evaluation": evaluation,
        **({} if repaired is None else {"calibrated": {"how": repair, "evaluation": evaluation_repaired}}),
    }
    write_linear(Path(config.out), router, facts, tensors)
    write_card(Path(config.out), _card(config, evaluation, module.n_letters, as_trained=repaired is not None))


def _card(config: RouterConfig, evaluation: Mapping[str, Mapping[str, float]], n_letters: int, as_trained: bool) -> Card:
    return Card(
        what=f"A router of the method {config.router} for `{config.model}`, made for {config.budget:g} big layers of "
        f"{n_letters} per token on average. It knows no label.",
        tags=("router", config.router),
        headings=("text", "tokens", "loss", "big layers per token"),
        rows=[
            (f"`{Path(source).name}`", f"{found['tokens']:,}", f"{found['loss']:.4f}", f"{found['budget']:.3f}")
            for source, found in evaluation.items()
        ],
        options=options_of(config),
        commands=(
            f"duo-oracle search {config.model} my.txt --context full --budget 0-{n_letters} --keep losses --out runs/mine",
            f"duo-oracle compare runs/mine --router {Path(config.out).name}",
        ),
        limits=(
            "Its cutoffs are those that its training ended with: how much it spends is what it is, on each text above."
            if as_trained
            else "Its cutoffs are set on documents that its training held out: on other text it spends another budget.",
        ),
        base_model=config.model,
    )
