"""Write a router's choices over data: sequence, position, pattern, as Parquet that `compare` reads"""

from __future__ import annotations

from duo_oracle.search.api.routing import RouteConfig, write_choices
from duo_oracle.search.cli.command import Command, Work


def _run(config: RouteConfig) -> int:
    print(write_choices(config))
    return 0


COMMAND = Command(
    work=Work.COMPARE,
    options=RouteConfig,
    run=_run,
    positional=("model", "router", "data"),
    examples=(
        "duo-oracle route duo-tiny random:4 holdout:prose --per-document 1 --out random-4.parquet",
        "duo-oracle route duo-tiny my-router my.txt --logits --out routes.parquet",
        "duo-oracle route MIXTURE own my.txt --out routed_experts.npy",
    ),
)
