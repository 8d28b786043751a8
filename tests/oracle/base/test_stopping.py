"""Which signal ended a command, also where what it came into answers with a plain KeyboardInterrupt."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable

import pytest

from duo_oracle.oracle.base.progress import progress
from duo_oracle.oracle.base.stopping import Stopped, exit_status, stopped_by_signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_compiled_code_answers_is_still_that_signal(number: signal.Signals) -> None:
    def compiled() -> None:
        with contextlib.suppress(Stopped):
            os.kill(os.getpid(), number)
        raise KeyboardInterrupt

    with pytest.raises(Stopped) as caught, stopped_by_signals():
        compiled()
    assert exit_status(caught.value) == 128 + number


def test_a_ctrl_c_is_one() -> None:
    with pytest.raises(KeyboardInterrupt) as caught, stopped_by_signals():
        raise KeyboardInterrupt
    assert exit_status(caught.value) == 130


@pytest.mark.parametrize("work", [lambda: progress(total=2).update(), lambda: list(progress([1, 2]))])
def test_a_signal_that_was_lost_is_asked_for_again_at_the_next_step_of_a_bar(work: Callable[[], object]) -> None:
    def losing() -> None:
        with contextlib.suppress(Stopped):  # as a callback of compiled code loses it
            os.kill(os.getpid(), signal.SIGTERM)
        work()

    with pytest.raises(Stopped) as caught, stopped_by_signals():
        losing()
    assert exit_status(caught.value) == 128 + signal.SIGTERM
    work()  # outside nothing was heard
