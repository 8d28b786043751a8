"""Find the oracle path of every token: the main job

Distributed on Ray workers unless `--local`; interrupted or killed, the same command resumes.
"""

from __future__ import annotations

import sys
from functools import partial

from duo_oracle.oracle.base.choices import Choices
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.search.cli.command import Command, Work, settings_notes
from duo_oracle.search.job.config import SearchConfig


def _run(config: SearchConfig) -> int:
    from duo_oracle.results import load
    from duo_oracle.results.answers.summary import summarise
    from duo_oracle.search.cli.options import spell_parameters
    from duo_oracle.search.job.driver import run_search

    spell = partial(spell_parameters, command=COMMAND)
    if config.out.startswith("memory://"):
        raise InputError(f"`out` outlives this command, and memory:// does not: it is for duo_oracle in Python; got {config.out}")
    outcome = run_search(config, spell=spell)
    if config.dry_run:
        print(spell("\n".join(outcome.plan)))
        return 0
    if outcome.failures:
        for failure in outcome.failures:
            if failure.traceback:
                print(failure.traceback.rstrip(), file=sys.stderr)
        print(
            f"duo-oracle: {len(outcome.failures)} of the run's units failed and all else is kept in {outcome.directory}; "
            "the same command tries them again",
            file=sys.stderr,
        )
        return 1
    print(spell(summarise(load(outcome.directory)).rstrip()))
    return 0


COMMAND = Command(
    work=Work.SEARCH,
    options=SearchConfig,
    run=_run,
    examples=(
        "duo-oracle search duo-tiny holdout:prose --max-sequences 4 --out runs/first",
        "duo-oracle search duo-tiny my.txt --context full --budget 0-12 --out runs/curve",
        "duo-oracle search MODEL my.txt --split blank-lines --dry-run --out runs/mine",
        "duo-oracle search MODEL my.jsonl --branches .sB --skip layer --budget atmost:4 --out runs/skips",
        "duo-oracle search MIXTURE my.jsonl --branches top:1,2,4 --gate renormalised --budget own,any --out runs/experts",
        "duo-oracle search MODEL my.parquet --strategy random_search --set n=64 --keep trials --out runs/random",
        "duo-oracle search MODEL my.parquet --address auto --workers 64 --out /shared/runs/big",
        "duo-oracle search --config my.yaml --out runs/again",
    ),
    positional=("model", "data"),
    resumes=True,
    notes=settings_notes(Choices("strategy", "duo_oracle.search.strategies")),
)
