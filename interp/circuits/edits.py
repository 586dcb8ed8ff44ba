"""Edits that differ from row to row of a batch: in row r, this head or that MLP from another run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class SetStates:
    """Block `layer` starts from `states` [row, position, d_model]."""

    layer: int
    states: Tensor

    @property
    def sites(self) -> tuple[str, ...]:
        return (f"blocks.{self.layer}.hook_resid_pre",)

    def apply(self, value: Tensor, site: str, layer: int | None) -> Tensor:
        """The states."""
        return self.states.to(value)


@dataclass(frozen=True)
class SetRows:
    """At `name` of each layer in `values`, every row gets its own value [row, position, ...]."""

    name: str
    values: Mapping[int, Tensor]

    @property
    def sites(self) -> tuple[str, ...]:
        return tuple(f"blocks.{layer}.{self.name}" for layer in self.values)

    def apply(self, value: Tensor, site: str, layer: int | None) -> Tensor:
        """The values."""
        assert layer is not None, "block sites have a layer"
        return self.values[layer].to(value)


@dataclass(frozen=True)
class AddRows:
    """`added` [row, position, d_model] on top of what stands at `site`."""

    site: str
    added: Tensor

    @property
    def sites(self) -> tuple[str, ...]:
        return (self.site,)

    def apply(self, value: Tensor, site: str, layer: int | None) -> Tensor:
        """The sum."""
        return value + self.added.to(value)


@dataclass(frozen=True)
class PatchHeads:
    """In row r, head `heads[r]` of one layer puts out `other` [row, position, head, d_head] at `where`; rows whose head
    is below 0 are left alone.

    Attributes:
        where: [position], or [row, n] for each row's own; numbers below 0 stand for none.
    """

    layer: int
    heads: Tensor
    other: Tensor
    where: Tensor

    @property
    def sites(self) -> tuple[str, ...]:
        return (f"blocks.{self.layer}.attn.hook_z",)

    def apply(self, value: Tensor, site: str, layer: int | None) -> Tensor:
        """z with each row's head replaced."""
        rows, where = _places(self.heads >= 0, self.where)
        at = (rows.to(value.device), where.to(value.device), self.heads[rows].to(value.device))
        out = value.clone()
        out[at] = self.other.to(value.device)[at].to(value)
        return out


@dataclass(frozen=True)
class PatchMLP:
    """In the rows where `chosen` [row], the MLP of one layer adds `other` [row, position, d_model] at `where`, which is
    as in `PatchHeads`."""

    layer: int
    chosen: Tensor
    other: Tensor
    where: Tensor

    @property
    def sites(self) -> tuple[str, ...]:
        return (f"blocks.{self.layer}.hook_mlp_out",)

    def apply(self, value: Tensor, site: str, layer: int | None) -> Tensor:
        """The MLP's output, replaced in those rows."""
        at = tuple(one.to(value.device) for one in _places(self.chosen, self.where))
        out = value.clone()
        out[at] = self.other.to(value.device)[at].to(value)
        return out


def _places(chosen: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
    """(row, position) of every token in the rows where `chosen` [row]."""
    where = where.expand(len(chosen), -1) if where.dim() == 1 else where
    rows, columns = (chosen[:, None] & (where >= 0)).nonzero(as_tuple=True)
    return rows, where[rows, columns]


@dataclass(frozen=True)
class PutInput:
    """Heads of one layer read `value` [row, 1, head, d_head] as their query, key or value at token `at`."""

    layer: int
    side: str
    heads: tuple[int, ...]
    value: Tensor
    at: int

    @property
    def sites(self) -> tuple[str, ...]:
        return (f"blocks.{self.layer}.attn.hook_{self.side}",)

    def apply(self, value: Tensor, site: str, layer: int | None) -> Tensor:
        """The projections with those heads' own at that token."""
        out, heads = value.clone(), list(self.heads)
        out[:, self.at, heads] = self.value[:, 0, heads].to(value)
        return out


@dataclass(frozen=True)
class PutZ:
    """Heads of one layer put out `z`: head -> [row, position, d_head]."""

    layer: int
    z: Mapping[int, Tensor]

    @property
    def sites(self) -> tuple[str, ...]:
        return (f"blocks.{self.layer}.attn.hook_z",)

    def apply(self, value: Tensor, site: str, layer: int | None) -> Tensor:
        """z with those heads' own."""
        out = value.clone()
        for head, own in self.z.items():
            out[:, :, head] = own.to(value)
        return out
