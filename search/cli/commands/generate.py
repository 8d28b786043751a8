"""Write text with a model under a router or a fixed pattern, and show the route of every token"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from enum import StrEnum

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.search.cli.command import Command, Work


class Form(StrEnum):
    TEXT = "text"
    TABLE = "table"
    MARKDOWN = "markdown"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


@dataclass(frozen=True)
class GenerateConfig:
    """What `duo-oracle generate` is asked.

    Args:
        model: model directory, or the name of a shipped model (duo-tiny)
        prompt: text that is continued; - reads it from stdin
        router: router directory, a shipped router (duo-tiny/budget-4), fixed:PATTERN or random:BUDGET; default the full model
        tokens: how many tokens to write, fewer where the model ends its text
        temperature: 0 writes the likeliest token each time; above it tokens are drawn
        seed: seed of the drawing
        skip: what a skip leaves out, the FFN or the whole layer
        route_layers: layers that are routed, such as 18-27 or 3,5,8-11; the others are always big; default all
        threads: threads of this process
        format: text, or a row for every token with its probability and the pattern that predicted it
    """

    model: str = field(metadata={"uri": True})
    prompt: str
    router: str | None = field(default=None, metadata={"uri": True})
    tokens: int = 64
    temperature: float = 0.0
    seed: int = 0
    skip: SkipReading = SkipReading.FFN
    route_layers: str | None = None
    threads: int = 1
    format: Form = Form.TEXT

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise InputError(f"`threads` must be at least 1; got {self.threads}")


def _run(config: GenerateConfig) -> int:
    import pyarrow as pa

    from duo_oracle.models.checkpoint import read_checkpoint
    from duo_oracle.models.family import load_module
    from duo_oracle.models.generating import written
    from duo_oracle.models.router import read_router
    from duo_oracle.models.routing import check_router
    from duo_oracle.models.text.tokenizer import encode
    from duo_oracle.models.training.batches import training_tokenizer
    from duo_oracle.results.formats import write
    from duo_oracle.search.job.worker import prepared

    checkpoint = read_checkpoint(config.model)
    tokenizer, end = training_tokenizer(checkpoint, config.model)
    module = load_module(checkpoint, config.route_layers)
    router = read_router(config.router or f"fixed:{'B' * module.n_letters}")
    check_router(router, module, config.skip, checkpoint.fingerprint)
    prompt = sys.stdin.read() if config.prompt == "-" else config.prompt
    as_text = config.format is Form.TEXT
    ids, n_prompt, shown = encode(tokenizer, prompt) or [end], 0, ""
    steps, patterns = [], ""
    writing = written(module, router, config.skip, ids, config.tokens, config.temperature, config.seed)
    if as_text:
        print(prompt, end="", flush=True)
    with prepared(config.threads):
        for step in writing:
            if step.token_id == end:
                break
            ids.append(step.token_id)
            n_prompt = n_prompt or len(ids) - 1
            text = tokenizer.decode(ids[n_prompt:], skip_special_tokens=False)
            added = text[len(shown) :] if not text.endswith("\N{REPLACEMENT CHARACTER}") else ""
            if as_text:
                print(added, end="", flush=True)
            shown += added
            patterns += step.pattern
            steps.append({"token": added, "probability": step.probability, "pattern": step.pattern})
    if as_text:
        print()
        average = patterns.count("B") / max(1, len(steps))
        print(
            f"{len(steps)} tokens under {router.spec}: {average:.2f} of {module.n_letters} layers big on average", file=sys.stderr
        )
    else:
        columns = {"token": pa.string(), "probability": pa.float64(), "pattern": pa.string()}
        write(pa.Table.from_pylist(steps, schema=pa.schema(columns)), config.format, sys.stdout.buffer)
        sys.stdout.flush()
    return 0


COMMAND = Command(
    work=Work.MODELS,
    options=GenerateConfig,
    run=_run,
    positional=("model", "prompt"),
    examples=(
        "duo-oracle generate duo-tiny 'The old captain' --router duo-tiny/budget-4",
        "duo-oracle generate duo-tiny 'def main(' --router random:4 --temperature 0.8 --format table",
    ),
)
