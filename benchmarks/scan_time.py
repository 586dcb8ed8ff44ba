"""Wall time of the main job: `interp scan` on 8 prompts of 512 tokens, the model's loading included; and, since seconds
say as much of the machine as of the program, how many plain forward passes over such a prompt would take as long.

python benchmarks/scan_time.py [--model smollm2-135m] [--prompts 8] [--length 512] [--runs 3]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import machine
from rows import as_json, measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "scan_time.json")
    arguments = parser.parse_args()
    subprocess.run([sys.executable, "-m", "interp", "get", arguments.model], check=True, stdout=subprocess.DEVNULL)
    times = []
    for _ in range(arguments.runs):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "interp", "scan", "--model", arguments.model, "--find", "sinks"]
            command += ["--limit", str(arguments.prompts), "--max-length", str(arguments.length)]
            start = time.perf_counter()
            subprocess.run([*command, "--out", f"{folder}/run", "--quiet"], check=True, stdout=subprocess.DEVNULL)
            times.append(time.perf_counter() - start)
            lengths = [
                len(prompt["ids"]) for prompt in json.loads(Path(folder, "run", "run.json").read_text())["prompts"]
            ]
    plain = plain_forward(arguments.model, arguments.length)
    facts = machine.machine()
    asked = (arguments.model, arguments.prompts, arguments.length) == ("smollm2-135m", 8, 512)
    what = f"`interp scan --find sinks`, {arguments.model}, prompts of {lengths} tokens, loading included"
    passes = statistics.median(times) / plain
    told = f"as long as {passes:.0f} plain forward passes of {arguments.length} tokens ({plain:.2f} s each)"
    name = "scan_time.scan" if asked else "scan_time.other"
    row = measured(name, times, what=what, against="the clock", unit="s", note=told)
    result = {"model": arguments.model, "prompt_lengths": lengths, "seconds": times, "plain": plain, "machine": facts}
    result["suite"] = as_json([row])
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(f"{arguments.model}, prompts of {lengths} tokens, load and report included:")
    print(f"median {statistics.median(times):.1f} s of {', '.join(f'{t:.1f}' for t in times)}")
    print(told)
    print(machine.sentence(facts))


def plain_forward(name: str, length: int) -> float:
    """Seconds of one, the median of five."""
    import torch

    import interp

    model = interp.load(name, check=False)
    ids = torch.randint(10, 10_000, (1, length), generator=torch.Generator().manual_seed(0))

    def once() -> float:
        start = time.perf_counter()
        with torch.no_grad():
            model.hf(ids, use_cache=False)
        return time.perf_counter() - start

    once()
    return statistics.median(once() for _ in range(5))


if __name__ == "__main__":
    main()
