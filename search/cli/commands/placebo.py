"""Make a placebo model: big FFNs that are the small ones plus noise, on which every gain is selection bias"""

from __future__ import annotations

from dataclasses import dataclass, field

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.search.cli.command import Command, Work


@dataclass(frozen=True)
class PlaceboConfig:
    """What `duo-oracle placebo` is asked.

    Args:
        model: model directory, or the name of a shipped model (duo-tiny)
        out: model directory to make
        seed: seed of the noise
        scale: size of the noise, as a multiple of how much the real big FFN differs from the small one
    """

    model: str = field(metadata={"uri": True})
    out: str
    seed: int = 0
    scale: float = 1.0


def _run(config: PlaceboConfig) -> int:
    from pathlib import Path

    from duo_oracle.models.checkpoint import read_checkpoint, write_checkpoint
    from duo_oracle.models.duo_llm.placebo import with_placebo

    out = Path(config.out)
    if out.exists():
        raise InputError(f"a new model directory is made; {out} exists already")
    checkpoint = read_checkpoint(config.model)
    tensors = with_placebo(checkpoint.config, checkpoint.tensors, config.seed, config.scale)
    dtype = next(iter(checkpoint.tensors.values())).dtype
    write_checkpoint(out, checkpoint.config, tensors, checkpoint.tokenizer_json, dtype)
    print(f"{out}: {config.model} with big FFNs that are the small ones plus noise (seed {config.seed}, scale {config.scale:g})")
    return 0


COMMAND = Command(
    work=Work.MODELS,
    options=PlaceboConfig,
    run=_run,
    positional=("model",),
    examples=(
        "duo-oracle placebo duo-tiny --out placebo-0 --seed 0",
        "duo-oracle search placebo-0 holdout:prose --context full --budget 0-12 --out runs/placebo-0",
        "duo-oracle controls runs/placebo-0",
    ),
)
