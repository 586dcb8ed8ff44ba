"""Exact effects of every head against patching one head at a time, with TransformerLens's hooks.

50 pairs of 18 tokens that part at one token (the shape of IOI prompts with the flipped name), SmolLM2-135M. The slow
loop is timed on a sample of heads spread over all layers and scaled up.

python benchmarks/circuit_effects.py [--pairs 50] [--heads 12] [--differs 9]
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import machine
import torch

import interp
from interp.circuits.effects import direct_effects, total_effects
from interp.circuits.pairs import Pair, batch_of
from interp.circuits.states import Sides, sides_of
from probes.base import Prompt


def sides(model: Any, pairs: int, differs: int, length: int = 18) -> Sides:
    """Both sides of random pairs."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for index in range(pairs):
        ids = torch.randint(100, 40_000, (length,), generator=generator).tolist()
        corrupt = [*ids[:differs], ids[differs] + 1, *ids[differs + 1 :]]
        prompt = Prompt(f"pair-{index}", "", tuple(ids), tuple("x" * length))
        made.append(Pair(prompt, tuple(corrupt), 300 + index, (400 + index,)))
    return sides_of(model, batch_of(made))


class OneByOne:
    """The loop a user would write with TransformerLens: one run of all pairs a head."""

    def __init__(self, bridge: Any, both: Sides):
        self.bridge, self.ids = bridge, both.batch.clean
        self.layers, self.heads = bridge.cfg.n_layers, bridge.cfg.n_heads
        self.z = [self.cached(ids) for ids in (both.batch.clean, both.batch.corrupt)]

    def cached(self, ids: torch.Tensor) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            _, cache = self.bridge.run_with_cache(ids, names_filter=lambda name: name.endswith("attn.hook_z"))
        return {name: value.clone() for name, value in cache.items()}

    def patched(self, layer: int, head: int, hold: bool) -> torch.Tensor:
        """Logits with one head from the corrupted run; with `hold`, at the last token, the other heads clean."""
        name, (clean, corrupt) = f"blocks.{layer}.attn.hook_z", self.z

        def sender(value: torch.Tensor, hook: Any) -> torch.Tensor:
            new = (clean[name] if hold else value).clone()
            by_head, other = (one.view(*one.shape[:2], self.heads, -1) for one in (new, corrupt[name]))
            at = slice(-1, None) if hold else slice(None)
            by_head[:, at, head] = other[:, at, head]
            return new

        hooks = [(name, sender)]
        if hold:
            hooks += [(one, lambda value, hook: clean[hook.name]) for one in clean if one != name]
        with torch.no_grad():
            return self.bridge.run_with_hooks(self.ids, fwd_hooks=hooks)


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--pairs", type=int, default=50)
    parser.add_argument("--heads", type=int, default=12, help="heads the slow loop is timed on")
    parser.add_argument("--differs", type=int, default=9, help="token at which the prompts part")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "circuit_effects.json")
    arguments = parser.parse_args()
    model = interp.load(arguments.model)
    both = sides(model, arguments.pairs, arguments.differs)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    fast = {
        "direct": lambda: direct_effects(model, both),
        "direct, MLPs held": lambda: direct_effects(model, both, freeze_mlps=True),
        "total": lambda: total_effects(model, both),
    }
    times = {name: statistics.median(seconds(work) for _ in range(3)) for name, work in fast.items()}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    slow = OneByOne(model.bridge(), both)
    n = model.n_layers * model.n_heads
    sample = [divmod(index * n // arguments.heads, model.n_heads) for index in range(arguments.heads)]
    loops = {
        name: n * statistics.median(seconds(lambda at=at, hold=hold: slow.patched(*at, hold)) for at in sample)
        for name, hold in (("direct", True), ("total", False))
    }
    facts = {"machine": machine.machine(), "seconds": times, "one by one": loops, "peak GB": [before, peak]}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(facts, indent=1) + "\n")
    print("| effect | all heads and MLPs, s | one head at a time, s (scaled) | times faster |\n|---|---:|---:|---:|")
    for name, taken in times.items():
        loop = loops["total" if name == "total" else "direct"]
        print(f"| {name} | {taken:.2f} | {loop:.1f} | {loop / taken:.1f} |")
    print(f"\n{n} heads, {arguments.pairs} pairs; peak memory {before:.2f} GB before, {peak:.2f} GB after.")
    print(machine.sentence(facts["machine"]))


if __name__ == "__main__":
    main()
