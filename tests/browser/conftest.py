"""Headless Chromium for the report's tests, and a page that notes everything it must not do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from interp.report.build import build_report
from tests import sample_findings

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
LOCAL = ("file:", "data:", "blob:", "about:")


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    """Chromium: CHROMIUM names it, else the one on PATH. None found: the tests fail, unless INTERP_NO_BROWSER=1."""
    named = os.environ.get("CHROMIUM") or next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if named is None:
        if os.environ.get("INTERP_NO_BROWSER") == "1":
            pytest.skip("no Chromium, and INTERP_NO_BROWSER=1")
        pytest.fail(
            "the report's tests need Chromium: install it, name it in CHROMIUM, or set INTERP_NO_BROWSER=1 to leave them out"
        )
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=named, args=list(FLAGS))
        yield chromium
        chromium.close()


@pytest.fixture(scope="package")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages on disk: ``plain`` (30 layers x 9 heads, 8 prompts of 512 tokens), ``small``, ``hostile`` and ``empty``."""
    folder = tmp_path_factory.mktemp("reports")
    made = {
        "plain": sample_findings.sample(),
        "small": sample_findings.sample(count=2, length=96),
        "hostile": sample_findings.sample(heads=3, length=80, hostile=True),
        "empty": sample_findings.empty(),
    }
    paths = {}
    for name, parts in made.items():
        paths[name] = folder / f"{name}.html"
        paths[name].write_text(build_report(*parts), encoding="utf-8", newline="\n")
    return paths


@pytest.fixture
def opened(browser: Any, reports: dict[str, Path]) -> Iterator[Callable[..., Any]]:
    """``opened(name, hash="", **context)`` -> a drawn page. After the test: no console error, no uncaught error, no network request."""
    wrong: list[str] = []
    contexts = []

    def open_page(name: str, hash: str = "", **context: Any) -> Any:
        contexts.append(
            browser.new_context(viewport={"width": 1200, "height": 900}, reduced_motion="reduce", **context)
        )
        page = contexts[-1].new_page()
        page.on(
            "console", lambda message: message.type in ("error", "warning") and wrong.append(f"console: {message.text}")
        )
        page.on("pageerror", lambda error: wrong.append(f"uncaught: {error}"))
        page.on("dialog", lambda dialog: (wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: request.url.startswith(LOCAL) or wrong.append(f"request: {request.url}"))
        page.goto(reports[name].as_uri() + hash)
        page.wait_for_selector("body[data-ready=true]", timeout=60_000)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not wrong, wrong
