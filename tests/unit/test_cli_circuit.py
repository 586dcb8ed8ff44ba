"""Circuits, repair and ablation from the command line: own pairs, every head as JSON, dry runs, refusals."""

from __future__ import annotations

import json
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import interp
from interp.cli import run
from interp.resources import data_path
from tests.able_pairs import says
from tests.pair_words import SIZE, tokenizer
from tests.tiny import tiny

SET = ("share=0.2", "least=1", "resamples=5", "subsets=1", "points=1", "controls=1")
SMALL = [word for one in SET for word in ("--set", one)]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    tiny("llama", vocab_size=SIZE).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def lines(saved: str) -> list[dict[str, Any]]:
    """Pairs of the words that this tokenizer knows, which the model answers: what it says is the answer."""
    model = interp.load(saved, check=False)
    shipped = data_path("circuits", "agreement.jsonl").read_text("utf-8").splitlines()
    texts = [json.loads(line)["clean"] for line in shipped]
    made = []
    for clean, corrupt in pairwise(texts):
        first, second = model.encode(clean), model.encode(corrupt)
        answer, wrong = (model.tokenizer.decode([says(model, prompt.ids)]) for prompt in (first, second))
        words = [text for text in (answer, wrong) if text.startswith(" ") and text.strip().isalpha()]
        if len(first) == len(second) and len({*words}) == 2:
            made.append({"clean": clean, "corrupt": corrupt, "answer": answer, "wrong": wrong})
    assert len(made) >= 3
    return made[:4]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[dict[str, Any]]) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("INTERP_") and name != "INTERP_CACHE"]:
        monkeypatch.delenv(name)
    Path("pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return tmp_path


def test_a_scan_for_circuits_prints_every_head(
    saved: str, elsewhere: Path, lines: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["scan", "--model", saved, "--find", "circuit", "--prompts", "pairs.jsonl", "--quiet", *SMALL]
    assert run([*command, "--out", "dry", "--dry-run"]) == 0
    assert not (elsewhere / "dry").exists() and sorted(path.name for path in elsewhere.iterdir()) == ["pairs.jsonl"]
    told = capsys.readouterr().out
    assert f"{len(lines)} pairs (--prompts pairs.jsonl)" in told
    assert run([*command, "--out", "run", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert sorted((row["layer"], row["head"]) for row in rows) == [(at, head) for at in range(3) for head in range(4)]
    assert all(isinstance(row["total"], float) and isinstance(row["class"], str) for row in rows)
    record = json.loads((elsewhere / "run/run.json").read_text())
    assert record["provenance"]["finder"] == "circuit" and record["provenance"]["effect"]["set"]["share"] == 0.2
    assert 'id="graphs"' in (elsewhere / "run/report.html").read_text("utf-8")
    assert run([*command, "--out", "run"]) == 0
    assert json.loads((elsewhere / "run/run.json").read_text())["provenance"]["units"]["measured"] == {}


def test_ablation_measures_own_pairs_by_their_logit_difference(
    saved: str, elsewhere: Path, lines: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["ablate", "--model", saved, "--prompts", "pairs.jsonl", "--heads", "0.1,1.0", "--quiet", "--out", "run"]
    assert run([*command, "--how", "resample"]) == 0  # which takes the corrupted prompt: text has none
    capsys.readouterr()
    result = interp.open_run("run")
    assert "logit difference" in result.findings.verification.metric
    assert result.findings.verification.prompts == len(lines)


def test_repair_takes_own_pairs(
    saved: str, elsewhere: Path, lines: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    turned = [{**line, "answer": line["wrong"], "wrong": line["answer"]} for line in lines]  # what the model fails
    Path("pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in turned), "utf-8")
    options = ["--edit", "scale", "--heads", "1.0", "--prompts", "pairs.jsonl", "--quiet", "--out", "run", "--json"]
    assert run(["repair", "--model", saved, *options]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["edit"], row["heads"]) for row in rows] == [("scale", "1.0")]


REFUSED = [
    (["scan", "--find", "circuit", "--text", "The keys"], "has no corrupted twin"),
    (["scan", "--find", "circuit", "--prompts", "texts.jsonl"], "line 1: no 'clean' in this object (found 'text')"),
    (["scan", "--find", "circuit", "--prompts", "pairs.jsonl", "--probe-set", "order=ABBA"], "order"),
    (["ablate", "--prompts", "mixed.jsonl"], "line 2: a text ('text'), but line 1 has a pair ('clean', 'corrupt')"),
    (["repair", "--prompts", "mixed.jsonl"], "line 2: no 'clean' in this object (found 'text')"),
    (["scan", "--find", "circuit", "--prompts", "turned.jsonl"], "go on anyway with --set anyway=true"),
    (["scan", "--find", "circuit", "--prompts", "pairs.jsonl", "--set", "stages=q@end"], "expected logits@end first"),
]


@pytest.mark.parametrize(("command", "message"), REFUSED)
def test_what_cannot_be_used_is_refused_in_one_line(
    command: list[str],
    message: str,
    saved: str,
    elsewhere: Path,
    lines: list[dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    turned = [{**line, "answer": line["wrong"], "wrong": line["answer"]} for line in lines]
    text = {"text": "The keys to the cabinet"}
    for name, written in {"texts": [text], "mixed": [lines[0], text], "turned": turned}.items():
        Path(f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in written), "utf-8")
    assert run([*command, "--model", saved, "--quiet", "--out", "run"]) == 2
    told = capsys.readouterr()
    assert message in " ".join(told.err.split()) and "Traceback" not in told.err and told.out == ""


def test_a_task_the_model_cannot_do_is_looked_at_when_told(
    saved: str, elsewhere: Path, lines: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    turned = [{**line, "answer": line["wrong"], "wrong": line["answer"]} for line in lines]
    Path("pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in turned), "utf-8")
    options = ["--prompts", "pairs.jsonl", "--quiet", "--out", "run", *SMALL, "--set", "anyway=true"]
    assert run(["scan", "--model", saved, "--find", "circuit", *options]) == 0
    assert "does not do own pairs" in " ".join(capsys.readouterr().out.split())
