"""A name that is nearly right is answered by the right one, wherever a name is taken."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from duo_oracle.models.checkpoint import model_directory
from duo_oracle.models.router import read_router
from duo_oracle.models.text.sources import find_files
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.contexts import parse_context

CASES: list[tuple[Callable[[str], object], str, str]] = [
    (model_directory, "duo-tinny", "duo-tiny"),
    (lambda word: parse_context(word, 4), "comitted", "committed"),
    (lambda word: find_files(word), "holdout:prse", "holdout:prose"),
    (read_router, "duo-tiny/budgt-4", "duo-tiny/budget-4"),
    (read_router, "randm:1", "random:"),
]


@pytest.mark.parametrize(("read", "word", "right"), CASES)
def test_a_name_that_is_nearly_right(read: Callable[[str], object], word: str, right: str) -> None:
    with pytest.raises(InputError, match=f"did you mean {right!r}"):
        read(word)
    with pytest.raises(InputError) as refused:
        read("zzz" if not word.startswith("holdout") else "holdout:zzzzzzzzzz")
    assert "did you mean" not in str(refused.value)
