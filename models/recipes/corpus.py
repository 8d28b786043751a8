"""Builds the corpus that duo-tiny is trained on, and its holdouts, from free packages.

`python -m duo_oracle.models.recipes.corpus OUT`

Packages are fetched by the machine's own package tools (`apt-get download`, `pip download`); nothing is installed. Writes
`train_prose.jsonl`, `train_code.jsonl`, `holdout_prose.jsonl`, `holdout_code.jsonl` (a document per line: `document`,
`text`) and `manifest.json` (versions, licences, sha256, the documents rejected as near copies). Knows nothing of tokens.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from duo_oracle.models.recipes.corpus_sources import HELD_OUT_NOVELS, SOURCES, Source, read_standard_library
from duo_oracle.models.recipes.near_copies import SHINGLE_WORDS, copied_shares
from duo_oracle.models.recipes.packages import pip_download, run_tool
from duo_oracle.oracle.base.errors import ends_in_a_line
from duo_oracle.oracle.base.progress import progress

MIN_CHARACTERS = 200
MAX_COPIED_SHARE = 0.05
"""A held-out document with a greater share of its shingles in training is a near copy, and is dropped."""

SHIPPED_SIZES = {"prose": (6_000, 12_000), "code": (2_500, 9_000)}
SHIPPED_CHARACTERS = 110_000
MANIFEST = "manifest.json"


def fetch(source: Source, raw: Path) -> Path:
    """The unpacked directory (deb) or the file (wheel, sdist) of a package, fetched unless it is there already."""
    folder = raw / source.kind / source.package
    folder.mkdir(parents=True, exist_ok=True)
    if not any(folder.iterdir()):
        if source.kind == "deb":
            run_tool(["apt-get", "download", source.package], folder)
        else:
            pip_download(source.package, source.kind, folder)
    (archive,) = (path for path in folder.iterdir() if path.is_file())
    if source.kind != "deb":
        return archive
    if not (folder / "unpacked").exists():
        run_tool(["dpkg-deb", "-x", archive.name, "unpacked"], folder)
    return folder / "unpacked"


def shipped_selection(split: str, documents: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Some short whole documents, in an order that only their names decide, up to about 110,000 characters."""
    low, high = SHIPPED_SIZES[split]
    short = [(name, text) for name, text in documents if low <= len(text) <= high and text.isascii()]
    chosen: list[tuple[str, str]] = []
    for name, text in sorted(short, key=lambda document: hashlib.sha256(document[0].encode()).digest()):
        if sum(len(other) for _, other in chosen) + len(text) <= SHIPPED_CHARACTERS:
            chosen.append((name, text))
    return sorted(chosen)


def write_documents(path: Path, documents: list[tuple[str, str]]) -> dict[str, object]:
    """Writes the documents as JSON lines; returns what the manifest says of the file."""
    content = "".join(json.dumps({"document": name, "text": text}, ensure_ascii=False) + "\n" for name, text in documents)
    path.write_text(content, encoding="utf-8")
    digest = hashlib.sha256(content.encode()).hexdigest()
    return {"documents": len(documents), "characters": sum(len(text) for _, text in documents), "sha256": digest}


def whole_documents(documents: Iterator[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Drops documents that are next to empty, and later ones of the same text."""
    seen: set[bytes] = set()
    for name, text in documents:
        text = text.replace("\r\n", "\n").strip() + "\n"
        digest = hashlib.sha256(text.encode()).digest()
        if len(text) >= MIN_CHARACTERS and digest not in seen:
            seen.add(digest)
            yield name, text


def build(out: Path, holdouts: Path | None = None) -> None:
    """Fetches, reads, holds out, checks and writes; `holdouts` also writes the small selection that the project ships.

    Raises InputError where a package cannot be fetched.
    """
    read: dict[str, list[tuple[str, str]]] = {"prose": [], "code": []}
    packages = []
    for source in progress(SOURCES, desc="packages", unit="package"):
        path = fetch(source, out / "raw")
        read[source.split].extend(source.read(path))
        archive = path if path.is_file() else next(file for file in path.parent.iterdir() if file.is_file())
        packages.append({"file": archive.name, "licence": source.licence, "split": source.split})
    held = {
        "prose": [document for document in read["prose"] if document[0].startswith(tuple(f"austen/{n}" for n in HELD_OUT_NOVELS))],
        "code": list(read_standard_library()),
    }
    held_names = {name for name, _ in held["prose"]}
    train = {
        "prose": list(whole_documents(document for document in read["prose"] if document[0] not in held_names)),
        "code": list(whole_documents(iter(read["code"]))),
    }
    manifest: dict[str, object] = {"packages": packages, "interpreter": f"CPython {sys.version.split()[0]} standard library (PSF)"}
    rejected: dict[str, float] = {}
    for split in ("prose", "code"):
        candidates = list(whole_documents(iter(held[split])))
        training = (text for documents in train.values() for _, text in documents)
        shares = copied_shares([text for _, text in candidates], training)
        share_of = dict(zip((name for name, _ in candidates), shares, strict=True))
        rejected.update({name: round(share, 3) for name, share in share_of.items() if share > MAX_COPIED_SHARE})
        kept = [document for document in candidates if document[0] not in rejected]
        manifest[f"train_{split}.jsonl"] = write_documents(out / f"train_{split}.jsonl", train[split])
        manifest[f"holdout_{split}.jsonl"] = write_documents(out / f"holdout_{split}.jsonl", kept)
        if holdouts is not None:
            write_documents(holdouts / f"{split}.jsonl", shipped_selection(split, kept))
    rule = f"more than {MAX_COPIED_SHARE:.0%} of its {SHINGLE_WORDS}-word shingles stand in training"
    manifest["rejected near copies"] = {"rule": rule, "copied share": rejected}
    (out / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def built(corpus: Path) -> Path:
    """The corpus in this directory, built now where it is not there. Raises InputError as `build`."""
    if not (corpus / MANIFEST).is_file():
        corpus.mkdir(parents=True, exist_ok=True)
        build(corpus)
    return corpus


def training_text(corpus: Path) -> tuple[str, ...]:
    """The files that models are trained on, prose and code."""
    return tuple(str(corpus / f"train_{split}.jsonl") for split in ("prose", "code"))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m duo_oracle.models.recipes.corpus", description="Build the corpus that duo-tiny is trained on."
    )
    parser.add_argument("out", type=Path, help="directory for the corpus and the fetched packages")
    parser.add_argument("--holdouts", type=Path, help="also write the small shipped holdouts to this directory")
    arguments = parser.parse_args()
    with ends_in_a_line():
        build(arguments.out, arguments.holdouts)


if __name__ == "__main__":
    main()
