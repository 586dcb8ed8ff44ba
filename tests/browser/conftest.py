"""Headless Chromium for the report's tests, and a page that notes everything it must not do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from interp.comparison.compare import compare
from interp.report.build import build_report
from tests import retrieval_units, sample_findings, sample_runs

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
        pytest.fail("the report's tests need Chromium: install it, name it in CHROMIUM, or set INTERP_NO_BROWSER=1")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=named, args=list(FLAGS))
        yield chromium
        chromium.close()


@pytest.fixture(scope="package")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages on disk: ``plain`` (30 layers x 9 heads, 8 prompts of 512 tokens), ``small``, ``hostile``, ``empty``,
    ``retrieval``, ``compare``."""
    folder = tmp_path_factory.mktemp("reports")
    made = {
        "plain": sample_findings.sample(),
        "small": sample_findings.sample(count=2, length=96),
        "hostile": sample_findings.sample(heads=3, length=80, hostile=True),
        "empty": sample_findings.empty(),
        "retrieval": retrieval_units.concluded(),
    }
    paths = {}
    for name, parts in made.items():
        paths[name] = folder / f"{name}.html"
        paths[name].write_text(build_report(*parts), encoding="utf-8", newline="\n")
    runs = [
        sample_runs.save(folder / "a", "small"),
        sample_runs.save(folder / "b", "<b>large</b>", layers=48, hostile=True),
    ]
    paths["compare"] = compare(runs).report(folder / "compare.html")
    return paths


class Opened:
    """Pages under watch: whatever they must not do is noted in `wrong`."""

    def __init__(self, browser: Any, reports: dict[str, Path]) -> None:
        self.wrong: list[str] = []
        self._browser, self._reports = browser, reports
        self._kept: dict[str, Any] = {}

    def __call__(self, name: str, fragment: str = "", fresh: bool = False, **context: Any) -> Any:
        """The drawn page `name` at `fragment`: one opened before, unless `fresh` or a browser context is asked for."""
        if name in self._kept and not fresh and not context:
            page = self._kept[name]
            page.mouse.move(5, 5)
            page.evaluate("fragment => { location.hash = fragment; }", fragment)
            page.wait_for_timeout(50)
            return page
        wanted = {"viewport": {"width": 1200, "height": 900}, "reduced_motion": "reduce", **context}
        page = self._browser.new_context(**wanted).new_page()
        page.on(
            "console", lambda said: said.type in ("error", "warning") and self.wrong.append(f"console: {said.text}")
        )
        page.on("pageerror", lambda error: self.wrong.append(f"uncaught: {error}"))
        page.on("dialog", self._dialog)
        page.on("request", lambda sent: sent.url.startswith(LOCAL) or self.wrong.append(f"request: {sent.url}"))
        page.goto(self._reports[name].as_uri() + fragment)
        page.wait_for_selector("body[data-ready=true]", timeout=60_000)
        if not context:
            self._kept[name] = page
        return page

    def _dialog(self, dialog: Any) -> None:
        self.wrong.append(f"dialog: {dialog.message}")
        dialog.dismiss()


@pytest.fixture(scope="package")
def watched(browser: Any, reports: dict[str, Path]) -> Opened:
    return Opened(browser, reports)


@pytest.fixture
def opened(watched: Opened) -> Iterator[Opened]:
    """Opens pages; after the test: no console error or warning, no uncaught error, no dialog, no request elsewhere."""
    watched.wrong.clear()
    yield watched
    assert not watched.wrong, watched.wrong
