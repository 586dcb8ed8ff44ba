"""Effects of heads and MLPs one at a time, slowly, with TransformerLens's hooks on its own copy of the model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

Z, MLP_OUT = "attn.hook_z", "hook_mlp_out"


class Slow:
    """Both runs of a batch in full, then one patched run a head or MLP."""

    def __init__(self, bridge: Any, clean: Tensor, corrupt: Tensor, answer: Tensor, wrong: Tensor):
        self.bridge, self.ids, self.corrupted, self.answer, self.wrong = bridge, clean, corrupt, answer, wrong
        self.n_layers = bridge.cfg.n_layers
        self.clean, self.before = self.cached(clean)
        self.corrupt, self.after = self.cached(corrupt)

    def cached(self, ids: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        names = {f"blocks.{layer}.{kind}" for layer in range(self.n_layers) for kind in (Z, MLP_OUT)}
        with torch.no_grad():
            logits, cache = self.bridge.run_with_cache(ids, names_filter=lambda name: name in names)
        return {name: self.by_head(name, cache[name]).clone() for name in names}, self.difference(logits)

    def by_head(self, name: str, value: Tensor) -> Tensor:
        return value.unflatten(-1, (self.bridge.cfg.n_heads, -1)) if name.endswith(Z) and value.dim() == 3 else value

    def difference(self, logits: Tensor) -> Tensor:
        last = logits[:, -1].float()
        return last.gather(1, self.answer[:, None])[:, 0] - last.gather(1, self.wrong).mean(1)

    def run(self, changes: dict[str, Any]) -> Tensor:
        """Logit difference with `changes`: hook name -> function of the value by head."""

        def hooked(name: str) -> Any:
            def hook(value: Tensor, hook: Any) -> Tensor:
                return changes[name](self.by_head(name, value).clone()).reshape(value.shape)

            return hook

        with torch.no_grad():
            return self.difference(
                self.bridge.run_with_hooks(self.ids, fwd_hooks=[(name, hooked(name)) for name in changes])
            )

    def patched(self, name: str, head: int | None, positions: Any) -> Any:
        def change(value: Tensor) -> Tensor:
            where = (slice(None), positions) if head is None else (slice(None), positions, head)
            value[where] = self.corrupt[name][where]
            return value

        return change

    def one(self, pair: int) -> Slow:
        """The same of one pair alone."""
        only = slice(pair, pair + 1)
        return Slow(self.bridge, self.ids[only], self.corrupted[only], self.answer[only], self.wrong[only])

    def total(self, layer: int, head: int | None, positions: Any = slice(None)) -> Tensor:
        """Change [pair] when this head (None: the MLP) comes from the corrupted run."""
        name = f"blocks.{layer}.{MLP_OUT if head is None else Z}"
        return self.run({name: self.patched(name, head, positions)}) - self.before

    def direct(self, layer: int, head: int | None, freeze_mlps: bool) -> Tensor:
        """The same at the last position, every head (and MLP) after it held to the clean run at all positions."""
        name = f"blocks.{layer}.{MLP_OUT if head is None else Z}"
        kinds = (Z, MLP_OUT) if freeze_mlps else (Z,)
        held = {
            one: (lambda value, one=one: self.clean[one].clone())
            for one in (f"blocks.{at}.{kind}" for at in range(self.n_layers) for kind in kinds)
        }

        def sender(value: Tensor) -> Tensor:
            start = self.clean[name].clone() if name in held else value
            return self.patched(name, head, slice(-1, None))(start)

        return self.run({**held, name: sender}) - self.before

    def read(self, changes: dict[str, Any], name: str) -> Tensor:
        """The value at `name` under `changes`, [pair, position, head, d_head] or as it is."""
        kept: list[Tensor] = []
        self.run(
            {**changes, name: lambda value: kept.append(value.clone()) or value} if name not in changes else changes
        )
        return kept[0]

    def receivers_z(
        self, layer: int, site: str, arrived: Tensor, heads: list[int], group: int, at: int, put: dict[str, Any]
    ) -> Any:
        """A change of a layer's z: each of `heads` as it is when its group reads `arrived` at token `at`, with the
        changes `put` before it."""
        name, z = f"blocks.{layer}.{Z}", {}
        for head in heads:

            def receive(value: Tensor, head: int = head) -> Tensor:
                value[:, at, head // group] = arrived[:, at, head // group]
                return value

            z[head] = self.read({**put, site: receive}, name)[:, :, head]

        def change(value: Tensor) -> Tensor:
            for head, own in z.items():
                value[:, :, head] = own
            return value

        return change

    def slope(self, layer: int, head: int | None, point: Tensor | None = None, step: float = 1e-2) -> Tensor:
        """Slope [pair] of the logit difference on the way from the clean output to the corrupted one, by differences;
        `point` = what enters the first block instead of the clean embeddings."""
        name = f"blocks.{layer}.{MLP_OUT if head is None else Z}"
        way = self.corrupt[name] - self.clean[name]
        start = {} if point is None else {"blocks.0.hook_resid_pre": lambda value: point.clone()}

        def moved(share: float) -> Tensor:
            def change(value: Tensor) -> Tensor:
                if head is None:
                    return value + share * way
                value[:, :, head] += share * way[:, :, head]
                return value

            return self.run({**start, name: change})

        return (moved(step) - moved(-step)) / (2 * step)

    def through(self, layer: int, head: int | None, receivers: Any, side: str, at: int, freeze_mlps: bool) -> Tensor:
        """Effect of a sender at token `at` through `side` of the receivers (layer, head) at that token."""
        name = f"blocks.{layer}.{MLP_OUT if head is None else Z}"
        kinds = (Z, MLP_OUT) if freeze_mlps else (Z,)
        names = [f"blocks.{one}.{kind}" for one in range(self.n_layers) for kind in kinds]
        held = {one: (lambda value, one=one: self.clean[one].clone()) for one in names}

        def sender(value: Tensor) -> Tensor:
            start = self.clean[name].clone() if name in held else value
            return self.patched(name, head, slice(at, at + 1))(start)

        first = {**held, name: sender}
        put: dict[str, Any] = {}
        for one in sorted({where for where, _ in receivers if where > layer}):
            site = f"blocks.{one}.attn.hook_{side}"
            arrived = self.read(first, site)
            heads = [h for where, h in receivers if where == one]
            group = self.bridge.cfg.n_heads // arrived.shape[2]
            if group > 1:  # each receiver's z under its group's changed key or value, then those z alone
                put[f"blocks.{one}.{Z}"] = self.receivers_z(one, site, arrived, heads, group, at, dict(put))
                continue

            def receive(value: Tensor, arrived: Tensor = arrived, heads: list[int] = heads) -> Tensor:
                value[:, at, heads] = arrived[:, at, heads]
                return value

            put[site] = receive
        return self.run(put) - self.before
