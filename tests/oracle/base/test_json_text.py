"""JSON of any origin: a value, or one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.json_text import parsed_json, read_json

NONE = {
    b"[" * 5000: "nested too deeply",
    b"1" * 5000: "4300 digits",
    b"\xff{}": "not UTF-8: byte 0 is 0xff",
    rb'{"a": ["\ud83d"]}': "half of a surrogate pair",
    b"": "Expecting value at line 1, column 1",
    b'{"a": 1\n"b": 2}': "at line 2, column 1",
}


@pytest.mark.parametrize("content", NONE, ids=range(len(NONE)))
def test_what_is_no_json_is_said_in_a_line(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ValueError, match=NONE[content]) as refused:
        parsed_json(content)
    assert "\n" not in str(refused.value)
    file = tmp_path / "x.json"
    file.write_bytes(content)
    with pytest.raises(InputError, match="x.json: must be JSON; .*" + NONE[content]):
        read_json(file)


def test_a_value(tmp_path: Path) -> None:
    assert parsed_json(rb'["\ud83d\ude00"]') == ["\U0001f600"]
    assert parsed_json(rb'["\ud83d"]', surrogates=True) == ["\ud83d"]
    (tmp_path / "x.json").write_bytes(b'\xef\xbb\xbf{"a": [1, null]}'[3:])
    assert read_json(tmp_path / "x.json") == {"a": [1, None]}
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "none.json")
