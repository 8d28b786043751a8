"""A dataset of the hub: the Parquet files of one of its splits. What they hold is their readers' knowledge."""

from __future__ import annotations

import re
from pathlib import Path

from duo_oracle.models.hub.repository import NotThere, fetched, looked_in
from duo_oracle.oracle.base.errors import InputError

CONVERTED = "refs/convert/parquet"  # where the hub keeps datasets of other formats as Parquet, CONFIG/SPLIT/0000.parquet
_DATASET = re.compile(r"(?P<name>[\w.-]+/[\w.-]+?)(@(?P<revision>[\w.-]+))?(/(?P<configuration>[\w./-]+))?")
_SHARD = re.compile(r"-\d+-of-(\d+)\.parquet")


def fetch_dataset(dataset: str, split: str) -> list[Path]:
    """The Parquet files of one split of OWNER/NAME, OWNER/NAME@REVISION or OWNER/NAME/CONFIGURATION, in order.

    Looked for in the repository itself, then where the hub keeps datasets of other formats as Parquet. Raises InputError, one line,
    where there are none.
    """
    parts = _DATASET.fullmatch(dataset)
    if parts is None or not re.fullmatch(r"[\w.-]+", split):
        raise InputError(
            f"a dataset of the hub is hf:OWNER/NAME:SPLIT, or hf:OWNER/NAME/CONFIGURATION:SPLIT; got {dataset}:{split}"
        )
    places = [f"{parts['configuration']}/"] if parts["configuration"] else ["", "data/", "default/"]
    patterns = [f"{place}{split}{rest}" for place in places for rest in ("-*.parquet", ".parquet", "/*.parquet")]
    folder = None
    for revision in (parts["revision"],) if parts["revision"] else (None, CONVERTED):
        try:
            folder = fetched(f"the dataset {dataset}", "dataset", parts["name"], revision, patterns)
        except NotThere:
            if revision != CONVERTED or folder is None:
                raise
            continue
        for pattern in patterns:
            if files := sorted(folder.glob(pattern)):
                _check_whole(files, dataset)
                return files
    assert folder is not None, "else an error was raised"
    raise InputError(
        f"the dataset {dataset} has no Parquet files of a split {split!r}; where it has several configurations, "
        f"hf:{parts['name']}/CONFIGURATION:{split} names one; {looked_in(folder)}"
    )


def _check_whole(files: list[Path], dataset: str) -> None:
    """Raises InputError where some of a split's numbered files are missing, as in a cache that holds a part."""
    numbered = _SHARD.search(files[0].name)
    if numbered and len(files) != int(numbered[1]):
        raise InputError(
            f"the dataset {dataset}: {len(files)} of its {int(numbered[1])} files are there; {looked_in(files[0].parent)}"
        )
