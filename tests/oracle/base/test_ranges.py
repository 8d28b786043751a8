"""The ranges of options: one line that names the parameter, the law and the value; None is in range, NaN is not."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.ranges import above, at_least, within


@dataclass(frozen=True)
class Options:
    count: int | None = 2
    share: float = 0.5


def check(options: Options) -> None:
    at_least(options, count=2)
    above(options, share=0)
    within(options, share=(0, 1))


@pytest.mark.parametrize("options", [Options(), Options(count=None), Options(share=1.0), Options(share=1e-9)])
def test_what_is_in_range_passes(options: Options) -> None:
    check(options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (Options(count=1), "`count` must be at least 2; got 1"),
        (Options(share=0.0), "`share` must be above 0; got 0.0"),
        (Options(share=1.5), "`share` must lie between 0 and 1; got 1.5"),
        (Options(share=float("nan")), "`share` must be above 0; got nan"),
    ],
)
def test_what_is_not_is_refused_by_name(options: Options, said: str) -> None:
    with pytest.raises(InputError) as refusal:
        check(options)
    assert str(refusal.value) == said


def test_nan_is_in_no_range() -> None:
    nan = Options(count=float("nan"), share=float("nan"))  # type: ignore[arg-type]
    for law in (lambda: at_least(nan, count=0), lambda: within(nan, share=(0, 1))):
        with pytest.raises(InputError, match="got nan"):
            law()
