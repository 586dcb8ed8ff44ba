"""The memory plan against what happens: estimated and measured peak of a whole scan, for several shapes of models.

Of each case, one process estimates as ``--dry-run`` does, without the weights, and another runs the scan: loading,
self-check, measuring, causal check, findings and page. Its high-water mark (resident memory, Linux) is what counts.
Two real models, and two shapes with random weights: a large untied vocabulary stored in bfloat16 and run in float32 (so
that loading makes a copy), and grouped queries.

    python benchmarks/memory_plan.py [--only NAME ...] [--out results.json]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import machine
from rows import Row, as_json, measured

RANDOM: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen3-random": (
        "bfloat16",
        {
            "model_type": "qwen3",
            "hidden_size": 768,
            "intermediate_size": 2304,
            "num_hidden_layers": 16,
            "num_attention_heads": 12,
            "num_key_value_heads": 4,
            "head_dim": 64,
            "vocab_size": 151_936,
            "tie_word_embeddings": False,
        },
    ),
    "llama-random": (
        "float32",
        {
            "model_type": "llama",
            "hidden_size": 1024,
            "intermediate_size": 2816,
            "num_hidden_layers": 12,
            "num_attention_heads": 16,
            "num_key_value_heads": 4,
            "vocab_size": 32_000,
            "max_position_embeddings": 8192,
        },
    ),
    "tiny-random": (
        "float32",
        {
            "model_type": "llama",
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": 60_000,
        },
    ),
}
"""Name -> (dtype of its file, config)."""


@dataclass(frozen=True)
class Case:
    """One scan: a model (alias, or a key of `RANDOM`), a finder with settings, prompts of so many tokens."""

    model: str
    length: int
    find: str = "sinks"
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        told = [f"{key}-{value}" for key, value in self.options.items()]
        return "-".join([self.model, self.find, str(self.length), *told])


CASES = (
    Case("smollm2-135m", 512),
    Case("smollm2-135m", 2048),
    Case("smollm2-135m", 4096),
    Case("smollm2-135m", 2048, "heads"),
    Case("gemma3-270m", 512),
    Case("gemma3-270m", 1024),
    Case("qwen3-random", 512),
    Case("llama-random", 512),
    Case("llama-random", 2048),
)


def save(name: str, folder: Path) -> None:
    """A model with random weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    dtype, settings = RANDOM[name]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**settings))
    model.to(getattr(torch, dtype)).save_pretrained(folder)


def request(case: Case) -> dict[str, Any]:
    """The scan's arguments: one prompt of random ids."""
    import random

    from probes.base import Prompt

    draw = random.Random(0)
    ids = tuple(draw.randrange(100, 30_000) for _ in range(case.length))
    config = {"controls": 1} if case.find == "sinks" else {"checked": 1}
    prompts = [Prompt("random", "", ids, tuple(map(str, ids)))]
    return {"find": case.find, "prompts": prompts, "max_length": case.length, "config": config, **case.options}


def worker(kind: str, case: Case, model: str) -> dict[str, Any]:
    """What one process says: its estimate, or what the scan took."""
    if kind == "estimate":
        from interp.runs.estimate import estimate

        return estimate(model, **request(case)).as_dict()
    import interp

    with tempfile.TemporaryDirectory() as folder:
        interp.scan(model, out=folder, progress=False, **request(case))
    return {"peak_bytes": machine.peak_mib() * 2**20}


def compare(case: Case, folder: Path) -> dict[str, Any]:
    """One row."""
    print(case.name, file=sys.stderr, flush=True)
    model = case.model
    if model in RANDOM:
        model = str(folder / model)
        if not Path(model).exists():
            run("save", case, model)
    estimated, ran = run("estimate", case, model), run("scan", case, model)
    parts = {name: count for name, count in estimated.items() if name.endswith("_bytes")}
    ratio = parts["peak_bytes"] / ran["peak_bytes"]
    print(f"  estimated {parts['peak_bytes'] / 1e9:.2f} GB: {ratio:.3f} x the peak", file=sys.stderr, flush=True)
    row = {"name": case.name, "model": case.model, "T": case.length, "find": case.find, "options": case.options}
    return {**row, "measured_bytes": ran["peak_bytes"], "ratio": ratio, **parts}


def run(kind: str, case: Case, model: str) -> dict[str, Any]:
    """`worker` in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        subprocess.run(
            [sys.executable, __file__, "--worker", kind, json.dumps(vars(case)), model, str(answer)], check=True
        )
        return json.loads(answer.read_text())


def markdown(rows: list[dict[str, Any]], facts: dict[str, Any]) -> str:
    lines = ["| model | finder | T | estimated | measured | estimated / measured |", "|---|---|---:|---:|---:|---:|"]
    for row in rows:
        mark = "" if abs(row["ratio"] - 1) <= 0.2 else " **beyond 20 %**"
        more = "".join(f", {key} {value}" for key, value in row["options"].items())
        lines.append(
            f"| {row['model']} | {row['find']}{more} | {row['T']:,} | {row['peak_bytes'] / 1e9:.2f} GB "
            f"| {row['measured_bytes'] / 1e9:.2f} GB | {row['ratio']:.2f}{mark} |"
        )
    return "\n".join([*lines, "", f"{machine.sentence(facts)}; resident memory of a whole scan."])


def suite_rows(rows: list[dict[str, Any]]) -> list[Row]:
    """For the suite's table."""
    told = "estimated peak of a {find} scan, {model}, T = {T:,}"
    return [measured(f"memory_plan.{row['name']}", [row["ratio"]], what=told.format(**row)) for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="cases whose name begins so")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "memory_plan.json")
    parser.add_argument("--worker", nargs=4, metavar=("KIND", "CASE", "MODEL", "ANSWER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        kind, told, model, answer = arguments.worker
        case = Case(**json.loads(told))
        found = save(case.model, Path(model)) if kind == "save" else worker(kind, case, model)
        Path(answer).write_text(json.dumps(found))
        return
    wanted = [case for case in CASES if not arguments.only or case.name.startswith(tuple(arguments.only))]
    with tempfile.TemporaryDirectory() as folder:
        rows = [compare(case, Path(folder)) for case in wanted]
    facts = machine.machine()
    machine.private(arguments.out.parent)
    result = {"machine": facts, "rows": rows, "suite": as_json(suite_rows(rows))}
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(markdown(rows, facts))


if __name__ == "__main__":
    main()
