"""Bad input is one clear line and an exit code, never a traceback, and never leaves anything behind."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from interp.cli import run
from tests.mass_finder import registered, save_tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("INTERP_") and name != "INTERP_CACHE"]:
        monkeypatch.delenv(name)
    (tmp_path / "good.txt").write_text("the cat sat")
    (tmp_path / "latin1.txt").write_bytes(b"caf\xe9")
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "bad.jsonl").write_text('{"text": "the cat"}\n\n{"text": "the dog"\n')
    (tmp_path / "notext.jsonl").write_text('{"prompt": "the cat"}\n')
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.tex").write_text("words")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "run.json").write_text('{"not": "ours"}')
    (tmp_path / "broken_run").mkdir()
    (tmp_path / "broken_run" / "run.json").write_text('{"schema": 1, "status": "finished"}')


BAD = [
    (["--text", ""], 2, "is empty"),
    (["--text-file", "missing.txt"], 2, "cannot read missing.txt: No such file"),
    (["--text-file", "folder"], 2, "cannot read folder"),
    (["--text-file", "latin1.txt"], 2, "not UTF-8"),
    (["--text-file", "empty.txt"], 2, "blank"),
    (["--prompts", "missing.jsonl"], 2, "cannot read missing.jsonl"),
    (["--prompts", "bad.jsonl"], 2, "bad.jsonl, line 3: not valid JSON"),
    (["--prompts", "notext.jsonl"], 2, "line 1: no 'text'"),
    (["--text", "the cat", "--probe", "text"], 2, "--text and --probe given together"),
    (["--text", "the cat", "--prompts", "bad.jsonl"], 2, "--text and --prompts given together"),
    (["--text", "the cat", "--text-file", "good.txt"], 2, "--text and --text-file given together"),
    (["--probe", "rendom"], 2, "Did you mean random"),
    (["--text", "the cat", "--limit", "0"], 2, "--limit 0"),
    (["--text", "the cat", "--limit", "many"], 2, "'--limit'"),
    (["--text", "the cat", "--max-length", "1"], 2, "--max-length 1"),
    (["--text", "the cat", "--set", "flor=1"], 2, "Did you mean floor? Valid keys: verdict: verified|failed"),
    (["--text", "the cat", "--set", "floor=low"], 2, "expected a number (floor: float = 0.0)"),
    (["--text", "the cat", "--set", "floor=inf"], 2, "--set floor=inf: expected a finite number"),
    (["--text", "the cat", "--set", "floor=nan", "--dry-run"], 2, "--set floor=nan: expected a finite number"),
    (["--text", "the cat", "--set", "floor"], 2, "expected key=value"),
    (["--text", "the cat", "--bos", "maybe"], 2, "maybe"),
    (["--text", "the cat", "--device", "abacus"], 2, "abacus"),
    (["--text", "the cat", "--dtype", "int4"], 2, "int4"),
    (["--text", "the cat", "--no-such-option"], 2, "--no-such-option"),
    (["--text", "the cat", "--out", "good.txt"], 2, "good.txt is a file"),
    (["--text", "the cat", "--out", "folder"], 2, "is no run folder"),
    (["--text", "the cat", "--out", "folder", "--fresh"], 2, "is no run folder"),
    (["--text", "the cat", "--out", "foreign", "--fresh"], 2, "run.json that was not written by interp scan"),
    (["--text", "the cat", "--out", "foreign", "--dry-run"], 2, "run.json that was not written by interp scan"),
    (["--text", "the cat", "--out", "good.txt/run"], 1, "cannot use good.txt/run"),
    (["--text", "the", "--bos", "none"], 2, "has 1 token"),
]


@pytest.mark.parametrize(("arguments", "code", "message"), BAD, ids=[" ".join(case[0][-2:]) or "empty" for case in BAD])
def test_one_clear_line(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    before = sorted(tmp_path.rglob("*"))
    with registered() as finder:
        assert run(["scan", "--model", model, "--find", "mass", "--quiet", *arguments]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in " ".join(captured.err.replace("│", " ").split())
    assert "Traceback" not in captured.err
    assert sorted(tmp_path.rglob("*")) == before
    assert finder.calls == []


@pytest.mark.parametrize(
    ("model_name", "code"), [("no-such-model", 2), ("./nowhere", 1), ("good.txt", 1), ("folder", 1), ("x.gguf", 1)]
)
def test_a_model_that_cannot_be_had(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], model_name: str, code: int
) -> None:
    with registered():
        assert run(["scan", "--model", model_name, "--find", "mass", "--text", "the cat", "--quiet"]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert model_name.removeprefix("./") in captured.err
    assert "Traceback" not in captured.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["scan"], 2, "--model"),
        (["scan", "--model", "x", "--find", "sinkz"], 2, "Did you mean sinks"),
        (["ls", "things"], 2, "things"),
        (["frob"], 2, "frob"),
        (["show", "nowhere"], 1, "no run in nowhere"),
        (["show", "folder"], 1, "no run in folder"),
        (["show", "broken_run"], 1, "is damaged"),
        (["report", "broken_run"], 1, "is damaged"),
        (["get", "smollm3-135m"], 2, "smollm2-135m"),
    ],
)
def test_other_commands(capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str) -> None:
    assert run(arguments) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert "Traceback" not in captured.err


def test_a_folder_that_is_not_writable(
    model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused by the system, not by modes: modes do not bind root, who may run the tests."""

    def closed(*_: object, **__: object) -> None:
        raise PermissionError(errno.EROFS, os.strerror(errno.EROFS))

    arguments = ["scan", "--model", model, "--find", "mass", "--text", "the cat", "--quiet", "--out", "closed"]
    with registered():
        with monkeypatch.context() as patched:
            patched.setattr(Path, "mkdir", closed)
            assert run(arguments) == 1
        assert "cannot use closed as run folder: Read-only file system" in capsys.readouterr().err
        Path("closed").mkdir()
        with monkeypatch.context() as patched:
            patched.setattr(os, "access", lambda path, mode, **_: not mode & os.W_OK)
            assert run(arguments) == 1
        assert "cannot use closed as run folder: it is not writable" in capsys.readouterr().err


def test_a_full_disk(model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fills up after the first unit: one line, and the same command goes on once there is room."""
    arguments = ["scan", "--model", model, "--find", "mass", "--prompts", "p.jsonl", "--quiet", "--out", "run"]
    Path("p.jsonl").write_text('{"text": "the cat"}\n{"text": "the dog"}\n')
    real = os.replace

    def full(source: Path, target: Path) -> None:
        if list(Path("run/units").glob("*.safetensors")):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(source, target)

    with registered() as finder:
        monkeypatch.setattr(os, "replace", full)
        assert run(arguments) == 1
        assert "No space left on device" in capsys.readouterr().err
        assert not list(Path("run").rglob("*.partial"))
        monkeypatch.setattr(os, "replace", real)
        assert run(arguments) == 0
    assert [call for call in finder.calls if call[0] == "measure"].count(("measure", "p.jsonl:1")) == 1


def test_a_corrupted_run_folder_can_be_scanned_afresh(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["scan", "--model", model, "--find", "mass", "--text", "the cat", "--quiet", "--out", "run"]
    with registered():
        assert run(arguments) == 0
        Path("run/run.json").write_text("{half")
        capsys.readouterr()
        assert run(arguments) == 1
        assert "run/run.json is damaged" in capsys.readouterr().err
        assert run([*arguments, "--fresh"]) == 0
