"""``interp ablate``: a thin command over the scan of a finder, and bad input without a traceback."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import interp
from interp.ablation.config import HOWS, KNOCKOUT
from interp.ablation.ways import WAYS
from interp.cli import run
from interp.errors import UsageError
from tests.mass_finder import save_tiny
from tests.pair_words import SIZE, tokenizer
from tests.tiny import tiny, tiny_tokenizer


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
    options = ["--probe", "random", "--limit", "3", "--max-length", "20", "--quiet", "--out", "run"]
    assert run(["ablate", "--model", saved, "--how", "zero", "--heads", "0.1,1.*", "--json", *options]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["name"], row["head"], row["selected"]) for row in rows] == [("0.1", 1, True), ("1.*", None, True)]
    record = json.loads((elsewhere / "run/run.json").read_text())
    assert record["provenance"]["finder"] == "ablation"
    assert record["provenance"]["effect"]["set"]["heads"] == ["0.1", "1.*"]
    scan = ["scan", "--model", saved, "--find", "ablation", "--set", "how=zero", "--set", "heads=0.1,1.*", *options]
    assert run(scan) == 0  # the same request: everything is on disk already
    assert json.loads((elsewhere / "run/run.json").read_text())["provenance"]["units"]["measured"] == {}
    assert run(["ablate", "--model", saved, "--beta", "0.2", "--select", "2", "--dry-run", *options[:-1], "new"]) == 0
    assert not (elsewhere / "new").exists()


def test_the_same_edits_are_known_everywhere() -> None:
    assert (*HOWS, KNOCKOUT) == tuple(WAYS)


def test_help_names_the_edits(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ablate", "--help"]) == 0
    told = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "Usage: interp ablate" in told
    for option in (
        "--how",
        "--heads",
        "--from",
        "--position",
        "resample",
        "knockout:FROM->TO",
        "--select",
        "--candidates",
        "--beta",
        "--probe",
        "--text-file",
    ):
        assert option in told


def test_resample_knockout_position_and_from_on_the_command_line(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also that the heads one run tested are those of the next."""
    model = elsewhere / "pairs-llama"
    tiny("llama", vocab_size=SIZE).save_pretrained(model)
    tokenizer().save_pretrained(model)
    common = ["--model", str(model), "--probe", "ioi", "--limit", "2", "--quiet", "--json"]
    assert run(["ablate", *common, "--how", "resample", "--position", "S2", "--heads", "1.0,2.1", "--out", "a"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == ["1.0", "2.1"]
    assert rows[0]["held_out"] != 0 == rows[1]["held_out"]  # no layer after the last one reads what it puts out at S2
    assert run(["ablate", *common, "--how", "knockout:end->answer,S2", "--from", "a", "--out", "b"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == ["1.0", "2.1"]
    record = json.loads((elsewhere / "b/run.json").read_text())
    assert "Cutting attention from end to answer and S2 in 1.0, 2.1" in record["findings"]["verdict"]
    assert " of pairs-llama: the ablated heads of run a (pairs-llama)." in record["findings"]["verdict"]
    told = record["provenance"]["effect"]["set"]
    assert (told["how"], told["heads"], told["origin_shape"]) == ("knockout:end->answer,S2", ["1.0", "2.1"], [3, 4])
    assert told["origin"] == "ablated heads of run a (pairs-llama)"


BAD = [
    (["--heads", "0.9"], 2, "no head 0.9: the model has layers 0..2, heads 0..3"),
    (["--heads", "7.1"], 2, "no head 7.1"),
    (["--heads", "nine"], 2, "expected layer.head, such as 9.1"),
    (["--heads", " , "], 2, "--heads is empty"),
    (["--heads", "0.1", "--select", "2"], 2, "--heads and --select given together"),
    (["--set", "heads=0.1", "--select", "2"], 2, "heads and select given together"),
    (["--select", "0"], 2, "select=0: expected 1 or more"),
    (["--beta", "1.5"], 2, "beta=1.5: expected a number from 0 to 1"),
    (["--beta", "0.5", "--set", "beta=0.4"], 2, "--set beta: given twice"),
    (["--candidates", "-1"], 2, "candidates=-1"),
    (["--how", "explode"], 2, "how='explode': expected one of act, remove-sinks"),
    (["--how", "knockout:end"], 2, "or knockout:FROM->TO with names of positions or roles"),
    (["--how", "resample"], 2, "how=resample: name the heads"),
    (["--how", "resample", "--heads", "0.1"], 2, "has no corrupted twin"),
    (["--how", "zero", "--position", "S2"], 2, "has no position 'S2'; it has end"),
    (["--how", "cut", "--position", "end"], 2, "position=end: how=cut takes none"),
    (["--from", "nowhere"], 2, "no run in"),
    (["--from", "nowhere", "--heads", "0.1"], 2, "--from given with --heads or --select"),
    (["--set", "threshold=3"], 2, "threshold=3"),
    (["--set", "train=1"], 2, "train=1"),
    (["--set", "keys=", "--how", "cut"], 2, "expected key positions"),
    (["--set", "metric=targets"], 2, "marks no target tokens"),
    (["--text", "the cat", "--probe", "random"], 2, "given together"),
]


@pytest.mark.parametrize(("arguments", "code", "message"), BAD, ids=[" ".join(case[0]) for case in BAD])
def test_bad_input_is_one_clear_line(
    saved: str, elsewhere: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    source = [] if "--text" in arguments else ["--text", "the cat sat on the mat"]
    assert run(["ablate", "--model", saved, "--quiet", *source, *arguments]) == code
    told = capsys.readouterr()
    assert message in " ".join(told.err.replace("│", " ").split())
    assert "Traceback" not in told.err and told.out == ""


def test_arguments_of_the_call_that_clash() -> None:
    model = interp.load(tiny("llama"), tokenizer=tiny_tokenizer(128))
    with pytest.raises(UsageError, match="how given both"):
        interp.ablate(model, "act", config={"how": "zero"})
    with pytest.raises(UsageError, match="heads is empty"):
        interp.ablate(model, "act", heads=[])
    with pytest.raises(UsageError, match="pairs"):
        interp.ablate(model, "act", heads=[(1, 2, 3)])  # type: ignore[list-item]
