"""a router's choices over data: sequence, position, pattern, as Parquet that `compare` reads"""

from __future__ import annotations

from dataclasses import dataclass

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.search.cli.command import Command


@dataclass(frozen=True)
class RouteConfig:
    """What `duo-oracle route` is asked.

    Args:
        model: model directory, or the name of a shipped model (duo-tiny)
        router: router directory, a shipped router (duo-tiny/budget-4), fixed:PATTERN or random:BUDGET
        data: FILE.txt, FILE.jsonl or FILE.parquet, or a shipped holdout: holdout:prose, holdout:code, and of 2026
            holdout:recent-prose, holdout:recent-code
        out: file to write, .parquet
        logits: keep what the choices were made from as well
        skip: what a skip leaves out, the FFN or the whole layer
        route_layers: layers that are routed, such as 18-27 or 3,5,8-11; the others are always big; default all
        seq_len: tokens per sequence; default 256, or the model's positions where they are fewer
        max_sequences: stop after so many sequences; default all
        per_document: take only the first so many sequences of each document; default all
        threads: threads of this process
    """

    model: str
    router: str
    data: str
    out: str
    logits: bool = False
    skip: SkipReading = SkipReading.FFN
    route_layers: str | None = None
    seq_len: int | None = None
    max_sequences: int | None = None
    per_document: int | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        if not self.out.endswith(".parquet"):
            raise InputError(f"--out is a file .parquet; got {self.out!r}")
        if self.threads < 1:
            raise InputError(f"--threads is at least 1; got {self.threads}")


def _run(config: RouteConfig) -> int:
    from duo_oracle.models.checkpoint import read_checkpoint
    from duo_oracle.models.family import load_module
    from duo_oracle.models.router import read_router
    from duo_oracle.models.text.tokenizer import load_tokenizer
    from duo_oracle.models.text.windows import read_sequences
    from duo_oracle.search.job.routed import write_route_file
    from duo_oracle.search.job.worker import prepare_worker

    prepare_worker(config.threads)
    router, checkpoint = read_router(config.router), read_checkpoint(config.model)
    module = load_module(checkpoint, config.route_layers)
    sequences = list(
        read_sequences(
            config.data,
            None if checkpoint.tokenizer_json is None else load_tokenizer(checkpoint.tokenizer_json),
            module.n_vocabulary,
            module.n_positions,
            config.seq_len,
            config.max_sequences,
            config.per_document,
        )
    )
    print(write_route_file(config.out, router, module, checkpoint.fingerprint, sequences, config.skip, config.logits))
    return 0


COMMAND = Command(
    options=RouteConfig,
    run=_run,
    positional=("model", "router", "data"),
    examples=(
        "duo-oracle route duo-tiny random:4 holdout:prose --per-document 1 --out random-4.parquet",
        "duo-oracle route duo-tiny my-router my.txt --logits --out routes.parquet",
    ),
)
