"""Make small FFNs for a pretrained model: branch s beside its big FFNs

Killed or interrupted, the same command resumes from its last checkpoint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from duo_oracle.models.small_ffns.config import DuoConfig
from duo_oracle.search.cli.command import Command, Work

if TYPE_CHECKING:
    from duo_oracle.models.small_ffns.making import SmallMade


def _run(config: DuoConfig) -> int:
    from duo_oracle.models.small_ffns.making import make_small

    made = make_small(config)
    print(f"{config.out}: {made.form}")
    if made.costs:
        print("\n".join(_table(made)))
    return 0


def _table(made: SmallMade) -> list[str]:
    """Losses and costs in nats per token, a column per holdout."""
    costs = made.costs.values()
    rows = [
        ("tokens", [f"{cost.n_tokens:,}" for cost in costs]),
        ("loss all-big", [f"{cost.loss_big:.4f}" for cost in costs]),
        ("loss with all these small", [f"{cost.loss_small:.4f}" for cost in costs]),
        ("cost of all these small", [f"{cost.cost_small:+.4f}" for cost in costs]),
        *(
            (f"cost of layer {layer} alone", [f"{cost.cost_alone(layer):+.4f}" for cost in costs])
            for layer in next(iter(costs)).loss_alone
        ),
    ]
    names = [source.rsplit("/", 1)[-1] for source in made.costs]
    return [
        f"{'held-out text, nats per token':<32}" + "".join(f"  {name:>12}" for name in names),
        *(
            f"{what:<32}" + "".join(f"  {value:>{max(12, len(name))}}" for name, value in zip(names, values, strict=True))
            for what, values in rows
        ),
    ]


COMMAND = Command(
    work=Work.MODELS,
    options=DuoConfig,
    run=_run,
    positional=("model", "text"),
    examples=(
        "duo-oracle duo models/smollm2 my.txt --layers 18-27 --method neurons --ratio 0.25 --out models/smollm2-duo",
        "duo-oracle duo models/smollm2 prose.jsonl code.jsonl --method distil --tokens 200k --out models/smollm2-distilled",
        "duo-oracle search models/smollm2-duo holdout:prose --route-layers 18-27 --branches sB --out runs/duo",
    ),
    resumes=True,
)
