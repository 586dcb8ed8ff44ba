"""Runs of the last token alone: many edits of its attention rows side by side, behind a prompt read once.

An edit at the last token changes nothing before it, so the keys and values of all tokens before are cached, and each
run of the batch is one (prompt, edit). Where a head's output is its row times the values of its tokens, as it nearly
always is, that product is put in its place, and blocks before the first edited one are passed over; elsewhere (outputs
that are gated), and where later rows are to be seen, the rows themselves are replaced in the model's attention.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from interp.circuits.config import Head
from interp.circuits.edits import SetStates
from interp.circuits.metric import metric_of
from interp.circuits.pairs import Batch
from interp.errors import NumbersError
from interp.retrieval.cache import feed, fork, shares
from interp.tracing.blocks import RowBlock
from interp.tracing.calls import skip_logits
from interp.tracing.partial import passed_over
from interp.tracing.tracer import trace

Rows = Mapping[Head, np.ndarray]
"""(layer, head) -> what its row at the last token becomes [key]."""


@dataclass(frozen=True)
class SetEndRows:
    """Replace the attention rows of named heads at one query, in each sequence by its own.

    Attributes:
        at: absolute position of the query.
        given: layer -> (bool [batch, head], float32 [batch, head, key]): where, and the new rows. A head that shares
            its keys and values with others is still edited alone.
    """

    at: int
    given: Mapping[int, tuple[Tensor, Tensor]]
    layers: ClassVar[frozenset[int] | None] = None  # all: edited and untouched runs then take the same path

    def rows(self, block: RowBlock) -> Tensor:
        """The rows with those replaced."""
        row = self.at - block.query_start
        if block.layer not in self.given or not 0 <= row < block.rows.shape[2]:
            return block.rows
        where, new = self.given[block.layer]
        out = block.rows.clone()
        new = new.to(out)[..., block.key_positions.to(new.device)]
        out[:, :, row] = torch.where(where.to(out.device)[..., None], new, out[:, :, row])
        return out


@dataclass(frozen=True)
class SetEndZ:
    """Replace the outputs of named heads at the last token, in each sequence by its own.

    Attributes:
        given: layer -> (bool [batch, head], [batch, head, d_head]): where, and the new `hook_z`.
    """

    given: Mapping[int, tuple[Tensor, Tensor]]

    @property
    def sites(self) -> tuple[str, ...]:
        """`hook_z` of every layer concerned."""
        return tuple(f"blocks.{layer}.attn.hook_z" for layer in self.given)

    def apply(self, value: Tensor, site: str, layer: int | None) -> Tensor:
        """z [batch, position, head, d_head] with those replaced."""
        assert layer is not None, "block sites have a layer"
        where, new = self.given[layer]
        out = value.clone()
        out[:, -1] = torch.where(where.to(out.device)[..., None], new.to(out), out[:, -1])
        return out


class Noted:
    """A row edit that changes nothing and notes the rows of one query of each sequence: `found[layer]` float32 [batch,
    head, key], keys beyond what the query sees 0."""

    def __init__(self, at: Sequence[int], length: int, layers: Sequence[int] | None = None):
        self.at, self.length = torch.as_tensor(at), length
        self.layers = None if layers is None else frozenset(layers)
        self.found: dict[int, Tensor] = {}

    def rows(self, block: RowBlock) -> Tensor:
        """The rows, as they are."""
        batch, heads, n, keys = block.rows.shape
        kept = self.found.setdefault(block.layer, torch.zeros(batch, heads, self.length))
        local = self.at - block.query_start
        here = ((local >= 0) & (local < n)).nonzero()[:, 0]
        if len(here):
            own = block.rows[here.to(block.rows.device), :, local[here].to(block.rows.device)].float().cpu()
            kept[here, :, block.key_start : block.key_start + keys] = own
        return block.rows


@dataclass(frozen=True)
class Outcome:
    """Of several runs: `difference` [run] in logits; `choice`, `top1` [run] bool (None = not asked for); `seen`: the
    last token's rows [run, head, key] of the layers asked for."""

    difference: np.ndarray
    choice: np.ndarray
    top1: np.ndarray | None
    seen: dict[int, np.ndarray]


class Ends:
    """Prompts of one length, read once.

    Attributes:
        at_end, at_repeat: layer -> attention rows of the untouched model at the last token and at each prompt's
            `repeats` (the last token where there is none) [pair, head, key].
    """

    def __init__(self, model: Any, batch: Batch, repeats: Sequence[int | None]):
        self.model, self.batch = model, batch
        length = self.length = batch.clean.shape[1]
        end, again = (
            Noted(at, length)
            for at in ([length - 1] * len(batch), [length - 1 if at is None else at for at in repeats])
        )
        names = {
            kind: {
                layer: f"blocks.{layer}.{site}"
                for layer in range(model.n_layers)
                if f"blocks.{layer}.{site}" in model.sites.names()
            }
            for kind, site in {"resid": "hook_resid_pre", "v": "attn.hook_v", "z": "attn.hook_z"}.items()
        }
        with trace(model, read=[site for sites in names.values() for site in sites.values()], edit=[end, again]) as t:
            t.run(batch.clean, **skip_logits(model))
            resid, v, z = ({layer: t[site] for layer, site in sites.items()} for sites in names.values())
        self.resid = resid
        self.at_end = {layer: rows.numpy() for layer, rows in end.found.items()}
        self.at_repeat = {layer: rows.numpy() for layer, rows in again.found.items()}
        self.values = {layer: value for layer, value in v.items() if self._linear(value, end.found[layer], z[layer])}
        """layer -> [pair, key, head or group of heads, d_head] of layers whose outputs are rows times values."""

    def _linear(self, value: Tensor, rows: Tensor, z: Tensor) -> bool:
        value = self._by_head(value, rows.shape[1])
        if value.shape[-1] != z.shape[-1]:
            return False
        product = torch.einsum("phk,pkhd->phd", rows.to(value), value).float()
        own = z[:, -1].float()
        rounding = 1e-3 if value.dtype == torch.float32 else 2e-2
        return bool((product - own).abs().max() <= rounding * own.abs().max())

    def _by_head(self, value: Tensor, n_heads: int) -> Tensor:
        """Values [pair, key, head, d_head], those that heads share repeated."""
        return value.repeat_interleave(n_heads // value.shape[2], 2)

    @cached_property
    def context(self) -> Any:
        """The KV cache of all tokens but the last; None where the whole prompt has to be run again: a cache that cannot
        be shared, or one whose sliding window has lost keys that a row may be put on."""
        if self.length < 2:
            return None
        cache, _ = feed(self.model, self.batch.clean[:, :-1], None)
        if not shares(cache):
            return None
        lost = any(getattr(layer, "is_sliding", False) and self.length > layer.sliding_window for layer in cache.layers)
        return None if lost else cache

    def run(
        self,
        cells: Sequence[tuple[int, Rows]],
        *,
        rows: int,
        top1: bool = True,
        see: Sequence[int] = (),
    ) -> Outcome:
        """Run (pair, edited rows) cells, `rows` at a time; without any row a cell is the untouched model.

        Raises:
            NumbersError: a logit that is not finite.
        """
        by_rows = [bool(see) or not self._multiplies(edited) for _, edited in cells]
        last = self.model.n_layers - 1
        order = sorted(range(len(cells)), key=lambda i: (by_rows[i], min((at for at, _ in cells[i][1]), default=last)))
        difference = np.zeros(len(cells), dtype=np.float64)
        choice, first = np.zeros(len(cells), dtype=bool), np.zeros(len(cells), dtype=bool)
        seen = {layer: np.zeros((len(cells), self.model.n_heads, self.length), dtype=np.float32) for layer in see}
        kinds = [[i for i in order if by_rows[i] == kind] for kind in (False, True)]
        for part in [kind[at : at + rows] for kind in kinds for at in range(0, len(kind), rows)]:
            noted = self._some([cells[i] for i in part], by_rows[part[0]], top1, see)
            difference[part], choice[part], first[part] = noted[:3]
            for layer in see:
                seen[layer][part] = noted[3][layer]
        return Outcome(difference, choice, first if top1 else None, seen)

    def _multiplies(self, edited: Rows) -> bool:
        """Whether products of rows and values can stand for the edit: the last token's own value, which an edit in a
        layer before changes, must not be among them."""
        first = min((layer for layer, _ in edited), default=0)
        return all(at in self.values and (at == first or row[-1] == 0) for (at, _), row in edited.items())

    def _some(
        self, cells: Sequence[tuple[int, Rows]], by_rows: bool, top1: bool, see: Sequence[int]
    ) -> tuple[Any, ...]:
        model, length = self.model, self.length
        pairs = torch.tensor([pair for pair, _ in cells])
        edited = {layer for _, rows in cells for layer, _ in rows}
        start = 0 if by_rows else min(edited, default=model.n_layers - 1)
        cut = slice(0 if self.context is None else length - 1, None)
        cache = None
        if self.context is not None:
            cache = fork(self.context)
            cache.batch_select_indices(pairs.to(model.device))
        given = self._given(cells)
        note = Noted([length - 1] * len(cells), length, see)
        edits: list[Any] = [SetStates(start, self.resid[start][pairs, cut])]
        edits += [SetEndRows(length - 1, given), note] if by_rows else [SetEndZ(self._multiplied(pairs, given))]
        metric = metric_of(self.batch)
        with passed_over(model, start), trace(model, edit=edits) as t:
            if top1:
                out = t.run(self.batch.clean[pairs, cut], cache=cache, **skip_logits(model))
                logits = out.logits[:, -1].float().cpu()
                scores = logits[:, metric.tokens]
            else:
                with metric.on(model):
                    out = t.run(self.batch.clean[pairs, cut], cache=cache, **skip_logits(model))
                logits = scores = out.logits[:, -1].float().cpu()
        if not torch.isfinite(scores).all():
            raise NumbersError("the model's logits are not finite; try --dtype float32, or check the weights")
        right = scores.gather(1, metric.answer[pairs][:, None])[:, 0]
        wrong = scores.gather(1, metric.wrong[pairs])
        difference = right - (wrong * metric.weight[pairs]).sum(1)
        first = logits.argmax(1) == self.batch.answer[pairs] if top1 else torch.zeros(len(cells), dtype=torch.bool)
        seen = {layer: rows.numpy() for layer, rows in note.found.items()}
        return difference.numpy(), (right > wrong.amax(1)).numpy(), first.numpy(), seen

    def _given(self, cells: Sequence[tuple[int, Rows]]) -> dict[int, tuple[Tensor, Tensor]]:
        """layer -> (bool [cell, head], rows [cell, head, key])."""
        given: dict[int, tuple[Tensor, Tensor]] = {}
        for row, (_, edited) in enumerate(cells):
            for (layer, head), new in edited.items():
                if layer not in given:
                    shape = (len(cells), self.model.n_heads)
                    given[layer] = torch.zeros(shape, dtype=torch.bool), torch.zeros(*shape, self.length)
                given[layer][0][row, head] = True
                given[layer][1][row, head] = torch.from_numpy(new)
        return given

    def _multiplied(
        self, pairs: Tensor, given: Mapping[int, tuple[Tensor, Tensor]]
    ) -> dict[int, tuple[Tensor, Tensor]]:
        """The same with z [cell, head, d_head] in place of rows."""
        made = {}
        for layer, (where, rows) in given.items():
            value = self._by_head(self.values[layer], rows.shape[1])
            z = torch.zeros(*where.shape, value.shape[-1], dtype=torch.float32)
            cell, head = where.nonzero(as_tuple=True)
            z[cell, head] = torch.einsum("ck,ckd->cd", rows[cell, head].to(value), value[pairs[cell], :, head]).float()
            made[layer] = where, z
        return made
