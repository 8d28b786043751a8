"""Small models trained in different ways on one text: what random routing and the order of training cost (Figure 8).

Duo-LLMs at several shares P of big FFNs, dense models whose only FFN is as wide as theirs is on average (so that the FLOPs of a
token are equal), and joint training against big first, then small. Text: the running interpreter's standard library without the
documents of holdout:code and their near copies; nothing is downloaded. Every model goes through `models/training/stage1.py`.

Axes: T token, L layer.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from duo_oracle.models.checkpoint import TOKENIZER, read_checkpoint
from duo_oracle.models.families.duo_llama import build_module
from duo_oracle.models.plain_losses import window_losses
from duo_oracle.models.recipes.corpus import MAX_COPIED_SHARE, whole_documents
from duo_oracle.models.recipes.corpus_sources import read_standard_library
from duo_oracle.models.recipes.near_copies import copied_shares
from duo_oracle.models.text.documents import read_documents
from duo_oracle.models.text.tokenizer import load_tokenizer, train_tokenizer
from duo_oracle.models.text.windows import read_sequences
from duo_oracle.models.training.config import TrainConfig, TrainOrder
from duo_oracle.models.training.schedule import random_mask
from duo_oracle.models.training.stage1 import train
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.progress import progress
from duo_oracle.oracle.base.whole_file import write_text_whole
from duo_oracle.search.studies.steps import side_by_side

HOLDOUT = "holdout:code"
_EVALUATED = "losses.json"


@dataclass(frozen=True)
class StudySize:
    """How large the study is. `big` and `small` are the FFN's inner widths."""

    tokens: int
    characters: int
    layers: int
    hidden: int
    big: int
    small: int
    vocabulary: int
    positions: int
    batch: int
    windows: int  # of each document of the holdout, for evaluation
    shares: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)


FULL = StudySize(600_000, 4_000_000, 4, 64, 256, 16, 1024, 64, 4, 8)
QUICK = StudySize(1_024, 60_000, 3, 16, 32, 4, 300, 32, 4, 1, shares=(0.0, 0.5, 1.0))


@dataclass(frozen=True)
class Student:
    """One model of the study."""

    name: str
    p_big: float
    dense: bool
    order: TrainOrder
    seed: int


def students(size: StudySize, seed: int) -> list[Student]:
    """All models. At P of 0 and 1 a Duo-LLM is a dense model: with another seed, it shows what a seed alone changes."""
    found = [Student(f"dense-{share:g}", share, True, TrainOrder.JOINT, seed) for share in size.shares]
    for share in size.shares:
        other = seed + 1 if share in (0.0, 1.0) else seed
        found.append(Student(f"duo-{share:g}", share, False, TrainOrder.JOINT, other))
    found.append(Student("duo-0.5-again", 0.5, False, TrainOrder.JOINT, seed + 1))
    found.append(Student("big-then-small", 0.5, False, TrainOrder.BIG_THEN_SMALL, seed))
    return found


def run_study(folder: Path, size: StudySize, seed: int, workers: int | None) -> None:
    """Trains what is not trained yet, evaluates, and writes `losses.json` into `folder`.

    Raises InputError where the interpreter came without its standard library's source.
    """
    if (folder / _EVALUATED).is_file():
        return
    about = _prepare(folder, size)
    configs = [_config(folder, size, student) for student in students(size, seed)]
    with progress(total=len(configs), desc="trainings", unit="model") as bar:
        for _ in side_by_side(_train, configs, workers or os.cpu_count() or 1):
            bar.update()
    models = {}
    for student in students(size, seed):
        entry = {**asdict(student), "order": str(student.order), "losses": _losses(folder / student.name, student, size)}
        models[entry.pop("name")] = entry
    write_text_whole(folder / _EVALUATED, json.dumps({"about": about, "models": models}, indent=1) + "\n")


def _prepare(folder: Path, size: StudySize) -> str:
    """The text and the tokenizer that all models share; says what they are."""
    held = list(read_documents(HOLDOUT))
    names = {document.name for document in held}
    documents = [document for document in whole_documents(read_standard_library()) if document[0] not in names]
    documents.sort(key=lambda document: hashlib.sha256(document[0].encode()).digest())
    chosen: list[tuple[str, str]] = []
    n_characters = 0
    for name, text in documents:
        if n_characters < size.characters:
            chosen.append((name, text))
            n_characters += len(text)
    if not chosen:
        raise InputError("the training study reads the source of Python's standard library; this interpreter came without it")
    shares = copied_shares([text for _, text in chosen], (document.text or "" for document in held))
    chosen = [document for document, share in zip(chosen, shares, strict=True) if share <= MAX_COPIED_SHARE]
    folder.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps({"document": name, "text": text}) + "\n" for name, text in chosen)
    write_text_whole(folder / "text.jsonl", "".join(lines))
    write_text_whole(folder / TOKENIZER, train_tokenizer((text for _, text in chosen), size.vocabulary).to_str())
    n_characters = sum(len(text) for _, text in chosen)
    return (
        f"{size.tokens:,} tokens for each model, of {len(chosen)} modules ({n_characters:,} characters) of the standard library of "
        f"Python {platform.python_version()}, without the documents of {HOLDOUT} and near copies; {size.layers} layers, hidden "
        f"{size.hidden}, big FFN {size.big}, small {size.small}; evaluated on "
        f"{size.windows} windows of every document of {HOLDOUT}"
    )


def _config(folder: Path, size: StudySize, student: Student) -> TrainConfig:
    """The training of one model. A dense model's only FFN is as wide as P of the big and 1 - P of the small together:
    an FFN's FLOPs are proportional to its inner width."""
    config = TrainConfig(
        text=(str(folder / "text.jsonl"),),
        out=str(folder / student.name),
        work=str(folder / "work"),
        tokens=size.tokens,
        seed=student.seed,
        p_big=student.p_big,
        order=student.order,
        layers=size.layers,
        hidden=size.hidden,
        heads=4,
        kv_heads=2,
        big=size.big,
        small=size.small,
        vocabulary=size.vocabulary,
        positions=size.positions,
        batch=size.batch,
        learning_rate=3e-3,
        warmup=0.05,
        threads=1,
        holdouts=(HOLDOUT,),
        holdout_tokens=1,
        checkpoint_minutes=1.0,
    )
    if student.dense:
        width = round(student.p_big * size.big + (1 - student.p_big) * size.small)
        return replace(config, p_big=1.0, big=width, small=1)
    return config


def _train(config: TrainConfig) -> None:
    """Trains one model, or goes on with it; a finished one is left as it is. Its own words and bar are not ours to show."""
    out = Path(config.out)
    if (out / "evaluation.json").is_file():
        return
    threads = torch.get_num_threads()
    out.mkdir(parents=True, exist_ok=True)
    write_text_whole(out / TOKENIZER, (out.parent / TOKENIZER).read_text("utf-8"))
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        train(config)
    torch.set_num_threads(threads)


def _losses(folder: Path, student: Student, size: StudySize) -> dict[str, dict[str, tuple[float, int]]]:
    """Sum of losses and number of tokens by document: `own`, routed as trained; and for a Duo-LLM `big` and `small`."""
    checkpoint = read_checkpoint(str(folder))
    module = build_module(checkpoint.config, checkpoint.tensors)
    assert checkpoint.tokenizer_json is not None
    tokenizer = load_tokenizer(checkpoint.tokenizer_json)
    ways = {"own": 1.0 if student.dense else student.p_big} | ({} if student.dense else {"big": 1.0, "small": 0.0})
    found: dict[str, dict[str, tuple[float, int]]] = {way: {} for way in ways}
    for sequence in read_sequences(HOLDOUT, tokenizer, size.vocabulary, size.positions, per_document=size.windows):
        for way, p_big in ways.items():
            # The same draws for every model: what differs is the model.
            mask_1TL = random_mask(1, sequence.n_positions, size.layers, p_big, 0, sequence.index)
            loss = float(window_losses(module, sequence, mask_1TL[0].numpy()).sum())
            total, count = found[way].get(sequence.document, (0.0, 0))
            found[way][sequence.document] = (total + loss, count + sequence.n_positions)
    return found
