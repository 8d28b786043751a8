"""Readers of the free packages that the training corpus is made of: each turns one package into whole documents.

Knows the packages' formats (a SWORD text module, an R data base, WordNet, dict, HTML manuals, wheels) and nothing of
tokens or models. None of the sources is copyleft; `SOURCES` states every licence.
"""

from __future__ import annotations

import gzip
import html
import html.parser
import re
import struct
import sysconfig
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

Named = Iterator[tuple[str, str]]
"""Documents as (name, text)."""


@dataclass(frozen=True)
class Source:
    """One package: how it is fetched (`deb`, `wheel`, `sdist`), its licence, and how its documents are read.

    `read` gets the unpacked directory of a Debian package, or the file of a wheel or source distribution.
    """

    package: str
    kind: str
    licence: str
    split: str
    read: Callable[[Path], Named]


def paragraphs_of(text: str) -> list[str]:
    """Blank-line separated paragraphs, each on one line."""
    joined = (" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", text))
    return [paragraph for paragraph in joined if paragraph]


def is_prose(text: str) -> bool:
    """Whether a paragraph is running text, not a table, a signature or a menu."""
    letters = sum(character.isalpha() or character == " " for character in text)
    return len(text) >= 60 and text[-1] in '.!?:)"”' and letters / len(text) > 0.8


def batched(name: str, entries: Iterable[str], size: int) -> Named:
    """Documents of `size` entries each, for dictionaries, whose entries are too short to be documents."""
    batch: list[str] = []
    number = 0
    for entry in entries:
        batch.append(entry)
        if len(batch) == size:
            yield f"{name}/{number:05d}", "\n".join(batch)
            batch, number = [], number + 1
    if batch:
        yield f"{name}/{number:05d}", "\n".join(batch)


def read_sword(root: Path) -> Named:
    """A zText module: per testament a table of blocks (offset, packed, unpacked size), one of verses (block, start, size).

    Headings are verses of size zero here, so each run of verses with text is a chapter.
    """
    (module,) = root.glob("usr/share/sword/modules/texts/ztext/*")
    for testament in ("ot", "nt"):
        packed = (module / f"{testament}.bzz").read_bytes()
        blocks = [
            zlib.decompress(packed[offset : offset + size]) if size else b""
            for offset, size, _ in struct.iter_unpack("<III", (module / f"{testament}.bzs").read_bytes())
        ]
        chapter: list[str] = []
        number = 0
        for block, start, size in [*struct.iter_unpack("<IIH", (module / f"{testament}.bzv").read_bytes()), (0, 0, 0)]:
            marked = blocks[block][start : start + size].decode("utf-8", "ignore") if size else ""
            marked = re.sub(r"<(note|title)\b.*?</\1>", "", marked, flags=re.DOTALL)
            verse = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", marked)).split())
            verse = re.sub(r" +(?=[,.;:!?])", "", verse)  # a space that a removed tag left
            if verse:
                chapter.append(verse)
            elif chapter:
                yield f"web/{testament}-{number:04d}", " ".join(chapter)
                chapter, number = [], number + 1


def r_character_vectors(data_base: bytes) -> Iterator[list[str]]:
    """The character vectors of an R lazy-load data base: records of a length and a zlib stream, each one serialised value."""
    while data_base:
        stream = zlib.decompressobj()
        value, data_base = stream.decompress(data_base[4:]), stream.unused_data
        if value[:2] != b"X\n" or struct.unpack_from(">i", value, 2) != (3,):
            continue
        at = 14 + 4 + struct.unpack_from(">i", value, 14)[0]  # past the versions and the name of the encoding
        flags, count = struct.unpack_from(">ii", value, at)
        if flags & 0xFF != 16:
            continue
        at += 8
        lines = []
        for _ in range(count):
            (size,) = struct.unpack_from(">i", value, at + 4)
            lines.append(value[at + 8 : at + 8 + max(size, 0)].decode("utf-8", "ignore"))
            at += 8 + max(size, 0)
        yield lines


HELD_OUT_NOVELS = ("persuasion", "northanger")


def read_austen(root: Path) -> Named:
    """Six novels, a document per chapter; front matter before the first chapter is left out."""
    data_base = root / "usr/lib/R/site-library/janeaustenr/data/Rdata.rdb"
    for lines in r_character_vectors(data_base.read_bytes()):
        title = next(line for line in lines if line.strip()).split()[0].lower()
        chapters = re.split(r"(?im)^\s*chapter\s+[0-9ivxlc]+\.?\s*$", "\n".join(lines))
        for number, chapter in enumerate(chapters[1:], start=1):
            yield f"austen/{title}-{number:02d}", "\n\n".join(paragraphs_of(chapter))


def read_wordnet(root: Path) -> Named:
    for file in sorted(root.glob("usr/share/wordnet/data.*")):
        lines = file.read_text("utf-8", "ignore").splitlines()
        glosses = (line.split("|", 1)[1].strip() for line in lines if "|" in line and not line.startswith(" "))
        yield from batched(f"wordnet/{file.suffix[1:]}", glosses, 100)


def read_dict(root: Path) -> Named:
    for file in sorted(root.glob("usr/share/dictd/*.dict.dz")):
        text = re.sub(r"[{}]", "", gzip.decompress(file.read_bytes()).decode("utf-8", "replace"))
        entries = (entry for entry in paragraphs_of(text) if len(entry) > 60)
        yield from batched(file.name.split(".")[0], entries, 50)


class _Paragraphs(html.parser.HTMLParser):
    """Collects the text between block tags; scripts, navigation and preformatted text are dropped."""

    BLOCKS = frozenset("p li dd dt h1 h2 h3 h4 h5 h6 blockquote td th div section title tr table ul ol dl".split())
    DROPPED = frozenset("script style pre nav head footer".split())

    def __init__(self) -> None:
        super().__init__()
        self.paragraphs: list[str] = []
        self._pieces: list[str] = []
        self._dropped = 0

    def end_block(self) -> None:
        paragraph = " ".join("".join(self._pieces).split())
        self._pieces = []
        if is_prose(paragraph):
            self.paragraphs.append(paragraph)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in self.DROPPED:
            self._dropped += 1
        elif tag in self.BLOCKS:
            self.end_block()

    def handle_endtag(self, tag: str) -> None:
        if tag in self.DROPPED:
            self._dropped = max(0, self._dropped - 1)
        elif tag in self.BLOCKS:
            self.end_block()

    def handle_data(self, data: str) -> None:
        if not self._dropped:
            self._pieces.append(data)


def html_reader(name: str, *folders: str) -> Callable[[Path], Named]:
    """A reader of the package's HTML files below the folders: a document per page, its running text only."""

    def read(root: Path) -> Named:
        for folder in folders:
            for file in sorted((root / folder).rglob("*.html")):
                if not file.is_symlink():
                    parser = _Paragraphs()
                    parser.feed(file.read_text("utf-8", "ignore"))
                    parser.end_block()
                    yield f"{name}/{file.relative_to(root / folder).with_suffix('')}", "\n".join(parser.paragraphs)

    return read


def read_django_docs(archive: Path) -> Named:
    with tarfile.open(archive) as tar:
        for member in sorted(tar.getmembers(), key=lambda member: member.name):
            content = tar.extractfile(member) if "/docs/" in member.name and member.name.endswith(".txt") else None
            if content is not None:
                blocks = re.split(r"\n\s*\n", content.read().decode("utf-8"))
                running = (" ".join(block.split()) for block in blocks if not block.startswith((" ", "..")))
                yield f"django/{member.name.split('/', 1)[1]}", "\n".join(filter(is_prose, running))


def read_wheel(archive: Path) -> Named:
    """The package's own modules: no tests, no translations, no stubs of a few lines."""
    with zipfile.ZipFile(archive) as wheel:
        for member in sorted(wheel.infolist(), key=lambda member: member.filename):
            left_out = re.search(r"/tests?/|/locale/|_test\.py$|/test_", member.filename)
            if member.filename.endswith(".py") and member.file_size > 500 and not left_out:
                yield member.filename, wheel.read(member).decode("utf-8", "ignore")


def read_standard_library() -> Named:
    """The running interpreter's own modules, without tests and installed packages. Held out of training as a whole."""
    root = Path(sysconfig.get_path("stdlib"))
    left_out = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "ensurepip", "turtledemo", "pydoc_data"}
    for file in sorted(root.rglob("*.py")):
        if not left_out & set(file.relative_to(root).parts) and 500 < file.stat().st_size < 200_000:
            yield f"cpython/{file.relative_to(root)}", file.read_text("utf-8", "ignore")


_RUST_BOOKS = tuple(f"usr/share/doc/rust-doc/html/{book}" for book in ("book", "reference", "nomicon", "rustc"))
SOURCES = (
    Source("sword-text-web", "deb", "public domain (World English Bible)", "prose", read_sword),
    Source("r-cran-janeaustenr", "deb", "texts public domain, package MIT", "prose", read_austen),
    Source("wordnet-base", "deb", "WordNet licence (BSD-like)", "prose", read_wordnet),
    Source("python3.11-doc", "deb", "PSF", "prose", html_reader("pydoc", "usr/share/doc/python3.11/html")),
    Source("postgresql-doc-15", "deb", "PostgreSQL", "prose", html_reader("pgdoc", "usr/share/doc/postgresql-doc-15/html")),
    Source("rust-doc", "deb", "MIT or Apache-2.0", "prose", html_reader("rust", *_RUST_BOOKS)),
    Source("dict-jargon", "deb", "public domain", "prose", read_dict),
    Source("dict-devil", "deb", "public domain", "prose", read_dict),
    Source("Django==5.2.8", "sdist", "BSD-3-Clause (its manual)", "prose", read_django_docs),
    Source("Django==5.2.8", "wheel", "BSD-3-Clause", "code", read_wheel),
    Source("sympy==1.14.0", "wheel", "BSD-3-Clause", "code", read_wheel),
    Source("networkx==3.6.1", "wheel", "BSD-3-Clause", "code", read_wheel),
    Source("SQLAlchemy==2.0.44", "wheel", "MIT", "code", read_wheel),
    Source("mpmath==1.3.0", "wheel", "BSD-3-Clause", "code", read_wheel),
    Source("Jinja2==3.1.6", "wheel", "BSD-3-Clause", "code", read_wheel),
    Source("docutils==0.22", "wheel", "public domain and BSD-2-Clause", "code", read_wheel),
    Source("Pygments==2.19.2", "wheel", "BSD-2-Clause", "code", read_wheel),
    Source("rich==14.0.0", "wheel", "MIT", "code", read_wheel),
    Source("Werkzeug==3.1.3", "wheel", "BSD-3-Clause", "code", read_wheel),
)
