"""Where the command line puts runs and finds them again, and what its help says of that and of precision."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from interp.cli import run
from tests.mass_finder import registered, save_tiny

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("INTERP_") and name != "INTERP_CACHE"]:
        monkeypatch.delenv(name)


def test_one_variable_for_all_that_write_or_read_runs(
    model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INTERP_RUNS", "kept/here")
    with registered():
        assert run(["scan", "--model", model, "--find", "mass", "--text", "the cat", "--quiet"]) == 0
    scanned = capsys.readouterr().out
    assert [entry.name for entry in Path().iterdir()] == ["kept"]
    (folder,) = Path("kept/here").iterdir()
    assert run(["ls", "runs", "--json"]) == 0
    assert [row["run"] for row in json.loads(capsys.readouterr().out)] == [str(folder)]
    assert run(["show", folder.name]) == 0
    assert capsys.readouterr().out == scanned
    assert run(["report", folder.name]) == 0
    assert capsys.readouterr().out == f"{folder / 'report.html'}\n"
    assert run(["ls", "runs", "--folder", "elsewhere", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_a_page_that_cannot_be_written(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    with registered():
        assert run(["scan", "--model", model, "--find", "mass", "--text", "the cat", "--quiet", "--out", "run"]) == 0
    Path("file.txt").write_text("words")
    capsys.readouterr()
    assert run(["report", "run", "--out", "file.txt/x.html"]) == 1
    assert capsys.readouterr().err == "error: cannot write file.txt/x.html: Not a directory\n"


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("scan", "auto (as stored); default: float32 on the CPU, auto elsewhere."),
        ("scan", "default: <finder>-<model>-<key> in $INTERP_RUNS, else in ./runs."),
        ("ls", "default: $INTERP_RUNS, else ./runs."),
        ("show", "in $INTERP_RUNS (else ./runs)"),
        ("report", "in $INTERP_RUNS (else ./runs)"),
    ],
)
def test_help_says_what_is_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str, told: str
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    assert run([command, "--help"]) == 0
    assert told in " ".join(re.sub("[│|]", " ", capsys.readouterr().out).split())


def test_the_demo_of_another_model_gets_another_folder() -> None:
    recipe = re.search(r"^demo:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert recipe is not None and "interp scan --model $(MODEL)" in recipe.group(1)
    assert "--out" not in recipe.group(1)
