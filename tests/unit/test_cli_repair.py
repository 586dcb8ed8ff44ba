"""``interp repair``: a thin command over the scan of a finder, and bad input without a traceback."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from interp.cli import run
from interp.cli.repair import Edit
from interp.repairs.config import EDITS, RepairConfig
from tests.mass_finder import save_tiny


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("INTERP_") and name != "INTERP_CACHE"]:
        monkeypatch.delenv(name)
    return tmp_path


def test_the_command_is_a_scan_of_the_finder(saved: str, elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--probe", "induction", "--limit", "6", "--quiet", "--out", "run"]
    assert run(["repair", "--model", saved, "--edit", "scale", "--heads", "1.0", "--json", *options]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["edit"], row["heads"], row["label_free"]) for row in rows] == [("scale", "1.0", True)]
    record = json.loads((elsewhere / "run/run.json").read_text())
    assert record["provenance"]["finder"] == "repair"
    assert record["provenance"]["effect"]["set"]["heads"] == ["1.0"]
    scan = ["scan", "--model", saved, "--find", "repair", "--set", "edit=scale", "--set", "heads=1.0", *options]
    assert run(scan) == 0  # the same request: everything is on disk already
    assert json.loads((elsewhere / "run/run.json").read_text())["provenance"]["units"]["measured"] == {}
    assert run(["repair", "--model", saved, "--dry-run", *options[:-1], "new"]) == 0
    assert not (elsewhere / "new").exists()


def test_the_same_edits_are_known_everywhere() -> None:
    known = get_args(get_type_hints(RepairConfig)["edit"])
    assert known == tuple(edit.value for edit in Edit) == ("all", *EDITS)


def test_help_says_which_edit_is_told_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["repair", "--help"]) == 0
    told = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "Usage: interp repair" in told and "The published oracle edit is told the right answer" in told
    for option in ("--edit", "--heads", "--from", "--probe", "--prompts", "--dry-run"):
        assert option in told


BAD = [
    (["--heads", "9.1"], "no head 9.1: the model has layers 0..2, heads 0..3"),
    (["--heads", "nine"], "expected layer.head, such as 9.1"),
    (["--heads", " , "], "--heads is empty"),
    (["--heads", "0.1", "--from", "run"], "--heads and --from given together"),
    (["--from", "nowhere"], "no run in"),
    (["--edit", "explode"], "explode"),
    (["--heads", "0.1", "--set", "heads=0.2"], "--set heads: given twice"),
    (["--set", "most=0"], "most=0: expected 1 or more"),
]


@pytest.mark.parametrize(("given", "told"), BAD, ids=[" ".join(given) for given, _ in BAD])
def test_bad_input(
    given: list[str], told: str, saved: str, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = 1 if given == ["--from", "nowhere"] else 2
    assert run(["repair", "--model", saved, "--probe", "induction", "--limit", "3", "--quiet", *given]) == code
    error = " ".join(capsys.readouterr().err.split())
    assert told in error and "Traceback" not in error
