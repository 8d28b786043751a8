"""Import a pretrained model from a GGUF file, as the model directory that the other commands take"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from duo_oracle.search.cli.command import Command, Work


class StoredDtype(StrEnum):
    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"


@dataclass(frozen=True)
class ImportConfig:
    """What `duo-oracle import` is asked.

    Args:
        file: FILE.gguf of the llama architecture; quantised weights are dequantised
        out: model directory to make
        dtype: what the weights are stored as; float32 keeps every value of the file
        overwrite: replace the model that the directory holds
    """

    file: str
    out: str
    dtype: StoredDtype = StoredDtype.FLOAT32
    overwrite: bool = False


def _run(config: ImportConfig) -> int:
    from pathlib import Path

    import torch

    from duo_oracle.models.gguf.conversion import import_gguf

    done = import_gguf(Path(config.file), Path(config.out), getattr(torch, config.dtype), config.overwrite)
    size = f"{done.n_layers} layers, hidden {done.n_hidden}, vocabulary {done.n_vocabulary:,}, {done.n_parameters:,} parameters"
    print(f"{config.out}: llama, {size}, {config.dtype}")
    return 0


COMMAND = Command(
    work=Work.MODELS,
    options=ImportConfig,
    run=_run,
    positional=("file",),
    examples=(
        "duo-oracle import SmolLM2-135M-Instruct.Q4_1.gguf --out models/smollm2",
        "duo-oracle import model.gguf --out models/half --dtype bfloat16",
    ),
)
