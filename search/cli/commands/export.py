"""Export a mixture of experts trained here as a model that transformers loads"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from duo_oracle.search.cli.command import Command, Work


@dataclass(frozen=True)
class ExportConfig:
    """Writes the same model under the names of an architecture of transformers, or says why none computes it.

    Args:
        model: directory of a mixture that train-moe wrote
        out: directory to write
    """

    model: str = field(metadata={"uri": True})
    out: str


def _run(config: ExportConfig) -> int:
    from duo_oracle.models.checkpoint import read_checkpoint
    from duo_oracle.models.moe_llm.export import export

    print(f"{config.out}: a {export(read_checkpoint(config.model), Path(config.out))} model of transformers")
    return 0


COMMAND = Command(
    work=Work.MODELS,
    options=ExportConfig,
    run=_run,
    positional=("model",),
    examples=("duo-oracle export models/tc --out models/tc-transformers",),
)
