"""The interp command: help, listings, exit codes, streams, and bad input without a traceback."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from interp.cli import run
from tests.mass_finder import MassFinder, registered, save_tiny

HEAVY = {"torch", "transformers", "pandas", "plotly", "numba", "pyarrow", "transformer_lens", "numpy", "safetensors"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture
def finder() -> Iterator[MassFinder]:
    with registered() as made:
        yield made


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test in its own folder, without the INTERP_ variables of whoever runs the tests."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("INTERP_") and name != "INTERP_CACHE"]:
        monkeypatch.delenv(name)


class Done:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


def _run(capsys: pytest.CaptureFixture[str], *arguments: str) -> Done:
    code = run(arguments)
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err + captured.out
    return Done(code, captured.out, captured.err)


def _mass(model: str, *more: str) -> tuple[str, ...]:
    return ("scan", "--model", model, "--find", "mass", "--text", "the cat sat on the mat.", *more)


# help and start-up


@pytest.mark.parametrize(
    "arguments", [["--help"], ["scan", "--help"], ["ls", "--help"], ["--version"], ["ls", "models"]]
)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        f"import sys; from interp.cli import run; code = run({arguments!r}); print(sorted(sys.modules)); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    loaded = {name.partition(".")[0] for name in re.findall(r"'([\w.]+)'", done.stdout.splitlines()[-1])}
    assert "typer" in loaded
    assert loaded & HEAVY == set()


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("scan", "ls", "show", "report", "get"):
        done = _run(capsys, command, "--help")
        assert done.code == 0
        assert "Usage: interp " + command in done.out.replace("\n", " ")


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    import interp

    assert _run(capsys, "--version").out == f"interp {interp.__version__}\n"


def test_shell_completion_completes_names() -> None:
    for word, expected in (("interp scan --find si", "sinks"), ("interp scan --model smollm2-1", "smollm2-135m")):
        environment = {**os.environ, "_INTERP_COMPLETE": "complete_bash", "COMP_WORDS": word, "COMP_CWORD": "3"}
        command = [sys.executable, "-c", "from interp.cli import main; main()"]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
        assert expected in done.stdout.split()


# what a scan prints


def test_text_for_people(model: str, finder: MassFinder, capsys: pytest.CaptureFixture[str]) -> None:
    done = _run(capsys, *_mass(model))
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0] == "1 keys found."
    assert lines[2].split() == ["prompt", "position", "token", "mass", "rank"]
    assert any(line.startswith("causal check: verified; top logit: ") for line in lines)
    assert any(line.startswith("position 0: ") for line in lines)
    assert "caveat: A test finder." in lines
    report = Path(lines[-1].removeprefix("report: "))
    assert report.parent.parent == Path("runs")
    assert report.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "measuring: 1/1 done" in done.err


def test_json_is_all_there_is_on_stdout(model: str, finder: MassFinder, capsys: pytest.CaptureFixture[str]) -> None:
    done = _run(capsys, *_mass(model, "--json"))
    records = json.loads(done.out)
    assert [set(record) for record in records] == [{"prompt", "position", "token", "mass", "rank"}]
    assert records[0]["rank"] is None
    assert isinstance(records[0]["position"], int)
    assert "measuring" in done.err


def test_json_of_nothing_is_an_empty_list(model: str, finder: MassFinder, capsys: pytest.CaptureFixture[str]) -> None:
    done = _run(capsys, *_mass(model, "--json", "--quiet", "--set", "floor=2"))
    assert (done.code, json.loads(done.out), done.err) == (0, [], "")


def test_quiet_says_nothing_on_stderr(model: str, finder: MassFinder, capsys: pytest.CaptureFixture[str]) -> None:
    done = _run(capsys, *_mass(model, "--quiet"))
    assert done.err == ""
    assert done.out


def test_tokens_cannot_steer_the_terminal(model: str, finder: MassFinder, capsys: pytest.CaptureFixture[str]) -> None:
    Path("p.jsonl").write_text(json.dumps({"name": "a\x1b]0;x\x07[red]b[/red]", "text": "the cat"}) + "\n")
    done = _run(capsys, "scan", "--model", model, "--find", "mass", "--prompts", "p.jsonl", "--quiet")
    assert "\x1b" not in done.out
    assert "a\\x1b]0;x\\x07[red]b[/red]" in done.out


@pytest.mark.parametrize(("verdict", "code"), [("verified", 0), ("too few to say", 0), ("failed", 3)])
def test_the_exit_code_tells_whether_the_check_failed(
    model: str, finder: MassFinder, capsys: pytest.CaptureFixture[str], verdict: str, code: int
) -> None:
    done = _run(capsys, *_mass(model, "--set", f"verdict={verdict}"))
    assert done.code == code
    assert ("the causal check failed: Head 0.0 was zeroed." in done.err) == (code == 3)


def test_a_failed_self_check_is_exit_code_3_with_the_reason(
    model: str, finder: MassFinder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    from interp.models import self_check

    failing = SimpleNamespace(ok=False, notes=("logits differ",))
    monkeypatch.setattr(self_check, "self_check", lambda model: failing)
    done = _run(capsys, *_mass(model))
    assert done.code == 3
    assert "the self-check failed (logits differ)" in done.err


def test_interrupted_is_130(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    with registered(stop_at=0):
        done = _run(capsys, *_mass(model, "--quiet"))
    assert (done.code, done.out) == (130, "")
    assert done.err == "interrupted; resume with the same command\n"


def test_a_bug_is_one_line_and_debug_shows_the_traceback(
    model: str, finder: MassFinder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("by\nnought")

    monkeypatch.setattr(finder, "find", broken)
    done = _run(capsys, *_mass(model, "--quiet"))
    assert done.code == 1
    assert done.err == "error: unexpected ZeroDivisionError: by nought\n--debug shows the traceback\n"
    assert run(_mass(model, "--quiet", "--debug")) == 1
    assert "Traceback" in capsys.readouterr().err


def test_variables_stand_in_for_options(
    model: str, finder: MassFinder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"MODEL": model, "FIND": "mass", "OUT": "here", "MAX_LENGTH": "5", "QUIET": "1"}.items():
        monkeypatch.setenv(f"INTERP_{name}", value)
    done = _run(capsys, "scan", "--text", "the cat sat on the mat and ran")
    assert (done.code, done.err) == (0, "")
    record = json.loads(Path("here/run.json").read_text())
    assert len(record["prompts"][0]["ids"]) == 5


def test_text_files_as_a_shell_expands_them(model: str, finder: MassFinder, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "abc":
        Path(f"{name}.txt").write_text(f"the cat {name} ran")
    done = _run(capsys, *_mass(model)[:5], "--text-file", "a.txt", "b.txt", "--json", "--quiet")
    assert [record["prompt"] for record in json.loads(done.out)] == ["a.txt", "b.txt"]
    more = ("--text-file", "a.txt", "--text-file", "b.txt", "--limit", "1", "--json", "--quiet")
    assert len(json.loads(_run(capsys, *_mass(model)[:5], *more).out)) == 1
    done = _run(capsys, *_mass(model), "b.txt")
    assert done.code == 2
    assert "unexpected argument 'b.txt'" in done.err


# afterwards, without a model


def test_show_report_and_ls_runs(
    model: str, finder: MassFinder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    scanned = _run(capsys, *_mass(model, "--out", "runs/first"))
    monkeypatch.setattr("interp.models.load.load", None)  # nothing below may need a model
    for name in ("runs/first", "first"):
        assert _run(capsys, "show", name).out == scanned.out
    shown = json.loads(_run(capsys, "show", "first", "--json").out)
    assert shown["verdict"] == "1 keys found."
    assert shown["verification"]["verdict"] == "verified"
    assert shown["provenance"]["command"]
    assert len(shown["findings"]) == 1
    page = Path("runs/first/report.html").read_bytes()
    assert _run(capsys, "report", "first", "--out", "x.html").out == "x.html\n"
    assert Path("x.html").read_bytes() == page
    Path("runs/damaged").mkdir()
    Path("runs/damaged/run.json").write_text("{")
    rows = json.loads(_run(capsys, "ls", "runs", "--json").out)
    assert [(row["run"], row["status"]) for row in rows] == [("runs/damaged", "damaged"), ("runs/first", "finished")]
    assert rows[1]["verdict"] == "1 keys found."


@pytest.mark.parametrize(
    ("what", "keys"),
    [
        ("models", {"alias", "hub_id", "family", "architecture", "here"}),
        ("probes", {"probe", "help"}),
        ("finders", {"finder", "help", "settings"}),
    ],
)
def test_listings(capsys: pytest.CaptureFixture[str], what: str, keys: set[str]) -> None:
    rows = json.loads(_run(capsys, "ls", what, "--json").out)
    assert rows and all(keys <= set(row) and all(row[key] not in (None, "") for key in keys) for row in rows)
    text = [
        line
        for line in _run(capsys, "ls", what).out.splitlines()
        if " --set " not in line and " --probe-set " not in line
    ]
    assert len(text) == len(rows) + 1


def test_no_runs_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert (_run(capsys, "ls", "runs").code, _run(capsys, "ls", "runs", "--json").out) == (0, "[]\n")


def test_a_reader_that_goes_away_hears_nothing_more() -> None:
    command = f"{sys.executable} -m interp ls models | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.startswith("alias")
    assert done.stderr == ""


def test_a_terminal_that_is_not_utf8(
    model: str, finder: MassFinder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import io

    import interp.cli

    _run(capsys, "scan", "--model", model, "--find", "mass", "--prompts", str(_cyrillic()), "--quiet", "--out", "run")
    for more in ([], ["--json"]):
        stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
        monkeypatch.setattr(sys, "stdout", stdout)
        monkeypatch.setattr(sys, "argv", ["interp", "show", "run", *more])
        with pytest.raises(SystemExit) as ended:
            interp.cli.main()
        stdout.flush()
        shown = stdout.buffer.getvalue().decode("ascii")
        assert ended.value.code == 0
        if more:
            assert json.loads(shown)["findings"][0]["prompt"] == "ключ"
        else:
            assert "\\u043a\\u043b\\u044e\\u0447" in shown


def _cyrillic() -> Path:
    path = Path("p.jsonl")
    path.write_text(json.dumps({"name": "ключ", "text": "the cat"}) + "\n")
    return path


# a dry run


def test_a_dry_run_writes_nothing_and_measures_nothing(
    model: str, finder: MassFinder, capsys: pytest.CaptureFixture[str]
) -> None:
    done = _run(capsys, *_mass(model, "--dry-run", "--out", "here"))
    assert done.code == 0
    for label in (
        "model: ",
        "position 0: ",
        "prompts: 1 from",
        "peak memory: about",
        "time: about",
        "how: memory from",
    ):
        assert any(line.startswith(label) for line in done.out.splitlines()), label
    estimated = json.loads(_run(capsys, *_mass(model, "--dry-run", "--json")).out)
    import interp

    loaded = interp.load(model)
    assert estimated["parameters"] == sum(p.numel() for p in loaded.hf.parameters())
    assert estimated["weights_bytes"] == 4 * estimated["parameters"]
    assert estimated["prompts"] == [{"name": "text", "tokens": len(loaded.encode("the cat sat on the mat."))}]
    assert estimated["position0"] == loaded.position0
    assert estimated["peak_bytes"] > estimated["weights_bytes"] and estimated["seconds"] > 0
    assert list(Path().iterdir()) == []
    assert finder.calls == []


def test_a_dry_run_finds_models_in_the_hub_cache(
    finder: MassFinder, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    place = tmp_path / "hub" / "models--someone--tiny"
    save_tiny(place / "snapshots" / commit)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    done = _run(capsys, *_mass("someone/tiny", "--dry-run", "--json"))
    assert (done.code, json.loads(done.out)["model"]) == (0, "someone/tiny")


def test_a_dry_run_of_a_model_that_is_not_here(capsys: pytest.CaptureFixture[str]) -> None:
    start = time.monotonic()
    done = _run(capsys, "scan", "--model", "qwen3-14b", "--text", "the cat", "--dry-run")
    assert done.code == 1
    assert "not on this machine" in done.err
    assert time.monotonic() - start < 60
