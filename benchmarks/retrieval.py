"""What it costs to score retrieval heads, beside what a user would otherwise run.

On SmolLM2-135M, a grid of needle prompts (lengths x depths x needles); every way answers each prompt greedily and stops
at the same place:

- generate: Hugging Face's `generate`, sdpa, with its KV cache; nobody looks at attention;
- interp: `interp.retrieval.measure.measured`, each prompt read in full;
- interp, shared: the same, what a prompt has in common with the one before it read once;
- decode eager: prompt read by sdpa, then `output_attentions=True` at each step, as the released code of Wu et al. does;
- eager: `output_attentions=True` throughout, as `generate(output_attentions=True)` does.

The ways take turns on each prompt in one process, so that a ratio compares neighbours in time. Their generated ids and
each head's copying steps are compared. Peak memory (high-water mark minus what was held before) is taken on one prompt
of each length, each way in a process of its own. `--patterns-at LENGTH` lets the eager ways answer, and takes memory,
at that length only.

    python benchmarks/retrieval.py [--lengths 512 1024 2048 4096] [--depths 5] [--needles 3] [--eager 3] [--out FILE]
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
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import machine
from rows import Row, as_json, measured

MODEL = "smollm2-135m"
LABELS = {
    "generate": "`generate`, no attention",
    "interp": "**interp**, prompts read in full",
    "shared": "**interp**, shared prefixes",
    "decode_eager": "sdpa, then eager steps",
    "eager": "eager, `output_attentions`",
}
SLOW = ("decode_eager", "eager")

Way = Callable[[Any], tuple[list[int], Any]]
"""From a prompt to the ids generated and each head's copying steps [layer, head] (None: not looked at)."""


def grid(model: Any, lengths: Sequence[int], depths: int, needles: int) -> list[Any]:
    """The prompts, in the order of the probe."""
    from probes.needle import NeedleProbe

    shares = tuple(i / (depths - 1) for i in range(depths)) if depths > 1 else (0.5,)
    probe = NeedleProbe(lengths=tuple(lengths), depths=shares, needles=needles, form="prefix")
    return probe.prompts(model, max_length=max(lengths))


def ways(model: Any) -> dict[str, Way]:
    """Every way by name."""
    import numpy as np
    import torch

    from interp.retrieval.config import RetrievalConfig
    from interp.retrieval.decode import Ends
    from interp.retrieval.measure import measured
    from interp.retrieval.task import task_of
    from interp.tracing.passes import cache_name, cache_of

    name = cache_name(model.hf)
    whole, shared = (RetrievalConfig(random_tokens=0, share_prefix=share) for share in (False, True))

    def plain(prompt: Any) -> tuple[list[int], None]:
        ids, over = torch.tensor([prompt.ids]), Ends(model, whole, task_of(prompt))
        stop = [lambda all_ids, scores, **_: torch.tensor([over(all_ids[0, ids.shape[1] :].tolist())])]
        most = {"max_new_tokens": over.most, "do_sample": False, "pad_token_id": 0, "stopping_criteria": stop}
        out = model.hf.generate(ids, attention_mask=torch.ones_like(ids), **most)
        return out[0, ids.shape[1] :].tolist(), None

    def ours(config: RetrievalConfig) -> Way:
        def way(prompt: Any) -> tuple[list[int], Any]:
            unit = measured(model, prompt, config)
            return unit.facts["generated"], unit.arrays["events"]

        return way

    def step_by_step(everywhere: bool) -> Way:
        def way(prompt: Any) -> tuple[list[int], Any]:
            task = task_of(prompt)
            over, context, generated = Ends(model, whole, task), np.array(prompt.ids), []
            events = np.zeros((model.n_layers, model.n_heads), dtype=np.int64)
            fed, cache = list(prompt.ids), None
            try:
                if not everywhere:
                    cache = cache_of(model.hf(torch.tensor([fed[:-1]]), use_cache=True, logits_to_keep=1))
                    fed = fed[-1:]
                model.hf.set_attn_implementation("eager")
                while not generated or not over(generated):
                    settings = {name: cache, "use_cache": True, "output_attentions": True, "logits_to_keep": 1}
                    out = model.hf(torch.tensor([fed]), **settings)
                    generated.append(int(out.logits[0, -1].argmax()))
                    top = np.stack([pattern[0, :, -1].argmax(-1).numpy() for pattern in out.attentions])
                    inside = (top >= task.span[0]) & (top < task.span[1])
                    events += inside & (context[np.where(inside, top, 0)] == generated[-1])
                    fed, cache = generated[-1:], cache_of(out)
            finally:
                model.hf.set_attn_implementation("sdpa")
            return generated, events

        return way

    return {
        "generate": plain,
        "interp": ours(whole),
        "shared": ours(shared),
        "decode_eager": step_by_step(everywhere=False),
        "eager": step_by_step(everywhere=True),
    }


def times(lengths: Sequence[int], depths: int, needles: int, eager: int, at: int, runs: int, answer: Path) -> None:
    """All ways in turns on every prompt of the grid; one record a prompt and run. The eager ways answer `eager` prompts
    of each length, or of length `at` alone where that is not 0."""
    import torch

    import interp
    from interp.heads.random_scores import random_scores
    from interp.retrieval.cache import remember
    from interp.retrieval.task import task_of

    model = interp.load(MODEL, device="cpu", check=False)
    prompts, all_ways, records = grid(model, lengths, depths, needles), ways(model), []
    with torch.no_grad():
        for way in all_ways.values():
            way(prompts[0])
        for run in range(runs):
            remember(model)
            looked_at = dict.fromkeys(lengths, 0)
            for number, prompt in enumerate(prompts):
                length = task_of(prompt).length
                slow = run == 0 and looked_at[length] < eager and number % 2 == 0 and at in (0, length)
                looked_at[length] += slow
                seconds, found = {}, {}
                for name, way in all_ways.items():
                    if name in SLOW and not slow:
                        continue
                    start = time.perf_counter()
                    found[name] = way(prompt)
                    seconds[name] = time.perf_counter() - start
                start = time.perf_counter()
                random_scores(model, 0, 128)
                induction = time.perf_counter() - start
                ids, copies = found["interp"]
                record = {"prompt": prompt.name, "length": length, "tokens": len(prompt), "steps": len(ids), "run": run}
                record |= {"seconds": seconds, "induction": induction}
                record["other_ids"] = [name for name, (said, _) in found.items() if said != ids]
                record["heads_that_differ"] = {
                    name: int((seen != copies).sum()) for name, (_, seen) in found.items() if seen is not None
                }
                records.append(record)
                print(prompt.name, {k: round(v, 2) for k, v in seconds.items()}, file=sys.stderr, flush=True)
    answer.write_text(json.dumps({"threads": torch.get_num_threads(), "records": records}))


def memory(name: str, length: int, answer: Path) -> None:
    """Peak memory of one way on one prompt, the needle in the middle, beyond what the loaded model holds."""
    import torch

    import interp
    from interp.retrieval.cache import remember

    model = interp.load(MODEL, device="cpu", check=False)
    (short,), (other, prompt) = grid(model, [min(384, length)], 1, 1), grid(model, [length], 1, 2)
    way = ways(model)[name]
    with torch.no_grad():
        way(short)
        gc.collect()
        held = machine.resident_mib()
        if name == "shared":  # what is remembered of the prompt before counts, too
            remember(model)
            way(other)
            gc.collect()
        machine.reset_peak()
        way(prompt)
        answer.write_text(json.dumps(machine.peak_mib() - held))


def in_a_process(*arguments: str) -> Any:
    """What a worker of this script answers."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        subprocess.run([sys.executable, __file__, "--worker", *arguments, str(answer)], check=True)
        return json.loads(answer.read_text())


def summary(records: list[dict[str, Any]], lengths: Sequence[int]) -> list[dict[str, Any]]:
    """One row a length and one for the whole grid: median over prompts of each way's time over another's.

    Shared prefixes save most on the prompts that come later, so their ratio is of the sums over a length's prompts.
    """
    rows = []
    for length in [*lengths, None]:
        here = [record for record in records if length in (None, record["length"])]
        row: dict[str, Any] = {"length": length, "prompts": len({record["prompt"] for record in here})}
        row["steps"] = statistics.mean(record["steps"] for record in here)
        for name in LABELS:
            measured = [record["seconds"] for record in here if name in record["seconds"]]
            if not measured:
                continue
            row[f"{name}_seconds"] = statistics.median(seconds[name] for seconds in measured)
            against = [seconds[name] / seconds["generate"] for seconds in measured]
            row[f"{name}_ratio"] = statistics.median(against)
            row[f"{name}_range"] = [min(against), max(against)]
            row[f"{name}_total"] = sum(s[name] for s in measured) / sum(s["generate"] for s in measured)
            row[f"{name}_over_interp"] = statistics.median(seconds[name] / seconds["interp"] for seconds in measured)
        row["induction_seconds"] = statistics.median(record["induction"] for record in here)
        rows.append(row)
    return rows


def suite_rows(result: dict[str, Any]) -> list[Row]:
    """For the suite's table: over the grid by the sums of its prompts, as sharing saves most on those that come later;
    the spread is that of the lengths."""
    *by_length, everything = result["rows"]
    lengths = ", ".join(f"{row['length']:,}" for row in by_length)
    note = f"{everything['prompts']} prompts, T = {lengths}; the sum over all, and the spread of the lengths' sums"
    found = []
    for name, key in (("full", "interp"), ("shared", "shared")):
        sums = [row[f"{key}_total"] for row in by_length]
        row = measured(f"retrieval.{name}", sums, note=note)
        found.append(replace(row, ratio=everything[f"{key}_total"], pairs=everything["prompts"]))
    for row in by_length:
        length, peaks = row["length"], result["extra_mib"].get(row["length"], {})
        about = f"scoring retrieval heads, SmolLM2-135M, T = {length:,}"
        for name in (name for name in SLOW if f"{name}_ratio" in row):
            faster = [
                record["seconds"][name] / record["seconds"]["interp"]
                for record in result["records"]
                if record["length"] == length and name in record["seconds"]
            ]
            texts = {"what": about, "against": LABELS[name], "unit": "x as fast"}
            found.append(measured(f"retrieval.{name}.{length}", faster, **texts))
        if peaks.get("eager", 0) > 0:
            texts = {"what": f"extra peak memory, {about}", "against": LABELS["eager"], "unit": "x its extra memory"}
            found.append(measured(f"retrieval.memory.{length}", [peaks["interp"] / peaks["eager"]], **texts))
    return found


def markdown(result: dict[str, Any]) -> str:
    """The tables of a result file."""
    lines = ["| T | way | seconds a prompt | x `generate` (range) | x `generate`, grid total | x interp |"]
    lines.append("|---:|---|---:|---:|---:|---:|")
    for row in result["rows"]:
        for name, label in LABELS.items():
            if f"{name}_ratio" not in row:
                continue
            low, high = row[f"{name}_range"]
            seconds, ratio, total, ours = (
                row[f"{name}_{kind}"] for kind in ("seconds", "ratio", "total", "over_interp")
            )
            where = f"{row['length']:,}" if row["length"] else "all"
            lines.append(
                f"| {where} | {label} | {seconds:.2f} | {ratio:.2f} ({low:.2f}-{high:.2f}) | {total:.2f} | {ours:.1f} |"
            )
    lines += ["", "| T | " + " | ".join(LABELS.values()) + " |", "|---:|" + "---:|" * len(LABELS)]
    for length, peaks in result["extra_mib"].items():
        cells = [f"{peaks[name] / 1024:.2f} GiB" if name in peaks else "" for name in LABELS]
        lines.append(f"| {int(length):,} | " + " | ".join(cells) + " |")
    records = result["records"]
    differing = max((n for record in records for n in record["heads_that_differ"].values()), default=0)
    induction = result["rows"][-1]["induction_seconds"]
    same = "the same" if not any(record["other_ids"] for record in records) else "NOT the same"
    lines += [
        "",
        f"Second table: extra peak memory. All ways generated {same} tokens; copying steps differ in {differing} heads "
        f"of a prompt at most. Scoring induction on random tokens adds {induction:.2f} s a prompt. "
        f"{machine.sentence(result['machine'])}; {result['threads']} threads.",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 1024, 2048, 4096])
    parser.add_argument("--depths", type=int, default=5)
    parser.add_argument("--needles", type=int, default=3)
    parser.add_argument("--eager", type=int, default=3, help="prompts of each length that the eager ways answer too")
    parser.add_argument("--patterns-at", type=int, default=0, help="eager ways and memory at this length alone")
    parser.add_argument("--runs", type=int, default=1, help="times that the grid is gone through")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "retrieval.json")
    parser.add_argument("--worker", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        kind, *rest, answer = arguments.worker
        if kind == "memory":
            return memory(rest[0], int(rest[1]), Path(answer))
        depths, needles, eager, at, runs, *lengths = map(int, rest)
        return times(lengths, depths, needles, eager, at, runs, Path(answer))
    at = arguments.patterns_at
    options = [arguments.depths, arguments.needles, arguments.eager, at, arguments.runs, *arguments.lengths]
    result = in_a_process("times", *map(str, options))
    result["rows"] = summary(result["records"], arguments.lengths)
    result["extra_mib"] = {}
    for length in (length for length in arguments.lengths if at in (0, length)):
        names = [name for name in LABELS if arguments.eager or name not in SLOW]
        names = ["interp", "eager"] if at and arguments.eager else names
        result["extra_mib"][length] = {name: in_a_process("memory", name, str(length)) for name in names}
    result |= {"model": MODEL, "machine": machine.machine()}
    result["suite"] = as_json(suite_rows(result))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(markdown(result))


if __name__ == "__main__":
    main()
