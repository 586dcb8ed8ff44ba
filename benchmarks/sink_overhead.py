"""What it costs to know the attention every key receives, beside what a user would otherwise run.

On SmolLM2-135M, whole forward pass plus received mass of all keys in all heads (mean attention from the queries at and
after the key), for each length T:

- sdpa: the plain forward pass, nothing measured;
- interp: `interp.trace(model, stats=[Received()])`, all logits computed;
- interp.received: the one-call form, which computes the last position's logits only, against sdpa doing the same;
- output_attentions: Hugging Face's eager attention, received mass summed from the returned patterns;
- TransformerLens: `run_with_cache` on a bridge, patterns only, received mass summed from them.

Each way runs in a process of its own. Its first forward gives the peak memory (high-water mark minus what was held
before), and then it takes turns with plain sdpa in the same process, so that a ratio compares neighbours in time. Every
way's received mass is compared with that of `output_attentions`. Above `--patterns-up-to` tokens only the plain trace
is measured: whole patterns of 4,096 tokens take 18 GiB, and TransformerLens's 19 GB beside two copies of the model.

    python benchmarks/sink_overhead.py [--lengths 512 2048 4096 8192] [--pairs 5] [--patterns-up-to 2048] [--out FILE]
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import machine
from rows import Row, as_json, measured

if TYPE_CHECKING:
    from torch import Tensor

MODEL = "smollm2-135m"
LABELS = {
    "sdpa": "plain sdpa forward",
    "interp": "**interp** (trace, all logits)",
    "received": "**interp.received** (last logits only)",
    "eager": "HF eager, `output_attentions`",
    "lens": "TransformerLens, `run_with_cache`, patterns only",
}
REFERENCE = "eager"

Forward = Callable[["Tensor"], Any]


def from_patterns(patterns: list[Tensor]) -> Tensor:
    """Received mass [layer, batch, head, key] from whole attention patterns [batch, head, query, key]."""
    import torch

    length = patterns[0].shape[-1]
    queries_seeing = torch.arange(length, 0, -1)
    return torch.stack([pattern.sum(-2) / queries_seeing for pattern in patterns])


def ways(name: str, model: Any) -> tuple[Forward, Forward]:
    """The forward to measure, which returns received mass, and the plain one it is compared with."""
    import interp
    from interp.tracing.statistics import Received

    def plain(ids: Tensor) -> None:
        model.hf.set_attn_implementation("sdpa")
        model.hf(ids, use_cache=False)

    def plain_last(ids: Tensor) -> None:
        model.hf(ids, use_cache=False, logits_to_keep=1)

    def traced(ids: Tensor) -> Tensor:
        with interp.trace(model, stats=[Received()]) as t:
            t.run(ids)
        return t.stats["received"]

    def received(ids: Tensor) -> Tensor:
        return interp.received(model, ids)

    def eager(ids: Tensor) -> Tensor:
        model.hf.set_attn_implementation("eager")
        return from_patterns(list(model.hf(ids, use_cache=False, output_attentions=True).attentions))

    bridge = model.bridge() if name == "lens" else None

    def lens(ids: Tensor) -> Tensor:
        _, cache = bridge.run_with_cache(ids, names_filter=lambda site: site.endswith("attn.hook_pattern"))
        return from_patterns([cache[f"blocks.{layer}.attn.hook_pattern"] for layer in range(model.n_layers)])

    forwards: dict[str, Forward] = {"sdpa": plain, "interp": traced, "received": received, "eager": eager, "lens": lens}
    return forwards[name], plain_last if name == "received" else plain


def worker(name: str, length: int, pairs: int, answer: Path) -> None:
    """One way at one length: peak memory of its first forward, then `pairs` turns with plain sdpa."""
    import numpy as np
    import torch

    import interp

    model = interp.load(MODEL, device="cpu", check=False)
    torch.manual_seed(0)
    ids = torch.randint(100, model.vocab_size - 100, (1, length))
    forward, plain = ways(name, model)
    with torch.no_grad():
        for one in (plain, forward):
            one(ids[:, :64])
        gc.collect()
        held = machine.resident_mib()
        machine.reset_peak()
        received = forward(ids)
        peak = machine.peak_mib()
        if received is not None:
            np.save(answer.with_suffix(".npy"), received.numpy())
        del received
        times: dict[str, list[float]] = {"plain": [], "this": []}
        for _ in range(pairs):
            for key, one in (("plain", plain), ("this", forward)):
                start = time.perf_counter()
                one(ids)
                times[key].append(time.perf_counter() - start)
    answer.write_text(json.dumps({"extra_mib": peak - held, "threads": torch.get_num_threads(), **times}))


def turns(name: str, length: int, pairs: int) -> int:
    """With plain sdpa: fewer of what is only looked at beside ours, and of long forwards."""
    if length <= 1024:
        return pairs
    if length <= 2048:
        return pairs if name in ("interp", "received") else max(1, pairs // 2)
    return min(pairs, max(2, pairs - 1 if length <= 4096 else pairs // 2))


def measure(length: int, names: list[str], pairs: int) -> list[dict[str, Any]]:
    """Some ways at one length, one process after the other."""
    import numpy as np

    rows, masses = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            answer = Path(folder) / f"{name}.json"
            print(f"T = {length}: {name}", file=sys.stderr, flush=True)
            command = [
                sys.executable,
                __file__,
                "--worker",
                name,
                str(length),
                str(turns(name, length, pairs)),
                str(answer),
            ]
            subprocess.run(command, check=True)
            result = json.loads(answer.read_text())
            if answer.with_suffix(".npy").exists():
                masses[name] = np.load(answer.with_suffix(".npy"))
            ratios = [this / plain for this, plain in zip(result["this"], result["plain"], strict=True)]
            rows.append(
                {
                    "way": name,
                    "T": length,
                    "seconds": statistics.median(result["this"]),
                    "plain_seconds": statistics.median(result["plain"]),
                    "ratios": ratios,
                    "ratio": statistics.median(ratios),
                    "ratio_range": [min(ratios), max(ratios)],
                    "extra_mib": result["extra_mib"],
                    "pairs": len(ratios),
                    "threads": result["threads"],
                }
            )
    for row in rows:
        if row["way"] in masses and REFERENCE in masses:
            row["largest_difference"] = float(np.abs(masses[row["way"]] - masses[REFERENCE]).max())
    return rows


def markdown(rows: list[dict[str, Any]], facts: dict[str, Any]) -> str:
    lines = ["| T | way | seconds | x plain sdpa (range) | extra peak memory | max difference from eager |"]
    lines.append("|---:|---|---:|---:|---:|---:|")
    for row in rows:
        low, high = row["ratio_range"]
        gap = f"{row['largest_difference']:.1e}" if "largest_difference" in row else ""
        lines.append(
            f"| {row['T']:,} | {LABELS[row['way']]} | {row['seconds']:.2f} | {row['ratio']:.2f} ({low:.2f}-{high:.2f}) "
            f"| {row['extra_mib'] / 1024:.2f} GiB | {gap} |"
        )
    pairs = ", ".join(f"{row['way']} at {row['T']:,} {row['pairs']}" for row in rows)
    lines += ["", f"{machine.sentence(facts)}. Turns with plain sdpa: {pairs}."]
    return "\n".join(lines)


def suite_rows(rows: list[dict[str, Any]]) -> list[Row]:
    """For the suite's table: every way beside plain sdpa, and ours beside eager attention."""
    found = []
    for row in rows:
        about = f"attention received by every key, SmolLM2-135M, T = {row['T']:,}"
        gap = f"{row['largest_difference']:.0e} from eager" if "largest_difference" in row else ""
        if row["way"] != "sdpa":
            name = "time" if row["way"] == "interp" else f"way_{row['way']}"
            way = LABELS[row["way"]].replace("**", "")
            texts = {"what": f"{about}: {way}", "against": "plain sdpa forward", "unit": "x its time"}
            found.append(measured(f"sink_overhead.{name}.{row['T']}", row["ratios"], note=gap, **texts))
    at = {(row["way"], row["T"]): row for row in rows}
    for length in sorted({row["T"] for row in rows if (REFERENCE, row["T"]) in at and ("interp", row["T"]) in at}):
        ours, eager = at["interp", length], at[REFERENCE, length]
        about = f"attention received by every key, SmolLM2-135M, T = {length:,}"
        texts = {"what": about, "against": "HF eager, `output_attentions`", "unit": "x as fast"}
        # each beside plain sdpa in its own process: any ratio of the one may stand beside any of the other
        faster = [slow / quick for slow in eager["ratios"] for quick in ours["ratios"]]
        row = measured(f"sink_overhead.eager.{length}", faster, **texts)
        found.append(replace(row, pairs=min(eager["pairs"], ours["pairs"])))
        if eager["extra_mib"] > 0:
            texts |= {"what": f"extra peak memory, {about}", "unit": "x its extra memory"}
            memory = [ours["extra_mib"] / eager["extra_mib"]]
            found.append(measured(f"sink_overhead.memory.{length}", memory, **texts))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 2048, 4096, 8192])
    parser.add_argument("--pairs", type=int, default=5, help="turns with plain sdpa (fewer with more tokens)")
    parser.add_argument("--patterns-up-to", type=int, default=2048, help="longer prompts: the plain trace alone")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "sink_overhead.json")
    parser.add_argument("--worker", nargs=4, metavar=("WAY", "T", "PAIRS", "ANSWER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        name, length, pairs, answer = arguments.worker
        return worker(name, int(length), int(pairs), Path(answer))
    rows = []
    for length in arguments.lengths:
        rows += measure(length, list(LABELS) if length <= arguments.patterns_up_to else ["interp"], arguments.pairs)
    facts = machine.machine()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    result = {"model": MODEL, "machine": facts, "rows": rows, "suite": as_json(suite_rows(rows))}
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(markdown(rows, facts))


if __name__ == "__main__":
    main()
