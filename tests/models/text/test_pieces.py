"""A text in pieces has the token ids of the whole, in memory that does not grow with it; a tokenizer that cannot is told so."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from duo_oracle.models.checkpoint import SHIPPED
from duo_oracle.models.text import pieces
from duo_oracle.models.text.documents import read_documents
from duo_oracle.models.text.tokenizer import load_tokenizer
from duo_oracle.models.text.windows import read_sequences

SHIPPED_JSON = (SHIPPED["duo-tiny"] / "tokenizer.json").read_text()
LLAMA_3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SAMPLE = "".join(document.text or "" for document in itertools.islice(read_documents("holdout:code"), 4))
SAMPLE += "".join(document.text or "" for document in itertools.islice(read_documents("holdout:prose"), 4))


def trained(pre_tokenizer: object, normalizer: object = None) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator([SAMPLE], trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False))
    return load_tokenizer(tokenizer.to_str())


def byte_level(pattern: str) -> object:
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


CUTTABLE = {
    "shipped": load_tokenizer(SHIPPED_JSON),
    "gpt2": trained(pre_tokenizers.ByteLevel(add_prefix_space=False)),
    "gpt2 with a space in front": trained(pre_tokenizers.ByteLevel(add_prefix_space=True)),
    "llama 3": trained(byte_level(LLAMA_3)),
    "qwen": trained(byte_level(LLAMA_3), normalizers.NFC()),
    "metaspace": trained(pre_tokenizers.Metaspace(prepend_scheme="always")),
    "bert": trained(pre_tokenizers.BertPreTokenizer(), normalizers.BertNormalizer()),
}
WHOLE = {
    "llama 2": trained(None, normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])),
}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE", 600)
    monkeypatch.setattr(pieces, "AROUND", 100)
    monkeypatch.setattr(pieces, "WHOLE", 100_000)


def in_parts(text: str, size: int) -> Iterator[str]:
    return (text[start : start + size] for start in range(0, len(text), size))


def in_pieces(text: str, tokenizer: Tokenizer, size: int = 333) -> list[list[int]]:
    return [piece.tolist() for piece in pieces.token_ids_in_pieces(in_parts(text, size), tokenizer, "here")]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", CUTTABLE)
def test_a_real_text_in_pieces_has_the_tokens_of_the_whole(name: str) -> None:
    tokenizer = CUTTABLE[name]
    found = in_pieces(SAMPLE, tokenizer)
    assert len(found) > len(SAMPLE) / 1200
    assert list(itertools.chain(*found)) == tokenizer.encode(SAMPLE, add_special_tokens=False).ids


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", WHOLE)
def test_a_tokenizer_that_marks_a_texts_start_reads_it_whole(name: str) -> None:
    tokenizer = WHOLE[name]
    (found,) = in_pieces(SAMPLE, tokenizer)
    assert found == tokenizer.encode(SAMPLE, add_special_tokens=False).ids


@pytest.mark.parametrize("name", WHOLE)
def test_and_is_refused_beyond_a_size(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(pieces, "PIECE", 600)
    monkeypatch.setattr(pieces, "AROUND", 100)
    monkeypatch.setattr(pieces, "WHOLE", 4000)
    with pytest.raises(
        ValueError, match="here: the model's tokenizer can only read this text as a whole, and of a whole at most 4,000"
    ):
        in_pieces(SAMPLE, WHOLE[name])


WORDS = st.sampled_from(
    [
        "word",
        "the",
        " ",
        "  ",
        "\n",
        "\n\n",
        "\r\n",
        "\t",
        "42",
        "1",
        "'s",
        "...",
        "é",
        "e\u0301",
        "漢字",
        "🙂",
        "👩‍👩‍👧",
        "x" * 40,
        "(",
        "_",
        "\u00a0",
        "\u3000",
        "a b",
    ]
)


@pytest.mark.usefixtures("small")
@settings(max_examples=60, deadline=None, suppress_health_check=[])
@given(words=st.lists(WORDS, min_size=300, max_size=600), size=st.integers(1, 900), name=st.sampled_from(sorted(CUTTABLE)))
def test_any_text_in_pieces_has_the_tokens_of_the_whole(words: list[str], size: int, name: str) -> None:
    text = "".join(words)
    found = in_pieces(text, CUTTABLE[name], size)
    assert list(itertools.chain(*found)) == CUTTABLE[name].encode(text, add_special_tokens=False).ids


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    "text", ["x" * 5000, " " * 5000, "\n" * 5000, "漢字" * 2500, "0123456789" * 500, "ab" * 900 + " then words follow " * 200]
)
def test_runs_without_words_are_right_too(text: str) -> None:
    for tokenizer in CUTTABLE.values():
        assert list(itertools.chain(*in_pieces(text, tokenizer))) == tokenizer.encode(text, add_special_tokens=False).ids


def test_no_more_is_read_than_the_windows_need(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"Words and more words follow each other. " * 20_000 + b"\xff")
    tokenizer = CUTTABLE["shipped"]
    windows = list(read_sequences(str(tmp_path / "a.txt"), tokenizer, 4096, 256, max_sequences=10))
    assert [len(window.token_ids) for window in windows] == [256] * 10
    with pytest.raises(ValueError, match="must be UTF-8; byte 800000 is 0xff"):
        list(read_sequences(str(tmp_path / "a.txt"), tokenizer, 4096, 256))


_MEMORY = """
import sys
from duo_oracle.models.text.tokenizer import load_tokenizer
from duo_oracle.models.text.windows import read_sequences
tokenizer = load_tokenizer(open(sys.argv[2]).read())
n = sum(w.n_positions for w in read_sequences(sys.argv[1], tokenizer, 4096, 256))
print(n, next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["txt", "txt.gz"])
def test_memory_does_not_grow_with_the_text(tmp_path: Path, suffix: str) -> None:
    import gzip

    used = []
    for n_times in (4, 40):
        content = SAMPLE.encode() * n_times
        path = tmp_path / f"{n_times}.{suffix}"
        path.write_bytes(gzip.compress(content, 1) if suffix.endswith("gz") else content)
        found = subprocess.run(
            [sys.executable, "-c", _MEMORY, str(path), str(SHIPPED["duo-tiny"] / "tokenizer.json")],
            capture_output=True,
            text=True,
            check=True,
        )
        used.append(int(found.stdout.split()[1]) / 1024)
    assert used[1] < used[0] + 20  # MiB
