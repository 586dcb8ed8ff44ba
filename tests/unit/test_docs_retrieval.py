"""docs/retrieval.md names every column, setting and probe field, with the defaults they have."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from interp.retrieval.config import RetrievalConfig
from interp.retrieval.table import COLUMNS
from probes.needle import NeedleProbe

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "retrieval.md").read_text("utf-8")


def section(title: str) -> str:
    return PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]


def defaults(text: str) -> dict[str, str]:
    return dict(re.findall(r"^\| `(\w+)` \| `?([^`|]+?)`? \|", text, re.MULTILINE))


def test_every_column() -> None:
    listed = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", section("The table"), re.MULTILINE)))
    assert listed == [column.name for column in COLUMNS]


def test_every_setting_with_its_default() -> None:
    assert defaults(section("Settings")) == {
        field.name: str(field.default) for field in dataclasses.fields(RetrievalConfig)
    }


def test_every_field_of_the_probe() -> None:
    told = {
        field.name: str(field.default).strip("()").replace(" ", "") or "none"
        for field in dataclasses.fields(NeedleProbe)
        if field.name not in ("name", "help")
    }
    assert defaults(section("The task")) == told
