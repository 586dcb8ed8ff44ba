"""Edges one at a time, slowly, with TransformerLens's split hooks (`hook_q_input`, `hook_mlp_in`, `hook_result`)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

Name = tuple[str, int, int]
"""(kind, layer, head), as in `interp.circuits.edges`."""


class SlowEdges:
    """Both runs of a batch in full, then one run a set of edges."""

    def __init__(self, bridge: Any, clean: Tensor, corrupt: Tensor, answer: Tensor, wrong: Tensor):
        bridge.cfg.use_split_qkv_input = bridge.cfg.use_hook_mlp_in = bridge.cfg.use_attn_result = True
        self.bridge, self.clean_ids, self.answer, self.wrong = bridge, clean, answer, wrong
        self.n_layers = bridge.cfg.n_layers
        self.clean, self.before = self.run(clean, {})
        self.corrupt, self.after = self.run(corrupt, {})

    def difference(self, logits: Tensor) -> Tensor:
        last = logits[:, -1].float()
        return last.gather(1, self.answer[:, None])[:, 0] - last.gather(1, self.wrong).mean(1)

    def reads(self) -> dict[str, tuple[str, int]]:
        """Hook name -> (kind, layer) of what reads there."""
        heads = {f"blocks.{at}.attn.hook_{side}_input": (side, at) for at in range(self.n_layers) for side in "qkv"}
        mlps = {f"blocks.{at}.hook_mlp_in": ("mlp", at) for at in range(self.n_layers)}
        return {**heads, **mlps, f"blocks.{self.n_layers - 1}.hook_resid_post": ("logits", -1)}

    def run(self, ids: Tensor, inputs: dict[str, Any]) -> tuple[dict[Any, Tensor], Tensor]:
        """One run in which `inputs` (hook name -> function of its value and of what was written so far) change what is
        read: (what was written by (kind, layer, head) and read by hook name, logit difference)."""
        seen: dict[Any, Tensor] = {}
        held: dict[str, Tensor] = {}

        def embedded(value: Tensor, hook: Any) -> None:
            seen["input", -1, -1] = value.clone()

        def result(value: Tensor, hook: Any) -> None:
            held["result"] = value.clone()

        def out(value: Tensor, hook: Any) -> None:
            held["out"] = value.clone()

        def mlp(layer: int) -> Any:
            def hook(value: Tensor, hook: Any) -> None:
                seen["mlp", layer, -1] = value.clone()

            return hook

        def attention(layer: int) -> Any:
            def hook(value: Tensor, hook: Any) -> None:
                by_head, whole = held.pop("result"), held.pop("out")
                bias = (whole - by_head.sum(2)) / by_head.shape[2]
                for head in range(by_head.shape[2]):
                    # behind a post-norm: the very factors that it used in this run, number by number
                    seen["head", layer, head] = (by_head[:, :, head] + bias) * (value / whole)

            return hook

        def reading(name: str) -> Any:
            def hook(value: Tensor, hook: Any) -> Tensor:
                seen[name] = value.clone()
                return inputs[name](value.clone(), seen) if name in inputs else value

            return hook

        hooks: list[tuple[str, Any]] = [("blocks.0.hook_in", embedded)]
        for at in range(self.n_layers):
            hooks += [(f"blocks.{at}.attn.hook_result", result), (f"blocks.{at}.attn.hook_out", out)]
            hooks += [(f"blocks.{at}.hook_attn_out", attention(at)), (f"blocks.{at}.hook_mlp_out", mlp(at))]
        hooks += [(name, reading(name)) for name in self.reads()]
        with torch.no_grad():
            return seen, self.difference(self.bridge.run_with_hooks(ids, fwd_hooks=hooks))

    def kept(self, edges: Collection[tuple[Name, Name]]) -> Tensor:
        """Logit difference [pair] when each (writer, receiver) of `edges` carries this run, all others the other."""

        def reader(name: str, kind: str, layer: int) -> Any:
            def change(value: Tensor, seen: dict[Any, Tensor]) -> Tensor:
                value = self.corrupt[name].clone()
                for writer, receiver in edges:
                    if receiver[:2] != (kind, layer):
                        continue
                    moved = seen[writer] - self.corrupt[writer]
                    if kind in ("q", "k", "v"):
                        value[:, :, receiver[2]] += moved
                    else:
                        value += moved
                return value

            return change

        return self.run(self.clean_ids, {name: reader(name, *of) for name, of in self.reads().items()})[1]

    def slope(self, writer: Name, receiver: Name, step: float) -> Tensor:
        """Slope [pair] of the logit difference when one receiver's input moves by what the writer's output does."""
        way = self.corrupt[writer] - self.clean[writer]
        name = next(name for name, of in self.reads().items() if of == receiver[:2])

        def moved(share: float) -> Tensor:
            def change(value: Tensor, seen: dict[Any, Tensor]) -> Tensor:
                if receiver[0] in ("q", "k", "v"):
                    value[:, :, receiver[2]] += share * way
                    return value
                return value + share * way

            return self.run(self.clean_ids, {name: change})[1]

        return (moved(step) - moved(-step)) / (2 * step)
