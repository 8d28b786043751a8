"""`export-reference`: a model's likeliest next tokens over data, as a reference file that `search --reference FILE.parquet` reads.

Light to import; the engine is loaded by the call.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from duo_oracle.models.text.options import SpecialTokens, parse_split, sources_of
from duo_oracle.oracle.base.choices import check_choice
from duo_oracle.oracle.base.ranges import at_least


@dataclass(frozen=True)
class ExportConfig:
    """What `duo-oracle export-reference` is asked.

    Args:
        model: model directory, or the name of a shipped model, whose distributions are written
        data: files, folders or globs of text, or a shipped holdout, as `search` takes them
        # what is written
        top: how many tokens are listed at each position, the likeliest first
        context: each position sees up to so many tokens of its document before it; default what its sequence holds
        # data
        seq_len: tokens of the text per sequence; default 256, or the model's positions where they are fewer
        stride: sequences begin so many tokens apart, and each scores only what no earlier one did; default seq-len, no overlap
        min_context: leave out tokens with fewer than so many tokens of their sequence before them; default 0, none but the first
        bos: token in front of every sequence: auto (what the tokenizer puts in front of a text, else its EOS where there is one),
            none, or a token
        max_sequences: stop after so many sequences; default all
        per_document: take only the first so many sequences of each document; default all
        split: make documents of parts of the documents: blank-lines, or a number of tokens; default none
        special_tokens: how a special token written in a text is read, as the characters that it is or as one token
        # machine
        device: cpu, cuda, or cuda:N
        threads: threads to use
        # output
        out: Parquet file to write
    """

    model: str = field(metadata={"uri": True})
    data: tuple[str, ...] = field(metadata={"uri": True})
    out: str
    top: int = 64
    context: int | None = None
    seq_len: int | None = None
    stride: int | None = None
    min_context: int = 0
    bos: str = "auto"
    max_sequences: int | None = None
    per_document: int | None = None
    split: str | None = None
    special_tokens: SpecialTokens = SpecialTokens.TEXT
    device: str = "cpu"
    threads: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", sources_of(self.data))
        check_choice("special_tokens", self.special_tokens, SpecialTokens)
        parse_split(self.split)
        at_least(self, top=1, context=1, seq_len=2, stride=1, min_context=0, max_sequences=1, per_document=1, threads=1)


def export_reference(config: ExportConfig) -> str:
    """Writes the file; returns a line that says what is in it. Raises InputError for a model or data that does not fit."""
    import torch

    from duo_oracle.models.checkpoint import read_checkpoint
    from duo_oracle.models.family import load_model
    from duo_oracle.models.text.sources import find_files
    from duo_oracle.models.text.windows import data_fingerprint
    from duo_oracle.results.store.reference_files import Rows, write_reference
    from duo_oracle.search.job.reference import History, Passes, check_context
    from duo_oracle.search.job.text import text_of
    from duo_oracle.search.job.worker import prepared

    find_files(config.data)  # a name that is none costs no loading of a model
    checkpoint = read_checkpoint(config.model)
    model = load_model(checkpoint, "float32", config.device)
    text = text_of(config, checkpoint, model)
    if config.context is not None:
        check_context("context", config.model, model, config.context, len(text.front))
    top = min(config.top, model.n_vocabulary)
    source = Passes(model, config.context, config.model)
    loss, labels = 0.0, 0

    def parts() -> Iterator[Rows]:
        nonlocal loss, labels
        history = History(source.context)
        for window in text.read():
            token_id_N, target_N = window.token_ids[window.scored], window.token_ids[window.n_warm + 1 :]
            done = 0
            for log_q_MV in source.log_q(window, history.before(window)):
                some = slice(done, done + len(log_q_MV))
                log_p_MK, token_id_MK = log_q_MV.topk(top, dim=1)
                target_M = torch.from_numpy(target_N[some].astype("int64")).to(log_q_MV.device)
                loss -= float(log_q_MV.gather(1, target_M[:, None]).sum())
                labels += len(log_q_MV)
                position = window.start + window.first_position + done
                yield Rows(window.document, position, token_id_N[some], token_id_MK.cpu().numpy(), log_p_MK.cpu().numpy())
                done += len(log_q_MV)

    facts = {
        "model": config.model,
        "model_fingerprint": checkpoint.fingerprint,
        "data_fingerprint": data_fingerprint(text.read()),
        "n_vocabulary": str(model.n_vocabulary),
        "top": str(top),
        "context": "" if config.context is None else str(config.context),
    }
    with prepared(config.threads):
        n_rows = write_reference(config.out, facts, parts())
    said = f"{n_rows:,} positions, the {top} likeliest tokens each; the model loses {loss / labels:.3f} nats per token"
    return f"{said}: {config.out}"
