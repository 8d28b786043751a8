"""Reproduce the figures of the Duo-LLM paper, each with its control and one verdict

Killed or interrupted, the same command resumes from there.
"""

from __future__ import annotations

from duo_oracle.search.cli.command import Command, Work
from duo_oracle.search.studies.paper_config import ReproduceConfig


def _run(config: ReproduceConfig) -> int:
    from duo_oracle.search.studies.paper import reproduce

    for name, answer in reproduce(config).items():
        print(f"{name:<6} {answer.deciding.verdict}: {answer.deciding}")
    print(f"page: {config.out}/index.html and {config.out}/README.md")
    return 0


COMMAND = Command(
    work=Work.REPRODUCE,
    options=ReproduceConfig,
    run=_run,
    examples=(
        "duo-oracle reproduce --out runs/paper",
        "duo-oracle reproduce --only fig4b --max-documents 6 --out runs/curve",
        "duo-oracle reproduce MODEL --data my.jsonl --router ROUTER --out runs/mine",
    ),
    positional=("model",),
    resumes=True,
)
