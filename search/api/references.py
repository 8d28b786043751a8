"""`export-reference`: a model's likeliest next tokens over data, as a reference file that `search --reference FILE.parquet` reads.

Light to import; the engine is loaded by the call.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from duo_oracle.models.text.options import TextOptions
from duo_oracle.oracle.base.ranges import at_least


@dataclass(frozen=True)
class ExportConfig(TextOptions):
    """What `duo-oracle export-reference` is asked.

    Args:
        model: model directory, or the name of a shipped model, whose distributions are written
        # what is written
        top: how many tokens are listed at each position, the likeliest first
        context: each position sees up to so many tokens of its document before it; default what its sequence holds
        # data
        # machine
        device: cpu, cuda, or cuda:N
        threads: threads to use
        # output
        out: Parquet file to write
    """

    model: str = field(metadata={"uri": True})
    out: str
    top: int = 64
    context: int | None = None
    device: str = "cpu"
    threads: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, top=1, context=1, threads=1)


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
