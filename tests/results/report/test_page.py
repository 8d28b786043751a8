"""The report in a real browser: what colours, hover, keys, filters and themes do, and that nothing is fetched or run from data."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from duo_oracle.results import Run
from duo_oracle.results.answers.curve import budget_lines
from duo_oracle.results.answers.verdict import verdict
from duo_oracle.results.report import write_report
from tests.results.report.browser import (
    choose_budget,
    choose_measure,
    colours,
    console,
    opened,
    panel,
    rows_of,
    said,
    show,
    table_rows,
    tokens_of,
)
from tests.results.report.test_report import STRATEGIES, routes_file
from tests.results.synthetic import Synthetic

MADE = Synthetic(documents=3, windows=2, length=12)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with opened(tmp_path_factory.mktemp("profile")) as chrome:
        yield chrome


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return MADE.write(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def file(run: Run) -> Path:
    folder = run.path.parent
    (folder / "strategies.json").write_text(json.dumps(STRATEGIES))
    routes = routes_file(folder / "routes.parquet", run, ["BssB", "ssss"])
    write_report([run], folder / "page.html", {"mine": str(routes)}, [str(folder / "strategies.json")])
    return folder / "page.html"


@pytest.fixture
def page(browser: Chrome, file: Path) -> Iterator[Chrome]:
    """The page newly opened, wide and light; after the test its console must be empty."""
    show(browser, file)
    yield browser
    assert console(browser) == []


def test_colours_follow_measure_and_budget(page: Chrome, run: Run) -> None:
    choose_budget(page, 2)
    seen = {}
    for option in [option.get_attribute("value") for option in Select(page.find_element(By.ID, "measure")).options]:
        choose_measure(page, option)
        seen[option] = colours(page)
    assert {
        "difficulty",
        "gain",
        "null_gain",
        "excess",
        "loss",
        "loss_cheapest",
        "loss_full",
        "n_big",
        "routed.0",
        "regret.0",
    } <= set(seen)
    assert len({tuple(shades) for shades in seen.values()}) == len(seen)
    choose_measure(page, "loss")
    choose_budget(page, 4)
    assert colours(page) != seen["loss"]
    choose_measure(page, "n_big")
    assert len(set(colours(page))) == 1  # budget 4 of 4 layers


def test_more_difficulty_is_darker(page: Chrome, run: Run) -> None:
    choose_budget(page, 2)
    value = rows_of(run, "2")["difficulty"].to_numpy()[: MADE.length - 1]
    light = [sum(map(int, c.removeprefix("rgb(").removesuffix(")").split(","))) for c in colours(page)]
    for i in np.flatnonzero(value > 0):
        for j in np.flatnonzero(value > value[i]):
            assert light[j] <= light[i]


def test_what_is_beyond_bias_is_grey_where_a_drawn_label_gains_as_much(page: Chrome, run: Run) -> None:
    choose_budget(page, 2)
    rows = run.sql("SELECT null_above FROM measures WHERE budget = '2' ORDER BY sequence, position")
    doubtful = (rows["null_above"] > 0).to_numpy()[: MADE.length - 1]
    assert 0 < doubtful.sum() < len(doubtful)
    for measure in ("excess", "excess_difficulty"):
        choose_measure(page, measure)
        for doubt, colour in zip(doubtful, colours(page), strict=True):
            assert not doubt or len(set(colour.removeprefix("rgb(").removesuffix(")").split(", "))) == 1
        assert "Grey: " in page.find_element(By.ID, "legend").text
        marked = page.find_elements(By.CSS_SELECTOR, "#passage-text .doubtful")
        assert [int(token.get_attribute("data-row")) for token in marked] == np.flatnonzero(doubtful).tolist()
    choose_measure(page, "loss")
    assert page.find_elements(By.CSS_SELECTOR, "#passage-text .doubtful") == []
    assert "Grey: " not in page.find_element(By.ID, "legend").text


@pytest.mark.parametrize("k", [0, 3])
def test_hovering_shows_the_tokens_own_numbers(page: Chrome, run: Run, k: int) -> None:
    choose_budget(page, k)
    rows = rows_of(run, str(k))
    before = panel(page)
    for row in (0, 4, 9):
        ActionChains(page).move_to_element(tokens_of(page)[row]).perform()
        shown, wanted = panel(page), rows.iloc[row]
        assert shown["row"] == str(row)
        assert shown["pattern"] == wanted["pattern"]
        for name in ("loss", "loss_cheapest", "loss_full", "difficulty", "null_gain", "excess"):
            assert shown[name] == said(float(wanted[name])), name
        assert shown["gain"] == said(float(wanted["loss_full"]) - float(wanted["loss"]))
        assert (
            page.execute_script("return document.querySelectorAll('#panel .small.cells').length") >= 2
        )  # routers' choices, others
        assert "[object" not in page.find_element(By.ID, "panel").text
        assert str(wanted["position"]) in page.find_element(By.CSS_SELECTOR, "#panel .where").text
    ActionChains(page).move_to_element(page.find_element(By.ID, "measure")).perform()
    assert panel(page) == before


def test_keys_move_between_tokens_and_passages(page: Chrome) -> None:
    tokens_of(page)[0].click()
    keys = ActionChains(page)

    def at(*pressed: str) -> int:
        keys.send_keys(*pressed).perform()
        assert page.execute_script("return document.activeElement.getAttribute('aria-selected')") == "true"
        assert panel(page)["row"] == page.execute_script("return document.activeElement.dataset.row")
        return int(panel(page)["row"])

    last = MADE.length - 2
    assert at(Keys.ARROW_RIGHT) == 1
    assert at(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_LEFT) == 2
    assert at(Keys.END) == last
    assert at(Keys.ARROW_RIGHT) == last + 1  # the next passage's first
    assert at(Keys.ARROW_LEFT) == last
    assert at(Keys.PAGE_DOWN) == last + 1
    assert at(Keys.PAGE_UP) == 0
    assert at(Keys.ARROW_LEFT) == 0
    down = at(Keys.ARROW_DOWN)
    assert down > 0
    assert at(Keys.ARROW_UP) < down
    assert len(page.find_elements(By.CSS_SELECTOR, '#passage-text [tabindex="0"]')) == 1


def test_everything_is_reached_by_tab_and_named(page: Chrome) -> None:
    page.execute_script("document.activeElement.blur(); window.scrollTo(0, 0)")
    reached = set()
    for _ in range(60):
        ActionChains(page).send_keys(Keys.TAB).perform()
        place = page.execute_script(
            "const e = document.activeElement, seen = e.matches('.segments input') ? e.nextSibling : e;"
            "const name = e.getAttribute('aria-label') || e.textContent || e.labels?.[0]?.textContent || e.type || '';"
            "return [e.id || e.name || e.className || e.tagName, name.trim(), getComputedStyle(seen).outlineStyle]"
        )
        if place[0] == "BODY":
            break
        assert place[1], place
        assert place[2] != "none", place
        reached.add(place[0])
    assert {
        "theme",
        "budget",
        "measure",
        "passage",
        "next",
        "token",
        "filter-text",
        "filter-class",
        "filter-least",
        "scroller",
    } <= reached


def test_filters_leave_the_tokens_that_fit(page: Chrome, run: Run) -> None:
    choose_budget(page, 2)
    rows = rows_of(run, "2")

    def type_into(name: str, text: str) -> None:
        field = page.find_element(By.ID, name)
        field.clear()
        field.send_keys(text)

    by_difficulty = rows["difficulty"].sort_values(ascending=False, kind="stable").index.tolist()
    assert table_rows(page)[:10] == by_difficulty[:10]
    type_into("filter-text", " TREE")
    assert sorted(table_rows(page)) == rows.index[rows["target"] == " tree"].tolist()
    type_into("filter-least", "0.5")
    wanted = rows.index[(rows["target"] == " tree") & (rows["difficulty"] >= 0.5)].tolist()
    assert sorted(table_rows(page)) == wanted
    assert wanted
    assert f"{len(wanted)} of {len(rows)} tokens" in page.find_element(By.ID, "filter-count").text
    page.find_element(By.ID, "filter-clear").click()
    Select(page.find_element(By.ID, "filter-document")).select_by_visible_text("doc1")
    type_into("filter-most", "0.2")
    assert sorted(table_rows(page)) == rows.index[(rows["document"] == "doc1") & (rows["difficulty"] <= 0.2)].tolist()
    page.find_element(By.ID, "filter-clear").click()
    classes = run.sql("token_classes").query("budget == '2'").set_index("class")["tokens"]
    for name in ("easy", "stubborn", "reducible", "within bias"):
        Select(page.find_element(By.ID, "filter-class")).select_by_visible_text(name)
        assert page.find_element(By.ID, "filter-count").text.startswith(f"{classes[name]} of 66 tokens")


def test_headings_sort_and_a_row_is_shown_in_the_text(page: Chrome, run: Run) -> None:
    choose_budget(page, 1)
    rows = rows_of(run, "1")
    for ascending in (False, True):
        page.find_element(By.CSS_SELECTOR, '[data-sort="excess"]').click()
        order = rows["excess"].sort_values(ascending=ascending).index.tolist()
        assert table_rows(page)[:8] == order[:8]
    head = page.find_element(By.CSS_SELECTOR, '#tokens [aria-sort="ascending"]')
    assert head.text.startswith("excess")
    last = page.find_elements(By.CSS_SELECTOR, "#tokens .body .row")[3]
    row = last.get_attribute("data-row")
    last.find_element(By.CSS_SELECTOR, ".hit-token").click()
    assert page.execute_script("return document.activeElement.dataset.row") == row
    assert panel(page)["row"] == row
    page.find_element(By.CSS_SELECTOR, "#tokens .scroller").send_keys(Keys.HOME, Keys.ARROW_DOWN, Keys.ENTER)
    assert panel(page)["row"] == str(order[1])


def test_summary_routers_and_strategies_stand_in_the_page(page: Chrome, run: Run) -> None:
    choose_budget(page, 2)
    rows = rows_of(run, "2")
    value = page.find_element(By.CSS_SELECTOR, '#summary [data-name="Excess"] .value').text
    assert value == said(float(rows["excess"].mean()))
    assert "[" in page.find_element(By.CSS_SELECTOR, '#summary [data-name="Excess"]').text
    assert "selection bias alone would" in page.find_element(By.ID, "finding").text
    assert "mine" in page.find_element(By.ID, "routers").text
    assert "greedy" in page.find_element(By.ID, "strategies").text
    assert "NaN" not in page.find_element(By.TAG_NAME, "main").text
    for layer in range(MADE.n_letters):
        share = rows["pattern"].str[layer].eq("B").mean()
        assert page.find_element(By.CSS_SELECTOR, f'[data-layer-share="{layer}"]').text == f"{100 * share:.0f}%"
    page.find_elements(By.CSS_SELECTOR, "#curve .hit")[4].click()
    assert page.find_element(By.CSS_SELECTOR, '#budgets input[value="4"]').is_selected()


def test_dark_light_and_the_button_between(browser: Chrome, file: Path) -> None:
    def ground() -> str:
        return browser.execute_script("return getComputedStyle(document.body).backgroundColor")

    show(browser, file, scheme="light")
    light, light_tokens = ground(), colours(browser)
    show(browser, file, scheme="dark")
    assert ground() != light
    assert colours(browser) != light_tokens
    browser.find_element(By.ID, "theme").click()
    assert (ground(), colours(browser)) == (light, light_tokens)


def test_ink_stands_out_from_every_colour(page: Chrome) -> None:
    for theme in range(2):
        for measure in ("difficulty", "excess", "n_big"):
            choose_measure(page, measure)
            pairs = page.execute_script(
                "const tokens = [...document.querySelectorAll('#passage-text [data-row]')];"
                "return tokens.map(t => [t.style.backgroundColor, t.style.color])"
            )
            for ground, ink in pairs:
                darker, lighter = sorted(map(_luminance, (ground, ink)))
                assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (theme, ground, ink)
        page.find_element(By.ID, "theme").click()


def _luminance(colour: str) -> float:
    shares = [int(c) / 255 for c in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shares]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


@pytest.mark.parametrize("width", [360, 768])
def test_narrow_screens_do_not_scroll_sideways(browser: Chrome, file: Path, width: int) -> None:
    show(browser, file, width)
    for details in browser.find_elements(By.CSS_SELECTOR, "details > summary"):
        details.click()
    assert browser.execute_script("return innerWidth") == width
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


def test_nothing_is_fetched_and_nothing_could_be(browser: Chrome, file: Path) -> None:
    browser.get("about:blank")
    browser.get_log("performance")
    show(browser, file)
    for option in ("gain", "n_big"):
        choose_measure(browser, option)
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {m["params"]["request"]["url"].split(":")[0] for m in messages if m["method"] == "Network.requestWillBeSent"}
    assert "file" in asked  # the log sees requests
    assert asked <= {"file", "data"}
    refused = browser.execute_async_script(
        "const done = arguments[0], seen = [];"
        "const refused = e => { if (seen.push(e.effectiveDirective) === 3) done(seen.sort()); };"
        "addEventListener('securitypolicyviolation', refused);"
        "fetch('http://127.0.0.1:9/').catch(() => 0); new Image().src = 'http://127.0.0.1:9/a.png';"
        "const s = document.createElement('script'); s.textContent = 'window.struck = 1'; document.body.append(s);"
    )
    assert refused == ["connect-src", "img-src", "script-src-elem"]
    assert browser.execute_script("return window.struck") is None


def test_the_first_screen_says_the_finding(page: Chrome, run: Run) -> None:
    found = verdict(budget_lines(run))
    assert page.find_element(By.ID, "verdict-text").text == found.text
    assert page.find_element(By.ID, "verdict").get_attribute("data-kind") == found.kind
    assert page.find_element(By.ID, "verdict").rect["y"] < 200
    line = next(line for line in budget_lines(run) if line.budget == found.budget)
    tiles = {tile.get_attribute("data-name"): tile.text for tile in page.find_elements(By.CSS_SELECTOR, ".tile")}
    assert said(line.gain.mean) in tiles["Gain over all-big"]
    assert line.null_gain is not None
    assert line.beyond is not None
    assert said(line.null_gain.mean) in tiles["Selection bias"]
    assert said(line.beyond.mean) in tiles["Beyond both"]
    assert not page.find_element(By.ID, "searched").is_displayed()  # the method is folded


def test_what_is_shown_stands_in_the_address(browser: Chrome, file: Path) -> None:
    show(browser, file)
    assert "#" not in browser.current_url
    choose_budget(browser, 3)
    choose_measure(browser, "loss")
    tokens_of(browser)[5].click()
    address = browser.current_url
    assert address.endswith("#budget=3&measure=loss&token=5")
    shown, shades = panel(browser), colours(browser)
    browser.get("about:blank")
    browser.get(address)
    assert (panel(browser), colours(browser)) == (shown, shades)
    browser.get("about:blank")
    browser.get(f"{file.as_uri()}#budget=nonsense&measure=<b>&token=999999&run=7")  # what fits nothing is as nothing
    assert panel(browser)["row"] == "0"
    assert console(browser) == []


def test_the_table_is_saved_as_it_is_shown(page: Chrome, run: Run) -> None:
    page.execute_script(
        "window.saved = []; const was = URL.createObjectURL;"
        "URL.createObjectURL = blob => { blob.text().then(t => saved.push(t)); return was(blob); };"
        "HTMLAnchorElement.prototype.click = function () { window.savedAs = this.download; };"
    )
    choose_budget(page, 2)
    page.find_element(By.ID, "filter-least").send_keys("0.5")
    page.find_element(By.ID, "csv").click()
    text = WebDriverWait(page, 5).until(lambda chrome: chrome.execute_script("return window.saved[0]"))
    rows = list(csv.DictReader(io.StringIO(text)))
    wanted = rows_of(run, "2")
    assert len(rows) == int((wanted["difficulty"] >= 0.5).sum())
    for row in rows:
        mine = wanted[(wanted["sequence"] == int(row["sequence"])) & (wanted["position"] == int(row["position"]))].iloc[0]
        assert row["pattern"] == mine["pattern"]
        assert float(row["loss"]) == pytest.approx(float(mine["loss"]), abs=1e-6)
        assert row["token"] != ""
    assert page.execute_script("return window.savedAs").endswith("-tokens.csv")


def test_several_runs_stand_side_by_side(browser: Chrome, tmp_path: Path) -> None:
    runs = [Synthetic(documents=3, windows=1, length=8, seed=seed).write(tmp_path / f"run-{seed}") for seed in (0, 1)]
    write_report(runs, tmp_path / "two.html")
    show(browser, tmp_path / "two.html")
    rows = browser.find_elements(By.CSS_SELECTOR, ".overview tbody tr")
    assert [row.find_element(By.TAG_NAME, "th").text for row in rows] == ["run-0", "run-1"]
    for row, run in zip(rows, runs, strict=True):
        found = verdict(budget_lines(run))
        assert row.text.endswith(str(found.kind))
    rows[1].find_element(By.TAG_NAME, "button").click()
    assert browser.find_element(By.ID, "verdict-text").text == verdict(budget_lines(runs[1])).text
    assert browser.current_url.endswith("#run=1")
    assert console(browser) == []
