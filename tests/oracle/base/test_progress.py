"""A bar where somebody looks on: on a terminal and in a notebook, whose stderr is no terminal."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace

import pytest

from duo_oracle.oracle.base.progress import in_notebook, progress


def shown(monkeypatch: pytest.MonkeyPatch) -> str:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with progress(total=2, desc="work") as bar:
        bar.update(2)
    return stream.getvalue()


def test_no_bar_where_nobody_looks_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not in_notebook()
    assert shown(monkeypatch) == ""


@pytest.mark.parametrize(("kernel", "said"), [({"IPKernelApp": {}}, True), ({}, False)])
def test_a_kernel_of_a_notebook_shows_its_bar(monkeypatch: pytest.MonkeyPatch, kernel: dict, said: bool) -> None:
    """IPython in a terminal is judged by its stderr, as Python is."""
    shell = SimpleNamespace(config=kernel)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell, version_info=(8, 0)))
    assert in_notebook() is said
    assert ("work" in shown(monkeypatch)) is said


def test_bars_are_of_one_kind_so_that_one_thread_watches_all() -> None:
    assert type(progress(total=1)) is type(progress(total=2))
