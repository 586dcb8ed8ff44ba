"""Notebooks, run as a reader runs them: from start to end, in an empty folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
PLOT = "application/vnd.plotly.v1+json"


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def executed(name: str, folder: Path) -> list[Any]:
    """The outputs of a notebook's code cells, run in an empty folder without errors or warnings."""
    notebook = read(FOLDER / name)
    NotebookClient(
        notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    ran = cells(notebook)
    assert all(cell.execution_count for cell in ran)
    outputs = [output for cell in ran for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    told = "".join(output.text for output in outputs if output.get("name") == "stderr")
    tqdm = ("IProgress not found", "notebook_tqdm")  # wants ipywidgets for its bars; nothing here draws one
    assert not [line for line in told.splitlines() if "warn" in line.lower() and not any(t in line for t in tqdm)], told
    return outputs


def of_type(outputs: list[Any], kind: str) -> list[Any]:
    return [output.data[kind] for output in outputs if kind in output.get("data", {})]


def printed(outputs: list[Any]) -> str:
    return "".join(output.text for output in outputs if output.get("name") == "stdout")
