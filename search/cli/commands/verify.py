"""Verify a run: re-score its stored paths with plain forward passes of its model"""

from __future__ import annotations

from dataclasses import dataclass, field

from duo_oracle.search.cli.answer import Format, write_answer
from duo_oracle.search.cli.command import Command, Work


@dataclass(frozen=True)
class VerifyConfig:
    """What `duo-oracle verify` is asked.

    Args:
        run: run directory
        model: the model's directory, where it has moved since; default the one that the run names
        sample: how many losses are computed again where each takes a forward pass of its own
        all: compute all of them again
        tolerance: greatest difference that passes, in nats; default 1e-4, for a bfloat16 run 0.1
        seed: seed of the sample
        device: cpu, cuda, or cuda:N
        format: form of the answer on stdout
        repair: search again first what is missing or not as it was written, as the run's own search command does
    """

    run: str = field(metadata={"uri": True})
    model: str | None = field(default=None, metadata={"uri": True})
    sample: int = 256
    all: bool = False
    tolerance: float | None = None
    seed: int = 0
    device: str = "cpu"
    format: Format = Format.TABLE
    repair: bool = False


def _run(config: VerifyConfig) -> int:
    from duo_oracle.results import load
    from duo_oracle.results.answers.rows import verification_rows
    from duo_oracle.results.answers.verify import verify
    from duo_oracle.search.rerun.opened import open_run
    from duo_oracle.search.rerun.repair import repair

    if config.repair:
        repair(config.run, config.model)
    run = load(config.run)
    tolerance = config.tolerance if config.tolerance is not None else (0.1 if run.identity["dtype"] == "bfloat16" else 1e-4)
    opened = open_run(run, config.model, config.device)
    found = verify(run, opened.model, None if config.all else config.sample, tolerance, config.seed)
    write_answer(config.format, lambda: verification_rows(found), lambda: str(found))
    return 0 if found.passed else 1


COMMAND = Command(
    work=Work.READ,
    options=VerifyConfig,
    run=_run,
    positional=("run",),
    examples=(
        "duo-oracle verify runs/first",
        "duo-oracle verify runs/first --repair",
        "duo-oracle verify runs/first --all --model /elsewhere/model",
    ),
)
