"""A sweep from the request to its folder, in this process: resume, failures, the table, the page, the command line."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest

import interp
from interp.cli import run
from interp.errors import UsageError
from interp.findings import Column
from interp.registry import FINDERS
from interp.runs.lock import locked
from interp.runs.store import RunFolderError
from interp.sweeps import work
from interp.sweeps.folder import SweepFolder
from tests.mass_finder import COLUMNS, MassFinder, registered
from tests.sweeps import one_thread, save_models, save_prompts


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("INTERP_") and name != "INTERP_CACHE"]:
        monkeypatch.delenv(name)
    with one_thread():
        yield


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return save_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model folder whose weights are not there."""
    folder = tmp_path_factory.mktemp("broken") / "broken"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}')
    return str(folder)


@pytest.fixture
def finder() -> Iterator[MassFinder]:
    with registered() as made:
        yield made


def sweep(models: list[str], finders: Any = ("mass",), **more: Any) -> interp.SweepResult:
    prompts = save_prompts(Path("prompts.jsonl"), 3)
    keys = {"models": models, "finders": list(finders), "probes": [{"prompts": prompts}], "max_length": 32}
    how = {"out": "swept", "engine": "serial", "progress": False}
    return interp.sweep(**{**keys, **how, **more})


TWICE = [{"name": "mass", "grid": {"seed": [0, 1]}}]
"""Two units of one finder."""


def measured(finder: MassFinder) -> int:
    return [phase for phase, _ in finder.calls].count("measure")


def test_a_broken_model_fails_its_own_units_only(models: list[str], broken: str, finder: MassFinder) -> None:
    swept = sweep([broken, models[0]])
    assert list(swept.units["status"]) == ["failed", "finished"]
    ((folder, why),) = swept.failed.items()
    assert folder.startswith("mass-broken-") and "broken" in why and "Traceback" not in why
    assert list(swept.table["model"].unique()) == ["one"] and len(swept.table) == 3
    page = Path("swept/report.html").read_text("utf-8")
    assert "1 of 2 units of the sweep finished" in page and "mass on broken failed" in page
    assert "1 failed" in repr(swept) and "1 finished" in repr(swept)

    # once it can be read, the same call runs it alone
    shutil.copytree(models[0], broken, dirs_exist_ok=True)
    finder.calls.clear()
    again = sweep([broken, models[0]])
    assert again.failed == {} and measured(finder) == 3
    outcomes = [[attempt["outcome"] for attempt in unit["attempts"]] for unit in again.record["units"]]
    assert outcomes == [["failed", "finished"], ["finished"]]
    assert interp.open_sweep("swept").record == again.record


def test_an_interrupted_sweep_goes_on(models: list[str], finder: MassFinder) -> None:
    finder.stop_at = 8  # in the second unit: 3 to measure and 3 to check in the first
    with pytest.raises(KeyboardInterrupt):
        sweep(models[:1], TWICE)
    record = json.loads(Path("swept/sweep.json").read_text())
    assert record["status"] == "interrupted"
    assert [unit["status"] for unit in record["units"]] == ["finished", "waiting"]
    finder.stop_at = None
    finder.calls.clear()
    swept = sweep(models[:1], TWICE)
    assert [phase for phase, _ in finder.calls] == ["measure"] + ["check"] * 3  # two were on disk
    assert [unit["attempts"][-1]["outcome"] for unit in swept.record["units"]] == ["finished", "finished"]
    assert [len(unit["attempts"]) for unit in swept.record["units"]] == [1, 2]


def test_what_was_killed_with_the_sweep_is_marked(models: list[str], finder: MassFinder) -> None:
    swept = sweep(models[:1])
    record = dict(swept.record, status="running")
    record["units"][0]["status"] = "running"
    record["units"][0]["attempts"][-1]["outcome"] = None
    SweepFolder("swept").write(record)
    finder.calls.clear()
    assert [u["attempts"][-1]["outcome"] for u in sweep(models[:1]).record["units"]] == ["lost"]
    assert finder.calls == []  # its run had finished, whatever the record says
    run_folder = Path("swept/runs") / swept.record["units"][0]["folder"]
    shutil.rmtree(run_folder / "units")
    (run_folder / "findings.parquet").write_bytes(b"PAR1")
    assert list(sweep(models[:1]).units["status"]) == ["finished"]
    assert measured(finder) == 3  # one damaged: it is run again


def test_more_units_later_but_none_that_has_finished_left_out(models: list[str], finder: MassFinder) -> None:
    sweep(models[:1])
    finder.calls.clear()
    both = sweep(models)
    assert measured(finder) == 3 and list(both.table["model"].unique()) == ["one", "two"]
    with pytest.raises(UsageError, match=r"2 finished units that this one does not have \(such as mass-one-"):
        sweep(models, [{"name": "mass", "set": {"floor": 0.1}}])
    compared = interp.compare(["swept", Path("swept/runs") / both.units["folder"][0]][:1])
    assert list(compared.table["run"]) == ["one", "two"]
    with pytest.raises(UsageError, match="named twice"):
        interp.compare(["swept", Path("swept/runs") / both.units["folder"][0]])
    finder.calls.clear()
    sweep(models, fresh=True)
    assert measured(finder) == 6


def test_folders_that_are_refused(models: list[str], finder: MassFinder) -> None:
    Path("full").mkdir()
    Path("full/notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"full holds other files \(notes.txt\)"):
        sweep(models, out="full")
    with pytest.raises(UsageError, match="is a file; name a folder"):
        sweep(models, out="prompts.jsonl")
    interp.scan(models[0], find="mass", texts="the cat sat", out="a-run", progress=False)
    with pytest.raises(UsageError, match=r"a-run holds other files"):
        sweep(models, out="a-run")
    sweep(models[:1])
    compared = interp.compare(["swept", "a-run"])  # a sweep among runs stands for its runs
    assert [name.partition(" ")[0] for name in compared.table["run"]] == ["one", "one"]
    with locked(Path("swept")), pytest.raises(RunFolderError, match=r"another scan .* is working in"):
        sweep(models[:1])
    Path("swept/sweep.json").write_text('{"schema": 99, "units": []}')
    with pytest.raises(RunFolderError, match="has schema 99, this version of interp reads 1"):
        sweep(models[:1])


def test_a_record_cannot_lead_out_of_its_folder(models: list[str], finder: MassFinder) -> None:
    record = sweep(models[:1]).record
    record["units"][0]["folder"] = "../../elsewhere"
    SweepFolder("swept").write(record)
    with pytest.raises(RunFolderError, match=r"names the run folder '../../elsewhere', which is not inside"):
        interp.compare("swept")


def test_a_run_folder_that_another_process_holds_is_tried_again(
    models: list[str], finder: MassFinder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "BUSY", 0.0)
    first = sweep(models[:1], memory="8GB")
    ((_, unit),) = first.units.iterrows()
    run_folder = Path("swept/runs") / unit["folder"]
    limit = json.loads((run_folder / "run.json").read_text())["provenance"]["effect"]["memory"]["limit"]
    assert limit == 8_000_000_000
    shutil.rmtree(run_folder)
    (run_folder / "units").mkdir(parents=True)
    with locked(run_folder):
        held = sweep(models[:1], retries=1)
    (state,) = held.record["units"]
    assert [attempt["outcome"] for attempt in state["attempts"]] == ["finished", "died", "died"]
    assert "is working in" in held.failed[unit["folder"]]
    assert sweep(models[:1]).failed == {}


def test_finders_of_different_columns_in_one_typed_table(
    models: list[str], finder: MassFinder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FINDERS._targets, "other", Other())
    mass = {"name": "mass", "grid": {"floor": [0.0, 2.0]}, "set": {"verdict": "failed"}}
    swept = sweep(models[:1], [mass, {"name": "other", "set": {"seed": 3}}])
    assert list(swept.units["rows"]) == [3, 0, 3] and len(swept.checks_failed) == 1
    assert list(swept.compare().table["run"]) == ["one (floor 0)", "one (floor 2)", "one"]
    types = {row[0]: row[1] for row in duckdb.sql("DESCRIBE SELECT * FROM 'swept/results.parquet'").fetchall()}
    assert types["set_floor"] == "DOUBLE" and types["set_verdict"] == "VARCHAR" and types["set_seed"] == "BIGINT"
    assert types["position"] == "BIGINT" and types["mass"] == "DOUBLE" and types["rank"] == "BIGINT"
    assert types["other_token"] == "BIGINT" and types["mass_token"] == "VARCHAR"  # one name, two types
    assert types["other_model"] == "VARCHAR"  # a name of the sweep's own
    query = "SELECT model, finder, set_floor, set_seed, count(*) FROM 'swept/results.parquet' GROUP BY ALL ORDER BY ALL"
    assert duckdb.sql(query).fetchall() == [("one", "mass", 0.0, None, 3), ("one", "other", None, 3, 3)]
    table = swept.table
    assert str(table["position"].dtype) == "Int64" and table["rank"].isna().all()
    assert set(table.loc[table["finder"] == "other", "other_token"]) == {7}
    help_of = {field.name: field.metadata[b"help"].decode() for field in schema_of("swept/results.parquet")}
    assert help_of["position"] == COLUMNS[1].help and "model's label" in help_of["model"]


def schema_of(path: str) -> Any:
    import pyarrow.parquet as pq

    return pq.read_schema(path)


class Other(MassFinder):
    """A finder with a number where the first has text, and a column that a sweep has too."""

    def __init__(self) -> None:
        super().__init__(name="other")

    def find(self, *arguments: Any) -> Any:
        findings = super().find(*arguments)
        number, model = Column("token", "Int64", "t", "T."), Column("model", "string", "m", "M.")
        findings.finder, findings.columns = "other", (COLUMNS[0], number, model)
        findings.table = pd.DataFrame({"prompt": findings.table["prompt"], "token": 7, "model": "x"})
        return findings

    def check(self, *arguments: Any) -> None:
        return None


def test_nothing_finished(broken_again: str, finder: MassFinder) -> None:
    swept = sweep([broken_again])
    assert len(swept.table) == 0 and "model" in swept.table and len(swept.failed) == 1
    assert not Path("swept/report.html").exists() and "1 failed" in swept._repr_html_()
    with pytest.raises(UsageError, match=r"no unit of the sweep in .* has finished"):
        interp.compare("swept")


@pytest.fixture
def broken_again(tmp_path: Path) -> str:
    folder = tmp_path / "empty-model"
    folder.mkdir()
    return str(folder)


def test_the_command_line(
    models: list[str], broken_again: str, finder: MassFinder, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(*models: str) -> list[str]:
        options = ["--find", "mass", "--engine", "serial", "--max-length", "32", "--limit", "1"]
        return ["sweep", "--models", ",".join(models), *options]

    assert run([*command(*models), "--out", "s", "--quiet"]) == 0
    told = capsys.readouterr()
    assert told.err == "" and "table: " in told.out and "report: " in told.out
    assert run(["compare", "s", "--json"]) == 0
    compared = json.loads(capsys.readouterr().out)
    assert [row["run"] for row in compared["runs"]] == ["one", "two"]
    assert compared["report"] == str(Path("s/report.html"))

    assert run([*command(models[0]), "--out", "f", "--set", "mass.verdict=failed"]) == 3
    assert capsys.readouterr().err.count("the causal check failed: mass-") == 1
    assert run([*command(broken_again), "--out", "b", "--json"]) == 1
    told = capsys.readouterr()
    assert [unit["status"] for unit in json.loads(told.out)["units"]] == ["failed"]
    assert "failed: mass-empty-model-" in told.err

    finder.calls.clear()
    finder.stop_at = 0
    assert run([*command(models[0]), "--out", "i", "--quiet"]) == 130
    assert capsys.readouterr().err == "interrupted; resume with the same command\n"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "name a sweep's file (interp sweep SWEEP.yaml), or --models"),
        (["x.yaml", "--models", "a"], "SWEEP.yaml given together with --models, --find or --set"),
        (["x.yaml", "--limit", "2"], "SWEEP.yaml given together with --limit"),
        (["x.yaml"], "cannot read x.yaml: No such file"),
        (["--models", "smollm2-135m", "--set", "mas.floor=1"], "'mas' is none of the finders of this sweep (sinks)"),
        (["--models", "smollm2-135m", "--find", "sink"], "unknown finder 'sink'. Did you mean sinks"),
        (["--models", "smollm2-135m", "--workers", "0"], "--workers 0: at least 1"),
        (["--models", "smollm2-135m", "--retries", "-1"], "--retries -1: 0 or more"),
        (["--models", "smollm2-135m", "--memory", "lots"], "--memory lots: expected an amount such as 8GB"),
        (["--models", "smollm2-135m", "--address", "auto"], "--address auto goes with --engine ray"),
    ],
)
def test_what_the_command_line_refuses(options: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sweep", *options]) == 2
    captured = capsys.readouterr()
    assert told in captured.err and captured.out == "" and list(Path().iterdir()) == []


def test_ray_that_is_missing_is_named(models: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(interp.InterpError, match=r"needs Ray .*: pip install 'interp-workbench\[scale\]'"):
        sweep(models, ["sinks"], engine="ray")
    assert not Path("swept").exists()


def test_a_dry_run_lists_the_units_and_writes_nothing(models: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    command = ["sweep", "--models", ",".join(models), "--find", "sinks,heads", "--probe", "text", "--limit", "2"]
    assert run([*command, "--dry-run", "--json", "--memory", "3GB", "--workers", "9"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["unit"] for row in told["units"]] == [
        f"{m} {f} text" for m in ("one", "two") for f in ("sinks", "heads")
    ]
    assert all(0.5 < row["memory_gb"] < 1.5 and row["device"] == "cpu" for row in told["units"])
    assert 1 <= told["workers"] <= 4 and told["memory_bytes"] == 3e9
    assert list(Path().iterdir()) == []


def test_a_unit_that_cannot_fit_is_not_tried(models: list[str]) -> None:
    swept = sweep(models, ["sinks"], engine="pool", memory="100MB")
    assert all("there are 0.10 GB: give more --memory" in why for why in swept.failed.values())
    assert [unit["attempts"] for unit in swept.record["units"]] == [[], []]


def test_a_request_no_scan_would_take_is_refused_before_anything_runs(models: list[str]) -> None:
    with pytest.raises(UsageError, match=r"one heads needle: no haystack fits in 32 tokens"):
        interp.sweep(models=models, finders=["sinks", "heads"], max_length=32, out="swept", progress=False)
    assert not list(Path("swept/runs").iterdir())


def test_the_page_has_a_row_a_model_and_the_facts_of_every_finder(models: list[str]) -> None:
    loose = {"name": "sinks", "set": {"floor": 0, "multiple": 1, "norm": 0, "cosine": 0.3, "draw": 1}}
    swept = sweep(models, [loose, "heads"], probes=["text"], max_length=48, limit=2)
    compared = swept.compare()
    assert list(compared.table["run"]) == ["one", "two"]
    opened = {path.name.rpartition("-")[0]: interp.open_run(path) for path in Path("swept/runs").iterdir()}
    for row in compared.findings.records():
        sinks, heads = (opened[f"{finder}-{row['run']}"].findings for finder in ("sinks", "heads"))
        assert row["sinks.levels"] == sinks.summary["level_count"]["found"] and row["sinks.rows"] == len(sinks.table)
        assert row["heads.heads_sink"] == heads.summary["counts"]["sink"] and row["heads.rows"] == 12
        assert heads.verification is not None and row["heads.check"] == heads.verification.verdict
    sheets = {sheet.name: sheet for sheet in compared.findings.sheets}
    figures = {(row[0], row[1]): row[2] for row in sheets["sinks.figures"].rows}
    for model in ("one", "two"):
        claims = opened[f"sinks-{model}"].findings.summary["claims"]
        stated = {name: told["found"] for name, told in claims.items() if "found" in told}
        assert stated and {name: figures[name, model] for name in stated} == stated
    assert len(sheets["sinks.runs"].rows) == len(sheets["heads.runs"].rows) == 2 and len(sheets["units"].rows) == 4
    alone = interp.compare(Path("swept"))
    assert alone.verdict == compared.verdict and alone.html() == Path("swept/report.html").read_text("utf-8")
    with pytest.raises(UsageError, match="only runs of one finder can be compared"):
        interp.compare([opened["heads-one"].folder, shutil.copytree("swept", "again")])
