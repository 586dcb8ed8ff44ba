"""Every notebook runs from start to end in an empty folder, and is stored without outputs."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from nbclient import NotebookClient

import interp
from interp.runs.plan import LOAD_OPTIONS

if TYPE_CHECKING:
    from interp.models.model import Model

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


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


PLOT = "application/vnd.plotly.v1+json"


def test_sinks_notebook_runs(smollm2: Model, tmp_path: Path) -> None:
    outputs = executed("01_sinks.ipynb", tmp_path)
    told = printed(outputs)
    assert f"{smollm2.n_layers} layers x {smollm2.n_heads} heads" in told
    assert "verdict: verified" in told
    assert len(of_type(outputs, PLOT)) == 5
    assert any("primary" in page for page in of_type(outputs, "text/html"))
    assert (tmp_path / "sinks.html").stat().st_size > 100_000


def test_secondary_sinks_notebook_runs(smollm2: Model, gemma3: Model, tmp_path: Path) -> None:
    outputs = executed("02_secondary_sinks.ipynb", tmp_path)
    told = printed(outputs)
    names = ("smollm2-135m", "gemma3-270m")
    assert str(list(names)) in told
    for name in names:
        assert f"{name} - Of 14 claims of wong2025" in told
        assert (tmp_path / f"wong2025-{name}.html").stat().st_size > 100_000
    assert told.count("| passed |") == 9 and "FAILED" not in told
    assert "with ACT in all heads" in told
    assert len(of_type(outputs, PLOT)) == 5
    assert any("secondary" in page for page in of_type(outputs, "text/html"))


def test_retrieval_heads_notebook_runs(smollm2: Model, tmp_path: Path) -> None:
    outputs = executed("03_retrieval_heads.ipynb", tmp_path)
    told = printed(outputs)
    assert f"{smollm2.n_layers} layers x {smollm2.n_heads} heads" in told
    copied = [int(share) for share in re.findall(r"head \d+\.\d+ copied (\d+)%", told)]
    assert max(copied) >= 50 and "in the span" in told
    assert re.search(r"on \d+ needles", told) and "best heads masked:   -" in told
    assert "claims of wu2024" in told and "FAILED" not in told
    assert len(of_type(outputs, PLOT)) == 5
    assert any("retrieval" in page for page in of_type(outputs, "text/html"))
    assert (tmp_path / "retrieval.html").stat().st_size > 100_000


def test_circuits_notebook_runs(gemma3: Model, tmp_path: Path) -> None:
    outputs = executed("04_circuits.ipynb", tmp_path)
    told = printed(outputs)
    assert f"{gemma3.n_layers} layers x {gemma3.n_heads} heads" in told
    assert re.search(r"accuracy +1\.00", told)  # of IOI
    # the head that Gemma hangs on, by its total effect, and by the search
    assert re.search(r"head 11\.3: total effect \+", told) and re.search(r"^11\.3: ", told, re.MULTILINE)
    assert "verdict: verified" in told
    assert len(of_type(outputs, PLOT)) == 2
    assert any("circuit" in page for page in of_type(outputs, "text/html"))
    assert (tmp_path / "circuit.html").stat().st_size > 100_000


def test_repair_notebook_runs(gemma3: Model, tmp_path: Path) -> None:
    outputs = executed("05_repair.ipynb", tmp_path)
    told = printed(outputs)
    assert "heads that point: " in told and "verdict: verified" in told
    assert len(of_type(outputs, PLOT)) == 1
    assert any("oracle" in page for page in of_type(outputs, "text/html"))
    assert (tmp_path / "repair.html").stat().st_size > 100_000
