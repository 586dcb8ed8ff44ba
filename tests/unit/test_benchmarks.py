"""The suite of benchmarks on fake ones: what is missed is marked, what crashed or is not there is told."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(FOLDER))
try:
    import goals
    import machine
    import results_table
    import suite
    from rows import MET, MISSED, NO_GOAL, UNMEASURED, Goal, Row, as_json, from_json, measured
finally:
    sys.path.remove(str(FOLDER))

FACTS = machine.machine()


def lines_of(result: dict[str, Any], what: str) -> list[str]:
    found = [line for line in results_table.markdown(result).splitlines() if what in line]
    assert found, f"no line with {what!r}"
    return found


def finished(name: str, rows: list[Row], **more: Any) -> dict[str, Any]:
    return {"name": name, "state": "finished", "seconds": 90.0, "load": 0.25, "rows": as_json(rows), **more}


@pytest.mark.parametrize(
    ("sign", "value", "ratio", "status"),
    [
        ("<=", 1.3, 1.3, MET),
        ("<=", 1.3, 1.31, MISSED),
        ("<", 1.0, 1.0, MISSED),
        (">=", 10.0, 9.9, MISSED),
        (">=", 10.0, float("inf"), MET),
        ("within", 0.2, 0.85, MET),
        ("within", 0.2, 0.75, MISSED),
        ("within", 0.2, 1.25, MISSED),
        (">=", 10.0, float("nan"), UNMEASURED),
    ],
)
def test_goals_are_judged_by_the_median(sign: str, value: float, ratio: float, status: str) -> None:
    row = Row("a.b", "a", "b", "x", ratio, goal=Goal(sign, value, "issue 0"))
    assert row.status == status
    assert from_json(json.loads(json.dumps(as_json([row]), allow_nan=True)))[0].status == status


def test_a_sign_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match=">"):
        Goal(">", 1, "issue 0")


def test_rows_take_text_and_goal_from_the_catalogue() -> None:
    row = measured("sink_overhead.time.2048", [1.3, 1.1, 1.2], note="here")
    assert (row.ratio, row.low, row.high, row.pairs, row.status) == (1.2, 1.1, 1.3, 3, MISSED)
    assert row.goal == goals.GOALS["sink_overhead.time.2048"].goal and "2,048" in row.what
    single = measured("memory_plan.some-shape", [1.1], what="a shape")
    assert (single.what, single.low, single.status) == ("a shape", None, MET)
    assert measured("nothing.known", [2.0], what="a", against="b", unit="x").status == NO_GOAL
    assert measured("scoring.fold.torch", []).status == UNMEASURED
    with pytest.raises(KeyError):
        measured("nothing.known", [2.0])


def test_what_is_missed_is_marked_and_every_goal_has_a_line() -> None:
    rows = [measured("sink_overhead.time.2048", [1.3, 1.4]), measured("sink_overhead.time.512", [1.0, 1.1])]
    result = results_table.build([finished("sink_overhead", rows)], FACTS)
    assert result["goals"] == {MET: 1, MISSED: 1, UNMEASURED: len(goals.GOALS) - 2}
    (missed,) = [line for line in lines_of(result, "T = 2,048 | plain") if "sdpa" in line]
    assert "**MISSED**" in missed and "1.35 x its time" in missed and "1.3 to 1.4 (2)" in missed
    assert "| met |" in lines_of(result, "T = 512 |")[0]
    answered = {goals.promise_of(row["name"]) for row in result["rows"]}
    assert answered == set(goals.GOALS)
    for key, due in goals.GOALS.items():
        assert any(due.what in line for line in results_table.markdown(result).splitlines()), key


def test_what_crashed_hung_or_is_missing_is_told_in_its_rows() -> None:
    outcomes = [
        {"name": "scoring", "state": "crashed", "why": "exit code 1: ValueError: a | b"},
        {"name": "retrieval", "state": "timed out", "why": "stopped after 2 minutes", "seconds": 120.0},
        {"name": "memory_plan", "state": "missing", "why": "there is no memory_plan.py"},
        finished("fused_engine", [Row("fused_engine.cpu", "on a CPU", "plain", "x", 1.0)]),
        finished("circuit_effects", []),
        finished("scan_time", []) | {"rows": [{"name": "scan_time.scan", "nonsense": 1}]},
    ]
    result = results_table.build(outcomes, FACTS)
    assert all("crashed: exit code 1: ValueError: a \\| b" in line for line in lines_of(result, "bootstrap intervals"))
    assert "timed out: stopped after 2 minutes" in lines_of(result, "prompts read in full")[0]
    assert "missing: there is no memory_plan.py" in lines_of(result, "as planned")[0]
    assert "it gave no rows" in lines_of(result, "`direct` effect")[0]
    assert "its rows cannot be read" in lines_of(result, "8 prompts of 512")[0]
    gpu = lines_of(result, "Qwen3-14B")
    assert len(gpu) == 6 and all("not measured | issue 7, part 2 | no GPU" in line for line in gpu)
    assert "on a CPU" in results_table.markdown(result)
    states = {run["name"]: run["state"] for run in result["benchmarks"]}
    assert states["circuit_effects"] == states["scan_time"] == "crashed" and states["fused_engine"] == "finished"
    for line in results_table.markdown(result).splitlines():
        if line.startswith("| ") and "---" not in line:
            assert line.replace("\\|", "").count("|") in (9, 7)


def test_small_sizes_are_not_judged() -> None:
    told = results_table.markdown(
        results_table.build([finished("sink_overhead", [measured("sink_overhead.time.512", [9.0])])], FACTS, quick=True)
    )
    assert "MISSED" not in told and "nothing here is a result" in told and "9 x its time" in told


GOOD = """
import json, sys
out = sys.argv[sys.argv.index("--out") + 1]
with open(out + ".count", "a") as count: count.write("x")
row = {"name": "good.one", "what": "good", "against": "bad", "unit": "x", "ratio": 2.0, "low": None, "high": None,
       "pairs": 1, "goal": {"sign": ">=", "value": 3, "source": "issue 0"}, "note": " ".join(sys.argv[1:3])}
json.dump({"suite": [row]}, open(out, "w"))
"""
BAD = "import sys; print('working'); sys.exit('the machine is on fire')"
SLOW = "import time; time.sleep(60)"
SILENT = "print('I did nothing')"


def fakes(folder: Path) -> tuple[suite.Benchmark, ...]:
    for name, code in (("good", GOOD), ("bad", BAD), ("slow", SLOW), ("silent", SILENT)):
        (folder / f"{name}.py").write_text(code)
    return (
        suite.Benchmark("bad"),
        suite.Benchmark("slow", minutes=0.01),
        suite.Benchmark("silent"),
        suite.Benchmark("absent"),
        suite.Benchmark("good", full=("--size", "9"), quick=("--size", "1")),
    )


def test_the_suite_goes_on_past_what_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert suite.main(fakes(tmp_path), [], tmp_path) == 1
    table = (tmp_path / "RESULTS.md").read_text()
    assert table in capsys.readouterr().out
    runs = {line.split("|")[1].strip(): line for line in table.splitlines() if line.startswith("| `")}
    assert "crashed: exit code 1: the machine is on fire" in runs["`bad`"]
    assert "timed out: stopped after 0.01 minutes" in runs["`slow`"]
    assert "crashed: it wrote no result: I did nothing" in runs["`silent`"]
    assert "missing: there is no absent.py" in runs["`absent`"]
    assert "finished" in runs["`good`"]
    assert "| good | bad | 2 x | | >= 3 x | **MISSED** | issue 0 | --size 9 |" in table.replace("|  |", "| |")
    assert json.loads((tmp_path / "RESULTS.json").read_text())["goals"][MISSED] == 1
    assert (tmp_path / "results" / ".gitignore").read_text() == "*\n"


def test_results_are_kept_until_asked_for_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    benchmarks = fakes(tmp_path)
    count = tmp_path / "results" / "good.part.json.count"
    only = ["--only", "good"]
    assert suite.main(benchmarks, only, tmp_path) == 0 and count.read_text() == "x"
    assert suite.main(benchmarks, only, tmp_path) == 0 and count.read_text() == "x"
    assert "| kept |" in capsys.readouterr().out
    assert suite.main(benchmarks, [*only, "--fresh"], tmp_path) == 0 and count.read_text() == "xx"
    assert suite.main(benchmarks, [*only, "--quick"], tmp_path) == 0  # beside, not over it
    assert "--size 9" in (tmp_path / "RESULTS.md").read_text()
    assert "--size 1" in (tmp_path / "results" / "quick" / "RESULTS.md").read_text()
    assert suite.main((*benchmarks[:4], suite.Benchmark("good", full=("--size", "10"))), only, tmp_path) == 0
    assert count.read_text() == "xxx" and "--size 10" in (tmp_path / "RESULTS.md").read_text()
    (tmp_path / "good.py").write_text(BAD)
    assert suite.main(benchmarks, [*only, "--fresh"], tmp_path) == 1
    assert suite.main(benchmarks, ["--only", "absent"], tmp_path) == 1  # what crashed does not come back as kept
    assert "good | bad" not in (tmp_path / "RESULTS.md").read_text()


def test_an_unknown_name_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        suite.main(suite.BENCHMARKS, ["--only", "nothing"], tmp_path)
    assert ended.value.code == 2


def test_every_goal_is_one_of_a_benchmark_that_there_is() -> None:
    names = {one.name for one in suite.BENCHMARKS}
    for key, due in goals.GOALS.items():
        assert due.by in names and key.split(".")[0] == due.by
    for name in names:
        assert (FOLDER / f"{name}.py").exists()
