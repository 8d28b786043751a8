"""The options of `duo-oracle study`, each declared once. Imports nothing heavy, so that the command line starts at once."""

from __future__ import annotations

from dataclasses import dataclass, field

from duo_oracle.oracle.base.choices import check_choice
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.ranges import at_least

_CONTEXTS = ("full", "committed")


@dataclass(frozen=True)
class StudyConfig:
    """What `duo-oracle study` is asked.

    Args:
        model: model directory; one whose routed layers have small FFNs is also searched over s and B
        out: directory for the page and all that is behind it; the same command resumes it
        route_layers: a dozen layers that are searched exactly, such as 18-29; default the last twelve
        data: holdouts or files to search, newer than the model; repeatable
        text: documents to train routers on; repeatable
        seq_len: tokens of each document that are searched, behind `min_context` others
        min_context: tokens of a document that stand before the first that is searched, run by the full model
        bos: token in front of every document: auto (what the tokenizer puts in front of a text, else its EOS), none, or a token
        max_documents: the most documents of each file that are searched
        context: routing of the earlier tokens in the exact searches: full, and where asked for committed; repeatable
        null_draws: labels drawn per position from all-big to measure selection bias in the exact searches; beam search takes one
        reach_tokens: tokens of each document that are searched for what a better-informed router could reach; 0 for none
        reach_offset: tokens of a document that stand before these; the reference, the model itself, sees them
        reach_context: tokens that the searched model sees there before a position, up to 15 more
        reach_documents: the most documents of each file that are searched there
        beam_tokens: tokens of each document that beam search over all layers takes
        beam_documents: documents of each file that it takes
        beam_big: big layers per token in that search; default all but a fifth
        router: trained routers to compare; repeatable
        router_budget: average big layers per token of the routers; default half of the routed layers
        router_tokens: tokens that each router is trained on
        seed: seed of everything random
        workers: worker processes; default one per core
        local: work in this process, without Ray
    """

    model: str = field(metadata={"uri": True})
    out: str
    route_layers: str | None = None
    data: tuple[str, ...] = field(default=("holdout:recent-prose", "holdout:recent-code"), metadata={"uri": True})
    text: tuple[str, ...] = field(default=("holdout:prose", "holdout:code"), metadata={"uri": True})
    seq_len: int = 25
    min_context: int = 128
    bos: str = "auto"
    max_documents: int = 17
    context: tuple[str, ...] = ("full",)
    null_draws: int = 2
    reach_tokens: int = 48
    reach_offset: int = 352
    reach_context: int = 40
    reach_documents: int = 9
    beam_tokens: int = 14
    beam_documents: int = 8
    beam_big: int | None = None
    router: tuple[str, ...] = ("budget", "expert_threshold")
    router_budget: float | None = None
    router_tokens: int = 16_000
    seed: int = 0
    workers: int | None = None
    local: bool = False

    def __post_init__(self) -> None:
        at_least(
            self,
            seq_len=2,
            min_context=0,
            max_documents=2,
            reach_tokens=0,
            reach_offset=1,
            reach_context=1,
            reach_documents=2,
            beam_tokens=2,
            beam_documents=2,
            beam_big=1,
        )
        at_least(self, null_draws=1, router_tokens=1, seed=0, workers=1)
        if self.local and self.workers not in (None, 1):
            raise InputError(f"`local=True` works in this one process; got `workers={self.workers}`")
        for context in self.context:
            check_choice("context", context, _CONTEXTS)
        if _CONTEXTS[0] not in self.context:
            raise InputError("calibration and routers are of the `context` full; give it as well")
        if not self.data:
            raise InputError("`data` is a holdout or a file; got none")
