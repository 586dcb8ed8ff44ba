"""Every side-by-side of the project in one go, and one table of what it gave: `make bench`.

Each benchmark runs in a process of its own and leaves its result under `benchmarks/results/`. One that crashes, hangs
or is not there is told in the table, and the others go on. A result that is there already, of the same settings, is
kept (`--fresh` measures again), so that a run that was stopped goes on where it was. The table goes to
`benchmarks/RESULTS.md` and `RESULTS.json`; with `--quick` everything stays under `benchmarks/results/quick/`.

    python benchmarks/suite.py [--only NAME ...] [--fresh] [--quick | --thorough]

Exit code 0: all asked for have a result (whether or not goals were missed); 1: some have not; 2: an unknown name;
130: stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import machine
from results_table import CRASHED, FINISHED, KEPT, LEFT_OUT, MISSING, TIMED_OUT, build, markdown

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Benchmark:
    """One script and its sizes.

    Attributes:
        name: of the script, less `.py`.
        full, quick, thorough: its arguments; `thorough` where the issue's own sizes take longer than a suite may.
        minutes: after which it is stopped; several times what it takes on two quiet cores.
    """

    name: str
    full: tuple[str, ...] = ()
    quick: tuple[str, ...] = ()
    thorough: tuple[str, ...] | None = None
    minutes: float = 20

    def arguments(self, size: str) -> tuple[str, ...]:
        """Those of ``full``, ``quick`` or ``thorough``."""
        return self.full if size == "thorough" and self.thorough is None else getattr(self, size)


PLANNED = (
    "smollm2-135m-sinks-512",
    "smollm2-135m-sinks-2048",
    "gemma3-270m-sinks-512",
    "qwen3-random",
    "llama-random-sinks-512",
)
"""Scans whose memory is planned and measured: names begin so."""

BENCHMARKS = (
    Benchmark("cli_start", ("--runs", "7"), ("--runs", "2"), minutes=5),
    Benchmark("scoring", ("--repeats", "3"), ("--repeats", "2", "--scale", "0.01"), ("--repeats", "7")),
    Benchmark(
        "sink_overhead",
        ("--lengths", "512", "2048", "4096", "8192", "--pairs", "3"),
        ("--lengths", "64", "96", "--pairs", "2"),
        ("--lengths", "512", "2048", "4096", "8192", "--pairs", "8"),
        minutes=60,
    ),
    Benchmark("scan_time", ("--runs", "2"), ("--runs", "1", "--prompts", "1", "--length", "48"), ("--runs", "5")),
    Benchmark(
        "retrieval",
        ("--depths", "1", "--needles", "3", "--eager", "1", "--patterns-at", "4096"),
        ("--lengths", "384", "--depths", "1", "--needles", "1", "--eager", "1", "--patterns-at", "384"),
        ("--depths", "5", "--needles", "3", "--eager", "2"),
        minutes=120,
    ),
    Benchmark("circuit_effects", ("--heads", "4"), ("--pairs", "2", "--heads", "2"), ("--heads", "12"), minutes=40),
    Benchmark(
        "memory_plan",
        ("--only", *PLANNED),
        ("--only", "llama-random-sinks-512"),
        (),
        minutes=40,
    ),
    Benchmark("fused_engine", quick=("--lengths", "64", "--pairs", "2"), minutes=20),
    Benchmark("peer_nnsight", ("--lengths", "2048"), ("--lengths", "64", "--turns", "2"), (), minutes=20),
)


def main(benchmarks: Sequence[Benchmark] = BENCHMARKS, given: Sequence[str] | None = None, here: Path = HERE) -> int:
    """The command; `given` are its arguments, `here` the folder of the scripts and the table."""
    arguments = parsed(benchmarks, given)
    size = "quick" if arguments.quick else "thorough" if arguments.thorough else "full"
    results = machine.private(here / "results")
    results = machine.private(results / "quick") if arguments.quick else results
    outcomes, facts = [], machine.machine()
    try:
        for one in benchmarks:
            wanted = arguments.only is None or one.name in arguments.only
            outcomes.append(outcome(one, size, here, results, wanted, arguments.fresh and wanted))
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    result = build(outcomes, facts, arguments.quick)
    folder = results if arguments.quick else here
    write(folder / "RESULTS.json", json.dumps(result, indent=1) + "\n")
    write(folder / "RESULTS.md", markdown(result))
    print(markdown(result))
    print(f"written to {folder / 'RESULTS.md'}", file=sys.stderr)
    states = [run["state"] for run in result["benchmarks"] if arguments.only is None or run["name"] in arguments.only]
    return 0 if all(state in (FINISHED, KEPT) for state in states) else 1


def parsed(benchmarks: Sequence[Benchmark], given: Sequence[str] | None) -> argparse.Namespace:
    """The arguments; exits with 2 where they are wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [one.name for one in benchmarks]
    told = "measure these alone; what others left before stays in the table"
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=f"{told} ({', '.join(names)})")
    parser.add_argument("--fresh", action="store_true", help="measure again what has a result")
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--quick", action="store_true", help="small sizes, to see that everything runs")
    sizes.add_argument("--thorough", action="store_true", help="the issues' own sizes and more turns: over an hour")
    return parser.parse_args(given)


def outcome(one: Benchmark, size: str, here: Path, results: Path, wanted: bool, fresh: bool) -> dict[str, Any]:
    """What became of a benchmark, as `results_table.build` takes it: its kept result, or that of a run now."""
    kept, arguments = results / f"{one.name}.json", list(one.arguments(size))
    there = read(kept)
    run = there.get("run", {}) if isinstance(there.get("run"), dict) else {}
    # what could not be measured (no network, no GPU) is tried again
    measured = any(row.get("ratio") is not None for row in there.get("suite", []))
    if not fresh and run and ((run.get("arguments") == arguments and measured) or not wanted):
        return run | {"state": KEPT, "rows": there.get("suite", [])}
    if not wanted:
        return {"name": one.name, "state": LEFT_OUT}
    script = here / f"{one.name}.py"
    if not script.exists():
        return {"name": one.name, "state": MISSING, "why": f"there is no {script.name}"}
    print(f"{one.name} ...", file=sys.stderr, flush=True)
    run = {
        "name": one.name,
        "arguments": arguments,
        "load": os.getloadavg()[0],
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": machine.commit(),
    }
    part, log = results / f"{one.name}.part.json", results / f"{one.name}.log"
    for old in (part, kept):  # should this one crash, what was there before must not stand for it
        old.unlink(missing_ok=True)
    start = time.monotonic()
    code = finished([sys.executable, str(script), *arguments, "--out", str(part)], log, 60 * one.minutes)
    run["seconds"] = time.monotonic() - start
    print(f"{one.name}: {run['seconds'] / 60:.1f} min", file=sys.stderr, flush=True)
    if code is None:
        return run | {"state": TIMED_OUT, "why": f"stopped after {one.minutes:g} minutes"}
    result = read(part)
    if code or not result:
        why = f"exit code {code}" if code else "it wrote no result"
        return run | {"state": CRASHED, "why": f"{why}: {last_line(log)}"}
    write(kept, json.dumps(result | {"run": run}, indent=1) + "\n")
    part.unlink()
    return run | {"state": FINISHED, "rows": result.get("suite", [])}


def finished(command: list[str], log: Path, limit: float) -> int | None:
    """Run to the end, output to `log`; None when it was stopped after `limit` seconds. Its own workers end with it."""
    with log.open("wb") as out:
        child = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            return child.wait(limit)
        except subprocess.TimeoutExpired:
            return None
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()


def read(file: Path) -> dict[str, Any]:
    """A JSON object from disk; empty where there is none."""
    try:
        told = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def write(file: Path, text: str) -> None:
    """The file as a whole, or as it was."""
    part = file.with_name(f".{file.name}.part")
    part.write_text(text, "utf-8")
    part.replace(file)


def last_line(log: Path) -> str:
    """The last thing that a benchmark said."""
    lines = [line.strip() for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1][:200] if lines else "it said nothing"


def stop(*_: Any) -> None:
    """A polite end is like Ctrl-C: the running benchmark ends, too."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    raise SystemExit(main())
