"""Exact effects of every head against patching one head at a time with TransformerLens, on IOI prompts.

The loop is the one that a user would write: a run of all pairs for every head. It is timed on a sample of heads spread
over all layers and scaled to all heads; batch by batch (prompts of one length) the two ways take turns, so that a ratio
compares neighbours in time. Beside it TransformerLens's own helper,
`transformer_lens.patching.get_act_patch_attn_head_out_all_pos`, which is such a loop for `total`, on the same heads.
The fast way computes every MLP's effect, too; the loops do not.

python benchmarks/circuit_effects.py [--pairs 50] [--heads 8] [--threads 2]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import machine
import torch
from rows import Row, as_json, measured

import interp
from interp.circuits.effects import direct_effects, total_effects
from interp.circuits.pairs import batches, pair_of
from interp.circuits.states import Sides, sides_of
from probes.ioi import IOI

Z = "attn.hook_z"
GIB = 1024
FAST = ("direct", "direct, MLPs held", "total")
LOOPS = ("direct", "total", "TransformerLens's helper")


class OneByOne:
    """The loop of one batch (prompts of one length): one run of all pairs a head."""

    def __init__(self, bridge: Any, both: Sides):
        self.bridge, self.both, self.ids = bridge, both, both.batch.clean
        self.layers, self.heads = bridge.cfg.n_layers, bridge.cfg.n_heads
        self.z = [self.cached(ids) for ids in (both.batch.clean, both.batch.corrupt)]

    def cached(self, ids: torch.Tensor) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            _, cache = self.bridge.run_with_cache(ids, names_filter=lambda name: name.endswith(Z))
        return {name: value.clone() for name, value in cache.items()}

    def difference(self, logits: torch.Tensor) -> torch.Tensor:
        """[pair]"""
        last, batch = logits[:, -1], self.both.batch
        return last.gather(1, batch.answer[:, None])[:, 0] - (last.gather(1, batch.wrong) * batch.weight).sum(1)

    def patched(self, layer: int, head: int, hold: bool) -> torch.Tensor:
        """Logit difference with one head from the corrupted run; with `hold`, at the last token, other heads clean."""
        name, (clean, corrupt) = f"blocks.{layer}.{Z}", self.z

        def sender(value: torch.Tensor, hook: Any) -> torch.Tensor:
            new = (clean[name] if hold else value).clone()
            by_head, other = (one.view(*one.shape[:2], self.heads, -1) for one in (new, corrupt[name]))
            at = slice(-1, None) if hold else slice(None)
            by_head[:, at, head] = other[:, at, head]
            return new

        hooks = [(name, sender)]
        if hold:
            hooks += [(one, lambda value, hook, one=one: clean[one]) for one in clean if one != name]
        with torch.no_grad():
            return self.difference(self.bridge.run_with_hooks(self.ids, fwd_hooks=hooks))

    def helper(self, heads: list[tuple[int, int]]) -> torch.Tensor:
        """The same as `patched` without `hold`, by TransformerLens's patching loop; [head], means over pairs."""
        import pandas
        from transformer_lens import patching

        def put(value: torch.Tensor, at: Any, other: torch.Tensor) -> torch.Tensor:
            # its own setter takes [batch, position, head, d_head]; the bridge of some families has the last two as one
            by_head, new = (one.view(*one.shape[:2], self.heads, -1) for one in (value, other))
            by_head[:, :, at[1]] = new[:, :, at[1]]
            return value

        with torch.no_grad(), contextlib.redirect_stderr(io.StringIO()):  # it draws a bar
            return patching.get_act_patch_attn_head_out_all_pos(
                self.bridge,
                self.ids,
                self.z[1],
                lambda logits: self.difference(logits).mean(),
                patch_setter=put,
                index_axis_names=None,
                index_df=pandas.DataFrame(heads, columns=["layer", "head"]),
            )


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--pairs", type=int, default=50)
    parser.add_argument("--heads", type=int, default=8, help="heads the loops are timed on")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "circuit_effects.json")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = interp.load(arguments.model)
    pairs = [pair_of(prompt) for prompt in IOI().prompts(model, limit=arguments.pairs)]
    both = [sides_of(model, batch) for _, batch in batches(pairs)]
    bridge, n = model.bridge(), model.n_layers * model.n_heads
    sample = [divmod(index * n // arguments.heads, model.n_heads) for index in range(arguments.heads)]
    before, records = machine.resident_mib() / GIB, []
    fast(model)["direct"](both[0])  # the first run of a shape is slower
    for one in both:
        records.append(record(model, bridge, one, sample))
        print(json.dumps(records[-1]), file=sys.stderr, flush=True)
    scale = n / len(sample)
    facts = {
        "machine": machine.machine(),
        "threads": arguments.threads,
        "pairs": len(pairs),
        "heads": n,
        "timed heads": len(sample),
        "GiB before": before,
        "batches": records,
        "seconds": {name: sum(one["seconds"][name] for one in records) for name in FAST},
        "one at a time, scaled": {name: scale * sum(one["loops"][name] for one in records) for name in LOOPS},
        "ratios": {
            name: [scale * one["loops"][loop_of(name)] / one["seconds"][name] for one in records] for name in FAST
        },
        "peak GiB": {name: max(one["peak GiB"][name] for one in records) for name in FAST},
        "largest difference": {name: max(one["difference"][name] for one in records) for name in ("direct", "total")},
    }
    facts["suite"] = as_json(suite_rows(facts))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(facts, indent=1) + "\n")
    print(table(facts))


def suite_rows(facts: dict[str, Any]) -> list[Row]:
    """For the suite's table; ratios are those of the batches, the helper's of all batches together."""
    ratios, both = facts["ratios"], ("direct", "total")
    note = f"{facts['pairs']} pairs; the loop timed on {facts['timed heads']} of {facts['heads']} heads"
    held = "`direct_frozen_mlps` effect of every head, IOI"
    helper = facts["one at a time, scaled"]["TransformerLens's helper"] / facts["seconds"]["total"]
    faster = {"unit": "x as fast"}
    return [
        *(measured(f"circuit_effects.{name}", ratios[name], note=note) for name in both),
        measured(
            "circuit_effects.held", ratios["direct, MLPs held"], what=held, against="one head at a time", **faster
        ),
        measured(
            "circuit_effects.lens",
            [helper],
            what="`total` effect of every head, IOI",
            against="TransformerLens's patching helper",
            **faster,
        ),
        measured("circuit_effects.memory", [max(facts["peak GiB"].values())]),
        measured("circuit_effects.difference", [max(facts["largest difference"].values())]),
    ]


def fast(model: Any) -> dict[str, Callable[[Sides], Any]]:
    """What is measured, by name."""
    return {
        "direct": lambda one: direct_effects(model, one),
        "direct, MLPs held": lambda one: direct_effects(model, one, freeze_mlps=True),
        "total": lambda one: total_effects(model, one),
    }


def loop_of(name: str) -> str:
    """The loop that an effect is compared with."""
    return "total" if name == "total" else "direct"


def record(model: Any, bridge: Any, one: Sides, sample: list[tuple[int, int]]) -> dict[str, Any]:
    """One batch both ways, one after the other: seconds, peaks, and the largest difference in logits."""
    times, peaks, found = {}, {}, {}
    for name, work in fast(model).items():
        machine.reset_peak()
        times[name] = seconds(lambda work=work, name=name: found.update({name: work(one).heads}))
        peaks[name] = machine.peak_mib() / GIB
    slow = OneByOne(bridge, one)
    slow.patched(0, 0, False)
    loops, apart = {}, {}
    for name, hold in (("direct", True), ("total", False)):
        values: dict[tuple[int, int], torch.Tensor] = {}
        loops[name] = seconds(lambda hold=hold, v=values: v.update({at: slow.patched(*at, hold) for at in sample}))
        apart[name] = max(
            float(abs(found[name][at] - (value - one.clean.difference).numpy()).max()) for at, value in values.items()
        )
    loops["TransformerLens's helper"] = seconds(lambda: slow.helper(sample))
    return {
        "pairs": len(one.batch.clean),
        "length": one.batch.clean.shape[1],
        "seconds": times,
        "loops": loops,
        "peak GiB": peaks,
        "difference": apart,
    }


def table(facts: dict[str, Any]) -> str:
    """Markdown."""
    slow = facts["one at a time, scaled"]
    lines = [
        "| effect | all heads and MLPs, s | one head at a time, s | times faster (batches) | peak memory, GiB |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, taken in facts["seconds"].items():
        loop, ratios = slow[loop_of(name)], facts["ratios"][name]
        spread = f"{loop / taken:.1f} ({min(ratios):.1f}-{max(ratios):.1f})"
        lines.append(f"| {name} | {taken:.2f} | {loop:.0f} | {spread} | {facts['peak GiB'][name]:.2f} |")
    helper, total = slow["TransformerLens's helper"], facts["seconds"]["total"]
    lengths = [one["length"] for one in facts["batches"]]
    lines += [
        f"| total, by TransformerLens's patching helper | {total:.2f} | {helper:.0f} | {helper / total:.1f} | |",
        "",
        f"{facts['pairs']} IOI pairs of {min(lengths)} to {max(lengths)} tokens in {len(lengths)} batches, "
        f"{facts['heads']} heads, {facts['threads']} threads; {facts['GiB before']:.2f} GiB held before. "
        f"One head at a time: timed on {facts['timed heads']} heads in all layers, scaled to all; without MLPs.",
        "Largest difference between the two ways on these heads: "
        + ", ".join(f"{name} {value:.1e}" for name, value in facts["largest difference"].items())
        + " logits.",
        machine.sentence(facts["machine"]).removesuffix(", batch 1"),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
