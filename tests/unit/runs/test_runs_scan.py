"""scan(): a real scan of a tiny model folder, resumed, reopened, refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import interp
from interp.errors import UsageError
from interp.runs.store import RunFolderError
from probes.base import Prompt
from tests.mass_finder import MassConfig, MassFinder, registered
from tests.tiny import tiny, tiny_tokenizer
from tests.unit.runs.conftest import TEXTS, scan_tiny


def test_a_scan_writes_a_whole_run(folder: str, finder: MassFinder, tmp_path: Path) -> None:
    result = scan_tiny(folder, tmp_path / "run")
    assert list(result.table["prompt"]) == ["one", "two", "three"]
    assert sorted(entry.name for entry in (tmp_path / "run").iterdir()) == [
        ".lock",
        "findings.parquet",
        "report.html",
        "run.json",
        "tensors.safetensors",
        "units",
    ]
    assert len(list((tmp_path / "run/units").iterdir())) == 6  # three measured, three checked
    model = interp.load(folder)
    mass = interp.received(model, list(result.prompts[1].ids))[:, 0].mean((0, 1))
    row = result.table.iloc[1]
    assert row["position"] == int(mass.argmax())
    assert row["mass"] == pytest.approx(float(mass.max()), abs=1e-6)


def test_the_record_says_what_ran_on_what(folder: str, finder: MassFinder, tmp_path: Path) -> None:
    result = scan_tiny(folder, tmp_path / "run", max_length=6, config={"floor": "0.01"}, seed=3)
    record = json.loads((tmp_path / "run/run.json").read_text())
    provenance = record["provenance"]
    assert record["status"] == "finished"
    assert provenance == result.provenance
    model = interp.load(folder)
    assert provenance["model"]["weight_hash"] == model.source.weight_hash
    assert len(provenance["model"]["tokenizer_hash"]) == 64
    assert provenance["position0"] == model.position0
    assert provenance["attention_path"] in ("streamed", "eager")
    assert provenance["self_check"]["ok"] is True
    assert (provenance["dtype"], provenance["device"], provenance["seed"]) == ("float32", "cpu", 3)
    assert provenance["given"]["max_length"] == 6
    assert provenance["given"]["set"] == {"floor": "0.01"}
    assert "limit" not in provenance["given"]
    assert provenance["effect"]["set"] == {"verdict": "verified", "floor": 0.01, "seed": 3, "keep_arrays": 2}
    for package in ("python", "interp", "torch", "transformers", "transformer-lens", "numba"):
        assert provenance["versions"][package]
    assert provenance["started"] <= provenance["finished"]
    assert isinstance(provenance["commit"], str | None)
    assert isinstance(provenance["dirty"], bool | None)
    for stored, (name, text) in zip(record["prompts"], TEXTS.items(), strict=True):
        expected = model.encode(text, name=name, max_length=6)
        assert stored["ids"] == list(expected.ids)
        assert (stored["name"], stored["hash"], stored["truncated"]) == (name, expected.hash, True)


def test_the_folder_alone_gives_everything_back(folder: str, finder: MassFinder, tmp_path: Path) -> None:
    first = scan_tiny(folder, tmp_path / "run")
    moved = tmp_path / "moved"
    shutil.move(tmp_path / "run", moved)
    again = interp.open_run(moved)
    pd.testing.assert_frame_equal(again.table, first.table)
    assert again.findings.columns == first.findings.columns
    assert again.findings.verification == first.findings.verification
    assert again.findings.caveats == first.findings.caveats
    assert again.findings.verdict == first.findings.verdict
    assert again.findings.summary == {"tokens": first.findings.summary["tokens"], "nothing": None}
    assert again.prompts == first.prompts
    assert again.provenance == first.provenance
    assert set(again.findings.arrays) == {"received.0", "received.1"}
    for name, array in first.findings.arrays.items():
        np.testing.assert_array_equal(again.findings.arrays[name], array)
    for old, new in zip(first.findings.heatmaps, again.findings.heatmaps, strict=True):
        np.testing.assert_array_equal(new.values, old.values)
        assert {**vars(new), "values": 0} == {**vars(old), "values": 0}
    for old, new in zip(first.findings.strips, again.findings.strips, strict=True):
        np.testing.assert_array_equal(new.weight, old.weight)
        np.testing.assert_array_equal(new.patterns["0.1"], old.patterns["0.1"])
        assert {**vars(new), "weight": 0, "patterns": 0} == {**vars(old), "weight": 0, "patterns": 0}
    page = moved / "report.html"
    written = page.read_bytes()
    page.unlink()
    assert again.report() == page
    assert page.read_bytes() == written


def test_the_parquet_file_explains_its_columns(folder: str, finder: MassFinder, copied: Path) -> None:
    import pyarrow.parquet as pq

    schema = pq.read_schema(copied / "findings.parquet")
    assert schema.names == ["prompt", "position", "token", "mass", "rank"]
    assert schema.field("mass").metadata[b"help"].startswith(b"Mean over layers")


def test_results_show_themselves(folder: str, finder: MassFinder, tmp_path: Path) -> None:
    result = scan_tiny(folder, tmp_path / "run")
    assert "3 keys found" in result._repr_html_()
    assert "3 keys found" in repr(result)
    assert len(result.top(2)) == 2
    assert result.figure() is not None
    page = result.report(tmp_path / "page.html")
    assert "3 keys found" in page.read_text(encoding="utf-8")
    with pytest.raises(UsageError, match="is a folder"):
        result.report(tmp_path)
    with pytest.raises(UsageError, match="negative"):
        result.top(-1)


def test_the_same_call_again_measures_nothing(folder: str, finder: MassFinder, copied: Path) -> None:
    first = interp.open_run(copied)
    second = scan_tiny(folder, copied)
    assert finder.calls == []
    pd.testing.assert_frame_equal(second.table, first.table)
    assert second.provenance["units"] == {"measured": {}, "on_disk": {"measure": 3, "check": 3}}


def test_an_interrupted_scan_goes_on_where_it_was(folder: str, tmp_path: Path) -> None:
    with registered() as whole:
        expected = scan_tiny(folder, tmp_path / "whole")
        assert len(whole.calls) == 6
    with registered(stop_at=2) as stopped, pytest.raises(KeyboardInterrupt):
        scan_tiny(folder, tmp_path / "run")
    assert stopped.calls == [("measure", "one"), ("measure", "two")]
    with pytest.raises(RunFolderError, match=r"not finished \(interrupted\)"):
        interp.open_run(tmp_path / "run")
    with registered() as resumed:
        result = scan_tiny(folder, tmp_path / "run")
    assert resumed.calls[0] == ("measure", "three")
    assert len(resumed.calls) == 4
    pd.testing.assert_frame_equal(result.table, expected.table)


@pytest.mark.parametrize("where", ["find", "save_findings", "report"])
def test_reopening_a_finished_run_cannot_lose_it(
    folder: str, finder: MassFinder, copied: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    record = (copied / "run.json").read_bytes()
    _interrupt(monkeypatch, finder, where)
    with pytest.raises(KeyboardInterrupt):
        scan_tiny(folder, copied)
    assert (copied / "run.json").read_bytes() == record
    assert len(interp.open_run(copied).table) == 3


@pytest.mark.parametrize("where", ["save_findings", "report"])
def test_interrupted_while_writing_is_not_finished(
    folder: str, finder: MassFinder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    with monkeypatch.context() as patched:
        _interrupt(patched, finder, where)
        with pytest.raises(KeyboardInterrupt):
            scan_tiny(folder, tmp_path / "run")
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert (record["status"], record["provenance"]["finished"]) == ("interrupted", None)
    measured = len(finder.calls)
    scan_tiny(folder, tmp_path / "run")
    assert len(finder.calls) == measured
    assert len(interp.open_run(tmp_path / "run").table) == 3


def _interrupt(patched: pytest.MonkeyPatch, finder: MassFinder, where: str) -> None:
    from interp.runs import scan
    from interp.runs.result import ScanResult

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    patched.setattr({"find": finder, "save_findings": scan, "report": ScanResult}[where], where, interrupted)


def test_a_damaged_unit_is_measured_again(folder: str, finder: MassFinder, copied: Path) -> None:
    first = interp.open_run(copied)
    units = sorted((copied / "units").iterdir())
    units[0].write_bytes(units[0].read_bytes()[:50])
    second = scan_tiny(folder, copied)
    assert len(finder.calls) == 1
    pd.testing.assert_frame_equal(second.table, first.table)


def test_equal_prompts_share_what_was_measured_and_count_twice(folder: str, finder: MassFinder, tmp_path: Path) -> None:
    result = scan_tiny(folder, tmp_path / "run", texts=["the cat", "the cat", "a dog"])
    assert [call for call in finder.calls if call[0] == "measure"] == [("measure", "text 0"), ("measure", "text 2")]
    assert list(result.table["prompt"]) == ["text 0", "text 1", "text 2"]
    assert any("1 prompts repeat" in caveat for caveat in result.findings.caveats)


def test_equal_names_stay_tellable_apart(folder: str, finder: MassFinder, tmp_path: Path) -> None:
    result = scan_tiny(folder, tmp_path / "run", texts=[("x", "the cat"), ("x", "a dog"), ("x (2)", "the mat")])
    assert list(result.table["prompt"]) == ["x", "x (2)", "x (2) (2)"]


def test_fresh_measures_again(folder: str, finder: MassFinder, copied: Path) -> None:
    (copied / "notes.txt").write_text("mine")
    scan_tiny(folder, copied, fresh=True)
    assert len(finder.calls) == 6
    assert (copied / "notes.txt").read_text() == "mine"


def test_the_default_folder_is_safe_and_differs_by_request(
    finder: MassFinder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    hf = tiny("llama")
    hf.config._name_or_path = "../../../etc/Evil Name\n"
    model = interp.load(hf, tokenizer=tiny_tokenizer(128))
    first, second = scan_tiny(model, None), scan_tiny(model, None, config=MassConfig(floor=0.1))
    assert first.folder.parent == second.folder.parent == Path("runs")
    assert first.folder != second.folder
    assert first.folder.name.startswith("mass-etc-evil-name-")
    assert [entry.name for entry in tmp_path.iterdir()] == ["runs"]


def test_ready_prompts_and_a_model_object(finder: MassFinder, tmp_path: Path) -> None:
    prompts = [Prompt("ids", "", (1, 5, 9, 12), ("a", "b", "c", "d"))]
    result = scan_tiny(tiny("gpt2"), tmp_path / "run", texts=None, prompts=prompts)
    assert list(result.table["prompt"]) == ["ids"]
    assert result.provenance["model"]["kind"] == "object"
    with pytest.raises(UsageError, match=r"'ids' has 4 tokens, more than max_length=3"):
        scan_tiny(tiny("gpt2"), tmp_path / "run2", texts=None, prompts=prompts, max_length=3)


def test_a_family_that_bypasses_the_streamed_path_is_said_so(finder: MassFinder, tmp_path: Path) -> None:
    model = interp.load(tiny("bloom"), tokenizer=tiny_tokenizer(128))
    result = scan_tiny(model, tmp_path / "run")
    assert result.provenance["attention_path"] == "eager"
    assert any("bypasses the streamed" in caveat for caveat in result.findings.caveats)


def test_no_finding_at_all_is_a_result(folder: str, finder: MassFinder, tmp_path: Path) -> None:
    result = scan_tiny(folder, tmp_path / "run", config={"floor": 2.0})
    assert len(result.table) == 0
    again = interp.open_run(tmp_path / "run")
    assert again.findings.records() == []
    assert again.findings.verification is not None and again.findings.verification.verdict == "nothing to verify"
    pd.testing.assert_frame_equal(again.table, result.table)
