"""Places as users write them: each is the path that is meant, or refused in a line that says what to write."""

from __future__ import annotations

from pathlib import Path

import pytest

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.places import file_path, local_path
from duo_oracle.oracle.base.remote import place_of, readable, written_place

MEANT = {
    "file:///data/my%20run": "/data/my run",
    "FILE:///data/run/": "/data/run/",
    "file://localhost/data/100%25": "/data/100%",
    "file:///data/%3F%23": "/data/?#",
    "file:///data/caf%C3%A9": "/data/caf\u00e9",
    "file:///data/%FF": "/data/\udcff",
    "runs/100%/a#b?c": "runs/100%/a#b?c",
    "s3:run": "s3:run",
    "~run": "~run",
    "./~/run": "./~/run",
}
REFUSED = {
    "file://host/x": "names a machine 'host'; did you mean 'host/x', or file:///host/x?",
    "file://runs": "names a machine 'runs'; did you mean 'runs', or file:///runs?",
    "file://./x": "names a machine '.'",
    "file://~/x": "names a machine '~'",
    "file://": "is file:///PATH from the root",
    "file:///a%zz": "hexadecimal digits",
    "file:///a%": "hexadecimal digits",
    "file:///a%2Fb": "hexadecimal digits",
    "file:///a%00": "hexadecimal digits",
    "file:///a?b": "hexadecimal digits",
    "file:///a#b": "hexadecimal digits",
    "file:/x": "did you mean file:///x?",
    "File:/x": "did you mean file:///x?",
    "s3:/x": "did you mean s3://x?",
    "S3:/b/x": "did you mean s3://b/x?",
    "gcs:/b/x": "did you mean gcs://b/x?",
    "ftp:/host/x": "did you mean ftp://host/x?",
    " s3://bucket/x": "a path of this machine",
    " file:///x": "a path of this machine",
    "unheard+of://x/y": "a place in a store is",
    "s3://": "a place in a store is",
    "S3:///x": "a place in a store is",
    "s3://bucket/": "a place in a store is",
    "": "an empty text",
}


@pytest.mark.parametrize("text", MEANT)
def test_a_place_of_this_machine_is_the_path_that_is_meant(text: str) -> None:
    assert local_path(text) == place_of(text) == MEANT[text]


def test_the_home_is_no_folder_of_that_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for take in (local_path, file_path, place_of, lambda text: written_place("out", text), lambda text: str(readable(text))):
        assert take("~/runs/first") == str(tmp_path / "runs" / "first")


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_place_is_refused_and_answered_by_the_right_one(text: str) -> None:
    for take in (place_of, readable, lambda text: written_place("out", text)):
        with pytest.raises(InputError) as refused:
            take(text)
        assert REFUSED[text] in str(refused.value)
        assert "\n" not in str(refused.value)
