"""Makes the two holdouts of text released in 2026, for pretrained models.

`python -m duo_oracle.models.recipes.recent_holdouts OUT`

Fetches the packages by pip and installs nothing. A document is the beginning of a page of a manual, of a section of one, or of a
module that the package's last release of 2025 did not hold. Paragraphs that stood in that release are left out, and so is a
document of which more than 5% of the shingles stood there. Writes `recent-prose.jsonl`, `recent-code.jsonl` and
`LICENSE-recent` to OUT. How text is taken out of a file is in `models/recipes/recent_texts.py`.
"""

from __future__ import annotations

import argparse
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from duo_oracle.models.recipes.corpus import MAX_COPIED_SHARE, write_documents
from duo_oracle.models.recipes.near_copies import copied_shares
from duo_oracle.models.recipes.packages import pip_download
from duo_oracle.models.recipes.recent_texts import first_definitions, first_paragraphs, section_paragraphs, sections_of, titles_of
from duo_oracle.oracle.base.errors import InputError, ends_in_a_line
from duo_oracle.oracle.base.progress import progress

MIN_CHARACTERS = 900
_KNOWN_PARAGRAPH = 0.5  # a paragraph of which more than this share stood elsewhere is not new


@dataclass(frozen=True)
class Manual:
    """Pages of an sdist's manual, each with the section that is taken, or None for the page's beginning."""

    new: str
    old: tuple[str, ...]  # releases of before 2026
    licence: str  # its file in the sdist
    folder: str
    pages: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True)
class Library:
    """Modules of a wheel."""

    new: str
    old: tuple[str, ...]
    licence: str
    folder: str
    modules: tuple[str, ...]


# Left out of Django: its fetch modes, which came with 6.1 but stood in its repository in 2025; and the notes of a release whose
# security issues are those of another here.
MANUALS = (
    Manual(
        new="Django==6.1.3",
        old=("Django==6.0", "Django==5.1"),
        licence="LICENSE",
        folder="docs",
        pages=(
            ("howto/mailers-migration.txt", None),
            ("internals/contributing/bugs-and-features.txt", "How to test pre-release versions of Django"),
            ("internals/contributing/sprint-quickstart.txt", None),
            ("internals/contributing/writing-code/submitting-patches.txt", "AI-Assisted Contributions"),
            ("internals/security.txt", "Respecting maintainer time"),
            ("ref/contrib/gis/gdal.txt", "Security considerations"),
            ("releases/6.0.3.txt", None),
            ("releases/6.0.4.txt", None),
            ("releases/6.0.6.txt", None),
            ("releases/6.0.7.txt", None),
            ("releases/6.0.8.txt", None),
            ("releases/6.1.2.txt", None),
            ("releases/6.1.3.txt", None),
            ("topics/email.txt", "Configuring email"),
            ("topics/email.txt", "Safely sending email"),
        ),
    ),
    Manual("alembic==1.20.1", ("alembic==1.17.2",), "LICENSE", "docs/build", (("api/plugins.rst", None),)),
    Manual("packaging==26.3", ("packaging==25.0",), "LICENSE.BSD", "docs", (("ranges.rst", None),)),
)
LIBRARIES = (
    Library("anyio==4.16.0", ("anyio==4.12.0",), "LICENSE", "anyio", ("_lazyimport.py",)),
    Library("filelock==4.2.12", ("filelock==3.20.1",), "LICENSE", "filelock", ("_identity.py",)),
    Library("fsspec==2026.9.0", ("fsspec==2025.12.0",), "LICENSE", "fsspec", ("prefetcher.py",)),
    Library(
        new="huggingface_hub==2.4.0",
        old=("huggingface_hub==1.2.3",),
        licence="LICENSE",
        folder="huggingface_hub",
        modules=(
            "_dataset_viewer.py",
            "_revision.py",
            "_sandbox_cache.py",
            "_tree_cache.py",
            "cli/_errors.py",
            "utils/_oauth_device.py",
            "utils/_shared_blobs.py",
        ),
    ),
    Library("optuna==5.0.0", ("optuna==4.6.0",), "LICENSE", "optuna", ("_warnings.py",)),
    Library("packaging==26.3", ("packaging==25.0",), "LICENSE.BSD", "packaging", ("ranges.py",)),
    Library("pytest==9.2.0", ("pytest==9.0.2",), "LICENSE", "_pytest", ("assertion/compare_text.py",)),
    Library(
        new="transformers==5.24.0",
        old=("transformers==5.0.0rc1",),
        licence="LICENSE",
        folder="transformers",
        modules=(
            "distributed/expert_parallel.py",
            "exporters/metadata.py",
            "exporters/runners/base.py",
            "fusion_mapping.py",
            "generation/continuous_batching/cache_allocators/cache_pool.py",
            "integrations/gguf/kernels.py",
            "integrations/heterogeneity/configuration_utils.py",
            "utils/chat_parsing/response_parser.py",
        ),
    ),
    Library("typer==0.29.2", ("typer==0.21.0",), "LICENSE", "typer", ("_adapters.py", "_param_types.py")),
)


@dataclass(frozen=True)
class Text:
    """A document before it is checked: its name, its paragraphs or definitions, and the notices above a module."""

    name: str
    parts: tuple[str, ...]
    notices: tuple[str, ...] = ()


def files_of(archive: Path) -> dict[str, str]:
    """The text files of a wheel or an sdist, without the sdist's own folder."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as wheel:
            return {name: wheel.read(name).decode("utf-8", "ignore") for name in wheel.namelist() if not name.endswith("/")}
    files = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            content = tar.extractfile(member) if member.isfile() else None
            if content is not None:
                files[member.name.split("/", 1)[-1]] = content.read().decode("utf-8", "ignore")
    return files


def pages_of(manual: Manual, files: dict[str, str]) -> Iterator[Text]:
    """The paragraphs of every page asked for. Raises InputError for a section that is not there."""
    pages = _in_folder(files, manual.folder)
    titles = titles_of(pages)
    for path, title in manual.pages:
        name = path.rsplit(".", 1)[0] + (f"/{title.lower().replace(' ', '-')}" if title else "")
        yield Text(_name(manual.new, name), tuple(section_paragraphs(sections_of(pages[path], titles), title)))


def modules_of(library: Library, files: dict[str, str]) -> Iterator[Text]:
    """The first definitions of every module asked for."""
    modules = _in_folder(files, library.folder)
    for path in library.modules:
        text, above = first_definitions(modules[path])
        notices = tuple(line.strip("# \n") for line in above.splitlines() if "copyright" in line.lower())
        yield Text(_name(library.new, path), (text,), notices)


def _in_folder(files: dict[str, str], folder: str) -> dict[str, str]:
    wanted = (".txt", ".rst", ".py")
    return {
        name[len(folder) + 1 :]: text for name, text in files.items() if name.startswith(folder + "/") and name.endswith(wanted)
    }


def _name(requirement: str, path: str) -> str:
    return f"{requirement.replace('==', '-').lower()}/{path}"


def new_documents(texts: list[Text], known: list[str]) -> list[tuple[str, str]]:
    """Documents of the parts that stand neither in the known texts nor in a document before.

    Raises InputError for a document that is short of MIN_CHARACTERS, or that still repeats more than its share.
    """
    documents: list[tuple[str, str]] = []
    stood = iter(copied_shares((part for text in texts for part in text.parts), known))
    for text in texts:
        before = [document for _, document in documents]
        shares = [max(next(stood), share) for share in copied_shares(text.parts, before)]
        parts = [part.rstrip("\n") for part, share in zip(text.parts, shares, strict=True) if share <= _KNOWN_PARAGRAPH]
        document = first_paragraphs(parts)
        (share,) = copied_shares([document], [*known, *before])
        if len(document) < MIN_CHARACTERS or share > MAX_COPIED_SHARE:
            law = f"a document must have {MIN_CHARACTERS} characters, at most {MAX_COPIED_SHARE:.0%} of them known"
            raise InputError(f"{text.name}: {law}; it has {len(document)}, of which {share:.1%}")
        documents.append((text.name, document))
    return documents


def build(out: Path) -> None:
    """Fetches, takes out, checks and writes. Raises InputError where a package cannot be fetched or is not what it was."""
    out.mkdir(parents=True, exist_ok=True)
    licences: dict[str, str] = {}
    for split, sources in (("prose", MANUALS), ("code", LIBRARIES)):
        documents = []
        for source in progress(sources, desc=split, unit="package"):
            kind = "sdist" if isinstance(source, Manual) else "wheel"
            files = _fetched(source.new, kind)
            texts = list(pages_of(source, files) if isinstance(source, Manual) else modules_of(source, files))
            known = [_running(text, kind) for old in source.old for text in _in_folder(_fetched(old, kind), source.folder).values()]
            documents += new_documents(texts, known)
            notices = [f"{text.name}: {notice}" for text in texts for notice in text.notices]
            path = next(path for path in sorted(files, key=len) if path.rsplit("/", 1)[-1] == source.licence)
            licences[source.new.replace("==", " ")] = "\n".join([*notices, "", files[path].strip("\n")])
        write_documents(out / f"recent-{split}.jsonl", documents)
    rule = "=" * 100
    said = "The documents of recent-prose.jsonl and recent-code.jsonl are parts of these packages, under their licences.\n"
    content = said + "".join(f"\n{rule}\n{package}\n{rule}\n{text}\n" for package, text in licences.items())
    (out / "LICENSE-recent").write_text(content, encoding="utf-8")


def _fetched(requirement: str, kind: str) -> dict[str, str]:
    with TemporaryDirectory() as folder:
        return files_of(pip_download(requirement, kind, Path(folder)))


def _running(text: str, kind: str) -> str:
    if kind == "wheel":
        return text
    return "\n".join(section_paragraphs(sections_of(text, {}), None))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m duo_oracle.models.recipes.recent_holdouts", description="Make the holdouts of 2026."
    )
    parser.add_argument("out", type=Path, help="directory for the two holdouts and their licences")
    arguments = parser.parse_args()
    with ends_in_a_line():
        build(arguments.out)


if __name__ == "__main__":
    main()
