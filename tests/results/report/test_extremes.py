"""The report with texts that would be markup, with little to show, and with much: in a real browser."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from selenium.webdriver import ActionChains, Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from duo_oracle.results.report import write_report
from duo_oracle.results.store.parts import UnitWriter
from tests.results.report.browser import (
    choose_budget,
    choose_measure,
    console,
    opened,
    panel,
    rows_of,
    said,
    show,
    table_rows,
    tokens_of,
)
from tests.results.synthetic import Synthetic

HOSTILE = [
    "<script>window.struck = 1</script>",
    "</script><script>window.struck = 2</script>",
    "<!--",
    "<img src=x onerror='window.struck = 3'>",
    "\u2028",
    "\x00\x1b[31m",
    "\u202eright to left",
    "שלום",
    "\\xed\\xa0\\x80",
    "@@DATA@@",
    "&lt;b&gt;",
    "\n",
]
MADE = Synthetic(documents=3, windows=2, length=12)


@dataclass(frozen=True)
class Hostile(Synthetic):
    """A run whose every text, its documents' names too, would be markup if it were taken for it."""

    def write_unit(self, directory: Path, run_id: str, unit: int):
        with UnitWriter(directory, run_id, unit, self.parsed_budgets, self.keep, HOSTILE) as writer:
            for sequence in range(unit * self.windows, (unit + 1) * self.windows):
                for block in self.blocks(sequence):
                    writer.add_losses(sequence, block)
                tokens = np.roll(np.arange(len(HOSTILE), dtype=np.int32), sequence)
                writer.add_sequence(sequence, f"{HOSTILE[1]}{unit}", tokens, self.paths(sequence))
        return writer.record


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with opened(tmp_path_factory.mktemp("profile")) as chrome:
        yield chrome


def test_a_hostile_text_stays_text(browser: Chrome, tmp_path: Path) -> None:
    hostile = Hostile(documents=2, windows=1, length=len(HOSTILE)).write(tmp_path / "hostile")
    write_report([hostile], tmp_path / "page.html", title=HOSTILE[1])
    show(browser, tmp_path / "page.html")
    assert browser.execute_script("return window.struck") is None
    shown = browser.execute_script("return [...document.querySelectorAll('#passage-text .token')].map(t => t.textContent)")
    wanted = [*HOSTILE[:4], "\\u2028", "\\u0000\\u001b[31m", "\\u202eright to left", *HOSTILE[7:11], "\u23ce\n"]
    assert shown == wanted
    assert browser.title == HOSTILE[1]
    assert browser.find_element(By.ID, "title").text == HOSTILE[1]
    for k in range(len(HOSTILE) - 1):
        ActionChains(browser).move_to_element(tokens_of(browser)[k]).perform()
    assert browser.find_element(By.CSS_SELECTOR, "#panel .where").text.count("</script>") == 2  # the document's name
    assert len(browser.find_elements(By.CSS_SELECTOR, "img")) == 0
    blocks = len(browser.find_elements(By.CSS_SELECTOR, 'script[type="text/plain"]'))
    assert len(browser.find_elements(By.CSS_SELECTOR, "script")) == blocks + 2
    assert console(browser) == []


def test_one_budget_and_one_document_without_labels_is_a_page_too(browser: Chrome, tmp_path: Path) -> None:
    run = Synthetic(documents=1, windows=1, length=5, budgets="any", keep=None, nulls=False, texts=False).write(tmp_path / "run")
    write_report([run, MADE.write(tmp_path / "other")], tmp_path / "page.html")
    show(browser, tmp_path / "page.html")
    assert not browser.find_element(By.ID, "curve-section").is_displayed()
    assert "not known" in browser.find_element(By.ID, "finding").text
    assert "excess" not in [o.get_attribute("value") for o in Select(browser.find_element(By.ID, "measure")).options]
    Select(browser.find_element(By.ID, "run")).select_by_index(1)
    assert browser.find_element(By.ID, "curve-section").is_displayed()
    assert len(tokens_of(browser)) == MADE.length - 1
    choose_measure(browser, "excess")
    Select(browser.find_element(By.ID, "run")).select_by_index(0)
    assert browser.find_element(By.ID, "measure").get_attribute("value") == "difficulty"
    assert len(tokens_of(browser)) == 4
    assert "null" not in browser.find_element(By.ID, "panel").text.replace("null gain", "")
    assert console(browser) == []


@pytest.mark.long
def test_twenty_thousand_tokens_open_in_three_seconds_and_fifteen_megabytes(browser: Chrome, tmp_path: Path) -> None:
    made = Synthetic(documents=20, windows=5, length=201, n_letters=8, budgets="0-8,any,atmost:2,atmost:4,atmost:6")
    run = made.write(tmp_path / "run")
    assert run.n_tokens == 20_000
    size = write_report([run], tmp_path / "page.html")
    assert size < 15e6
    seconds = min(_seconds_to_open(browser, tmp_path / "page.html"))
    assert seconds < 3
    assert len(table_rows(browser)) < 60  # only what is in view
    assert len(tokens_of(browser)) == 200
    choose_budget(browser, 11)
    choose_measure(browser, "excess")
    assert panel(browser)["excess"] == said(float(rows_of(run, "atmost:4")["excess"].iloc[0]))
    assert console(browser) == []


def _seconds_to_open(browser: Chrome, file: Path) -> Iterator[float]:
    """From navigation until the page is drawn and painted; again where it was slow, as other work may share the machine."""
    for _ in range(5):
        started = time.monotonic()
        show(browser, file)
        browser.execute_async_script("const done = arguments[0]; requestAnimationFrame(() => setTimeout(done))")
        seconds = time.monotonic() - started
        print(f"{file.stat().st_size / 1e6:.1f} MB opened in {seconds:.2f} s")
        yield seconds
        if seconds < 3:
            return
