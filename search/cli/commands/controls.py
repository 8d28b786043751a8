"""Show what selection bias alone would give: best of N, label-free lines, layers, calibration, log Z, replicas"""

from __future__ import annotations

from dataclasses import dataclass, field

from duo_oracle.oracle.base.ranges import at_least
from duo_oracle.search.cli.answer import Format, write_sections
from duo_oracle.search.cli.command import Command, Work


@dataclass(frozen=True)
class ControlsConfig:
    """What `duo-oracle controls` is asked.

    Args:
        run: run directory
        best_of: number of random patterns at every budget, the same for all
        log_z: positions at which log Z is computed, from the full logits of every pattern; 0 for none
        replica: another run of the same text (other label seed, noise seed, training seed); repeatable
        calibration: the full model's calibration on the run's text, which takes the run's model
        model: the model's directory, where it has moved since
        seed: seed of the positions drawn for log Z
        format: form of the answer on stdout
    """

    run: str = field(metadata={"uri": True})
    best_of: int = 12
    log_z: int = 0
    replica: tuple[str, ...] = field(default=(), metadata={"uri": True})
    calibration: bool = True
    model: str | None = field(default=None, metadata={"uri": True})
    seed: int = 0
    format: Format = Format.TABLE

    def __post_init__(self) -> None:
        at_least(self, best_of=1, log_z=0, seed=0)


def _run(config: ControlsConfig) -> int:
    from duo_oracle.results import load
    from duo_oracle.results.answers.controls import sections_of_run
    from duo_oracle.results.answers.replicas import replication
    from duo_oracle.search.cli.options import spell_parameters

    run = load(config.run)
    sections = sections_of_run(run, config.best_of)
    if config.replica:
        sections.append(replication(run, [load(path) for path in config.replica]))
    if config.calibration or config.log_z:
        from duo_oracle.search.rerun.controls import calibration_of_run, log_z_of_run
        from duo_oracle.search.rerun.opened import open_run

        opened = open_run(run, config.model)
        if config.calibration:
            sections.append(calibration_of_run(opened))
        if config.log_z:
            sections.append(log_z_of_run(opened, config.log_z, config.seed))
    write_sections(config.format, sections, lambda text: spell_parameters(text, COMMAND))
    return 0


COMMAND = Command(
    work=Work.READ,
    options=ControlsConfig,
    run=_run,
    positional=("run",),
    examples=(
        "duo-oracle search duo-tiny holdout:prose --context full --budget 0-12 --keep losses --out runs/curve",
        "duo-oracle controls runs/curve --log-z 64",
        "duo-oracle controls runs/seed-0 --replica runs/seed-1 --replica runs/seed-2 --format json",
    ),
)
