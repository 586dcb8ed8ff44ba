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

from interp.circuits.edits import PutInput, PutZ, SetStates
from interp.circuits.effects import Effects, Found, patches
from interp.circuits.held import Held
from interp.circuits.rows import ROWS, Context, chunks, groups
from interp.circuits.states import Sides
from interp.errors import UsageError
from interp.tracing.calls import skip_logits
from interp.tracing.partial import passed_over
from interp.tracing.tracer import trace

Side = Literal["q", "k", "v"]


@dataclass(frozen=True)
class Receivers:
    """Where the change arrives: input `side` of `heads` (layer, head), at token `position`: one for all pairs, or a
    tuple with each pair's own."""

    heads: tuple[tuple[int, int], ...]
    side: Side
    position: int | tuple[int, ...]

    def by_layer(self) -> dict[int, list[int]]:
        """Layer -> its heads, in order of layer."""
        found: dict[int, list[int]] = {}
        for layer, head in sorted(set(self.heads)):
            found.setdefault(layer, []).append(head)
        return found


def path_effects(
    model: Any, sides: Sides, receivers: Receivers, *, freeze_mlps: bool = False, rows: int = ROWS
) -> Effects:
    """Effect of every head and MLP through the receivers together; senders at or after every receiver are NaN.

    In a model whose query heads share keys and values, a receiver's key or value input is its own: other heads of the
    group keep theirs.

    Raises:
        UsageError: a position or a head the model does not have.
        SiteError: the family has no such projection.
    """
    asked, positions = _checked(model, sides, receivers)
    found, where, end = Found(model, len(sides.batch)), torch.zeros(1, dtype=torch.long), max(asked)
    for at, members in groups(positions):
        here = slice(at, at + 1)
        held, second = Held(model, sides, here), _Second(model, sides, receivers.side, asked, at, members)
        for layer in range(end):
            sites = {one: f"blocks.{one}.attn.hook_{receivers.side}" for one in asked if one > layer}
            for heads, pairs in chunks(sides, layer, max(1, rows // sides.batch.clean.shape[1]), members):
                start = SetStates(layer, sides.clean.resid[layer][pairs, here])
                sent, layers = patches(sides, layer, heads, pairs, where, here), range(layer, end + 1)
                with (
                    passed_over(model, layer, end),
                    sides.metric.on(model),
                    held.on(layers, pairs, sent, mlps=freeze_mlps, computed=tuple(sites)) as edits,
                    trace(model, read=list(sites.values()), edit=[start, *edits]) as t,
                ):
                    t.run(sides.batch.clean[pairs, here], **skip_logits(model))
                    arrived = {one: t[site] for one, site in sites.items()}
                found.put(layer, heads, pairs, second.run(arrived, pairs) - sides.clean.difference[pairs])
    return found.effects()


def _checked(model: Any, sides: Sides, receivers: Receivers) -> tuple[dict[int, list[int]], Tensor]:
    """Receivers by layer, and their position [pair]."""
    (n, length), asked, at = sides.batch.clean.shape, receivers.by_layer(), receivers.position
    if not asked:
        raise UsageError("no receivers; name at least one (layer, head)")
    if isinstance(at, tuple) and len(at) != n:
        raise UsageError(f"{len(at)} positions for {n} pairs; expected one, or one for each pair")
    positions = torch.tensor(at).expand(n)
    if int(positions.min()) < 0 or int(positions.max()) >= length:
        raise UsageError(f"position {at} in prompts of {length} tokens; expected 0..{length - 1}")
    for layer, heads in asked.items():
        n_heads = model.sites.n_heads(layer)
        if heads[0] < 0 or heads[-1] >= n_heads:
            raise UsageError(f"receivers {layer}.{heads}: layer {layer} has heads 0..{n_heads - 1}")
    return asked, positions


class _Second:
    """The clean run with what arrived at the receivers put in, from their position on."""

    def __init__(self, model: Any, sides: Sides, side: str, asked: dict[int, list[int]], at: int, members: Tensor):
        self.model, self.sides, self.side, self.asked = model, sides, side, asked
        self.context = Context(model, sides.batch, members, at)
        self.at = at - self.context.start

    def run(self, arrived: dict[int, Tensor], pairs: Tensor) -> Tensor:
        """Logit difference [row] with `arrived`: layer -> [row, 1, head, d_head] at the receivers.

        Where a key or value belongs to more heads than the receivers, it is changed in a run of its own, from which
        only the receivers' outputs are taken; each layer's with the receivers before it in place.
        """
        edits: list[Any] = []
        for layer in sorted(arrived):
            group = 1 if self.side == "q" else self.model.sites.n_heads(layer) // self.model.sites.n_kv_heads(layer)
            heads = self.asked[layer]
            shared = sorted({head // group for head in heads})
            put = PutInput(layer, self.side, tuple(shared), arrived[layer], self.at)
            if len(heads) == len(shared) * group:
                edits.append(put)
                continue
            z = self.forward(min(arrived), layer, [*edits, put], pairs)[1]
            edits.append(PutZ(layer, {head: z[:, :, head] for head in heads}))
        return self.forward(min(arrived), self.model.n_layers - 1, edits, pairs)[0]

    def forward(self, first: int, last: int, edits: list[Any], pairs: Tensor) -> tuple[Tensor, Tensor]:
        """(logit difference [row], z of block `last`), of blocks `first` to `last` alone."""
        cut, site = self.context.cut, f"blocks.{last}.attn.hook_z"
        start = SetStates(first, self.sides.clean.resid[first][pairs, cut])
        with (
            self.sides.metric.on(self.model),
            passed_over(self.model, first, last),
            trace(self.model, read=[site], edit=[start, *edits]) as t,
        ):
            out = t.run(self.sides.batch.clean[pairs, cut], cache=self.context.of(pairs), **skip_logits(self.model))
            return self.sides.metric.of(out, pairs), t[site]
