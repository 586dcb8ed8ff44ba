"""`interp compare`: runs side by side, and what it refuses."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

import interp
from interp.cli import run
from interp.comparison import shared
from interp.comparison.facts import Compared
from interp.errors import UsageError
from interp.findings import Chart, Column, Series, Sheet
from tests import sample_runs


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("INTERP_") and name != "INTERP_CACHE"]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("runs")
    return sample_runs.save(root / "a", "small"), sample_runs.save(root / "b", "large", layers=48, seed=1)


def series_of(findings: Any, chart: str) -> dict[str, Series]:
    return {one.name: one for drawn in findings.charts if drawn.name == chart for one in drawn.series}


def test_a_row_a_run(folders: tuple[Path, Path]) -> None:
    compared = interp.compare(folders)
    table = compared.table
    opened = [interp.open_run(folder) for folder in folders]
    assert list(table["run"]) == ["small", "large"] and list(table["layers"]) == [30, 48]
    for kind in ("primary", "secondary", "transient"):
        assert list(table[f"n_{kind}"]) == [int((one.table["kind"] == kind).sum()) for one in opened]
    assert list(table["sink_k"]) == [50.0, 51.0] and list(table["levels"]) == [2, 2]
    assert list(table["secondary_levels"]) == [1, 1] and list(table["levels_high"]) == [1.0, 1.0]
    assert list(table["effect"]) == [one.findings.verification.effect for one in opened]  # type: ignore[union-attr]
    assert list(table["verdict"]) == [one.verdict for one in opened]
    assert compared.verdict == (
        "2 runs of 'sinks' side by side: small and large. Causal checks: small: verified; large: verified."
    )
    assert {column.name for column in compared.findings.columns} == set(table.columns)


def test_levels_by_depth(folders: tuple[Path, Path]) -> None:
    findings = interp.compare(folders).findings
    points = series_of(findings, "levels")
    assert points["small"].x == pytest.approx((2 / 30, 12 / 30)) and points["large"].x == pytest.approx(
        (2 / 48, 12 / 48)
    )
    assert points["large"].y == pytest.approx((7 / 48, 6 / 48))
    (sheet,) = [sheet for sheet in findings.sheets if sheet.name == "levels"]
    names = [column.name for column in sheet.columns]
    assert len(sheet.rows) == 6  # two levels and one of the secondary sinks, for each run
    row = dict(zip(names, sheet.rows[3], strict=True))
    assert (row["run"], row["start_layer"], row["start_depth"], row["stability"]) == ("large", 12, 0.25, 0.75)
    assert [row[1] for row in sheet.rows].count("secondary sinks") == 2


def test_charts_and_tables_of_both_runs(folders: tuple[Path, Path]) -> None:
    findings = interp.compare(folders).findings
    opened = [interp.open_run(folder).findings for folder in folders]
    overlaid = series_of(findings, "dose")
    assert list(overlaid) == [
        f"{run}: {name}" for run in ("small", "large") for name in ("secondary sinks", "same tokens elsewhere")
    ]
    assert overlaid["large: secondary sinks"].y == opened[1].charts[0].series[0].y
    assert list(series_of(findings, "cloud")) == ["small", "large"]  # one series each: the run's name says it
    (loss,) = [sheet for sheet in findings.sheets if sheet.name == "loss"]
    assert loss.columns[0].name == "run" and len(loss.rows) == 240
    assert loss.rows[120] == ("large", *opened[1].sheets[1].rows[0])
    depth = series_of(findings, "anchor_depth")
    assert (depth["small"].x[-1], depth["large"].x[-1], len(depth["large"].x)) == (1.0, 1.0, 48)
    assert all(low <= high for low, high in zip(depth["small"].low, depth["small"].high, strict=True))  # type: ignore[operator]
    effects = series_of(findings, "effects")
    assert effects["what was found"].y == tuple(one.verification.effect for one in opened)  # type: ignore[union-attr]


def test_charts_that_do_not_fit_together_are_named(tmp_path: Path) -> None:
    def chart(label: str, names: tuple[str, ...]) -> Chart:
        return Chart(
            "c", "C", "x", label, (Series("s", (0.0, 1.0), (1.0, 2.0)),), x_names=names, marks=((1.0, "here"),)
        )

    one = sample_runs.save(tmp_path / "1", "one", charts=[chart("y", ("a", "b"))], sheets=[])
    two = sample_runs.save(tmp_path / "2", "two", charts=[chart("y", ("b", "c"))], sheets=[])
    odd = sample_runs.save(tmp_path / "3", "odd", charts=[chart("z", ())], sheets=[])
    (drawn,) = [c for c in interp.compare([one, two]).findings.charts if c.name == "c"]
    assert drawn.x_names == ("a", "b", "c") and [s.x for s in drawn.series] == [(0.0, 1.0), (1.0, 2.0)]
    assert drawn.marks == ((1.0, "one: here"), (2.0, "two: here"))
    findings = interp.compare([one, odd]).findings
    assert "Chart 'c' has other axes from run to run and is not overlaid." in findings.caveats
    assert "c" not in {c.name for c in findings.charts}


def test_tables_keep_the_columns_that_all_have(tmp_path: Path) -> None:
    a, b = Column("a", "Int64", "a", "A."), Column("b", "Int64", "b", "B.")
    runs = []
    for name, sheet in (("1", Sheet("s", "S", (a, b), ((1, 2),))), ("2", Sheet("s", "S", (b,), ((3,),)))):
        folder = sample_runs.save(tmp_path / name, name, sheets=[sheet])
        runs.append(Compared(name, folder, interp.open_run(folder)))
    (made,) = shared.sheets(runs)
    assert made.rows == (("1", 2), ("2", 3))


def test_what_differs_is_said(tmp_path: Path, folders: tuple[Path, Path]) -> None:
    caveats = interp.compare(folders).findings.caveats
    assert any("do not share the same texts" in caveat for caveat in caveats)
    assert not any("differ in settings" in caveat or "differ in length" in caveat for caveat in caveats)
    other = sample_runs.save(tmp_path / "other", "small")
    record = json.loads((other / "run.json").read_text())
    record["provenance"]["effect"]["set"]["rule"] = "wong2025"
    record["prompts"] = record["prompts"][:1]
    (other / "run.json").write_text(json.dumps(record))
    compared = interp.compare([folders[0], other])
    assert "The runs differ in settings, in this order: rule = relative, wong2025." in compared.findings.caveats
    assert list(compared.table["run"]) == ["small (a)", "small (other)"]


def test_runs_of_any_finder_compare(tmp_path: Path) -> None:
    bare: dict[str, Any] = {"finder": "mass", "summary": {}, "verification": None, "charts": [], "sheets": []}
    compared = interp.compare([sample_runs.save(tmp_path / name, name, **bare) for name in ("x", "y")])
    assert "anchor_mass" not in compared.table and list(compared.table["check"]) == ["not run", "not run"]
    assert compared.findings.charts == [] and [sheet.name for sheet in compared.findings.sheets] == ["caveats"]
    assert "2 runs of &#x27;mass&#x27; side by side" in compared.html()


def test_page_figure_and_notebook(folders: tuple[Path, Path], tmp_path: Path) -> None:
    compared = interp.compare([str(folder) for folder in folders])
    assert compared.report(tmp_path / "page.html").read_text(encoding="utf-8") == compared.html()
    assert len(compared.figure("anchor_depth").data) == 2
    assert "small and large" in compared._repr_html_() and "small and large" in repr(compared)
    with pytest.raises(UsageError, match="is a folder"):
        compared.report(tmp_path)


@pytest.fixture
def bad(tmp_path: Path, folders: tuple[Path, Path]) -> dict[str, str]:
    (tmp_path / "empty").mkdir()
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "run.json").write_text('{"not": "ours"}')
    sample_runs.save(tmp_path / "other", "m", finder="mass")
    started = sample_runs.save(tmp_path / "started", "m")
    record = json.loads((started / "run.json").read_text())
    (started / "run.json").write_text(json.dumps(record | {"status": "running"}))
    (tmp_path / "file.txt").write_text("words")
    return {"A": str(folders[0]), "B": str(folders[1])}


BAD = [
    ("A", "needs two runs or more, got 1"),
    ("A A", "named twice"),
    ("A nowhere", "cannot compare nowhere: no run in nowhere"),
    ("A empty", "cannot compare empty: no run in empty"),
    ("A file.txt", "cannot compare file.txt"),
    ("foreign A", "cannot compare foreign"),
    ("A started", "cannot compare started: the run in started is not finished (running)"),
    ("A other", "other holds 'mass'"),
    ("A B --out empty", "empty is a folder"),
]


@pytest.mark.parametrize(("arguments", "told"), BAD)
def test_bad_input_is_one_line_and_writes_nothing(
    arguments: str, told: str, bad: dict[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert run(["compare", *(bad.get(word, word) for word in arguments.split())]) == 2
    shown = capsys.readouterr()
    assert told in shown.err and shown.err.startswith("error: ") and shown.err.count("\n") == 1 and shown.out == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_no_run_at_all_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare"]) == 2
    assert "Missing argument" in capsys.readouterr().err
    with pytest.raises(UsageError, match="expected a list"):
        interp.compare("runs/a")


def test_command_line(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("INTERP_RUNS", str(folders[0].parent))
    assert run(["compare", "a", "b", "--out", "page.html"]) == 0
    shown = capsys.readouterr().out
    assert "small and large" in shown and "report: page.html" in shown and "caveat: " in shown
    assert "anchor_depth" in Path("page.html").read_text(encoding="utf-8")
    assert run(["compare", "a", "b", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["run"] for row in told["runs"]] == ["small", "large"]
    assert told["sheets"]["levels"][0]["start_layer"] == 2
    assert told["report"] == str(folders[0].parent / "compare.html") and Path(told["report"]).is_file()


def test_runs_that_lie_elsewhere(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("INTERP_RUNS", str(tmp_path / "none" / "yet"))
    assert run(["compare", *map(str, folders)]) == 0
    assert (tmp_path / "none" / "yet" / "compare.html").is_file()
