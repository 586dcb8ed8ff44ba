"""scan() refuses: other runs' folders, damage, malformed requests, models that cannot be trusted."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest

import interp
from interp.errors import InterpError, UsageError
from interp.runs.lock import locked
from interp.runs.store import RunFolderError
from tests.mass_finder import MassConfig, MassFinder, save_tiny
from tests.unit.runs.conftest import TEXTS, scan_tiny


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"texts": {"one": "the dog"}}, "other prompts: 3 there, 1 here"),
        ({"texts": {**TEXTS, "two": "the dog"}}, "other prompts: 1 of 3 differ"),
        ({"config": {"floor": 0.5}}, r"other settings: floor=0\.0 there, 0\.5 here"),
        ({"bos": "none"}, "other bos: auto there, none here"),
    ],
)
def test_another_runs_folder_is_refused_unless_fresh(
    folder: str, finder: MassFinder, copied: Path, change: dict[str, Any], message: str
) -> None:
    before = (copied / "run.json").read_bytes()
    with pytest.raises(UsageError, match=message):
        scan_tiny(folder, copied, **change)
    assert (copied / "run.json").read_bytes() == before
    assert len(interp.open_run(copied).table) == 3
    scan_tiny(folder, copied, **change, fresh=True)
    assert finder.calls[-1][0] == "check"


def test_other_weights_are_another_run(folder: str, finder: MassFinder, copied: Path) -> None:
    other = save_tiny(copied.parent / "tiny-llama", seed=1)  # the same name, other weights
    with pytest.raises(UsageError, match="other weights"):
        scan_tiny(other, copied)


def test_fresh_never_clears_a_folder_that_is_no_run(folder: str, finder: MassFinder, tmp_path: Path) -> None:
    (tmp_path / "run.txt").write_text("mine")
    with pytest.raises(UsageError, match="no run folder"):
        scan_tiny(folder, tmp_path, fresh=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.txt"]


@pytest.mark.parametrize("fresh", [True, False])
def test_a_foreign_project_is_refused_before_the_model_is_loaded(
    finder: MassFinder, tmp_path: Path, fresh: bool
) -> None:
    files = {"run.json": '{"not": "ours"}', "report.html": "theirs", "notes.txt": "mine"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=r"run\.json that was not written by interp scan"):
        scan_tiny("./no-model", tmp_path, fresh=fresh)
    assert {entry.name: entry.read_text() for entry in tmp_path.iterdir()} == files


def test_two_scans_do_not_work_in_one_folder(folder: str, finder: MassFinder, copied: Path) -> None:
    with locked(copied), pytest.raises(RunFolderError, match="another scan"):
        scan_tiny(folder, copied)


def test_a_model_that_fails_its_self_check_is_refused(
    folder: str, finder: MassFinder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    from interp.models import self_check

    failing = SimpleNamespace(ok=False, notes=("logits differ by 3.2",))
    monkeypatch.setattr(self_check, "self_check", lambda model: failing)
    with pytest.raises(interp.SelfCheckError, match=r"self-check failed \(logits differ by 3\.2\)") as caught:
        scan_tiny(folder, tmp_path / "run")
    assert caught.value.exit_code == 3
    assert finder.calls == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": 0}, "--limit 0"),
        ({"max_length": 1}, "--max-length 1"),
        ({"seed": -1}, "--seed -1"),
        ({"keep_arrays": -1}, "--keep-arrays -1"),
        ({"texts": "  \n"}, "is empty"),
        ({"texts": "a", "probe": "random"}, "--text and --probe given together"),
        ({"texts": None, "probe": "randon"}, r"unknown probe 'randon'\. Did you mean random"),
        ({"texts": [3]}, "is a int, not text"),
        ({"texts": []}, "no prompts"),
        ({"texts": None, "prompts": [3]}, "expected a JSONL file or Prompt objects"),
        ({"config": {"flor": 1}}, "Did you mean floor"),
        ({"config": 3}, "takes MassConfig or a dict"),
        ({"config": {"floor": float("inf")}}, "floor=inf: expected a finite number"),
        ({"config": MassConfig(floor=float("nan"))}, "floor=nan: expected a finite number"),
        ({"settings": {"floor": 0.1}}, "unknown argument of scan 'settings'"),
        ({"dtyp": "float32"}, "unknown argument of scan 'dtyp'. Did you mean dtype"),
        ({"texts": "\udcff"}, "is not UTF-8"),
        ({"texts": "the", "bos": "none"}, r"has 1 token\(s\)"),
    ],
)
def test_a_malformed_request_is_a_usage_error(
    folder: str, finder: MassFinder, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        scan_tiny(folder, tmp_path / "run", **options)
    assert finder.calls == []


def test_a_misspelt_argument_leaves_nothing_behind(folder: str, finder: MassFinder, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="settings"):
        scan_tiny(folder, tmp_path / "run", settings={"floor": 0.1})
    assert list(tmp_path.iterdir()) == []


def test_load_options_are_those_of_load() -> None:
    from interp.models.load import load
    from interp.runs.plan import LOAD_OPTIONS

    named = set(inspect.signature(load).parameters) - {"x", "check", "progress"}  # the scan's own
    assert set(LOAD_OPTIONS) == named


@pytest.mark.parametrize("name", ["run.json", "findings.parquet", "tensors.safetensors"])
@pytest.mark.parametrize("damage", ["gone", "cut", "noise"])
def test_a_damaged_run_folder_is_named(copied: Path, name: str, damage: str) -> None:
    path = copied / name
    whole = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"\x00\xff" * 40)
    with pytest.raises(InterpError, match=name.partition(".")[0]):
        interp.open_run(copied)


@pytest.mark.parametrize(
    "change",
    [
        {"provenance": None},
        {"provenance": []},
        {"findings.verdict": 3},
        {"findings.summary": []},
        {"findings.caveats": [None]},
        {"findings.verification.effect": "much"},
        {"findings.verification.how": None},
    ],
    ids=str,
)
def test_a_record_of_other_types_is_damaged(copied: Path, change: dict[str, Any]) -> None:
    path = copied / "run.json"
    record = json.loads(path.read_text())
    for place, value in change.items():
        *outer, last = place.split(".")
        part = record
        for name in outer:
            part = part[name]
        part[last] = value
    path.write_text(json.dumps(record))
    with pytest.raises(RunFolderError, match=f"is damaged .*{last}"):
        interp.open_run(copied)


def test_results_of_other_columns_than_recorded_are_refused(copied: Path) -> None:
    path = copied / "run.json"
    record = json.loads(path.read_text())
    record["findings"]["columns"][0]["name"] = "other"
    path.write_text(json.dumps(record))
    with pytest.raises(RunFolderError, match=r"does not fit run\.json"):
        interp.open_run(copied)


def test_a_scan_that_never_loaded_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InterpError):
        interp.scan("no-such-model", texts="the cat sat", out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
    kept = tmp_path / "kept"
    (kept / "units").mkdir(parents=True)
    (kept / "run.json").write_text('{"schema": 1}')
    with pytest.raises(InterpError):
        interp.scan("no-such-model", texts="the cat sat", out=kept, progress=False)
    assert (kept / "run.json").exists()
