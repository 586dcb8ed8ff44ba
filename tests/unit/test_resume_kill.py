"""kill -9 in the middle of a real scan, then the same command again: nothing is lost, nothing is done twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.mass_finder import save_tiny

ROOT = Path(__file__).resolve().parents[2]


def sinks(place: Path, prompts: int) -> list[dict[str, Any]]:
    """A model folder, and texts two of which are equal."""
    save_tiny(place / "model")
    texts = [
        f"the cat {' '.join(str(i))} sat on the mat and a dog ran to it, red and blue. " * 5 for i in range(prompts)
    ]
    texts[-1] = texts[0]
    return [{"text": text} for text in texts]


def needles(place: Path, prompts: int) -> list[dict[str, Any]]:
    """A planted model that does the task, and needles of one's own."""
    from tests.planted.retrieval import plant
    from tests.planted.retrieval_families import HOMES
    from tests.planted.retrieval_plan import NEEDLES, random_copying
    from tests.planted.retrieval_tasks import record, tokenizer

    copying = random_copying("content", 0, HOMES["llama"].full)
    plant("llama", copying, 0).save_pretrained(place / "model")
    tokenizer().save_pretrained(place / "model")
    return [record(copying, i % NEEDLES, i // NEEDLES, 60) for i in range(prompts)]


@dataclass(frozen=True)
class Case:
    """A scan that is stopped and goes on.

    Attributes:
        find: the finder.
        made: writes a model folder and returns the lines of a prompts file.
        prompts: how many.
        options: of the command.
        measured: units that measuring leaves; equal prompts share one.
        early, late: units after which it is killed: while measuring, and while checking.
        more: units beside those of the prompts.
    """

    find: str
    made: Callable[[Path, int], list[dict[str, Any]]]
    prompts: int
    options: tuple[str, ...]
    measured: int
    early: int
    late: int
    more: int = 0

    @property
    def units(self) -> int:
        """All units of a finished scan."""
        return self.measured + self.prompts + self.more


# settings under which random weights have sinks to check
LOOSE = ("--set", "floor=0", "--set", "multiple=1", "--set", "norm=0", "--set", "cosine=0.3", "--set", "draw=1")
FEW = ("--set", "ks=0,1", "--set", "draws=2", "--set", "random_tokens=16")
CASES = (
    Case("sinks", sinks, 60, ("--max-length", "150", *LOOSE), 59, 15, 70),
    Case("retrieval-heads", needles, 24, FEW, 24, 6, 30, more=1),
)


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.find)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture(scope="module")
def place(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder and a file of prompts."""
    place = tmp_path_factory.mktemp("kill")
    lines = case.made(place, case.prompts)
    (place / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return place


def _start(case: Case, place: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "interp", "scan", "--model", str(place / "model"), "--find", case.find]
    command += ["--prompts", str(place / "prompts.jsonl"), "--out", str(out), "--quiet", *case.options]
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


def test_a_scan_killed_twice_ends_in_the_same_table(case: Case, place: Path) -> None:
    _finish(_start(case, place, place / "whole"))

    out = place / "killed"
    _stop_after(_start(case, place, out), out, case.early, signal.SIGKILL)
    first = _units(out)
    assert case.early <= len(first) < case.measured
    assert json.loads((out / "run.json").read_text())["status"] == "running"

    _stop_after(_start(case, place, out), out, case.late, signal.SIGKILL)  # all are measured, some are checked
    second = _units(out)
    assert {name: second[name] for name in first} == first
    assert len(second) < case.units

    _finish(_start(case, place, out))
    last = _units(out)
    assert {name: last[name] for name in second} == second
    assert set(last) == set(_units(place / "whole"))  # the same work, none of it left out or added
    assert len(last) == case.units  # equal prompts share what was measured, and are checked on their own

    table = pd.read_parquet(out / "findings.parquet")
    found = table["prompt"].nunique() if "prompt" in table else int(table["copies"].sum())
    assert found > case.prompts // 2
    pd.testing.assert_frame_equal(table, pd.read_parquet(place / "whole/findings.parquet"), check_exact=True)
    record = json.loads((out / "run.json").read_text())
    assert record["status"] == "finished"
    assert len(record["prompts"]) == case.prompts
    assert record["provenance"]["units"]["on_disk"]["measure"] == case.prompts
    assert not list(out.rglob("*.partial"))


def test_ctrl_c_ends_with_130_and_says_how_to_go_on(case: Case, place: Path) -> None:
    out = place / "interrupted"
    process = _start(case, place, out)
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
