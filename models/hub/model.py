"""A model of the hub: OWNER/NAME or OWNER/NAME@REVISION. What its files hold is their readers' knowledge."""

from __future__ import annotations

import re
from pathlib import Path

from duo_oracle.models.hub.repository import fetched, looked_in
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.json_text import read_json

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
SMALL_FILES = (CONFIG, "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", INDEX)
_MODEL = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")


def is_model_name(text: str) -> bool:
    """Whether `text` has the form OWNER/NAME or OWNER/NAME@REVISION."""
    return _MODEL.fullmatch(text) is not None


def fetch_model(model: str) -> Path:
    """The folder of OWNER/NAME or OWNER/NAME@REVISION in the hub's cache, with config, tokenizer, and the weights that are read.

    A repository's other weights (consolidated ones, other formats) are not fetched. Raises InputError, one line, where neither the
    hub nor its cache has what is needed.
    """
    parts = _MODEL.fullmatch(model)
    assert parts is not None, "is_model_name was asked before"
    folder = fetched(model, "model", parts["name"], parts["revision"], list(SMALL_FILES))
    if not (folder / CONFIG).is_file():
        raise InputError(f"{model} of the hub has no {CONFIG}: {looked_in(folder)}")
    weights = _shards(folder / INDEX) if (folder / INDEX).is_file() else [WEIGHTS]
    fetched(model, "model", parts["name"], folder.name, weights)
    missing = [file for file in weights if not (folder / file).is_file()]
    if missing:
        raise InputError(
            f"{model} of the hub has no {missing[0]}: weights are read from safetensors only, "
            f"and {len(missing)} of {len(weights)} such files are missing; {looked_in(folder)}"
        )
    return folder


def _shards(index: Path) -> list[str]:
    """The weight files that an index names, or WEIGHTS where it is no index: its reader says what is wrong with it."""
    try:
        return sorted({str(file) for file in read_json(index)["weight_map"].values()}) or [WEIGHTS]
    except (ValueError, KeyError, AttributeError, TypeError):
        return [WEIGHTS]
