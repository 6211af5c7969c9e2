"""A real browser without a screen, for what people look at; and pictures of what it shows, for the docs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

#: Of the docs; written anew where ``UPDATE_SCREENSHOTS`` is set.
SCREENSHOTS = Path(__file__).parents[2] / "docs" / "screenshots"
#: Chromium, and what is made of it. None is installed for tests: it takes 400 MB, and CI's machines have one.
PROGRAMS = ("chromium", "google-chrome", "chromium-browser")


@contextmanager
def browser() -> Iterator[Browser]:
    """The browser of this machine; where there is none the test is skipped."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip("no browser: `apt-get install chromium`, or Chrome, shows pages in one")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program)
        try:
            yield chromium
        finally:
            chromium.close()


class FromFolder:
    """Pages of a folder, opened as files where there is no network.

    Args:
        chromium: the browser.
        folder: where addresses begin.

    Attributes:
        asked: whatever was asked for and is no file.
        complaints: what the browser had to say of the pages: of what it did not load, for one.
    """

    def __init__(self, chromium: Browser, folder: Path) -> None:
        context = chromium.new_context(offline=True, viewport={"width": 1000, "height": 300}, color_scheme="light")
        self._folder, self.page = folder, context.new_page()
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self._requested(request.url))
        self.page.on("console", lambda said: self._said(said.type, said.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def open(self, path: str) -> Page:
        """The page at a path."""
        self.page.goto((self._folder / path).as_uri())
        return self.page

    def _requested(self, url: str) -> None:
        if not url.startswith(("file:", "data:", "blob:")):
            self.asked.append(url)

    def _said(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(text)


def screenshot(page: Page, name: str, **options: bool) -> None:
    """Put what a page shows into the docs, if that is asked for."""
    if os.environ.get("UPDATE_SCREENSHOTS"):
        page.screenshot(path=SCREENSHOTS / f"{name}.png", **options)
