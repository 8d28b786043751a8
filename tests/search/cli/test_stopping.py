"""Which signal ended a command, also where what it came into answers with a plain KeyboardInterrupt."""

from __future__ import annotations

import contextlib
import os
import signal

import pytest

from duo_oracle.search.cli.stopping import Stopped, exit_status, stopped_by_signals


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
