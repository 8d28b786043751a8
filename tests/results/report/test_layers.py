"""The report of a run that routes some layers of a model without small FFNs, in a real browser: its numbers and its names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from duo_oracle.oracle.patterns import Branch
from duo_oracle.results.report import write_report
from tests.results.report.browser import choose_budget, choose_measure, console, opened, show
from tests.results.synthetic import Synthetic

EVERY = Synthetic(documents=3, length=12)
SOME = replace(EVERY, route_layers=(3, 8, 9, 10), cheapest=Branch.SKIP)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with opened(tmp_path_factory.mktemp("profile")) as chrome:
        yield chrome


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both runs in one page, so that names must follow the chosen one."""
    folder = tmp_path_factory.mktemp("report")
    write_report([SOME.write(folder / "some"), EVERY.write(folder / "every")], folder / "page.html")
    return folder / "page.html"


@pytest.fixture
def page(browser: Chrome, file: Path) -> Iterator[Chrome]:
    show(browser, file)
    for details in browser.find_elements(By.CSS_SELECTOR, "details > summary"):
        details.click()
    yield browser
    assert console(browser) == []


def texts(page: Chrome, what: str) -> list[str]:
    return [element.get_attribute("textContent") for element in page.find_elements(By.CSS_SELECTOR, what)]


def test_layers_go_by_their_numbers_in_the_model(page: Chrome) -> None:
    for numbers in (["3", "8", "9", "10"], ["0", "1", "2", "3"]):
        assert texts(page, "#layers [data-layer]") == numbers
        shares = page.find_elements(By.CSS_SELECTOR, "#layers [data-layer-share]")
        assert [share.get_attribute("data-layer-share") for share in shares] == numbers
        titles = texts(page, "#layers rect title")
        assert {title.split(",")[0].split(":")[0] for title in titles} == {f"layer {number}" for number in numbers}
        cells = page.find_elements(By.CSS_SELECTOR, "#panel .path .cell")
        assert [cell.get_attribute("title").split(":")[0] for cell in cells] == [f"layer {number}" for number in numbers]
        said = page.find_element(By.CSS_SELECTOR, "#panel .path .cells").get_attribute("aria-label")
        assert [part.split()[0] for part in said.removeprefix("path, layer by layer: ").split(", ")] == numbers
        legend = page.find_element(By.CSS_SELECTOR, "#budgets legend").text
        assert ("of layers 3,8-10" in legend) == (numbers[0] == "3")
        assert ("3,8-10; the others are always big" in texts(page, "#words")[0]) == (numbers[0] == "3")
        Select(page.find_element(By.ID, "run")).select_by_index(1)


def test_the_cheapest_pattern_has_the_runs_name_for_it_everywhere(page: Chrome) -> None:
    for name, other in (("all-skip", "all-small"), ("all-small", "all-skip")):
        choose_budget(page, 2)
        for measure in ("difficulty", "compute", "loss_cheapest"):
            choose_measure(page, measure)
            assert name in page.find_element(By.ID, "legend").text.lower()
        names = [row.get_attribute("data-name") for row in page.find_elements(By.CSS_SELECTOR, "#summary tbody:first-of-type tr")]
        assert names[0].lower() == name
        assert f"{name} loss" in texts(page, "#panel dt")
        assert "Easy: " + name in page.find_element(By.ID, "classes").find_element(By.XPATH, "..").text
        assert other not in page.find_element(By.TAG_NAME, "main").text.lower()
        Select(page.find_element(By.ID, "run")).select_by_index(1)


def test_what_the_numbers_are_is_the_same_under_both_names(page: Chrome) -> None:
    seen = []
    for run in range(2):
        Select(page.find_element(By.ID, "run")).select_by_index(run)
        choose_budget(page, 2)
        seen.append((texts(page, "#summary .value"), texts(page, "#panel dd"), texts(page, "#layers [data-layer-share]")))
    assert seen[0] == seen[1]


def test_a_skipped_layer_has_its_cell_in_the_path(page: Chrome) -> None:
    choose_budget(page, 1)
    pattern = page.find_element(By.CSS_SELECTOR, "#panel .path .cells").get_attribute("data-pattern")
    assert pattern.count(".") == 3
    cells = page.find_elements(By.CSS_SELECTOR, "#panel .path .cell")
    assert [cell.text for cell in cells] == list(pattern)
    left = [cell.rect["x"] for cell in cells]
    assert left == sorted(left)
    assert {round(cell.rect["width"]) for cell in cells} == {round(cells[0].rect["width"])}
    assert left[0] >= page.find_element(By.ID, "panel").rect["x"]
