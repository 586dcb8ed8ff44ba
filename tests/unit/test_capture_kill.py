"""kill -9 in the middle of a capture, then the same command again: the same store as without; and the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from interp.activations.store import Store, open_store
from interp.activations.writer import Writer
from interp.cli import run
from tests.mass_finder import save_tiny

ROOT = Path(__file__).resolve().parents[2]
PROMPTS = 160


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder and a file of prompts."""
    place = tmp_path_factory.mktemp("capture")
    save_tiny(place / "model")
    lines = [{"text": f"the cat {' '.join(str(i))} sat on the mat. " * 2, "label": i % 2} for i in range(PROMPTS)]
    (place / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return place


def command(place: Path, out: Path, *more: str) -> list[str]:
    given = ["capture", "--model", str(place / "model"), "--prompts", str(place / "prompts.jsonl"), "--out", str(out)]
    return [*given, "--shard-size", "60KB", "--quiet", *more]


def start(place: Path, out: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "interp", *command(place, out)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def kill_after(process: subprocess.Popen[bytes], out: Path, shards: int) -> None:
    deadline = time.monotonic() + 120
    while len(list(out.glob("shards/*.safetensors"))) < shards:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)


def contents(store: Store) -> list[tuple[str, tuple[int, ...], object]]:
    return [(one.prompt.name, one.prompt.ids, one.prompt.extra.get("label")) for one in store.entries]


def test_a_capture_killed_and_interrupted_ends_in_the_same_store(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, out = place / "whole", place / "killed"
    assert run(command(place, whole)) == 0

    process = start(place, out)
    kill_after(process, out, 4)
    process.communicate(timeout=60)
    (out / "shards/99999.safetensors").write_bytes(b"half a shard")
    (out / "shards/.00077.safetensors.123.partial").write_bytes(b"less")
    after_kill = open_store(out)
    assert 0 < len(after_kill) < PROMPTS
    first = {path.name: path.stat().st_ino for path in (out / "shards").glob("0*.safetensors")}

    real, added = Writer.add, []

    def interrupted(self: Writer, *given: object) -> None:
        if len(added) == 20:
            raise KeyboardInterrupt
        added.append(1)
        real(self, *given)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(Writer, "add", interrupted)
    assert run(command(place, out)) == 130
    assert "resume with the same command" in capsys.readouterr().err
    monkeypatch.undo()
    assert len(open_store(out)) == len(after_kill) + 20  # whole prompts that had gathered are kept

    assert run(command(place, out)) == 0
    last, expected = open_store(out), open_store(whole)
    named = {shard.name for shard in last.index.shards}
    assert {path.name.partition(".")[0] for path in (out / "shards").iterdir()} == named
    kept = {path.name: path.stat().st_ino for path in (out / "shards").glob("*.safetensors")}
    for shard in after_kill.index.shards:
        assert kept[f"{shard.name}.safetensors"] == first[f"{shard.name}.safetensors"]  # not written again
    assert contents(last) == contents(expected) and len(last) == PROMPTS  # nothing lost, nothing twice
    for site in expected.sites:
        np.testing.assert_array_equal(np.asarray(last[site]), np.asarray(expected[site]))
    assert last.verify() == []


def test_dry_run_tells_the_size_and_writes_nothing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = place / "sizes"
    more = ("--limit", "30", "--sites", "blocks.*.hook_resid_post,blocks.0.attn.hook_q", "--json")
    assert run([*command(place, out, *more), "--dry-run"]) == 0
    sizes = json.loads(capsys.readouterr().out)
    assert not out.exists()
    assert run(command(place, out, *more)) == 0
    told = json.loads(capsys.readouterr().out)
    assert [site["site"] for site in told["sites"]] == [site["site"] for site in sizes["sites"]]
    assert told["sites"] == sizes["sites"]
    assert (told["rows"], told["prompts"]) == (sizes["rows"], sizes["prompts"])
    assert sizes["bytes"] == pytest.approx(told["bytes"], rel=0.05)
    assert run([*command(place, out, "--limit", "31", "--json"), "--dry-run"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["there"] == 30 and again["rows"] == again["tokens"] - sizes["tokens"]


def test_verify_reads_a_store_without_a_model(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = place / "checked"
    assert run(command(place, out, "--limit", "5")) == 0
    assert "5" in capsys.readouterr().out
    assert run(["capture", "--verify", "--out", str(out)]) == 0
    assert "match their digests" in capsys.readouterr().out
    file = next((out / "shards").glob("*.safetensors"))
    data = bytearray(file.read_bytes())
    data[-1] ^= 64
    file.write_bytes(data)
    assert run(["capture", "--verify", "--out", str(out), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)["damaged"]
    assert [(one["shard"], one["prompts"]) for one in found] == [("00000", 5)]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--sites", "blocks.9.hook_resid_post"], "blocks are 0 to"),
        (["--sites", ","], "expected names or patterns"),
        (["--shard-size", "lots"], "--shard-size lots: expected an amount"),
        (["--shard-size", "0"], "--shard-size 0: expected an amount"),
        (["--shard-size", "65GB"], "--shard-size 65GB: expected 64.00 GB at the most"),
        (["--dtype-store", "int8"], "--dtype-store 'int8'"),
        (["--positions", "first"], "--positions 'first'"),
        (["--limit", "0"], "--limit 0"),
        (["--probe", "ioi"], "choose one source"),
    ],
)
def test_bad_input_is_told_in_a_line(
    place: Path, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run([*command(place, place / "bad"), *more])
    shown = capsys.readouterr()
    assert code == (1 if "blocks are" in message else 2)
    assert message in shown.err and "Traceback" not in shown.err and shown.out == ""
    assert not (place / "bad").exists()


def test_a_model_is_needed_to_capture(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["capture", "--out", str(place / "bad")]) == 2
    assert "--model is missing" in capsys.readouterr().err
