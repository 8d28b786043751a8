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

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

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
