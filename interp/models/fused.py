"""Where queries, keys and values lie in a fused projection, and gate and up in a fused MLP projection.

The layout is never assumed: the entries of the fused output are numbered, the numbers are sent through the code that
splits them (the attention module's own method where it has one, TransformerLens's weight splitter otherwise), and what
comes out is written as a regular slice. TransformerLens's splitter alone would not do: for Falcon's newer decoder it
cuts three contiguous blocks where the model interleaves them per KV group.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

_OWN_SPLITTERS = ("_split_heads", "_reshape")


@dataclass(frozen=True)
class Slice:
    """Entries ``start:stop`` of each of ``groups`` equal runs of an axis; ``size`` entries in all."""

    groups: int
    start: int
    stop: int

    @property
    def size(self) -> int:
        return self.groups * (self.stop - self.start)


def out_features(projection: nn.Module) -> int:
    """Width of what a Linear or Conv1D returns."""
    return int(getattr(projection, "nf", None) or projection.out_features)  # pyright: ignore[reportArgumentType]


def is_conv1d(projection: nn.Module) -> bool:
    """Whether the weight is stored [in, out], as GPT-2's Conv1D does."""
    return hasattr(projection, "nf")


def qkv_slices(bridge: Any, attention: nn.Module, fused: nn.Module, d_model: int) -> dict[str, Slice] | None:
    """Slices named q, k and v of the fused projection's output, or None when its layout is not a regular one."""
    width = out_features(fused)
    own = next((getattr(attention, name) for name in _OWN_SPLITTERS if _splits_alone(attention, name)), None)
    if own is not None:
        labels = torch.arange(width).view(1, 1, width)
        return _named(("q", "k", "v"), lambda: own(labels), width)
    splitter = getattr(bridge, "split_qkv_matrix", None)
    if splitter is None:
        return None
    name = bridge.submodules["qkv"].name
    labelled = _labelled(width, d_model, is_conv1d(fused))
    return _named(("q", "k", "v"), lambda: _rows(splitter(SimpleNamespace(**{name: labelled}))), width)


def _splits_alone(attention: nn.Module, name: str) -> bool:
    """Whether the module has this method and it wants the fused output only (CodeGen once split part by part)."""
    method = getattr(attention, name, None)
    return method is not None and len(inspect.signature(method).parameters) == 1


def gate_up_slices(bridge: Any, mlp: nn.Module, d_model: int) -> tuple[nn.Module, dict[str, Slice]] | None:
    """The fused gate/up projection and its slices named gate and up, or None when the MLP has no such projection."""
    splitter = getattr(bridge, "split_gate_up_matrix", None)
    name = getattr(bridge, "fused_attr", "gate_up_proj")
    fused = getattr(mlp, name, None)
    if splitter is None or not isinstance(fused, nn.Module):
        return None
    width = out_features(fused)
    labelled = _labelled(width, d_model, is_conv1d(fused))
    slices = _named(("gate", "up"), lambda: _rows(splitter(SimpleNamespace(**{name: labelled}))), width)
    return None if slices is None else (fused, slices)


def _labelled(width: int, d_model: int, conv1d: bool) -> nn.Module:
    """A stand-in for a projection whose weight and bias hold the number of their output entry (exact in float32)."""
    labels = torch.arange(width, dtype=torch.float32)
    stand_in: Any = nn.Module()
    stand_in.weight = labels.expand(d_model, width) if conv1d else labels.unsqueeze(1).expand(width, d_model)
    stand_in.bias = labels
    return stand_in


def _rows(projections: Sequence[nn.Module]) -> list[torch.Tensor]:
    return [projection.weight[:, 0] for projection in projections]  # pyright: ignore[reportIndexIssue]


def _named(names: Sequence[str], split: Callable[[], Sequence[torch.Tensor]], width: int) -> dict[str, Slice] | None:
    # The splitters build Linear layers, whose initial values would move the user's random state.
    with torch.random.fork_rng(devices=[]), torch.no_grad(), torch.device("meta"):
        parts = split()
    slices = [_regular([int(label) for label in part.reshape(-1)], width) for part in parts]
    if any(found is None for found in slices):
        return None
    return {name: found for name, found in zip(names, slices, strict=True) if found is not None}


def _regular(labels: list[int], width: int) -> Slice | None:
    """The slice that lists exactly these entries in this order (repetitions, as of broadcast keys, dropped)."""
    entries = list(dict.fromkeys(labels))
    starts = [entry for i, entry in enumerate(entries) if i == 0 or entry != entries[i - 1] + 1]
    groups = len(starts)
    if not entries or width % groups or len(entries) % groups:
        return None
    run, length = width // groups, len(entries) // groups
    start = starts[0] if groups > 1 else entries[0]
    expected = [group * run + start + i for group in range(groups) for i in range(length)]
    return Slice(groups, start, start + length) if entries == expected else None
