"""What DATA names, as the files that are read, in order: files, globs, folders, the shipped holdouts, Hugging Face datasets.

Knows names and suffixes; what stands in a file is `rows.py`'s and `documents.py`'s knowledge.

A document's name: a file alone gives its stem, and its rows `STEM/0`, `STEM/1`, ... unless they name their document; the files of a
folder or glob give their paths below it. With several sources, each source's own label stands in front, so that a name is one
document within its source and none of another.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from duo_oracle.models.hub.dataset import fetch_dataset
from duo_oracle.models.text.options import sources_of
from duo_oracle.oracle.base.choices import check_choice
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.json_text import read_json
from duo_oracle.oracle.base.remote import Remote, is_remote, place_of

HOLDOUT_PREFIX, DATASET_PREFIX = "holdout:", "hf:"
_HOLDOUTS = Path(__file__).parents[1] / "holdouts"
_COMPRESSED = {".gz": "gzip", ".zst": "zstd"}
_AMBIGUOUS = (".json", ".csv", ".tsv")
_ONE_OF = "data is a file, a folder, a glob, one of the shipped holdouts, or a dataset, hf:OWNER/NAME:SPLIT"


class Kind(StrEnum):
    TEXT = "text"
    JSON_LINES = "jsonl"
    PARQUET = "parquet"
    ARROW = "arrow"


_KIND_OF = {".jsonl": Kind.JSON_LINES, ".ndjson": Kind.JSON_LINES, ".parquet": Kind.PARQUET, ".arrow": Kind.ARROW}


@dataclass(frozen=True)
class DataFile:
    """One file of data, how messages name it, and what its documents are called."""

    path: Path
    shown: str
    kind: Kind
    compression: str | None
    name: str  # of its one document, or what the names of its rows begin with
    label: str = ""  # of its source, in front of a row's own document; empty where there is one source
    column: str | None = None  # the column to read; None for text, tokens or input_ids
    listed: bool = False  # found in a folder or by a glob: an empty file is then no document, and no fault

    @property
    def is_text(self) -> bool:
        return self.kind == Kind.TEXT


def find_files(sources: str | Iterable[str]) -> list[DataFile]:
    """The files of one or several sources. Raises InputError where a source names none, or one named before."""
    words = sources_of(sources)
    if not words:
        raise InputError(f"{_ONE_OF}; got none")
    found = [_files_of(word) for word in words]
    if len(words) > 1:
        found = [[_labelled(file, label) for file in files] for label, files in zip(_labels(words), found, strict=True)]
    files = [file for files in found for file in files]
    seen: dict[Path, str] = {}
    for file in files:
        place = file.path.absolute()
        if place in seen:
            raise InputError(f"a file is data once; {file.shown} is named twice")
        seen[place] = file.shown
    return files


def source_name(source: str) -> str:
    """A short name of one source, for what is made of it: a file's stem, a folder's name. Raises InputError where it names none."""
    find_files(source)
    if source.startswith(HOLDOUT_PREFIX):
        return source.removeprefix(HOLDOUT_PREFIX)
    if source.startswith(DATASET_PREFIX) or glob.has_magic(source):
        return "".join(c if c.isalnum() or c in "._-" else "-" for c in source.removeprefix(DATASET_PREFIX)).strip("-")
    return _stem(Path(source).absolute())


def _files_of(word: str) -> list[DataFile]:
    try:
        word.encode()
    except UnicodeEncodeError:
        raise InputError(f"the name of a file of data must be UTF-8; got {word!r}") from None
    if not word.removeprefix(DATASET_PREFIX).partition(":")[0].strip():
        raise InputError(f"{_ONE_OF}; got {word!r}")
    if word.startswith(HOLDOUT_PREFIX):
        return [_holdout(word)]
    if word.startswith(DATASET_PREFIX):
        return _dataset(word)
    if is_remote(word):
        return _remote(word)
    word = place_of(word)
    path = Path(word)
    if path.is_file():
        return [_file(path, word, _stem(path))]
    if path.is_dir():
        return _folder(path, word)
    if glob.has_magic(word):
        return _globbed(word)
    raise InputError(f"{_ONE_OF}; there is no file {word!r}")


def _remote(word: str) -> list[DataFile]:
    """A file or a folder of an object store, from its copy on this machine, shown by its URI."""
    place = Remote(word)
    if re.fullmatch(r"hf://datasets/[^/]+/[^/]+", place.uri):
        raise InputError(
            f"{place.uri} is a whole dataset; {place.uri}/PATH names a file or a folder of it, and "
            f"{DATASET_PREFIX}{place.uri.removeprefix('hf://datasets/')}:SPLIT one of its splits"
        )
    copy = place.copy()
    if copy.is_file():
        return [_file(copy, place.uri, _stem(copy))]
    return [replace(file, shown=f"{place.uri}/{file.path.relative_to(copy).as_posix()}") for file in _folder(copy, place.uri)]


def _holdout(word: str) -> DataFile:
    path = _HOLDOUTS / f"{word.removeprefix(HOLDOUT_PREFIX)}.jsonl"
    if not path.is_file():
        check_choice("holdout", word, sorted(f"{HOLDOUT_PREFIX}{file.stem}" for file in _HOLDOUTS.glob("*.jsonl")))
    return DataFile(path, word, Kind.JSON_LINES, None, path.stem)


def _dataset(word: str) -> list[DataFile]:
    """`hf:NAME[:SPLIT[:COLUMN]]`: a saved dataset's folder, or a dataset of the hub, OWNER/NAME[@REVISION][/CONFIG]."""
    name, _, rest = word.removeprefix(DATASET_PREFIX).partition(":")
    split, _, column = rest.partition(":")
    if Path(name).is_dir():
        files = _saved_dataset(Path(name), word, split)
    else:
        files = [DataFile(path, f"{word}, {path.name}", Kind.PARQUET, None, split) for path in fetch_dataset(name, split)]
    return [replace(file, column=column or None) for file in files]


def _saved_dataset(folder: Path, word: str, split: str = "") -> list[DataFile]:
    """The Arrow files of a folder that `Dataset.save_to_disk` wrote, in its order."""
    if (folder / "dataset_dict.json").is_file():
        splits = sorted(path.parent.name for path in folder.glob("*/state.json"))
        if split not in splits:
            wanted = f"there is no split {split!r}" if split else "name one"
            raise InputError(f"{word} is a dataset of several splits; {wanted}: {', '.join(f'{folder / name}' for name in splits)}")
        folder = folder / split
    elif split:
        folder = folder / split if (folder / split / "state.json").is_file() else folder
    try:
        state = read_json(folder / "state.json")
        names = [str(part["filename"]) for part in state["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{word}: {folder} is no saved dataset: it has no state.json that names its Arrow files") from None
    if split and state.get("_split") not in (split, None) and folder.name != split:
        raise InputError(f"{word}: the saved dataset is the split {state['_split']!r}; got {split!r}")
    if state.get("_indices_data_files") or state.get("_indices_files"):
        raise InputError(f"{word}: a saved dataset with an index over its rows is not read; save it after flatten_indices()")
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise InputError(f"{word}: state.json names the file {name!r}, which is not in {folder}")
    return [DataFile(folder / name, str(folder / name), Kind.ARROW, None, folder.name) for name in names]


def _folder(folder: Path, word: str) -> list[DataFile]:
    """Every file below a folder, sorted, hidden ones left out; or those of the saved dataset that it is."""
    if (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file():
        return _saved_dataset(folder, word)
    found = sorted(path.relative_to(folder).as_posix() for path in _walk(folder))
    if not found:
        raise InputError(f"{word}: a folder of data must hold a file that is not hidden; it holds none")
    return [replace(_file(folder / name, str(folder / name), name), listed=True) for name in found]


def _walk(folder: Path) -> Iterator[Path]:
    seen = set()  # folders may be links that lead round
    for place, folders, files in os.walk(folder, followlinks=True):
        seen.add(os.path.realpath(place))
        folders[:] = [name for name in folders if name[0] != "." and os.path.realpath(os.path.join(place, name)) not in seen]
        yield from (path for name in files if name[0] != "." and (path := Path(place, name)).is_file())


def _globbed(word: str) -> list[DataFile]:
    found = sorted(name for name in glob.glob(word, recursive=True) if os.path.isfile(name))
    if not found:
        raise InputError(f"{_ONE_OF}; no file is like {word!r}")
    fixed = os.path.dirname(word[: min(word.index(c) for c in "*?[" if c in word)])  # the folder that all of them lie below
    return [replace(_file(Path(name), name, Path(os.path.relpath(name, fixed or ".")).as_posix()), listed=True) for name in found]


def _file(path: Path, shown: str, name: str) -> DataFile:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compression = _COMPRESSED.get(suffixes[-1]) if suffixes else None
    suffix = suffixes[-1] if suffixes and compression is None else suffixes[-2] if len(suffixes) > 1 else ""
    if suffix in _AMBIGUOUS:
        raise InputError(
            f"{shown}: a {suffix} file is a table or a text; rows are read from .jsonl (an object a line, with text or tokens) "
            "or .parquet, a text from .txt"
        )
    kind = _KIND_OF.get(suffix, Kind.TEXT)
    if compression and kind in (Kind.PARQUET, Kind.ARROW):
        raise InputError(f"{shown}: .jsonl and text may be compressed as a whole; {suffix} compresses its columns itself")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InputError(f"the name of a file of data must be UTF-8; got {shown!r}") from None
    return DataFile(path, shown, kind, compression, name)


def _stem(path: Path) -> str:
    return Path(path.stem).stem if path.suffix.lower() in _COMPRESSED else path.stem


def _labels(words: tuple[str, ...]) -> list[str]:
    """What tells the documents of several sources apart: their names, paths shortened by the folder that they share."""
    paths = [os.path.abspath(word) for word in words if not word.startswith((HOLDOUT_PREFIX, DATASET_PREFIX))]
    common = os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else ""
    return [
        word
        if word.startswith((HOLDOUT_PREFIX, DATASET_PREFIX))
        else Path(os.path.relpath(os.path.abspath(word), common)).as_posix()
        for word in words
    ]


def _labelled(file: DataFile, label: str) -> DataFile:
    """The file as one of several sources' files. A text file that is a source by itself is known by the label alone."""
    alone = file.is_text and not file.listed
    return replace(file, name=label if alone else f"{label}/{file.name}", label=f"{label}/")
