"""The holdouts of 2026: what is taken out of a page or a module, what counts as new, and what ships."""

from __future__ import annotations

import ast
import re
import tarfile
import zipfile
from pathlib import Path

import pytest

from duo_oracle.models.recipes import recent_holdouts
from duo_oracle.models.recipes.recent_holdouts import (
    LIBRARIES,
    MANUALS,
    MIN_CHARACTERS,
    Library,
    Manual,
    Text,
    build,
    new_documents,
)
from duo_oracle.models.recipes.recent_texts import (
    MAX_CHARACTERS,
    first_definitions,
    first_paragraphs,
    section_paragraphs,
    sections_of,
    titles_of,
    without_markup,
)
from duo_oracle.models.text.documents import read_documents

HOLDOUTS = Path(recent_holdouts.__file__).parents[1] / "holdouts"
PAGE = """
=====
Title
=====

.. _lead:

A heading
---------

First paragraph of running text that is certainly long enough
to be one, over two lines.

This paragraph leads to a list, and is left out with the list below:

* an item that is long enough to be a paragraph of running text, but is none.

.. note:: a directive that is long enough to be a paragraph of text, but is none.

Deeper
~~~~~~

    indented.code(that_is, long_enough, to_be_a_paragraph, but_is=None)

Second paragraph, under a deeper heading, that is also long enough to be one.

Another heading
---------------

Third paragraph, under the next heading, which is of course long enough as well.
"""


def test_prose_is_what_is_no_list_code_or_directive() -> None:
    sections = sections_of(PAGE, {})
    assert [(section.title, section.depth) for section in sections if section.title] == [
        ("Title", 0),
        ("A heading", 1),
        ("Deeper", 2),
        ("Another heading", 1),
    ]
    assert [paragraph.split()[0] for paragraph in section_paragraphs(sections, None)] == ["First", "Second", "Third"]
    assert [paragraph.split()[0] for paragraph in section_paragraphs(sections, "A heading")] == ["First", "Second"]
    with pytest.raises(ValueError, match="there is no section 'Nothing'; there are: Title, A heading, Deeper, Another heading"):
        section_paragraphs(sections, "Nothing")


@pytest.mark.parametrize(
    ("marked", "plain"),
    [
        ("see :class:`~a.b.Name` and :meth:`.Name.go`", "see Name and Name.go"),
        ("see :ref:`the words <a-label>`", "see the words"),
        ("see :ref:`lead` or :doc:`/howto/page`", "see A heading or Title"),
        ("as in :rfc:`9111#section-4.1`", "as in RFC 9111 Section 4.1"),
        ("``code_*`` is **strong**, *em*, `a link <https://a.example>`_, `named`_", "code_* is strong, em, a link, named"),
        ("a * b * c and ``x``\\s", "a * b * c and xs"),
    ],
)
def test_markup_becomes_the_words_it_shows(marked: str, plain: str) -> None:
    assert without_markup(marked, titles_of({"howto/page.txt": PAGE})) == plain


def test_paragraphs_are_whole_up_to_the_limit() -> None:
    assert first_paragraphs(["a" * 2_000, "b" * 998, "c"]) == "a" * 2_000 + "\n" + "b" * 998 + "\n"
    assert first_paragraphs(["a" * 2_000, "b" * 1_000, "c"]) == "a" * 2_000 + "\n"


def test_a_module_is_cut_after_a_definition_and_its_notices_are_kept_apart() -> None:
    body = "def a():\n    return 1\n\n\nLIMIT = 3\n\n\nclass B:\n    pass\n"
    long = f"def c():\n    '{'.' * MAX_CHARACTERS}'\n"
    text, above = first_definitions("# Copyright 2026 Somebody\n\n" + body + "\n\nx = 1\n" + long)
    assert (text, above) == (body, "# Copyright 2026 Somebody\n\n")


words = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen".split()


def paragraph(name: str, n: int = 60) -> str:
    return " ".join(f"{words[index % 15]}{name}{index}" for index in range(n))


def test_what_stood_before_is_left_out() -> None:
    old, shared = paragraph("old"), paragraph("shared")
    first = Text("first", (shared, paragraph("a"), old, paragraph("b")))
    second = Text("second", (paragraph("c"), shared, paragraph("d")))
    documents = dict(new_documents([first, second], known=[f"before {old} after"]))
    assert documents["first"] == "\n".join([shared, paragraph("a"), paragraph("b")]) + "\n"
    assert documents["second"] == "\n".join([paragraph("c"), paragraph("d")]) + "\n"


def test_a_document_that_is_short_or_not_new_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^short: a document must have 900 characters.*; it has 9, of which 0.0%$"):
        new_documents([Text("short", ("a b c d.",))], known=[])
    half = " ".join(paragraph("x", 160).split()[:70])
    with pytest.raises(ValueError, match=r"^known: .*; it has \d+, of which 39\.\d%$"):
        new_documents([Text("known", (paragraph("x", 160),))], known=[half])


def test_a_build_reads_sdists_and_wheels_and_keeps_their_licences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def sentence(name: str) -> str:
        return " ".join(f"{word}{name}{'abcdefghij'[index % 10]}{word}" for index, word in enumerate(words * 5)) + "."

    modules = {"new": f'# Copyright 2026 Somebody\n\ndef go():\n    """{sentence("code")}"""\n', "old": "x = 1\n"}

    def pip_download(requirement: str, kind: str, folder: Path) -> Path:
        name, version = requirement.split("==")
        if kind == "wheel":
            with zipfile.ZipFile(folder / "a.whl", "w") as wheel:
                wheel.writestr(f"{name}/module.py", modules[version])
                wheel.writestr(f"{name}-{version}.dist-info/LICENSE", "licence of the wheel")
            return folder / "a.whl"
        source = folder / f"{name}-{version}"
        (source / "docs").mkdir(parents=True)
        (source / "docs" / "page.txt").write_text(f"Title\n=====\n\n{sentence(version)}\n\n{sentence('both')}\n")
        (source / "LICENSE").write_text("licence of the sdist")
        with tarfile.open(folder / "a.tar.gz", "w:gz") as tar:
            tar.add(source, source.name)
        return folder / "a.tar.gz"

    monkeypatch.setattr(recent_holdouts, "pip_download", pip_download)
    monkeypatch.setattr(
        recent_holdouts, "MANUALS", (Manual("book==new", ("book==old",), "LICENSE", "docs", (("page.txt", None),)),)
    )
    monkeypatch.setattr(recent_holdouts, "LIBRARIES", (Library("lib==new", ("lib==old",), "LICENSE", "lib", ("module.py",)),))
    build(tmp_path / "out")
    (prose,) = read_documents(str(tmp_path / "out" / "recent-prose.jsonl"))
    assert (prose.name, prose.text) == ("book-new/page", sentence("new") + "\n")
    (code,) = read_documents(str(tmp_path / "out" / "recent-code.jsonl"))
    assert (code.name, code.text) == ("lib-new/module.py", modules["new"].split("\n\n", 1)[1])
    licence = (tmp_path / "out" / "LICENSE-recent").read_text()
    assert "lib-new/module.py: Copyright 2026 Somebody" in licence
    assert "licence of the sdist" in licence
    assert "licence of the wheel" in licence


@pytest.mark.parametrize(("split", "sources"), [("prose", MANUALS), ("code", LIBRARIES)])
def test_what_ships_is_what_the_builder_names(split: str, sources: tuple[Manual | Library, ...]) -> None:
    documents = list(read_documents(f"holdout:recent-{split}"))
    licence = (HOLDOUTS / "LICENSE-recent").read_text("utf-8")
    n_named = sum(len(source.pages) if isinstance(source, Manual) else len(source.modules) for source in sources)
    assert 16 <= len(documents) == n_named <= 24
    packages = {source.new.replace("==", "-").lower() for source in sources}
    assert {document.name.split("/")[0] for document in documents} == packages
    assert all(f"\n{source.new.replace('==', ' ')}\n" in licence for source in sources)
    for document in documents:
        assert document.text is not None
        assert MIN_CHARACTERS <= len(document.text) <= MAX_CHARACTERS
        if split == "code":
            ast.parse(document.text)
        else:
            assert not re.search(r"``|:\w+:`|\.\. \w+::|^\s|\n\n", document.text), document.name
    assert (HOLDOUTS / f"recent-{split}.jsonl").stat().st_size < 60_000
