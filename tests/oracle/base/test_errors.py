"""How a program that is no command ends."""

from __future__ import annotations

import pytest

from duo_oracle.oracle.base.errors import InputError, Outage, ends_in_a_line


@pytest.mark.parametrize(("fault", "status"), [(InputError("no such corpus"), 2), (Outage("the disk is full"), 1)])
def test_a_program_ends_in_a_line(fault: Exception, status: int, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, ends_in_a_line():
        raise fault
    assert ended.value.code == status
    assert capsys.readouterr().err == f"{fault}\n"


def test_a_fault_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(ValueError, match="ours"), ends_in_a_line():
        raise ValueError("ours")
