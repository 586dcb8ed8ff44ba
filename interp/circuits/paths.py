"""Path patching to receivers: what senders do to the answer through the queries, keys or values of named heads.

Wang et al. 2022 (arXiv 2211.00593, appendix B): the sender's output at one position comes from the corrupted run while
every other head is held as in the clean one; what the receivers then read there is put into a clean run, in which all
that follows is computed anew. Only that position is run for the first part, and only positions from it on for the
second.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from interp.circuits.edits import PutInput, PutZ, SetRows, SetStates
from interp.circuits.effects import ROWS, Effects, Found, chunks, patches
from interp.circuits.states import Sides
from interp.errors import UsageError
from interp.retrieval.cache import feed, fork, shares
from interp.tracing.calls import skip_logits
from interp.tracing.partial import passed_over
from interp.tracing.tracer import trace

Side = Literal["q", "k", "v"]


@dataclass(frozen=True)
class Receivers:
    """Where the change arrives: input `side` of `heads` (layer, head), at token `position`."""

    heads: tuple[tuple[int, int], ...]
    side: Side
    position: int

    def by_layer(self) -> dict[int, list[int]]:
        """Layer -> its heads, in order of layer."""
        found: dict[int, list[int]] = {}
        for layer, head in sorted(set(self.heads)):
            found.setdefault(layer, []).append(head)
        return found


def path_effects(
    model: Any, sides: Sides, receivers: Receivers, *, freeze_mlps: bool = False, rows: int = ROWS
) -> Effects:
    """Effect of every head and MLP through the receivers; senders at or after every receiver are NaN.

    In a model whose query heads share keys and values, a receiver's key or value input is its own: other heads of the
    group keep theirs. Such receivers have to be of one layer.

    Raises:
        UsageError: a position or a head the model does not have, or receivers that cannot be told apart as asked.
        SiteError: the family has no such projection.
    """
    asked = _checked(model, sides, receivers)
    found, at = Found(model, len(sides.batch)), receivers.position
    here, where = slice(at, at + 1), torch.zeros(1, dtype=torch.long)
    second = _Second(model, sides, receivers, asked)
    for layer in range(max(asked)):
        later = [one for one in asked if one > layer]
        held = range(layer, max(later) + 1)
        for heads, pairs in chunks(sides, layer, max(1, rows // (sides.batch.clean.shape[1] - at))):
            edits: list[Any] = [
                SetStates(layer, sides.clean.resid[layer][pairs, here]),
                SetRows("attn.hook_z", {one: sides.clean.z[one][pairs, here] for one in held if one in sides.clean.z}),
            ]
            if freeze_mlps:
                kept = {one: sides.clean.mlp[one][pairs, here] for one in held if one in sides.clean.mlp}
                edits.append(SetRows("hook_mlp_out", kept))
            edits += patches(sides, layer, heads, pairs, where, here)
            sites = {one: f"blocks.{one}.attn.hook_{receivers.side}" for one in later}
            with (
                sides.metric.on(model),
                passed_over(model, layer),
                trace(model, read=list(sites.values()), edit=edits) as t,
            ):
                t.run(sides.batch.clean[pairs, here], **skip_logits(model))
                arrived = {one: t[site] for one, site in sites.items()}
            found.put(layer, heads, pairs, second.run(arrived, pairs) - sides.clean.difference[pairs])
    return found.effects()


def _checked(model: Any, sides: Sides, receivers: Receivers) -> dict[int, list[int]]:
    """Receivers by layer."""
    length, asked = sides.batch.clean.shape[1], receivers.by_layer()
    if not asked:
        raise UsageError("no receivers; name at least one (layer, head)")
    if not 0 <= receivers.position < length:
        raise UsageError(f"position {receivers.position} in prompts of {length} tokens; expected 0..{length - 1}")
    for layer, heads in asked.items():
        n_heads = model.sites.n_heads(layer)
        if heads[0] < 0 or heads[-1] >= n_heads:
            raise UsageError(f"receivers {layer}.{heads}: layer {layer} has heads 0..{n_heads - 1}")
    if receivers.side != "q" and len(asked) > 1 and any(_shared(model, layer) for layer in asked):
        raise UsageError(
            f"receivers' {receivers.side} in layers {list(asked)}: query heads share keys and values in this model, so "
            "receivers of one layer at a time can be told apart"
        )
    return asked


def _shared(model: Any, layer: int) -> bool:
    """Whether query heads share keys and values."""
    return model.sites.n_kv_heads(layer) != model.sites.n_heads(layer)


class _Second:
    """The clean run with what arrived at the receivers put in, from their position on."""

    def __init__(self, model: Any, sides: Sides, receivers: Receivers, asked: dict[int, list[int]]):
        self.model, self.sides, self.receivers, self.asked = model, sides, receivers, asked
        self.start, self.context = receivers.position, None
        if self.start:
            self.context, _ = feed(model, sides.batch.clean[:, : self.start], None)
            if not shares(self.context):
                self.start, self.context = 0, None
        self.at = receivers.position - self.start

    def run(self, arrived: dict[int, Tensor], pairs: Tensor) -> Tensor:
        """Logit difference [row] with `arrived`: layer -> [row, 1, head, d_head] at the receivers."""
        first, side = min(arrived), self.receivers.side
        if side == "q" or not _shared(self.model, first):
            edits = [
                PutInput(layer, side, tuple(self.asked[layer]), value, self.at) for layer, value in arrived.items()
            ]
            return self.forward(first, edits, pairs)[0]
        # the group's shared key or value is changed in a run of its own, from which only the receivers' z is taken
        group = self.model.sites.n_heads(first) // self.model.sites.n_kv_heads(first)
        taken: dict[int, Tensor] = {}
        for shared in sorted({head // group for head in self.asked[first]}):
            _, z = self.forward(first, [PutInput(first, side, (shared,), arrived[first], self.at)], pairs)
            taken |= {head: z[:, :, head] for head in self.asked[first] if head // group == shared}
        return self.forward(first, [PutZ(first, taken)], pairs)[0]

    def forward(self, first: int, edits: list[Any], pairs: Tensor) -> tuple[Tensor, Tensor]:
        """(logit difference [row], z of block `first`), from block `first` on."""
        cut, site = slice(self.start, None), f"blocks.{first}.attn.hook_z"
        start = SetStates(first, self.sides.clean.resid[first][pairs, cut])
        cache = None
        if self.context is not None:
            cache = fork(self.context)
            cache.batch_select_indices(pairs.to(self.model.device))
        with (
            self.sides.metric.on(self.model),
            passed_over(self.model, first),
            trace(self.model, read=[site], edit=[start, *edits]) as t,
        ):
            out = t.run(self.sides.batch.clean[pairs, cut], cache=cache, **skip_logits(self.model))
            return self.sides.metric.of(out, pairs), t[site]
