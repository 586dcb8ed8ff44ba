"""How long the command line takes to say something: `interp --help`, and the import of the package.

python benchmarks/cli_start.py [--runs 10]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import machine

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import interp": ["-c", "import interp"],
    "interp --help": ["-m", "interp", "--help"],
    "interp scan --help": ["-m", "interp", "scan", "--help"],
    "interp ls models": ["-m", "interp", "ls", "models"],
}


def seconds(arguments: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "cli_start.json")
    arguments = parser.parse_args()
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for name, command in COMMANDS.items():
        seconds(command)  # bytecode and disk cache
        times[name] = [seconds(command) for _ in range(arguments.runs)]
    facts = machine.machine()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({"machine": facts, "seconds": times}, indent=1) + "\n")
    print("| command | median s | slowest s |\n|---|---:|---:|")
    for name, measured in times.items():
        print(f"| `{name}` | {statistics.median(measured):.2f} | {max(measured):.2f} |")
    print(f"\n{machine.sentence(facts)}; {arguments.runs} runs each.")


if __name__ == "__main__":
    main()
