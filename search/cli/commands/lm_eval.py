"""Run tasks of lm-evaluation-harness on a model under a router or a fixed pattern, with the full model beside it"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.extras import extras_named
from duo_oracle.oracle.base.whole_file import write_text_whole
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.search.cli.answer import Format, write_answer
from duo_oracle.search.cli.command import Command, Work

FULL = "full"


@dataclass(frozen=True)
class LmEvalConfig:
    """What `duo-oracle lm-eval` is asked.

    Args:
        model: model directory, or the name of a shipped model (duo-tiny)
        tasks: names of tasks, the harness's own or of a folder of yours
        routers: directories, shipped routers (duo-tiny/budget-4), fixed:PATTERN or random:BUDGET; the full model is run as well
        include_path: folder of task files (.yaml) of your own
        num_fewshot: examples in front of every question; default each task's own
        limit: run only the first so many questions of each task
        batch_size: texts that are run together
        skip: what a skip leaves out, the FFN or the whole layer
        route_layers: layers that are routed, such as 18-27 or 3,5,8-11; the others are always big; default all
        out: also save all that the harness reports, as JSON, to this file
        format: form of the table on stdout
    """

    model: str = field(metadata={"uri": True})
    tasks: tuple[str, ...]
    routers: tuple[str, ...] = field(default=(), metadata={"uri": True})
    include_path: str | None = None
    num_fewshot: int | None = None
    limit: int | None = None
    batch_size: int = 16
    skip: SkipReading = SkipReading.FFN
    route_layers: str | None = None
    out: str | None = None
    format: Format = Format.TABLE

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise InputError(f"`limit` must be at least 1; got {self.limit}")
        if self.num_fewshot is not None and self.num_fewshot < 0:
            raise InputError(f"`num_fewshot` must be at least 0; got {self.num_fewshot}")


@extras_named("duo-oracle lm-eval")
def _run(config: LmEvalConfig) -> int:
    import lm_eval

    from duo_oracle.models.harness.lm_eval import RoutedLM

    manager = _manager(config)
    reports: dict[str, Any] = {}
    for router in (None, *config.routers):
        model = RoutedLM(config.model, router, config.batch_size, config.skip, config.route_layers)
        report = lm_eval.simple_evaluate(
            model=model,
            tasks=list(config.tasks),
            task_manager=manager,
            num_fewshot=config.num_fewshot,
            limit=config.limit,
            log_samples=config.out is not None,
            verbosity="ERROR",
        )
        reports[router or FULL] = {"used": dict(model.used), "n_letters": model.module.n_letters, **report}
    if config.out is not None:
        write_text_whole(Path(config.out), json.dumps(reports, indent=2, default=str) + "\n")
    write_answer(config.format, lambda: _rows(reports))
    return 0


def _manager(config: LmEvalConfig) -> Any:
    """The tasks of `include_path` where they are all that is asked for: to list the harness's own takes half a minute.

    Raises InputError for a task of neither.
    """
    from lm_eval.tasks import TaskManager

    unknown = list(config.tasks)
    for defaults in (False, True) if config.include_path else (True,):
        manager = TaskManager(include_path=config.include_path, include_defaults=defaults)
        unknown = [task for task in config.tasks if not manager.match_tasks([task])]
        if not unknown:
            return manager
    raise InputError(f"`tasks` must be of the harness or of `include_path`; there is no {', '.join(unknown)}")


def _rows(reports: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for every router, task and metric: its value, its standard error, and the letters that a token took on average."""
    rows = []
    for router, report in reports.items():
        n_tokens = sum(report["used"].values()) / report["n_letters"]
        for task, found in report["results"].items():
            for key, value in found.items():
                metric, comma, variant = key.partition(",")
                if not comma or metric.endswith("_stderr") or not isinstance(value, int | float):
                    continue
                error = found.get(f"{metric}_stderr,{variant}")
                rows.append(
                    {
                        "router": router,
                        "task": task,
                        "metric": metric,
                        "value": float(value),
                        "standard_error": float(error) if isinstance(error, int | float) else None,
                        "n": report["n-samples"][task]["effective"],
                        "big_layers": report["used"].get("B", 0) / n_tokens if n_tokens else None,
                    }
                )
    return rows


COMMAND = Command(
    work=Work.COMPARE,
    options=LmEvalConfig,
    run=_run,
    positional=("model", "tasks"),
    examples=(
        "duo-oracle lm-eval duo-tiny my_task --include-path tasks --routers duo-tiny/budget-6 --routers random:6",
        "duo-oracle lm-eval OWNER/NAME arc_easy --limit 200 --route-layers 18-27 --routers fixed:BBBBBBBB.. --out report.json",
    ),
)
