"""Debian's Chromium without a window, driven by selenium: what the tests of the report look through.

Where it cannot be had the tests that need it are skipped and say why; never in a continuous integration, whose `.ci/browser`
installs it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from duo_oracle.results import Run

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)


def required_programs() -> tuple[str, str]:
    """Chromium and its driver. Skips the test where one is missing, and fails it in a continuous integration."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser and driver:
        return browser, driver
    missing = "chromium" if browser is None else "chromedriver"
    reason = f"the report is looked at in a browser, and {missing} is not installed: run .ci/browser (Debian, as root)"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def opened(profile: Path, width: int = 1280, height: int = 900) -> Iterator[Chrome]:
    """A browser with a fresh profile in `profile`, whose console and network are logged."""
    browser, driver = required_programs()
    options = ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = Chrome(options=options, service=Service(driver))
    try:
        yield chrome
    finally:
        chrome.quit()


def show(browser: Chrome, file: Path, width: int = 1280, scheme: str = "light") -> None:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    )
    media = [{"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": "reduce"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
    console(browser)
    browser.get(file.resolve().as_uri())
    assert browser.execute_script("return document.documentElement.dataset.ready") == "yes", console(browser)


def console(browser: Chrome) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser")]


def tokens_of(browser: Chrome) -> list[Any]:
    return browser.find_elements(By.CSS_SELECTOR, "#passage-text [data-row]")


def colours(browser: Chrome) -> list[str]:
    return browser.execute_script(
        "return [...document.querySelectorAll('#passage-text [data-row]')].map(t => t.style.backgroundColor)"
    )


def panel(browser: Chrome) -> dict[str, str]:
    return browser.execute_script(
        "const panel = document.getElementById('panel');"
        "const numbers = [...panel.querySelectorAll('dd')].map(d => [d.dataset.name, d.textContent]);"
        "return {...Object.fromEntries(numbers), pattern: panel.querySelector('.cells').dataset.pattern, row: panel.dataset.row}"
    )


def choose_budget(browser: Chrome, k: int) -> None:
    browser.find_element(By.CSS_SELECTOR, f'#budgets input[value="{k}"]').click()


def choose_measure(browser: Chrome, key: str) -> None:
    Select(browser.find_element(By.ID, "measure")).select_by_value(key)


def said(value: float) -> str:
    text = f"{abs(value):.3f}"
    return ("\u2212" if value < 0 and float(text) else "") + text


def table_rows(browser: Chrome) -> list[int]:
    return [
        int(row)
        for row in browser.execute_script("return [...document.querySelectorAll('#tokens .body .row')].map(r => r.dataset.row)")
    ]


def rows_of(run: Run, budget: str) -> Any:
    """The run's own rows under a budget, in the order of the page's."""
    return run.sql(f"SELECT * FROM oracle WHERE budget = '{budget}' ORDER BY sequence, position")
