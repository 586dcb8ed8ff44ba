"""How long the command line takes to say something: `interp --help`, and the import of the package; and how long a
packaged model takes to load, once it was fetched and converted, its self-check included: with torch and transformers
(and those of its parts that are imported when first used) already there, and from the start of the process.

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
from rows import as_json, measured

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import interp": ["-c", "import interp"],
    "interp --help": ["-m", "interp", "--help"],
    "interp scan --help": ["-m", "interp", "scan", "--help"],
    "interp ls models": ["-m", "interp", "ls", "models"],
}

MODEL = "smollm2-135m"
LOADING = f"""
import time
begin = time.perf_counter()
import torch, transformer_lens
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM
import interp
start = time.perf_counter()
interp.load("{MODEL}")
end = time.perf_counter()
print(end - start, end - begin)
"""


def seconds(arguments: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def loading() -> tuple[float, float]:
    """Seconds that `interp.load` takes in a new process: by itself, and with all imports."""
    done = subprocess.run([sys.executable, "-c", LOADING], check=True, capture_output=True, text=True)
    alone, whole = map(float, done.stdout.split()[-2:])
    return alone, whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "cli_start.json")
    arguments = parser.parse_args()
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for name, command in COMMANDS.items():
        seconds(command)  # bytecode and disk cache
        times[name] = [seconds(command) for _ in range(arguments.runs)]
    subprocess.run([sys.executable, "-m", "interp", "get", MODEL], check=True, stdout=subprocess.DEVNULL)
    both = [loading() for _ in range(min(4, arguments.runs + 1))][1:]  # the first fills the disk cache
    loads, wholes = [alone for alone, _ in both], [whole for _, whole in both]
    facts = machine.machine()
    rows = [measured("cli_start.help", times["interp --help"]), measured("cli_start.load", loads)]
    what = "the same in a new process, importing torch, transformers and TransformerLens"
    rows.append(measured("cli_start.import_and_load", wholes, what=what, against="the clock", unit="s"))
    result = {"machine": facts, "seconds": times, "loads": both, "suite": as_json(rows)}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print("| command | median s | slowest s |\n|---|---:|---:|")
    for name, taken in times.items():
        print(f"| `{name}` | {statistics.median(taken):.2f} | {max(taken):.2f} |")
    print(f"\nLoading {MODEL}: {statistics.median(loads):.2f} s, imports included {statistics.median(wholes):.2f} s.")
    print(f"\n{machine.sentence(facts)}; {arguments.runs} runs each.")


if __name__ == "__main__":
    main()
