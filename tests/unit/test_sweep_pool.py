"""The pool with workers that only play their part: who gets what, what a death costs, what memory lets in at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from interp.errors import UsageError
from interp.sweeps import ledger as ledgers
from interp.sweeps import pool as pools
from interp.sweeps import ray_engine, sizing
from interp.sweeps.folder import SweepFolder
from interp.sweeps.ledger import Ledger
from interp.sweeps.pool import Pool
from interp.sweeps.run import units_of
from interp.sweeps.sizing import Need, Size, memory
from interp.sweeps.units import SweepUnit
from interp.sweeps.work import Task

WORKER = pools.COMMAND

# Takes a task, does what its `limit` says, and notes in the unit's folder who did it and when.
PLAYER = """
import json, os, signal, sys, time
for line in sys.stdin:
    task = json.loads(line)
    unit, folder = task["unit"], task["folder"]
    os.makedirs(folder, exist_ok=True)
    tries = len(os.listdir(folder))
    note = {"pid": os.getpid(), "began": time.monotonic(), "threads": os.environ["OMP_NUM_THREADS"],
            "gpu": os.environ.get("CUDA_VISIBLE_DEVICES")}
    kind = unit["arguments"]["limit"]
    with open(f"{folder}/{tries}.json", "w") as stream:
        json.dump(note, stream)
    if kind == 2 or (kind == 3 and not tries):
        print("about to be killed", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == 4:
        os._exit(7)
    time.sleep(0.1)
    with open(f"{folder}/{tries}.json", "w") as stream:
        json.dump({**note, "ended": time.monotonic()}, stream)
    outcome = {"kind": "failed" if kind == 5 else "finished", "message": "it will not do" if kind == 5 else "",
               "facts": {} if kind == 5 else {"rows": 1, "check": "verified", "verdict": "v"},
               "where": {"pid": os.getpid()}, "seconds": 0.1}
    if kind == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == 6:
        print(json.dumps({"begun": True}), flush=True)
    print(json.dumps(outcome), flush=True)
    if kind == 6:
        os._exit(9)
"""
FINE, DEADLY, DEADLY_ONCE, ENDING, FAILING, LAST, SILENT = range(1, 8)


@pytest.fixture(autouse=True)
def players(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "player.py"
    script.write_text(PLAYER)
    monkeypatch.setattr(pools, "COMMAND", (sys.executable, str(script)))


def played(
    tmp_path: Path,
    kinds: list[int],
    size: Size,
    needs: list[Need] | None = None,
    models: int = 1,
    retries: int = 1,
    engine: Any = None,
) -> tuple[Ledger, list[list[dict[str, Any]]]]:
    """Run a unit of every kind for every model; (ledger, what each unit's attempts noted)."""
    names = ["smollm2-135m", "gemma3-270m", "qwen3-0.6b"][:models]
    finders = [
        {"name": "sinks", "limit": kind, "set": {"cosine": 0.1 + place / 100}} for place, kind in enumerate(kinds)
    ]
    units = units_of(None, {}, models=names, finders=finders)
    folder = SweepFolder(tmp_path / "sweep")
    folder.prepare()
    ledger = Ledger(folder, units, {"schema": 1, "provenance": {}}, {}, retries, lambda _: None)
    given = needs or [Need(1)] * len(units)
    tasks = [Task(unit, folder.run(unit).path, "", need) for unit, need in zip(units, given, strict=True)]
    (engine or Pool(size, folder.path / "logs")).run(tasks, ledger)
    noted = [[json.loads(path.read_text()) for path in sorted(folder.run(unit).path.glob("*.json"))] for unit in units]
    return ledger, noted


def size(workers: int, budget: int = 100, **more: Any) -> Size:
    return Size(workers, 3, budget, budget, **more)


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_a_death_costs_nobody_else_anything(tmp_path: Path) -> None:
    kinds = [FINE, DEADLY, FINE, DEADLY_ONCE, ENDING, FAILING, FINE]
    ledger, noted = played(tmp_path, kinds, size(2), retries=2)
    states = [ledger[unit] for unit in ledger.units]
    failed = [place for place, state in enumerate(states) if state["status"] == "failed"]
    assert failed == [1, 4, 5] and len(ledger.having("finished")) == 4
    assert [len(tries) for tries in noted] == [1, 3, 1, 2, 3, 1, 1]  # what died three times and twice; no error twice
    assert "killed by SIGKILL" in states[1]["error"] and states[1]["error"].endswith("about to be killed")
    assert states[4]["error"].startswith("its worker ended with code 7")
    assert states[5]["error"] == "it will not do"
    assert [attempt["outcome"] for attempt in states[3]["attempts"]] == ["died", "finished"]
    record = SweepFolder(tmp_path / "sweep").read()
    assert record is not None and [unit["status"] for unit in record["units"]] == [s["status"] for s in states]
    deadly = {note["pid"] for tries in (noted[1], noted[4]) for note in tries}
    assert len(deadly) == 6 and {note["threads"] for tries in noted for note in tries} == {"3"}


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_a_death_is_told_by_what_its_own_worker_wrote(tmp_path: Path) -> None:
    ledger, _ = played(tmp_path, [DEADLY, SILENT], size(1), retries=0)
    first, second = (ledger[unit]["error"] for unit in ledger.units)
    assert first.endswith("about to be killed") and "SIGKILL" in second and "about to be killed" not in second


def test_a_worker_that_dies_idle_is_not_laid_to_the_next_unit(tmp_path: Path) -> None:
    ledger, noted = played(tmp_path, [LAST, LAST, LAST, FINE], size(1), retries=0)
    assert len(ledger.having("finished")) == 4 and len({tries[0]["pid"] for tries in noted}) == 4
    assert [len(ledger[unit]["attempts"]) for unit in ledger.units] == [1] * 4


def test_units_that_name_one_device_take_turns(tmp_path: Path) -> None:
    _, noted = played(tmp_path, [FINE] * 2, size(2, apart=True), models=2)
    assert overlap(noted) == 1
    (tmp_path / "again").mkdir()
    _, noted = played(tmp_path / "again", [FINE] * 2, size(2), models=2)
    assert overlap(noted) == 2


def test_a_worker_imports_nothing_from_where_it_starts(tmp_path: Path) -> None:
    for name in ("queue", "torch", "json"):
        (tmp_path / f"{name}.py").write_text("print('mine')\nraise SystemExit(3)\n")
    command = [*WORKER, *filter(None, sys.path)]
    done = subprocess.run(command, cwd=tmp_path, input="", capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_record_is_written_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    monkeypatch.setattr(SweepFolder, "write", lambda self, record: written.append(record["units"][-1]["status"]))
    ledger, _ = played(tmp_path, [FINE] * 8, size(2))
    assert 2 <= len(written) <= 4 and written[-1] == "finished"  # not 16; the last thing is the end
    ledger.started(ledger.units[-1])
    ledger.flush()
    assert written[-1] == "finished"
    monkeypatch.setattr(ledgers, "APART", 0.0)
    ledger.flush()
    assert written[-1] == "running"


def test_units_of_one_model_stay_with_one_worker(tmp_path: Path) -> None:
    ledger, noted = played(tmp_path, [FINE] * 4, size(2), models=2)
    pids = [tries[0]["pid"] for tries in noted]
    assert len(set(pids[:4])) == len(set(pids[4:])) == 1 and pids[0] != pids[4]
    assert len(ledger.having("finished")) == 8


def test_a_worker_without_a_model_left_helps_another(tmp_path: Path) -> None:
    _, noted = played(tmp_path, [FINE] * 4, size(2), models=1)
    assert len({tries[0]["pid"] for tries in noted}) == 2


def overlap(noted: list[list[dict[str, Any]]]) -> int:
    """Most units that ran at once."""
    spans = [(tries[0]["began"], tries[0]["ended"]) for tries in noted]
    return max(sum(begin <= at < end for begin, end in spans) for at, _ in spans)


def test_memory_decides_how_many_run_at_once(tmp_path: Path) -> None:
    _, noted = played(tmp_path, [FINE] * 4, size(3, budget=100), [Need(60), Need(30), Need(60), Need(40)])
    assert overlap(noted) == 2
    longest = [tries[0] for tries, need in zip(noted, (60, 30, 60, 40), strict=True) if need == 60]
    assert longest[0]["ended"] <= longest[1]["began"] or longest[1]["ended"] <= longest[0]["began"]


def test_a_unit_of_unknown_need_has_the_machine_for_itself(tmp_path: Path) -> None:
    _, noted = played(tmp_path, [FINE] * 3, size(3), [Need(10), Need(None), Need(10)])
    (alone,) = noted[1]
    for tries in (noted[0], noted[2]):
        assert tries[0]["ended"] <= alone["began"] or alone["ended"] <= tries[0]["began"]


def test_gpus_are_dealt_out(tmp_path: Path) -> None:
    _, noted = played(tmp_path, [FINE] * 4, size(2, gpus=("2", "GPU-ab")))
    assert {tries[0]["gpu"] for tries in noted} == {"2", "GPU-ab"}


def test_an_interrupt_ends_the_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(Ledger, "ended", interrupted)
    with pytest.raises(KeyboardInterrupt):
        played(tmp_path, [FINE] * 3, size(2))
    pids = [json.loads(path.read_text())["pid"] for path in (tmp_path / "sweep" / "runs").rglob("*.json")]
    deadline = time.monotonic() + 20
    while any(os.path.exists(f"/proc/{pid}") for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("needs", "workers", "cores", "told"),
    [
        ([Need(10)] * 8, None, 4, (4, 1)),  # cores
        ([Need(10)] * 2, None, 4, (2, 2)),  # units; threads share the cores
        ([Need(40)] * 8, None, 4, (2, 2)),  # memory: two of 40 in 100
        ([Need(10)] * 7 + [Need(70)], None, 4, (4, 1)),  # the four largest together: 70 + 3 x 10
        ([Need(10)] * 7 + [Need(90)], None, 4, (2, 2)),
        ([Need(40)] * 8, 3, 4, (2, 2)),  # asked for more than fits
        ([Need(10)] * 8, 3, 4, (3, 1)),
        ([Need(200)], None, 4, (1, 4)),
        ([Need(10)] * 8 + [Need(200)], None, 16, (8, 2)),  # the one that is refused holds nobody back
        ([Need(10)] * 8 + [Need(200)], 4, 16, (4, 4)),
        ([Need(10)] * 4 + [Need(None)], None, 4, (4, 1)),  # nor does the one that will run alone
        ([Need(None)] * 8, None, 4, (1, 4)),  # nobody knows: one by one
        ([Need(None)] * 8, 3, 4, (3, 1)),  # but whoever names a number is taken at their word
        ([Need(10, "cuda")] * 8, None, 16, (2, 8)),  # as many as GPUs
        ([Need(10, "cuda")] * 8, 4, 16, (4, 4)),
    ],
)
def test_how_many_workers_fit(
    needs: list[Need], workers: int | None, cores: int, told: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    made = sizing.size(needs, 100, workers, lambda: ("0", "1"), cores)
    assert (made.workers, made.threads) == told
    assert made.gpus == (("0", "1") if needs[0].device == "cuda" else ())
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert sizing.size(needs, 100, workers, lambda: ("0", "1"), cores).threads == 1


def test_devices_that_are_named_are_not_overcommitted(monkeypatch: pytest.MonkeyPatch) -> None:
    def made(*loads: dict[str, Any], workers: int | None = None, engine: str = "pool") -> Size:
        models = [{"name": "smollm2-135m", "label": str(i), **load} for i, load in enumerate(loads)]
        units = units_of(None, {}, models=models, finders=["sinks", "heads"])
        return sizing.size_for(units, [Need(1, "cuda")] * len(units), 100, workers, engine)

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(sizing, "cores", lambda: 16)
    monkeypatch.setattr(sizing, "cuda_devices", lambda: ("0", "1"))
    one, two, first = {"device": "cuda:0"}, {"device": "cuda:1"}, {"device": "cuda", "bos": "add"}
    assert [made(one).workers, made(one, two).workers, made(one, first).workers] == [1, 2, 1]
    assert made(one, two).apart and made(one, two).gpus == ()
    assert made({"device_map": "auto"}, two).workers == 1
    assert (made(first).workers, made(first).gpus, made(first).apart) == (2, ("0", "1"), False)
    assert (made(one, workers=2).workers, made(one, workers=2).apart) == (2, False)  # taken at their word
    assert (made(one, engine="ray").threads, made({"device_map": "auto"}, engine="ray").workers) == (8, 1)


def test_a_scan_is_given_its_workers_share() -> None:
    shared = Size(4, 1, 100, 100)
    assert [shared.share(Need(*need)) for need in ((10, "cpu"), (40, "cpu"), (10, "cuda"))] == [25, 40, None]
    assert shared.share(Need(None, "cpu")) == 100


class FakeRay:
    """A cluster of a machine of 2 cores, one of 8 and one without; every task ends at once."""

    def __init__(self) -> None:
        self.most, self.going, self.cores = 0, 0, set()

    def is_initialized(self) -> bool:
        return True

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": {"CPU": cores, "memory": 1e9}} for cores in (8.0, 2.0, 0.0)]

    def remote(self, **_: Any) -> Any:
        return lambda _: self

    def options(self, num_cpus: int, **_: Any) -> Any:
        self.cores.add(num_cpus)
        return SimpleNamespace(remote=self.submit)

    def submit(self, payload: Any, threads: int) -> object:
        self.cores.add(threads)
        self.going += 1
        self.most = max(self.most, self.going)
        return object()

    def wait(self, pending: list[Any], **_: Any) -> tuple[list[Any], list[Any]]:
        self.going -= 1
        return pending[:1], pending[1:]

    def get(self, _: Any) -> dict[str, Any]:
        return {"kind": "finished"}


@pytest.mark.parametrize(("workers", "most"), [(2, 2), (None, 5)])
def test_a_cluster_of_smaller_machines(
    workers: int | None, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeRay()
    monkeypatch.setattr(ray_engine, "require_ray", lambda: fake)
    engine = ray_engine.RayEngine(Size(1, 16, 100, 100), "auto", workers)
    ledger, _ = played(tmp_path, [FINE] * 5, size(1), engine=engine)
    assert len(ledger.having("finished")) == 5 and fake.most == most and fake.cores == {2}


def test_amounts_of_memory() -> None:
    told = {"16GB": 16e9, "16 GiB": 16 * 2**30, "0.5g": 5e8, "500M": 5e8, "1024": 1024, 2048: 2048}
    assert {text: memory(text) for text in told} == told
    assert 0 < memory(None) < 1e15
    for wrong in ("much", "16XB", "-1GB", "0", "1e3GB"):
        with pytest.raises(UsageError, match="expected an amount such as 8GB"):
            memory(wrong)


def test_what_cannot_run_as_asked_is_told_before_anything_runs() -> None:
    (unit,) = units_of(None, {}, models=["hf-internal/not-here"], finders=["sinks"])
    unknown = sizing.need(unit)
    assert unknown.bytes is None and "not on this machine" in unknown.why
    assert isinstance(unit, SweepUnit)
