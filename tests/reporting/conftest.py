"""Pages in a real browser, which may load, say and ask nothing."""

import os
import shutil

import pytest
from playwright.sync_api import sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(f"none of {', '.join(BROWSERS)} is on PATH; in CI the page is tested in one of them")
        pytest.skip(f"none of {', '.join(BROWSERS)} is on PATH")
    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=found)
        yield started
        started.close()


@pytest.fixture
def opened(browser, tmp_path):
    """Opens a page's text as a file; no error, no message and no request may come of it."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000}, offline=True)
    complaints: list[str] = []

    def open_(text: str):
        file = tmp_path / "page.html"
        file.write_text(text, encoding="utf-8")
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on("console", lambda message: complaints.append(f"console: {message.text}"))
        page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: complaints.append(request.url) if request.url != file.as_uri() else None)
        page.goto(file.as_uri())
        return page

    yield open_
    context.close()
    assert complaints == []
