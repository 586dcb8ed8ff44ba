"""What an open trace does at one layer's attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from interp.errors import TraceError
from interp.scoring.asked import Asked, Folded
from interp.tracing import streamed
from interp.tracing.blocks import RowBlock
from interp.tracing.hooks import SiteTap
from interp.tracing.one_pass import Shares, fold_all
from interp.tracing.passes import Forward

if TYPE_CHECKING:
    from interp.tracing.tracer import Trace


class RowEdit(Protocol):
    """A change to attention rows: `rows` gets a block and returns the rows the model uses instead (same shape).

    An edit that never puts mass on a key that had none may say so with ``full_rows = False`` and is then shown only the
    keys its rows can see, which halves the work. One that must see every row of a call before it changes any says
    ``whole_layer = True`` and has ``survey(block)``, which is shown all blocks of the call in order, as the edits
    before it leave them, before `rows` gets the first: one more sweep over the layer's rows, in which the edits before
    it run too, and no more memory.
    """

    @property
    def layers(self) -> frozenset[int] | None:
        """Layers it changes; None = all."""
        ...

    def rows(self, block: RowBlock) -> Tensor:
        """The new rows; must not change `block.rows` in place."""
        ...


class LayerTap(streamed.Tap):
    """One trace's interest in one layer's attention."""

    def __init__(
        self, owner: Trace, layer: int, row_edits: Sequence[RowEdit], stats: Sequence[str], sites: list[SiteTap]
    ):
        super().__init__()
        self.owner, self.layer, self.row_edits, self.stats, self.sites = owner, layer, row_edits, stats, sites
        self.block_rows, self.engine = owner.block_rows, owner.engine

    def called(self, n_queries: int, n_keys: int) -> None:
        forward = self.owner.forward
        if forward is None:
            raise TraceError(
                f"layer {self.layer}: attention ran outside a forward call of the traced model; call the model itself "
                "(t.run, model.hf(...) or model.hf.generate(...)), not one of its blocks"
            )
        forward.key_start(n_keys, n_queries, self.layer)
        forward.calls[self.layer] = forward.calls.get(self.layer, 0) + 1

    def wants_rows(self) -> bool:
        return bool(self.stats or self.row_edits)

    def edits_rows(self) -> bool:
        return bool(self.row_edits)

    def needs_full_rows(self) -> bool:
        return any(getattr(edit, "full_rows", True) for edit in self.row_edits)

    def surveys(self) -> int:
        return sum(getattr(edit, "whole_layer", False) for edit in self.row_edits)

    def pass_value(self, where: str, value: Tensor) -> Tensor:
        for tap in self.sites:
            if tap.binding.where != where:
                continue
            forward = self.current()
            new = value[:, :, -forward.n_queries :]
            if tap.edits and new.shape[2] < value.shape[2]:
                raise TraceError(
                    f"{tap.binding.site} cannot be edited while decoding with a KV cache: earlier positions were "
                    "cached unedited; run the whole sequence in one call, or edit the projection's own site"
                )
            changed = tap.visit(new)
            value = changed if tap.edits else value
        return value

    def current(self) -> Forward:
        """The forward call under way."""
        assert self.owner.forward is not None, "called() has run"
        return self.owner.forward

    def place(self, rows: Tensor, first_query: int, first_key: int, n_keys: int) -> RowBlock:
        """Rows with their absolute place in the sequence."""
        forward = self.current()
        key_start = forward.key_start(n_keys, forward.n_queries, self.layer)
        return RowBlock(self.layer, rows, forward.base + first_query, key_start + first_key, forward.current.frame)

    def edit(self, rows: Tensor, first_query: int, first_key: int, n_keys: int, survey: int | None = None) -> Tensor:
        for edit in self.row_edits:
            block = self.place(rows, first_query, first_key, n_keys)
            if survey is not None and getattr(edit, "whole_layer", False):
                if survey == 0:
                    edit.survey(block)  # type: ignore[attr-defined]
                    break
                survey -= 1
            changed = edit.rows(block)
            if changed.shape != rows.shape:
                raise TraceError(
                    f"{type(edit).__name__} at layer {self.layer}: returned rows of shape {tuple(changed.shape)}, "
                    f"expected {tuple(rows.shape)}"
                )
            rows = changed
        return rows

    def fold(self, rows: Tensor, first_query: int, first_key: int, n_keys: int) -> None:
        if self.stats:
            block = self.place(rows.detach(), first_query, first_key, n_keys)
            accumulators = self.current().current.accumulators
            fold_all(block, [accumulators[name] for name in self.stats])

    def whole(self, shape: Sequence[int], n_keys: int) -> RowBlock:
        """All rows of a call as one block that holds only their shape."""
        batch, heads, n_queries = shape[:3]
        return self.place(torch.zeros(1).expand(batch, heads, n_queries, n_keys), 0, 0, n_keys)

    def asks(self, shape: Sequence[int], n_keys: int) -> tuple[list[tuple[str, Asked]], list[str]]:
        block = self.whole(shape, n_keys)
        accumulators = self.current().current.accumulators
        parts, missing = [], []
        for name in self.stats:
            one = accumulators[name]
            part = one.part(block) if isinstance(one, Shares) else None
            if part is None:
                missing.append(name)
            else:
                parts.append((name, part))
        return parts, missing

    def take(self, name: str, folded: Folded, shape: Sequence[int], n_keys: int) -> None:
        one = self.current().current.accumulators[name]
        assert isinstance(one, Shares), "only those were asked"
        one.take(self.whole(shape, n_keys), folded, slice(None))

    def first_key(self, n_keys: int) -> int:
        forward = self.current()
        return forward.key_start(n_keys, forward.n_queries, self.layer)

    def ran(self, engine: str) -> None:
        if self.stats:
            self.owner.engines[self.layer] = engine

    def fell_back(self, why: str) -> None:
        note = f"blocks of rows in place of fused kernels: {why}"
        if note not in self.owner.notes:
            self.owner.notes.append(note)
