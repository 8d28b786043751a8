"""Study a pretrained model: exact oracle on a dozen layers, beam over all, routers, one page with verdicts

Killed or interrupted, the same command resumes from there.
"""

from __future__ import annotations

from duo_oracle.search.cli.command import Command, Work
from duo_oracle.search.studies.pretrained_config import StudyConfig


def _run(config: StudyConfig) -> int:
    from duo_oracle.search.studies.pretrained import run_study

    for item in run_study(config):
        print(f"{item.name:<16} {item.answer.deciding.verdict}: {item.answer.deciding}")
    print(f"page: {config.out}/index.html and {config.out}/README.md")
    return 0


COMMAND = Command(
    work=Work.REPRODUCE,
    options=StudyConfig,
    run=_run,
    examples=(
        "duo-oracle duo MODEL prose.jsonl --method distil --layers 18-29 --out my-duo",
        "duo-oracle study my-duo --route-layers 18-29 --out runs/study",
        "duo-oracle study MODEL --data my.jsonl --max-documents 20 --out runs/mine",
    ),
    positional=("model",),
    resumes=True,
)
