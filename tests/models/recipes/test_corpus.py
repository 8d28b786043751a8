"""The corpus: near copies are found, duplicates dropped, the package formats read. No network, no packages."""

import gzip
import struct
import zipfile
import zlib

import numpy as np
import pytest

from duo_oracle.models.recipes.corpus import SHIPPED_CHARACTERS, SHIPPED_SIZES, fetch, shipped_selection, whole_documents
from duo_oracle.models.recipes.corpus_sources import (
    SOURCES,
    Source,
    batched,
    html_reader,
    read_austen,
    read_dict,
    read_sword,
    read_wheel,
    read_wordnet,
)
from duo_oracle.models.recipes.near_copies import SHINGLE_WORDS, Shingler, copied_shares


def random_text(seed: int, n_words: int = 400) -> str:
    return " ".join(f"w{word}" for word in np.random.default_rng(seed).integers(0, 5000, n_words))


def test_a_near_copy_is_found_whatever_its_spaces_and_case():
    original, other = random_text(0), random_text(1)
    words = original.split()
    words[200] = "changed"
    near = "\n".join(words).upper()
    half = random_text(2) + " " + original
    shares = copied_shares([original, near, half, other], iter([random_text(3), original]))
    assert shares[0] == 1.0
    assert shares[1] == pytest.approx(1 - SHINGLE_WORDS / (400 - SHINGLE_WORDS + 1))
    assert 0.4 < shares[2] < 0.5
    assert shares[3] == 0.0


def test_shingles_depend_on_the_order_of_words():
    forward = " ".join(f"w{i}" for i in range(SHINGLE_WORDS))
    backward = " ".join(reversed(forward.split()))
    assert Shingler().shingles(forward) != Shingler().shingles(backward)
    assert len(Shingler().shingles("too few words")) == 0
    assert copied_shares(["too few words"], ["too few words"]) == [0.0]
    assert copied_shares([], ["text"]) == []


def test_duplicates_and_next_to_empty_documents_are_dropped():
    text = random_text(4)
    documents = [("a", text), ("b", "short"), ("c", f"  {text}\r\n\r\n"), ("d", random_text(5))]
    assert [name for name, _ in whole_documents(iter(documents))] == ["a", "d"]


@pytest.mark.parametrize("split", SHIPPED_SIZES)
def test_the_shipped_selection_is_whole_short_documents_in_an_order_of_names_only(split):
    low, high = SHIPPED_SIZES[split]
    documents = [(f"d{i:03d}", "x" * (low - 500 + 37 * i)) for i in range(300)]
    chosen = shipped_selection(split, documents)
    assert chosen == shipped_selection(split, documents[::-1])
    assert all(low <= len(text) <= high for _, text in chosen)
    assert SHIPPED_CHARACTERS - high < sum(len(text) for _, text in chosen) <= SHIPPED_CHARACTERS
    assert set(chosen) <= set(documents)


def test_no_source_is_copyleft():
    assert not [source for source in SOURCES if "GPL" in source.licence or "GFDL" in source.licence]
    assert {source.split for source in SOURCES} == {"prose", "code"}


def test_a_package_that_is_there_is_not_fetched_again(tmp_path):
    source = Source("thing==1.0", "wheel", "MIT", "code", read_wheel)
    folder = tmp_path / "wheel" / "thing==1.0"
    folder.mkdir(parents=True)
    (folder / "thing.whl").write_text("")
    assert fetch(source, tmp_path) == folder / "thing.whl"


def test_batches_hold_every_entry_once():
    documents = list(batched("d", (str(i) for i in range(7)), 3))
    assert documents == [("d/00000", "0\n1\n2"), ("d/00001", "3\n4\n5"), ("d/00002", "6")]


def test_sword_chapters_end_at_verses_without_text(tmp_path):
    module = tmp_path / "usr/share/sword/modules/texts/ztext/web"
    module.mkdir(parents=True)
    verses = ["", "In the <w>beginning</w> <note>gone</note>.", "Two.", "", "Next <b>chapter</b> &amp; verse."]
    block = zlib.compress("".join(verses).encode())
    starts = np.cumsum([0, *map(len, verses)])
    for testament in ("ot", "nt"):
        (module / f"{testament}.bzz").write_bytes(block)
        (module / f"{testament}.bzs").write_bytes(struct.pack("<III", 0, len(block), 0))
        table = [struct.pack("<IIH", 0, start, len(verse)) for start, verse in zip(starts, verses, strict=False)]
        (module / f"{testament}.bzv").write_bytes(b"".join(table))
    documents = list(read_sword(tmp_path))
    assert documents[:2] == [("web/ot-0000", "In the beginning. Two."), ("web/ot-0001", "Next chapter & verse.")]
    assert len(documents) == 4


def r_strings(lines: list[str]) -> bytes:
    """A character vector as R serialises it, in a record of a lazy-load data base."""
    value = b"X\n" + struct.pack(">iii", 3, 0, 0) + struct.pack(">i", 5) + b"UTF-8" + struct.pack(">ii", 16, len(lines))
    for line in lines:
        value += struct.pack(">ii", 9, len(line.encode())) + line.encode()
    return struct.pack(">i", len(value)) + zlib.compress(value)


def test_novels_are_split_into_chapters(tmp_path):
    folder = tmp_path / "usr/lib/R/site-library/janeaustenr/data"
    folder.mkdir(parents=True)
    emma = ["EMMA", "", "by Jane Austen", "CHAPTER I", "", "One", "line.", "", "Two.", "", "CHAPTER II", "Three."]
    other = struct.pack(">i", 4) + zlib.compress(b"none")
    (folder / "Rdata.rdb").write_bytes(r_strings(emma) + other + r_strings(["PERSUASION", "Chapter 1", "Four."]))
    assert list(read_austen(tmp_path)) == [
        ("austen/emma-01", "One line.\n\nTwo."),
        ("austen/emma-02", "Three."),
        ("austen/persuasion-01", "Four."),
    ]


def test_manuals_keep_running_text_only(tmp_path):
    sentence = "This sentence is long enough to be taken for running text by the filter."
    page = f"<nav>{sentence}</nav><p>{sentence}</p><pre>{sentence}</pre><td>f(x)</td><li>A <b>bold</b> word. {sentence}"
    (tmp_path / "doc").mkdir()
    (tmp_path / "doc" / "page.html").write_text(page)
    assert list(html_reader("manual", "doc")(tmp_path)) == [("manual/page", f"{sentence}\nA bold word. {sentence}")]


def test_dictionaries_and_wheels_are_read(tmp_path):
    (tmp_path / "usr/share/wordnet").mkdir(parents=True)
    (tmp_path / "usr/share/wordnet/data.noun").write_text('  1 licence | no\n0001 03 n | a thing; "a use"  \n')
    assert list(read_wordnet(tmp_path)) == [("wordnet/noun/00000", 'a thing; "a use"')]
    (tmp_path / "usr/share/dictd").mkdir(parents=True)
    entry = "{word} an entry that is long enough to be kept, over\n   two lines of the dictionary"
    (tmp_path / "usr/share/dictd/devil.dict.dz").write_bytes(gzip.compress(f"{entry}\n\nshort\n".encode()))
    wanted = "word an entry that is long enough to be kept, over two lines of the dictionary"
    assert list(read_dict(tmp_path)) == [("devil/00000", wanted)]
    with zipfile.ZipFile(tmp_path / "p.whl", "w") as wheel:
        for name in ("p/b.py", "p/a.py", "p/tests/test_a.py", "p/data.txt"):
            wheel.writestr(name, f"# {name}\n" + "x = 1\n" * 100)
        wheel.writestr("p/tiny.py", "x = 1")
    assert [name for name, _ in read_wheel(tmp_path / "p.whl")] == ["p/a.py", "p/b.py"]
