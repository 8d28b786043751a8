"""What interrupted training goes on from: weights and AdamW's moments as safetensors, the rest as JSON; nothing is pickled.

Batches, routing and learning rates are functions of the step (`batches.py`, `schedule.py`), so the step is all the state that
remains.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from safetensors.torch import load_file
from torch import nn

from duo_oracle.models.checkpoint import save_file_whole
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.json_text import read_json
from duo_oracle.oracle.base.whole_file import write_text_whole

_MOMENTS = ("exp_avg", "exp_avg_sq", "step")
# Options that change how, not what, is trained: they may differ between the parts of an interrupted run. Calibration comes after.
_FREE = frozenset({"out", "work", "checkpoint_minutes", "threads", "device", "holdouts", "holdout_tokens"}) | frozenset(
    {"calibrate", "calibration_text", "calibration_tokens", "merge", "overwrite", "track", "accumulate", "compile"}
)


class TrainingOptions(Protocol):
    """What every training's dataclass of options says of how it learns."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def learning_rate(self) -> float: ...

    @property
    def warmup(self) -> float: ...

    @property
    def checkpoint_minutes(self) -> float: ...

    @property
    def track(self) -> str | None: ...


@dataclass(frozen=True)
class LossPoint:
    """Mean training loss in nats per token, over the steps since the point before."""

    step: int
    tokens: int
    loss: float
    learning_rate: float
    seconds: float


@dataclass(frozen=True)
class Progress:
    """A checkpoint: how many steps are done, the file of its tensors, and the losses so far."""

    step: int
    state: str
    history: tuple[LossPoint, ...]


def config_identity(config: TrainingOptions) -> dict[str, Any]:
    """The options that the weights depend on, as JSON keeps them."""
    options = {key: value for key, value in asdict(config).items() if key not in _FREE}
    return json.loads(json.dumps(options))


def save_progress(
    folder: Path,
    step: int,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    history: list[LossPoint],
    config: TrainingOptions,
) -> None:
    """Writes a checkpoint; the JSON that names its tensors comes last, and only then is the one before removed."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"weight/{name}": parameter.detach().contiguous() for name, parameter in module.named_parameters()}
    for name, parameter in module.named_parameters():
        for moment, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{moment}/{name}"] = value.detach().contiguous()
    path = folder / f"state-{step:08d}.safetensors"
    save_file_whole(path, tensors)
    progress = {
        "step": step,
        "state": path.name,
        "config": config_identity(config),
        "history": [asdict(point) for point in history],
    }
    write_text_whole(folder / "progress.json", json.dumps(progress) + "\n")
    for other in folder.glob("state-*.safetensors"):
        if other != path:
            other.unlink()


def read_progress(folder: Path, config: TrainingOptions) -> Progress | None:
    """The record of the last checkpoint, or None where there is none. Raises InputError for one of another configuration."""
    path = folder / "progress.json"
    if not path.is_file():
        return None
    record = read_json(path)
    wanted = config_identity(config)
    before = {name: json.loads(json.dumps(f.default)) for name, f in config.__dataclass_fields__.items() if _is_plain(f.default)}
    found = {**{name: before[name] for name in wanted.keys() & before.keys()}, **record["config"]}  # options that came later
    for key in sorted(wanted.keys() | found.keys()):
        if wanted.get(key) != found.get(key):
            raise InputError(
                f"{folder.parent} holds training with {key} {found.get(key)!r}, so it cannot go on with {wanted.get(key)!r}; "
                "choose another `out`, or remove that directory"
            )
    return Progress(record["step"], record["state"], tuple(LossPoint(**point) for point in record["history"]))


def _is_plain(default: Any) -> bool:
    return default is None or isinstance(default, bool | int | float | str | tuple)


def restore_weights(folder: Path, progress: Progress, module: nn.Module) -> None:
    """Puts the weights back to a checkpoint's. Raises InputError for one that lacks some of them."""
    tensors = load_file(folder / progress.state)
    missing = [name for name, _ in module.named_parameters() if f"weight/{name}" not in tensors]
    if missing:
        raise InputError(
            f"{folder} was written by another version, which kept no {missing[0]}; finish it by that one, or choose another `out`"
        )
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(tensors[f"weight/{name}"])


def restore_moments(folder: Path, progress: Progress, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Puts AdamW's moments back, for the parameters that the optimizer has."""
    tensors = load_file(folder / progress.state)
    learning = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    for name, parameter in module.named_parameters():
        if id(parameter) in learning and f"step/{name}" in tensors:
            optimizer.state[parameter] = {moment: tensors[f"{moment}/{name}"].to(parameter.device) for moment in _MOMENTS}


def history_csv(history: list[LossPoint]) -> str:
    """The loss history as CSV text."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(LossPoint.__annotations__), lineterminator="\n")
    writer.writeheader()
    for point in history:
        rounded = {"loss": f"{point.loss:.5f}", "learning_rate": f"{point.learning_rate:.3e}", "seconds": f"{point.seconds:.1f}"}
        writer.writerow({**asdict(point), **rounded})
    return text.getvalue()
