"""The model with some of its edges kept: what MIB and EAP-IG evaluate a circuit by (Hanna et al. 2024, arXiv
2403.17806; Mueller et al. 2025, arXiv 2504.13151).

1. Run the corrupted prompts; keep what every writer added to the residual stream.
2. Run the clean prompts. Every receiver reads its own sum of the writers before it: over a kept edge what the writer
   adds in this very run, over any other edge what it added in the corrupted one.
3. The logit difference of that run is m(C). With all edges kept it is the clean run, with none the corrupted one.

Only positions from the first that differs on are run: before it both runs agree, whichever edges are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.circuits.edge_parts import EdgeParts
from interp.circuits.edges import SIDES
from interp.circuits.states import Sides
from interp.errors import UsageError
from interp.retrieval.cache import feed, fork, shares
from interp.tracing.calls import skip_logits
from interp.tracing.tracer import trace

MEMORY = 1 << 29
"""Bytes that one group of pairs may take for what the writers add."""


def kept_edges(
    model: Any, sides: Sides, mask: np.ndarray | Tensor, *, memory: int = MEMORY, parts: EdgeParts | None = None
) -> Tensor:
    """Logit difference [pair] with only these edges carrying the clean run; all others carry the corrupted one.

    Args:
        mask: [writer, receiver] of `interp.circuits.edges.graph_of`, true = kept; a number between 0 and 1 is so much
            of the way from the corrupted to the current output. What is no edge is ignored.
        memory: bytes for the writers' outputs; pairs run in groups that keep within it.
        parts: of an earlier call, for this model.

    Raises:
        UsageError: a mask of another shape.
        SiteError: a family in which heads cannot be given inputs of their own.
    """
    return kept_edge_sets(parts or EdgeParts(model), sides, [mask], memory=memory)[0]


def kept_edge_sets(
    parts: EdgeParts, sides: Sides, masks: Sequence[np.ndarray | Tensor], *, memory: int = MEMORY
) -> Tensor:
    """`kept_edges` of several masks, [mask, pair]; the corrupted run is shared."""
    shape, device = (len(parts.graph.writers), len(parts.graph.receivers)), parts.model.device
    for mask in masks:
        if tuple(mask.shape) != shape:
            raise UsageError(
                f"a mask of shape {list(mask.shape)}; the model's graph has {list(shape)} [writer, receiver]"
            )
    found = []
    for group in groups(parts, sides, memory):
        outputs, base = corrupted(parts, group)
        here = []
        for mask in masks:
            share = torch.as_tensor(np.asarray(mask, dtype=np.float32) * parts.graph.edges, device=device)
            run = KeptRun(parts, share, outputs.clone(), base)
            with sides.metric.on(parts.model), trace(parts.model, edit=[run]) as t:
                out = t.run(group.clean, cache=group.cache(), **skip_logits(parts.model))
            here.append(sides.metric.of(out, group.pairs))
        found.append(torch.stack(here))
    return torch.cat(found, 1)


class Group:
    """Some pairs of a batch, from the first position that differs on.

    Attributes:
        pairs: their numbers; clean, corrupt: ids [pair, position].
    """

    def __init__(self, sides: Sides, pairs: Tensor, start: int, context: Any):
        self.pairs, self._context = pairs, context
        self.clean, self.corrupt = sides.batch.clean[pairs, start:], sides.batch.corrupt[pairs, start:]

    def cache(self) -> Any:
        """A KV cache of what stands before, of its own."""
        if self._context is None:
            return None
        cache = fork(self._context)
        cache.batch_select_indices(self.pairs.to(cache.layers[0].keys.device))
        return cache


def groups(parts: EdgeParts, sides: Sides, memory: int) -> Iterator[Group]:
    """A batch's pairs in groups whose writers' outputs in both runs, and inputs of a layer, fit `memory` bytes."""
    length, start = sides.batch.clean.shape[1], min(sides.batch.differs, sides.batch.clean.shape[1] - 1)
    context = None
    if start:
        context, _ = feed(parts.model, sides.batch.clean[:, :start], None)
        if not shares(context):
            context, start = None, 0
    widest = 3 * max(parts.sites.n_heads(layer) for layer in parts.attention or (0,))
    states = sides.clean.resid[0].shape[-1] * (length - start) * 4
    most = max(1, memory // (states * (2 * len(parts.graph.writers) + widest)))
    for pairs in torch.arange(len(sides.batch)).split(most):
        yield Group(sides, pairs, start, context)


def corrupted(parts: EdgeParts, group: Group) -> tuple[Tensor, dict[tuple[str, int], Tensor]]:
    """(what each writer adds in the corrupted run, `residuals` of that run)."""
    stream = Stream(parts)
    reads = residual_sites(parts)
    with trace(parts.model, read=reads, edit=[stream]) as t:
        t.run(group.corrupt, cache=group.cache(), **skip_logits(parts.model))
        return stream.added(), residuals(parts, {site: t[site] for site in reads})


def residual_sites(parts: EdgeParts) -> list[str]:
    """What `residuals` is made of."""
    before = [f"blocks.{layer}.hook_resid_pre" for layer in range(parts.n_layers)]
    return [*before, *(f"blocks.{layer}.hook_attn_out" for layer in parts.attention), parts.last]


def residuals(parts: EdgeParts, at: dict[str, Tensor]) -> dict[tuple[str, int], Tensor]:
    """(``attn`` | ``mlp`` | ``logits``, layer or -1) -> what is read there in an untouched run, float32 [pair,
    position, d_model], before any norm."""
    found = {("logits", -1): at[parts.last].float()}
    for layer in range(parts.n_layers):
        states = at[f"blocks.{layer}.hook_resid_pre"].float()
        found["attn", layer] = states
        if layer in parts.attention and not parts.parallel:
            states = states + at[f"blocks.{layer}.hook_attn_out"].float()
        found["mlp", layer] = states
    return found


class Stream:
    """An edit that changes nothing and keeps what every writer adds."""

    def __init__(self, parts: EdgeParts):
        self.parts, self.graph = parts, parts.graph
        self.held: dict[str, Tensor] = {}
        self.outputs: list[Tensor | None] = [None] * len(self.graph.writers)

    @property
    def sites(self) -> tuple[str, ...]:
        """Where writers are seen."""
        return tuple(self.parts.write_sites())

    def apply(self, value: Tensor, site: str, layer: int | None) -> Tensor:
        """The value."""
        self.see(value, site, layer)
        return value

    def see(self, value: Tensor, site: str, layer: int | None) -> None:
        """Take note of a value."""
        assert layer is not None, "block sites have a layer"
        name = site.split(".", 2)[2]
        if name in ("attn.hook_z", "attn.hook_out"):
            self.held[name] = value
        elif name == "hook_attn_out":
            z, out = self.held.pop("attn.hook_z"), self.held.pop("attn.hook_out")
            self.put(self.graph.heads(layer), self.parts.written(layer, z, out, value))
        else:
            first = self.graph.writer[("input", -1, -1) if name == "hook_resid_pre" else ("mlp", layer, -1)]
            self.put(slice(first, first + 1), value.float()[None])

    def put(self, where: slice, value: Tensor) -> None:
        """Keep outputs [writer, pair, position, d_model]."""
        self.outputs[where] = list(value.clone())

    def added(self) -> Tensor:
        """Every writer's output, [writer, pair, position, d_model]."""
        return torch.stack([one for one in self.outputs if one is not None])


class KeptRun(Stream):
    """The edit that gives every receiver its own input.

    Args:
        share: [writer, receiver], how much of a writer's output is the current one.
        outputs: the corrupted run's [writer, pair, position, d_model]; becomes the change against it as the run goes.
        base: the corrupted run's `residuals`.
    """

    def __init__(self, parts: EdgeParts, share: Tensor, outputs: Tensor, base: dict[tuple[str, int], Tensor]):
        super().__init__(parts)
        self.share, self.change, self.base = share, outputs, base

    @property
    def sites(self) -> tuple[str, ...]:
        """Where writers are seen and receivers read."""
        return (*super().sites, *self.parts.read_sites())

    def put(self, where: slice, value: Tensor) -> None:
        """Turn the corrupted outputs into changes."""
        self.change[where] = value - self.change[where]

    def apply(self, value: Tensor, site: str, layer: int | None) -> Tensor:
        """What the receivers at this site get."""
        assert layer is not None, "block sites have a layer"
        side = site.rsplit("_", 1)[-1]
        if site == self.parts.last:
            return self.mixed("logits", -1, "logits")[0].to(value.dtype)
        if site.endswith("mlp.hook_in"):
            return self.parts.normed("mlp", layer, self.mixed("mlp", layer, "mlp")[0]).to(value.dtype)
        if side in SIDES:
            return self.parts.project(layer, side, self.mixed(side, layer, "attn")).to(value.dtype)
        return super().apply(value, site, layer)

    def mixed(self, kind: str, layer: int, base: str) -> Tensor:
        """What a layer's receivers of one kind read, [receiver, pair, position, d_model]."""
        where = self.parts.graph.of(kind, layer)
        reach = self.parts.graph.reach[where.start]
        change = self.change[:reach].flatten(1)
        mixed = (self.share[:reach, where].T @ change).unflatten(1, self.change.shape[1:])
        return self.base[base, layer] + mixed
