"""Model directories: `config.json`, `model.safetensors` (or shards with their index) and `tokenizer.json`.

No pickle is ever read. Knows the files and no model: which tensors a config needs is its family's knowledge.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from duo_oracle.models.hub.model import fetch_model, is_model_name
from duo_oracle.models.hub.repository import NotThere
from duo_oracle.oracle.base.choices import meant
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.json_text import parsed_json
from duo_oracle.oracle.base.lfs import refuse_pointer
from duo_oracle.oracle.base.ranges import MOST
from duo_oracle.oracle.base.remembered import recalled, remember
from duo_oracle.oracle.base.remote import Remote, is_remote, place_of
from duo_oracle.oracle.base.whole_file import write_text_whole, written_whole

CONFIG, TOKENIZER, WEIGHTS, INDEX = "config.json", "tokenizer.json", "model.safetensors", "model.safetensors.index.json"
BASE, BASE_FINGERPRINT = "base_model", "base_fingerprint"
TOKENIZER_SAYS = ("special_tokens_map.json", "tokenizer_config.json")  # the later one first
HUB = "hf://"
_FINGERPRINTS, _REMEMBERED_AS = "fingerprints", 1  # raised where a fingerprint's meaning changes
_LARGE = 1 << 28  # bytes of weights from which on a fingerprint is remembered
SHIPPED = {"duo-tiny": Path(__file__).parent / "duo_tiny", "et-tiny": Path(__file__).parent / "et_tiny"}


@dataclass(frozen=True)
class Checkpoint:
    """What a model directory holds. `fingerprint` is a sha256 over config, tensors and tokenizer: equal models, equal prints.

    `tokenizer_said` is what tokenizer_config.json says, and of tokens it does not name, special_tokens_map.json: which tokens begin
    and end a text. It decides nothing but defaults.
    """

    config: dict[str, Any]
    tensors: dict[str, Tensor]
    tokenizer_json: str | None
    fingerprint: str
    tokenizer_said: dict[str, Any] = field(default_factory=dict)


def model_directory(model: str) -> Path:
    """The directory of a shipped name, of a path, or of a model of the Hugging Face hub (OWNER/NAME or OWNER/NAME@REVISION;
    fetched once, then read from the hub's cache). Raises InputError where there is none."""
    if model.startswith(HUB) and is_model_name(model.removeprefix(HUB)):
        return fetch_model(model.removeprefix(HUB))  # of a whole repository what is read, from the hub's cache
    if is_remote(model):
        path = Remote(model).copy()
        if not path.is_dir():
            raise InputError(f"a model is a directory; {model} is an object")
        return path
    model = place_of(model)
    path = SHIPPED.get(model, Path(model))
    if path.is_dir():
        return path
    none = f"a model is a directory, a shipped name ({', '.join(sorted(SHIPPED))}) or OWNER/NAME of the hub; there is no {model!r}"
    none = f"{none}; {guess}" if (guess := meant(model, SHIPPED)) else none
    if not is_model_name(model) or path.parent.is_dir():
        raise InputError(none)
    try:
        return fetch_model(model)
    except NotThere as fault:
        raise InputError(f"{none} ({fault})") from None


def base_directory(model: str) -> Path | None:
    """Where the base model is of a directory that holds small FFNs alone; None for a model that is whole."""
    directory = model_directory(model)
    named = _read_json(directory / CONFIG).get(BASE)
    if named is None:
        return None
    beside = directory / str(named)
    return beside.resolve() if beside.is_dir() else model_directory(str(named))


def read_checkpoint(model: str) -> Checkpoint:
    """Reads a model directory or a shipped model, tensors as stored, on the CPU.

    A directory whose config.json names a `base_model` holds small FFNs alone: the rest is read from that model (a path that is
    not absolute is looked for from the directory first), which must have the `base_fingerprint` and name no base itself.

    Raises InputError, one line, for a directory that is none, lacks a file, holds only pickled weights, or whose files are
    truncated, not what they say, or not finite numbers; and for a base model that is missing or another one.
    """
    directory = model_directory(model)
    config = _read_json(directory / CONFIG)
    if BASE in config:
        return _upon_base(directory, config)
    return _whole(directory, config)


def _whole(directory: Path, config: dict[str, Any]) -> Checkpoint:
    """A directory that needs no other."""
    files = _weight_files(directory)
    tensors = _read_tensors(files)
    _check_numbers(directory / CONFIG, config)
    _check_depth(directory / CONFIG, config, len(tensors))
    tokenizer = directory / TOKENIZER
    tokenizer_json = _read_text(tokenizer) if tokenizer.exists() else None
    _check_tokenizer(tokenizer, tokenizer_json)
    said: dict[str, Any] = {}
    for name in TOKENIZER_SAYS:
        if tokenizer_json is not None and (directory / name).is_file():
            said |= _read_json(directory / name)
    fingerprint = _finite_fingerprint(directory, files, config, tensors, tokenizer_json, tensors)
    return Checkpoint(config, tensors, tokenizer_json, fingerprint, said)


def _check_numbers(path: Path, config: Mapping[str, Any]) -> None:
    """Raises InputError for a value that is no finite number, or none of 64 bits, which a model would compute with.

    In a list one may mean no limit.
    """
    for key, value in config.items():
        if isinstance(value, int) and abs(value) > MOST:
            raise InputError(f"{path}: {key} must be a number of 64 bits; got {value!r:.80}")
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{path}: {key} must be a finite number; got {value}")
        if isinstance(value, dict):
            _check_numbers(path, value)


def _check_depth(path: Path, config: dict[str, Any], n_tensors: int) -> None:
    """Raises InputError for more layers than the weights can be of, which would be built for minutes, or for ever, to say so."""
    for key in ("num_hidden_layers", "n_layer", "n_layers", "num_layers"):
        n_layers = config.get(key)
        if isinstance(n_layers, int) and n_layers > max(n_tensors, 1000):
            raise InputError(f"{path}: {key} is {n_layers!r:.20}, and the weights beside it are {n_tensors:,} tensors in all")


def _upon_base(directory: Path, config: dict[str, Any]) -> Checkpoint:
    """The base model with the small FFNs of `directory` added."""
    named, wanted = config[BASE], config.get(BASE_FINGERPRINT)
    if not isinstance(named, str) or not isinstance(wanted, str):
        raise InputError(f"{directory / CONFIG}: {BASE} and {BASE_FINGERPRINT} must be texts; got {named!r:.80} and {wanted!r:.80}")
    beside = directory / named
    try:
        place = model_directory(str(beside) if beside.is_dir() else named)
        base_config = _read_json(place / CONFIG)
        if BASE in base_config:  # a chain could lead back to where it began
            raise InputError(f"a base model needs no other; config.json of {place} names one too")
        base = _whole(place, base_config)
    except ValueError as fault:
        raise InputError(
            f"{directory}: its small FFNs stand beside the base model {named!r}, which cannot be read: {fault}"
        ) from None
    if base.fingerprint != wanted:
        raise InputError(
            f"{directory}: its small FFNs were made for a base model of fingerprint {wanted[:12]}; {named!r} "
            f"has {base.fingerprint[:12]}"
        )
    whole = {key: value for key, value in config.items() if key not in (BASE, BASE_FINGERPRINT)}
    files = _weight_files(directory)
    own = _read_tensors(files)
    for name in own:
        if name in base.tensors:
            raise InputError(f"{directory}: it holds small FFNs alone; tensor {name} stands in the base model {named!r} too")
    tensors = {**base.tensors, **own}
    fingerprint = _finite_fingerprint(directory, _weight_files(place) + files, whole, tensors, base.tokenizer_json, own)
    return Checkpoint(whole, tensors, base.tokenizer_json, fingerprint, base.tokenizer_said)


def _read_tensors(files: Sequence[tuple[Path, list[str] | None]]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for file, names in files:
        tensors.update(_read_safetensors(file, names))
    return tensors


def _finite_fingerprint(
    directory: Path,
    files: Sequence[tuple[Path, list[str] | None]],
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    tokenizer_json: str | None,
    unchecked: Mapping[str, Tensor],
) -> str:
    """The fingerprint of weights that are finite numbers. Raises InputError for others among those that are `unchecked`.

    Of large weights both are remembered by what the system says of their files, which changes when one is written: reading and
    digesting 16 GB takes most of a minute.
    """
    states = [(str(file.resolve()), names, file.stat()) for file, names in files]
    key = None
    if sum(state.st_size for _, _, state in states) >= _LARGE:
        seen = [[path, names, s.st_size, s.st_ino, s.st_mtime_ns, s.st_ctime_ns] for path, names, s in states]
        said = json.dumps([_REMEMBERED_AS, dict(config), tokenizer_json, seen], sort_keys=True)
        key = hashlib.sha256(said.encode()).hexdigest()
        if isinstance(known := recalled(_FINGERPRINTS, key), str):
            return known
    for name, tensor in unchecked.items():
        wide = tensor.float() if tensor.is_floating_point() and tensor.element_size() == 1 else tensor  # torch asks no float8
        if tensor.is_floating_point() and not torch.isfinite(wide).all():
            raise InputError(f"{directory}: weights must be finite numbers; tensor {name} has an infinity or NaN")
    fingerprint = fingerprint_of(config, tensors, tokenizer_json)
    if key is not None:
        remember(_FINGERPRINTS, key, fingerprint)
    return fingerprint


def write_checkpoint(
    directory: Path,
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    tokenizer_json: str | None,
    dtype: torch.dtype,
    as_they_are: Container[str] = (),
) -> None:
    """Writes a model directory, tensors stored as `dtype` but those named; each file whole or not at all, the weights last."""
    directory.mkdir(parents=True, exist_ok=True)
    write_text_whole(directory / CONFIG, json.dumps(dict(config), indent=2) + "\n")
    if tokenizer_json is not None:
        write_text_whole(directory / TOKENIZER, tokenizer_json)
    stored = {name: tensor.detach().to(tensor.dtype if name in as_they_are else dtype) for name, tensor in tensors.items()}
    save_file_whole(directory / WEIGHTS, {name: tensor.contiguous() for name, tensor in stored.items()})


def save_file_whole(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes a safetensors file, whole or not at all. The metadata is what transformers asks for."""
    with written_whole(path) as aside:
        save_file(dict(tensors), aside, metadata={"format": "pt"})


def fingerprint_of(config: Mapping[str, Any], tensors: Mapping[str, Tensor], tokenizer_json: str | None) -> str:
    """sha256, independent of the order of keys and of how the tensors are spread over files."""
    digest = hashlib.sha256(json.dumps(dict(config), sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    digest.update((tokenizer_json or "").encode())
    return digest.hexdigest()


def _read_text(path: Path) -> str:
    content = path.read_bytes()
    refuse_pointer(content, path)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{path}: must be UTF-8 text") from None


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"{path.parent}: a model directory must hold {path.name}; it does not")
    text = _read_text(path)
    try:
        content = parsed_json(text)
    except ValueError as fault:
        raise InputError(f"{path}: must be JSON; {fault}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: must be a JSON object; got {content!r:.80}")
    return content


def _weight_files(directory: Path) -> list[tuple[Path, list[str] | None]]:
    """The safetensors files with the tensors to read of each (None for all)."""
    if (directory / WEIGHTS).is_file():
        return [(directory / WEIGHTS, None)]
    if (directory / INDEX).is_file():
        weight_map = _read_json(directory / INDEX).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise InputError(f"{directory / INDEX}: must have a weight_map from tensor to file; got {weight_map!r:.80}")
        files: dict[str, list[str]] = {}
        for name, file in weight_map.items():
            if not isinstance(file, str) or Path(file).name != file:
                raise InputError(f"{directory / INDEX}: a shard is a file of the same directory; tensor {name} is in {file!r}")
            files.setdefault(file, []).append(name)
        for file in files:
            if not (directory / file).is_file():
                raise InputError(f"{directory}: {INDEX} names the shard {file}, which is missing")
        return [(directory / file, names) for file, names in files.items()]
    pickled = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for path in directory.glob(pattern))
    if pickled:
        raise InputError(
            f"{directory}: weights are read from safetensors only, because a pickle can run code; convert {pickled[0]} to {WEIGHTS}"
        )
    raise InputError(f"{directory}: a model directory must hold {WEIGHTS} or {INDEX}; it holds neither")


def _read_safetensors(file: Path, names: list[str] | None) -> dict[str, Tensor]:
    with file.open("rb") as content:
        refuse_pointer(content.read(64), file)
    try:
        with safe_open(file, framework="pt") as opened:
            present = set(opened.keys())
            for name in names or ():
                if name not in present:
                    raise InputError(f"{file}: the index says that it holds tensor {name}; it does not")
            return {name: opened.get_tensor(name) for name in sorted(present if names is None else names)}
    except SafetensorError as fault:
        raise InputError(f"{file}: not a whole safetensors file: {str(fault).splitlines()[0]}") from None


def _check_tokenizer(path: Path, tokenizer_json: str | None) -> None:
    """Raises InputError for a file that is none. Tokens beyond the model's vocabulary, such as a pad token that its embedding was
    never enlarged for, are no fault here: a text in which one occurs is refused where it is read."""
    if tokenizer_json is None:
        return
    from duo_oracle.models.text.tokenizer import load_tokenizer  # here: data that carries token ids needs no tokenizer

    try:
        load_tokenizer(tokenizer_json)
    except ValueError as fault:
        raise InputError(f"{path.parent}: {fault}") from None
