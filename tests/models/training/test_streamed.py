"""Windows from shards: each once an epoch, the same for any step, row and number of processes, from a disk or a bucket."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file
from tokenizers import Tokenizer

from duo_oracle.models.text import shards
from duo_oracle.models.text.shards import row_groups
from duo_oracle.models.text.tokenizer import SEPARATOR, encode, train_tokenizer
from duo_oracle.models.training.config import TrainConfig
from duo_oracle.models.training.stage1 import train
from duo_oracle.models.training.streamed import StreamedWindows, WindowCounts, counts_key, texts_in
from duo_oracle.oracle.base.errors import InputError
from tests.models.training.test_stage1 import WORDS, Stopped, stop_before

POSITIONS, BATCH = 16, 5


def write_shards(folder: Path, n_shards: int, seed: int, rows: int = 30) -> list[list[str]]:
    """Shards of three row groups each; their texts, by row group."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(seed)
    groups = []
    for number in range(n_shards):
        texts = [" ".join(generator.choice(WORDS, int(generator.integers(5, 60)))) for _ in range(rows)]
        pq.write_table(pa.table({"text": texts, "id": range(rows)}), folder / f"{number:03d}.parquet", row_group_size=rows // 3)
        groups += [texts[start : start + rows // 3] for start in range(0, rows, rows // 3)]
    return groups


@pytest.fixture
def corpus(tmp_path: Path) -> tuple[tuple[str, str], Tokenizer, list[list[list[str]]]]:
    texts = [write_shards(tmp_path / "a", 2, 0), write_shards(tmp_path / "b", 3, 1)]
    tokenizer = train_tokenizer((text for source in texts for group in source for text in group), 300)
    return (str(tmp_path / "a"), str(tmp_path / "b")), tokenizer, texts


def windows_of(sources: tuple[str, ...], tokenizer: Tokenizer, work: Path, rank: int = 0, seed: int = 3) -> StreamedWindows:
    separator = tokenizer.token_to_id(SEPARATOR)
    counts = WindowCounts(work, counts_key(tokenizer, separator, POSITIONS), rank)
    return StreamedWindows([row_groups(source) for source in sources], tokenizer, separator, POSITIONS, BATCH, seed, counts)


def expected(texts: list[list[str]], tokenizer: Tokenizer) -> set[tuple[int, ...]]:
    """Every window of every row group."""
    separator = tokenizer.token_to_id(SEPARATOR)
    found = set()
    for group in texts:
        tokens = [token_id for text in group for token_id in (*encode(tokenizer, text), separator)]
        starts = range(0, len(tokens) - POSITIONS, POSITIONS)
        found |= {tuple(tokens[start : start + POSITIONS + 1]) for start in starts}
    return found


def test_an_epoch_has_every_window_once_and_rows_are_of_their_sources(corpus: Any, tmp_path: Path) -> None:
    sources, tokenizer, texts = corpus
    windows = windows_of(sources, tokenizer, tmp_path / "work")
    batches = [windows.batch(step) for step in range(200)]
    for source in (0, 1):
        wanted = expected(texts[source], tokenizer)
        rows = range(source, BATCH, 2)
        seen = [{tuple(batch[row].tolist()) for batch in batches} for row in rows]
        assert set.union(*seen) == wanted  # 200 steps are more than an epoch
        # the first row groups that the rows stand in differ: their windows do
        first = [{tuple(batch[row].tolist()) for batch in batches[:5]} for row in rows]
        assert not any(a & b for place, a in enumerate(first) for b in first[place + 1 :])
    assert not np.array_equal(windows_of(sources, tokenizer, tmp_path / "other", seed=4).batch(0), batches[0])


def test_a_batch_is_a_function_of_seed_and_step_for_any_number_of_processes(corpus: Any, tmp_path: Path) -> None:
    sources, tokenizer, _ = corpus
    whole = windows_of(sources, tokenizer, tmp_path / "work")
    batches = [whole.batch(step) for step in range(60)]
    assert np.array_equal(whole.batch(7), batches[7])  # back to a step before
    parts = [windows_of(sources, tokenizer, tmp_path / "parts", rank) for rank in range(2)]
    for step in (0, 1, 41):
        both = [part.batch(step, rows) for part, rows in zip(parts, (slice(0, 3), slice(3, 5)), strict=True)]
        assert np.array_equal(np.concatenate(both), batches[step])
    for work in ("work", "parts", "nowhere"):  # with the numbers of windows that others have kept, and without
        assert np.array_equal(windows_of(sources, tokenizer, tmp_path / work).batch(59), batches[59])


def test_what_resumes_reads_only_the_row_groups_that_its_rows_stand_in(
    corpus: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources, tokenizer, _ = corpus
    windows = windows_of(sources, tokenizer, tmp_path / "work")
    batches = [windows.batch(step) for step in range(100)]
    read: list[str] = []
    documents = shards.RowGroup.documents
    monkeypatch.setattr(shards.RowGroup, "documents", lambda group: (read.append(group.name), documents(group))[1])
    resumed = windows_of(sources, tokenizer, tmp_path / "work")
    assert np.array_equal(resumed.batch(99), batches[99])
    assert len(read) == BATCH
    (kept,) = (tmp_path / "work").iterdir()
    with kept.open("a") as file:
        file.write('["half a li')  # of a process that was killed
    assert np.array_equal(windows_of(sources, tokenizer, tmp_path / "work").batch(42), batches[42])


def test_text_that_changed_under_a_training_is_refused(corpus: Any, tmp_path: Path) -> None:
    sources, tokenizer, _ = corpus
    windows_of(sources, tokenizer, tmp_path / "work").batch(0)
    for path in (tmp_path / "work").iterdir():
        path.write_text("".join(f"{line[:-2]}1]\n" for line in path.read_text().splitlines()))
    with pytest.raises(InputError, match="parquet holds other text than when this training began"):
        windows_of(sources, tokenizer, tmp_path / "work").batch(0)


def test_texts_in_turn(corpus: Any) -> None:
    sources, _, texts = corpus
    a, b = ([text for group in source for text in group] for source in texts)
    found = list(texts_in([row_groups(source) for source in sources]))
    assert found[:4] == [a[0], b[0], a[1], b[1]]
    assert sorted(found) == sorted(a + b)


def test_what_is_no_shard_is_refused_in_a_line(corpus: Any, tmp_path: Path) -> None:
    sources, tokenizer, _ = corpus
    (tmp_path / "x.jsonl").write_text('{"text": "a"}\n')
    with pytest.raises(InputError, match=r"`stream` reads Parquet files, a row group at a time; .*x.jsonl is jsonl"):
        row_groups(str(tmp_path / "x.jsonl"))
    (tmp_path / "y.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(InputError, match=r"y.parquet: not a readable Parquet file"):
        row_groups(str(tmp_path / "y.parquet"))
    pq.write_table(pa.table({"text": ["a b"] * 4}), tmp_path / "short.parquet", row_group_size=2)
    with pytest.raises(InputError, match=r"must fill a window of 17 tokens; no row group of .*short.parquet does"):
        windows_of((str(tmp_path / "short.parquet"),), tokenizer, tmp_path / "work").batch(0)
    pq.write_table(pa.table({"body": ["a b"] * 4}), tmp_path / "body.parquet")
    with pytest.raises(InputError, match=r"body.parquet, row group 0, row 1: a row must have text"):
        windows_of((str(tmp_path / "body.parquet"),), tokenizer, tmp_path / "work").batch(0)
    with pytest.raises(InputError, match="a `batch` has a window of every training text; got 5 windows and 6 texts"):
        windows_of(sources * 3, tokenizer, tmp_path / "work")


def config_of(sources: tuple[str, ...], out: Path) -> TrainConfig:
    sizes: dict[str, int] = {"layers": 2, "hidden": 16, "heads": 2, "kv_heads": 1, "big": 32, "small": 4, "vocabulary": 300}
    return TrainConfig(
        text=sources,
        out=str(out),
        tokens=12 * 4 * POSITIONS,
        checkpoint_minutes=0.0,
        threads=1,
        holdouts=("holdout:prose",),
        holdout_tokens=40,
        positions=POSITIONS,
        batch=4,
        stream=True,
        **sizes,  # type: ignore[arg-type]
    )


def test_a_training_on_shards_resumes_to_the_same_weights_and_keeps_no_copy(
    corpus: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources, _, _ = corpus
    config = config_of(sources, tmp_path / "whole")
    train(config)
    weights = load_file(tmp_path / "whole" / "model.safetensors")
    assert [path.suffix for path in (tmp_path / "whole" / "work").iterdir()] == [".jsonl"]
    broken = replace(config, out=str(tmp_path / "broken"))
    with monkeypatch.context() as patch:
        stop_before(7, patch)
        with pytest.raises(Stopped):
            train(broken)
    train(broken)
    again = load_file(tmp_path / "broken" / "model.safetensors")
    assert all((again[name] == tensor).all() for name, tensor in weights.items())
    with pytest.raises(InputError, match="stream True, so it cannot go on with False"):
        train(replace(config, stream=False))


@pytest.mark.slow
def test_shards_in_a_bucket_give_the_same_batches_and_are_not_copied(
    corpus: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("moto", reason="a server for buckets: pip install 'moto[server]' s3fs")
    pytest.importorskip("s3fs")
    from duo_oracle.oracle.base.remote import Remote
    from tests.s3_server import serving

    sources, tokenizer, _ = corpus
    wanted = windows_of(sources, tokenizer, tmp_path / "work").batch(30)
    with serving(0.1) as uri:
        for source in sources:
            for path in sorted(Path(source).iterdir()):
                Remote(f"{uri}/{Path(source).name}").put(path.name, path.read_bytes())
        monkeypatch.setattr(Remote, "copy", lambda place: pytest.fail(f"{place.uri} was copied"))
        remote = tuple(f"{uri}/{Path(source).name}" for source in sources)
        assert np.array_equal(windows_of(remote, tokenizer, tmp_path / "remote").batch(30), wanted)
        with pytest.raises(InputError, match="there is none at"):
            row_groups(f"{uri}/nothing")
