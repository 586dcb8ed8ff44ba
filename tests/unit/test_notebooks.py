"""Every notebook is stored valid and without outputs, and names arguments that exist. That each of them runs stands in
files of its own, which several processes share.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import nbformat
import pytest

import interp
from interp.runs.plan import LOAD_OPTIONS
from tests.notebooks import NOTEBOOKS, cells, read


def test_there_is_a_notebook() -> None:
    assert "01_sinks.ipynb" in [path.name for path in NOTEBOOKS]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_valid_and_without_outputs(path: Path) -> None:
    notebook = read(path)
    nbformat.validate(notebook)
    assert cells(notebook)
    for cell in cells(notebook):
        assert cell.outputs == [] and cell.execution_count is None
        compile(cell.source, path.name, "exec")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_arguments_named_in_prose_exist(path: Path) -> None:
    known = {*inspect.signature(interp.scan).parameters, *LOAD_OPTIONS}
    prose = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    assert set(re.findall(r"[`(](\w+)=[\[{]", prose)) <= known
