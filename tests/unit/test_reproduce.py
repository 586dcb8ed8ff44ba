"""`interp reproduce` end to end on a tiny model, with a paper of one run: folders, resume, exit codes, messages."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

import interp
from interp.cli import run
from interp.errors import UsageError
from interp.papers import checks, gu2024
from interp.papers.claims import Check, Claim, Evidence, Outcome, Run
from interp.registry import PAPERS
from tests.mass_finder import save_tiny

TEXTS = ["the cat sat on the mat and the dog ran to it.", "a red dog and a blue cat sat in it, and it was red."]


def judge(evidence: Evidence) -> Outcome:
    rows = len(evidence.findings["sinks"].table)
    return Outcome("holds" if rows else "does not hold", f"{rows} sinks", "" if rows else "none", float(rows))


PAPER = dataclasses.replace(
    gu2024.paper,
    name="one-run",
    runs=(Run("sinks", "sinks", {"floor": 0.0, "multiple": 1.0, "norm": 0.0, "cosine": 0.2}),),
    claims=(Claim("there are sinks", "There are sinks.", "none", "At least one is found.", judge),),
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture
def paper(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setitem(PAPERS._targets, "one-run", PAPER)
    monkeypatch.chdir(tmp_path)
    return PAPER


def test_a_page_a_folder_for_each_run_and_resume(paper: Any, model: str, tmp_path: Path) -> None:
    first = interp.reproduce("one-run", model, texts=TEXTS, progress=False, out=tmp_path / "out")
    assert first.table["claim"].tolist() == ["there are sinks"] and first.table["verdict"].tolist() == ["holds"]
    assert [check["passed"] for check in first.findings.summary["checks"]] == [True, True]
    assert first.findings.summary["passed"]
    inner = interp.open_run(tmp_path / "out/sinks")
    assert len(inner.table) == first.table["value"][0]
    page = (tmp_path / "out/report.html").read_text("utf-8")
    assert "There are sinks." in page and "streamed against eager attention" in page
    again = interp.reproduce("one-run", model, texts=TEXTS, progress=False, out=tmp_path / "out")
    assert interp.open_run(tmp_path / "out/sinks").provenance["units"]["measured"] == {}
    assert again.table.equals(first.table)
    opened = interp.open_run(tmp_path / "out")
    assert opened.table.equals(first.table) and opened.verdict == first.verdict
    with pytest.raises(UsageError, match="other prompts"):
        interp.reproduce("one-run", model, texts=TEXTS[:1], progress=False, out=tmp_path / "out")


def test_the_command(paper: Any, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["reproduce", "one-run", "--model", model, "--text", TEXTS[0], "--quiet"]
    assert run(words) == 0
    told = capsys.readouterr().out
    assert told.startswith("Of 1 claims of one-run, 1 holds in")
    for part in ("HOLDS: there are sinks. There are sinks.", "published: none", "own check passed:", "report: runs/"):
        assert part in told
    (folder,) = Path("runs").iterdir()
    assert folder.name.startswith("reproduce-one-run-tiny-llama-")
    assert run([*words, "--json"]) == 0
    claims = json.loads(capsys.readouterr().out)
    assert claims["claims"][0]["verdict"] == "holds" and len(claims["checks"]) == 2
    assert run(["show", folder.name]) == 0
    assert run(["ls", "runs", "--json"]) == 0


def test_failed_own_checks_end_with_3(
    paper: Any, model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing = dataclasses.replace(PAPER, checks=lambda *_: [Check("golden", False, "269 where 270 were expected")])
    monkeypatch.setitem(PAPERS._targets, "one-run", failing)
    assert run(["reproduce", "one-run", "--model", model, "--text", TEXTS[0], "--quiet"]) == 3
    captured = capsys.readouterr()
    assert "own check FAILED: golden: 269 where 270 were expected" in captured.out
    assert "not to be trusted: golden" in captured.out and "own checks failed: golden" in captured.err


def test_the_eager_check_can_fail(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from interp.tracing import calls

    loaded = interp.load(model)
    prompts = [loaded.encode(TEXTS[0], name="text")]
    assert checks.eager(loaded, prompts).passed
    right = calls.received
    monkeypatch.setattr(calls, "received", lambda *given: right(*given) * 1.01)
    check = checks.eager(loaded, prompts)
    assert not check.passed and "largest gap" in check.told


def test_the_model_writes_on_once(paper: Any, model: str, tmp_path: Path) -> None:
    options = {"texts": TEXTS, "generate": 5, "progress": False, "out": tmp_path / "out"}
    first = interp.reproduce("one-run", model, **options)
    inner = interp.open_run(tmp_path / "out/sinks")
    assert [len(prompt) for prompt in inner.prompts] == [len(prompt) for prompt in first.prompts]
    assert all(1 <= prompt.extra["generated"] <= 5 for prompt in first.prompts)
    assert first.provenance["units"]["measured"] == {"generate": 2}
    assert interp.reproduce("one-run", model, **options).provenance["units"]["measured"] == {}


def test_settings_go_to_the_runs_that_have_them(
    paper: Any, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["reproduce", "one-run", "--model", model, "--text", TEXTS[0], "--quiet", "--set", "floor=1.0"]
    assert run([*words, "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.startswith("Of 1 claims of one-run, 0 hold in")  # nothing draws as much as that
    assert "Settings of the runs were changed: floor=1.0." in interp.open_run(tmp_path / "out").findings.caveats
    assert interp.open_run(tmp_path / "out/sinks").provenance["effect"]["set"]["floor"] == 1.0
    assert run([*words[:-1], "flor=1"]) == 2
    assert "unknown setting of finder sinks 'flor'. Did you mean floor" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["wong25"], "unknown paper 'wong25'. Did you mean wong2025"),
        (["one-run", "--text", " "], "is empty"),
        (["one-run", "--limit", "0", "--text", "a"], "--limit 0"),
        (["one-run", "--text", "a", "--probe", "text"], "choose one source"),
    ],
)
def test_bad_input(paper: Any, words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["reproduce", *words, "--model", "nowhere-at-all"]) == 2
    assert told in capsys.readouterr().err
    assert list(Path().iterdir()) == []
