"""Debian's Chromium, driven by playwright; the tests that use it are skipped where either is missing."""

from contextlib import contextmanager
from pathlib import Path

import pytest

CHROMIUM = Path("/usr/bin/chromium")
PATIENCE_MS = 60_000


@contextmanager
def chromium():
    """A browser; closed when the block ends."""
    api = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip(f"needs {CHROMIUM}")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser, url, width=1280, height=900):
    """A page at a URL; fails for errors of scripts, and for requests to anywhere else."""
    context = browser.new_context(viewport={"width": width, "height": height}, bypass_csp=False)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    faults = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on(
        "request", lambda request: faults.append(request.url) if not request.url.startswith(url.partition("#")[0]) else None
    )
    page.goto(url)
    try:
        yield page
        assert not faults
    finally:
        context.close()


def until(page, what, *arguments):
    """Wait until a function of JavaScript, evaluated again and again, says true."""
    for _ in range(PATIENCE_MS // 50):
        if page.evaluate(what, *arguments):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"not reached: {what}")
