"""Exact effects of every head against patching one head at a time with TransformerLens, on IOI prompts.

The loop is the one that a user would write: a run of all pairs for every head. It is timed on a sample of heads spread
over all layers and scaled to all heads. Beside it TransformerLens's own helper,
`transformer_lens.patching.get_act_patch_attn_head_out_all_pos`, which is such a loop for `total`, on the same heads.
The fast way computes every MLP's effect, too; the loops do not.

python benchmarks/circuit_effects.py [--pairs 50] [--heads 8] [--threads 2]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import machine
import torch

import interp
from interp.circuits.effects import direct_effects, total_effects
from interp.circuits.pairs import batches, pair_of
from interp.circuits.states import Sides, sides_of
from probes.ioi import IOI

Z = "attn.hook_z"
GIB = 1024


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
    parser.add_argument("--repeats", type=int, default=3, help="of the fast way; the median counts")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "circuit_effects.json")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = interp.load(arguments.model)
    pairs = [pair_of(prompt) for prompt in IOI().prompts(model, limit=arguments.pairs)]
    both = [sides_of(model, batch) for _, batch in batches(pairs)]
    fast: dict[str, Callable[[Sides], Any]] = {
        "direct": lambda one: direct_effects(model, one),
        "direct, MLPs held": lambda one: direct_effects(model, one, freeze_mlps=True),
        "total": lambda one: total_effects(model, one),
    }
    before, times, peaks = machine.resident_mib() / GIB, {}, {}
    for name, work in fast.items():
        machine.reset_peak()
        runs = [seconds(lambda work=work: [work(one) for one in both]) for _ in range(arguments.repeats)]
        times[name], peaks[name] = statistics.median(runs), machine.peak_mib() / GIB
    bridge = model.bridge()
    slow = [OneByOne(bridge, one) for one in both]
    n, lengths = model.n_layers * model.n_heads, sorted(one.batch.clean.shape[1] for one in both)
    sample = [divmod(index * n // arguments.heads, model.n_heads) for index in range(arguments.heads)]
    [one.patched(0, 0, False) for one in slow]  # the first run of a shape is slower
    loops = {
        "direct": [seconds(lambda at=at: [one.patched(*at, True) for one in slow]) for at in sample],
        "total": [seconds(lambda at=at: [one.patched(*at, False) for one in slow]) for at in sample],
        "TransformerLens's helper": [seconds(lambda: [one.helper(sample) for one in slow]) / len(sample)],
    }
    scaled = {name: n * statistics.mean(taken) for name, taken in loops.items()}
    facts = {
        "machine": machine.machine(),
        "threads": arguments.threads,
        "pairs": len(pairs),
        "lengths": lengths,
        "heads": n,
        "timed heads": arguments.heads,
        "seconds": times,
        "one at a time, scaled": scaled,
        "peak GiB": peaks,
        "GiB before": before,
        "largest difference": differences(fast, both, slow, sample),
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(facts, indent=1) + "\n")
    print(table(facts))


def differences(fast: Any, both: list[Sides], slow: list[OneByOne], sample: list[tuple[int, int]]) -> dict[str, float]:
    """Largest difference of the two ways in the first batch, in logits, by effect."""
    clean, found = both[0].clean.difference, {}
    for name, hold in (("direct", True), ("total", False)):
        heads = fast[name](both[0]).heads
        own = {at: (slow[0].patched(*at, hold) - clean).numpy() for at in sample}
        found[name] = float(max(abs(heads[at] - value).max() for at, value in own.items()))
    return found


def table(facts: dict[str, Any]) -> str:
    """Markdown."""
    slow = facts["one at a time, scaled"]
    lines = [
        "| effect | all heads and MLPs, s | one head at a time, s | times faster | peak memory, GiB |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, taken in facts["seconds"].items():
        loop = slow["total" if name == "total" else "direct"]
        lines.append(f"| {name} | {taken:.2f} | {loop:.0f} | {loop / taken:.1f} | {facts['peak GiB'][name]:.2f} |")
    helper, total = slow["TransformerLens's helper"], facts["seconds"]["total"]
    lines += [
        f"| total, by TransformerLens's patching helper | {total:.2f} | {helper:.0f} | {helper / total:.1f} | |",
        "",
        f"{facts['pairs']} IOI pairs of {facts['lengths'][0]} to {facts['lengths'][-1]} tokens, "
        f"{facts['heads']} heads, {facts['threads']} threads; {facts['GiB before']:.2f} GiB held before. "
        f"One head at a time: timed on {facts['timed heads']} heads in all layers, scaled to all; without MLPs.",
        "Largest difference between the two ways on these heads, first batch: "
        + ", ".join(f"{name} {value:.1e}" for name, value in facts["largest difference"].items())
        + " logits.",
        machine.sentence(facts["machine"]).removesuffix(", batch 1"),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
