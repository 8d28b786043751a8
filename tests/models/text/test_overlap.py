"""Windows with a token in front and windows that overlap: every position is scored once, with the context that is promised."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from duo_oracle.models.text.windows import Window, data_fingerprint, read_sequences, resolve_stride
from duo_oracle.oracle.base.errors import InputError


def windows(tmp_path: Path, documents: list[list[int]], seq_len: int, **options: object) -> list[Window]:
    file = tmp_path / "d.jsonl"
    file.write_text("".join(json.dumps({"document": f"d{n}", "tokens": ids}) + "\n" for n, ids in enumerate(documents)))
    return list(read_sequences(str(file), None, 1000, 64, seq_len, **options))  # type: ignore[arg-type]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    lengths=st.lists(st.integers(2, 40), min_size=1, max_size=3),
    seq_len=st.integers(2, 12),
    stride=st.integers(1, 12),
    front=st.sampled_from([(), (999,), (998, 999)]),
)
def test_every_position_is_scored_once(
    tmp_path: Path, lengths: list[int], seq_len: int, stride: int, front: tuple[int, ...]
) -> None:
    stride = min(stride, seq_len)
    documents = [list(range(100 * n, 100 * n + length)) for n, length in enumerate(lengths)]
    found = windows(tmp_path, documents, seq_len, front=front, stride=stride)
    scored: dict[str, list[int]] = {}
    for window in found:
        ids = window.token_ids.tolist()
        assert ids[: window.n_front] == list(front)
        text = ids[window.n_front :]
        assert len(text) <= seq_len
        assert text == list(range(text[0], text[0] + len(text)))
        assert window.n_positions == len(ids[window.scored]) >= 1
        assert ids[window.scored] == text[window.first_position : -1]
        first_of_document = text[0] % 100 == 0
        if not first_of_document and stride < seq_len:
            assert window.first_position == max(0, seq_len - 1 - stride)  # its target has seq_len - stride tokens before it
        scored.setdefault(window.document, []).extend(ids[window.scored])
    for n, ids in enumerate(documents):
        every = ids[:-1]
        if stride == seq_len:  # no overlap: a window's first token is nobody's target, as ever
            every = [token for place, token in enumerate(every) if place % seq_len != seq_len - 1]
        assert scored[f"d{n}"] == every


def test_a_document_that_begins_with_the_token_is_not_given_it_twice(tmp_path: Path) -> None:
    with_it, without = windows(tmp_path, [[9, 1, 2, 3]], 8, front=(9,)), windows(tmp_path, [[1, 2, 3]], 8, front=(9,))
    assert with_it[0].token_ids.tolist() == without[0].token_ids.tolist() == [9, 1, 2, 3]
    assert with_it[0].n_warm == 1
    assert windows(tmp_path, [[9, 1, 2, 3]], 8)[0].n_warm == 0


def test_the_fingerprint_knows_what_is_warm(tmp_path: Path) -> None:
    documents = [list(range(10))]
    prints = {
        data_fingerprint(windows(tmp_path, documents, 4, **options))
        for options in ({}, {"front": (7,)}, {"stride": 3}, {"stride": 2}, {"front": (7,), "stride": 2}, {"front": (8,)})
    }
    assert len(prints) == 6
    one = np.array([7, 1, 2, 3], dtype=np.int32)
    assert data_fingerprint([Window(0, "d", one)]) != data_fingerprint([Window(0, "d", one, 1, 1)])
    assert data_fingerprint([Window(0, "d", one, 1, 0)]) != data_fingerprint([Window(0, "d", one, 1, 1)])


def test_the_windows_without_either_are_those_of_before(tmp_path: Path) -> None:
    """The fingerprint of a run that was made before there was a choice."""
    plain = windows(tmp_path, [[1, 2, 3, 4, 5], [6, 7]], 3)
    assert [window.token_ids.tolist() for window in plain] == [[1, 2, 3], [4, 5], [6, 7]]
    assert data_fingerprint(plain) == data_fingerprint(windows(tmp_path, [[1, 2, 3, 4, 5], [6, 7]], 3, stride=3, front=()))
    assert data_fingerprint(plain) == "42d922b543411832e4de27dd43ef6cba2dbbb2b61abf8907b51c5d4b651e48ee"


def test_a_stride_leaves_no_token_out() -> None:
    with pytest.raises(ValueError, match=r"`stride` must be 1 to `seq_len=8`.*; got 9"):
        resolve_stride(9, 8)
    with pytest.raises(ValueError, match="got 0"):
        resolve_stride(0, 8)


def test_one_token_in_front_takes_no_position_away(tmp_path: Path) -> None:
    ids = [list(range(200))]
    assert len(windows(tmp_path, ids, 64, front=(999,))[0].token_ids) == 65  # the last is only a target
    with pytest.raises(ValueError, match="63 positions; got 64"):
        windows(tmp_path, ids, 64, front=(998, 999))


@pytest.mark.parametrize(("seq_len", "stride", "least"), [(8, 8, 5), (8, 2, 5), (8, 2, 3), (8, 6, 4), (8, 8, 1), (8, 8, 0)])
def test_only_tokens_with_so_much_context_are_scored(tmp_path: Path, seq_len: int, stride: int, least: int) -> None:
    found = windows(tmp_path, [list(range(40)), list(range(100, 104))], seq_len, stride=stride, min_context=least, front=(999,))
    scored = [token for window in found for token in window.token_ids[window.scored].tolist()]
    assert len(set(scored)) == len(scored)
    for window in found:
        assert window.first_position + 1 >= least
        assert window.n_positions >= 1
    if stride == 2:  # enough overlap: every target with so much before it, once
        assert [token for token in scored if token < 100] == list(range(max(0, least - 1), 39))


def test_too_much_context_is_refused_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="`min_context` must be 0 to 7"):
        windows(tmp_path, [list(range(40))], 8, min_context=8)
    with pytest.raises(InputError, match="has 6 tokens or fewer"):
        windows(tmp_path, [list(range(6)), list(range(3))], 8, min_context=6)


@pytest.mark.parametrize(("offset", "stride", "least"), [(0, 8, 0), (5, 8, 0), (5, 4, 3), (36, 8, 0), (39, 8, 0)])
def test_windows_begin_so_far_into_each_document(tmp_path: Path, offset: int, stride: int, least: int) -> None:
    """What is scored is what the rest of the document alone would have scored; the first window holds what stands before it."""
    whole, rest = tmp_path / "whole", tmp_path / "rest"
    whole.mkdir(), rest.mkdir()
    how = {"stride": stride, "min_context": least, "front": (999,)}
    found = windows(whole, [list(range(40)), list(range(100, 190))], 8, offset=offset, **how)
    cut = [list(range(offset, 40)), list(range(100 + offset, 190))]
    expected = windows(rest, [ids for ids in cut if len(ids) > 1], 8, **how)
    assert [w.token_ids.tolist() for w in found] == [w.token_ids.tolist() for w in expected]
    assert [w.start for w in found] == [w.start + offset for w in expected]
    assert [w.opens_document for w in found] == [w.start == 0 for w in expected]
    for window in found:
        first = int(window.token_ids[1]) // 100 * 100
        if offset and window.opens_document:
            assert window.passed is not None
            assert window.passed.tolist() == list(range(first, first + offset))
        else:
            assert window.passed is None


def test_a_document_that_begins_with_the_token_in_front_is_counted_without_it(tmp_path: Path) -> None:
    (window,) = windows(tmp_path, [[999, *range(10)]], 8, offset=6, front=(999,))
    assert window.token_ids.tolist() == [999, 6, 7, 8, 9]


def test_an_offset_beyond_every_document_is_refused_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has 41 tokens or fewer, with `offset=40`"):
        windows(tmp_path, [list(range(40))], 8, offset=40)
    with pytest.raises(InputError, match="`offset` must be at least 0; got -1"):
        windows(tmp_path, [list(range(40))], 8, offset=-1)
