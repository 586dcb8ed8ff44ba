"""The documentation tells the truth: its Python blocks run, its links lead somewhere, its version is the package's.

Blocks fenced as `py` are not run: a whole scan takes a minute, and the notebook's test runs one.
"""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import transformers
from packaging.version import Version

import interp
from interp.finders.sink_config import COLUMNS, SinksConfig
from interp.tracing.statistics import Received
from tests.tiny import ARCHS, tiny

if TYPE_CHECKING:
    from interp.models.model import Model

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "data" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.name)
def test_python_blocks_run_in_order(page: Path, smollm2: Model, tmp_path: Path) -> None:
    script = tmp_path / "page.py"
    script.write_text("\n".join(blocks(page)), encoding="utf-8")
    threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(os.cpu_count() or 1))}
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env={**os.environ, **threads, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text("utf-8")):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_citation_and_changelog_name_this_version() -> None:
    this = version("interp-workbench")
    assert f"\nversion: {this}\n" in (ROOT / "CITATION.cff").read_text("utf-8")
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert f"## [{this}]" in changelog or "## [Unreleased]" in changelog


def test_sinks_page_lists_every_column_and_setting_with_its_default() -> None:
    page = (ROOT / "docs" / "sinks.md").read_text("utf-8")
    table, settings = page.partition("## The table")[2].split("## Settings")
    listed = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)))
    assert listed == [column.name for column in COLUMNS]
    defaults = dict(re.findall(r"^\| `(\w+)` \| `(\S+)` \|", settings, re.MULTILINE))
    assert defaults == {field.name: str(field.default) for field in dataclasses.fields(SinksConfig)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_settings_go_by_the_name_scan_gives_them(page: Path) -> None:
    assert "settings={" not in page.read_text("utf-8")


@pytest.mark.parametrize("arch", ARCHS)
def test_family_table_tells_each_attention_path(arch: str) -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    row = r"^\|[^|]*\| `(\w+)` \| (streamed|eager)(?: \(eager before transformers ([\d.]+)\))? \|"
    told = {name: (path, since) for name, path, since in re.findall(row, readme, re.MULTILINE)}
    model = tiny(arch)
    path, since = told[type(model).__name__]
    if since and Version(transformers.__version__) < Version(since):
        path = "eager"
    with interp.trace(model, stats=[Received()]) as t:
        t.run(list(range(4, 12)))
    assert path == t.attention_path


def test_family_table_claims_nothing_untested() -> None:
    rows = re.findall(r"^\|[^|]*\| `(\w+)` \|", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
    assert len(rows) == len(set(rows)) == len(ARCHS)
