"""kill -9 in the middle of a real scan, then the same command again: nothing is lost, nothing is done twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from tests.mass_finder import save_tiny

PROMPTS = 60
LOOSE = ("floor=0", "multiple=1", "norm=0", "cosine=0.3", "draw=1")  # under which random weights have sinks to check
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder and a file of prompts, two of which are equal."""
    place = tmp_path_factory.mktemp("kill")
    save_tiny(place / "tiny-llama")
    texts = [
        f"the cat {' '.join(str(i))} sat on the mat and a dog ran to it, red and blue. " * 5 for i in range(PROMPTS)
    ]
    texts[-1] = texts[0]
    with open(place / "prompts.jsonl", "w", encoding="utf-8") as stream:
        for text in texts:
            stream.write(json.dumps({"text": text}) + "\n")
    return place


def _start(place: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "interp", "scan", "--model", str(place / "tiny-llama"), "--find", "sinks"]
    command += ["--prompts", str(place / "prompts.jsonl"), "--max-length", "150", "--out", str(out), "--quiet"]
    for setting in LOOSE:
        command += ["--set", setting]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def _finish(process: subprocess.Popen[bytes]) -> None:
    out, err = process.communicate(timeout=300)
    assert process.returncode in (0, 3), (out, err)  # 3: on random weights the causal check may fail


def _stop_after(process: subprocess.Popen[bytes], out: Path, units: int, how: signal.Signals) -> None:
    """Send `how` once so many units are on disk, and wait for the process to be gone."""
    deadline = time.monotonic() + 240
    while len(list(out.glob("units/*.safetensors"))) < units:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(how)
    process.communicate(timeout=60)


def _units(out: Path) -> dict[str, tuple[int, int]]:
    """Name -> (inode, time of last change in ns): both change when a unit is written again."""
    stats = {path.name: path.stat() for path in out.glob("units/*.safetensors")}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in stats.items()}


def test_a_scan_killed_twice_ends_in_the_same_table(place: Path) -> None:
    _finish(_start(place, place / "whole"))

    out = place / "killed"
    _stop_after(_start(place, out), out, 15, signal.SIGKILL)
    first = _units(out)
    assert 15 <= len(first) < PROMPTS - 1
    assert json.loads((out / "run.json").read_text())["status"] == "running"

    _stop_after(_start(place, out), out, PROMPTS + 10, signal.SIGKILL)  # all are measured, some are checked
    second = _units(out)
    assert {name: second[name] for name in first} == first
    assert len(second) < 2 * PROMPTS - 1

    _finish(_start(place, out))
    last = _units(out)
    assert {name: last[name] for name in second} == second
    assert set(last) == set(_units(place / "whole"))  # the same work, none of it left out or added
    assert len(last) == PROMPTS - 1 + PROMPTS  # equal prompts share what was measured, and are checked on their own

    table = pd.read_parquet(out / "findings.parquet")
    assert table["prompt"].nunique() > PROMPTS // 2
    pd.testing.assert_frame_equal(table, pd.read_parquet(place / "whole/findings.parquet"), check_exact=True)
    record = json.loads((out / "run.json").read_text())
    assert record["status"] == "finished"
    assert len(record["prompts"]) == PROMPTS
    assert record["provenance"]["units"]["on_disk"]["measure"] == PROMPTS
    assert not list(out.rglob("*.partial"))


def test_ctrl_c_ends_with_130_and_says_how_to_go_on(place: Path) -> None:
    out = place / "interrupted"
    process = _start(place, out)
    deadline = time.monotonic() + 240
    while len(list(out.glob("units/*.safetensors"))) < 5:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stdout == b""
    assert b"resume with the same command" in stderr
    assert b"Traceback" not in stderr
    assert json.loads((out / "run.json").read_text())["status"] == "interrupted"
