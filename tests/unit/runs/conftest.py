"""A tiny model folder, a finished scan of it, and the test finder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import interp
from tests.mass_finder import MassFinder, registered, save_tiny

TEXTS = {
    "one": "the cat sat on the mat.",
    "two": "a red dog ran to it and the cat ran.",
    "three": "it was blue and red",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture
def finder() -> Iterator[MassFinder]:
    with registered() as made:
        yield made


@pytest.fixture(scope="module")
def scanned(folder: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished scan; copy it before changing anything."""
    out = tmp_path_factory.mktemp("scanned") / "run"
    with registered():
        interp.scan(folder, find="mass", texts=TEXTS, progress=False, out=out)
    return out


@pytest.fixture
def copied(scanned: Path, tmp_path: Path) -> Path:
    shutil.copytree(scanned, tmp_path / "run")
    return tmp_path / "run"


def scan_tiny(model: Any, out: Path | None, **options: Any) -> interp.ScanResult:
    """scan() with the test finder, quietly, on `TEXTS` unless told otherwise."""
    options = {"texts": TEXTS, "progress": False, **options}
    return interp.scan(model, find="mass", out=out, **options)
