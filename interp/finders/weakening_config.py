"""Settings of the primary-weakening finder and the schema of its table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from interp.finders.sink_config import SinksConfig
from interp.findings import Column

SITES = {"key": "attn.hook_k", "rot_key": "attn.hook_rot_k", "value": "attn.hook_v"}
"""What is measured of the anchor as a key, by short name: before rotary, after it, and its value."""


@dataclass(frozen=True)
class WeakeningConfig(SinksConfig):
    """Which sinks the primary is held against, and in which layers."""

    of: Literal["secondary", "any"] = (
        "secondary"  # the sinks whose start is looked at: secondary, or any but the anchor
    )
    where: Literal["start", "life"] = (
        "start"  # layers that read a sink's first block, or those that read any of its life
    )
    reach: int = 2  # the forming MLP (removed in the check) is looked for so many blocks before the start

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, allowed in {"of": ("secondary", "any"), "where": ("start", "life")}.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r}: expected {' or '.join(allowed)}")
        if self.reach < 0:
            raise ValueError(f"reach={self.reach}: expected 0 or more")


COLUMNS = (
    Column("prompt", "string", "prompt", "Name of the prompt."),
    Column("position", "Int64", "position", "0-based position of the secondary sink."),
    Column("token_id", "Int64", "token id", "Id of the token in the vocabulary."),
    Column("token", "string", "token", "The token as text."),
    Column("kind", "string", "kind", "secondary: starts later than the anchor; primary, transient: with of=any only."),
    Column("start_layer", "Int64", "start layer", "First block whose output is a sink's state."),
    Column("lifetime", "Int64", "lifetime", "Number of blocks whose output is a sink's state."),
    Column("forming_layer", "Int64", "forming layer", "Block whose MLP formed it; removed there in the check."),
    Column("received", "float64", "attention received", "Its own alpha, mean over heads and the blocks that read it."),
    Column(
        "anchor_there",
        "float64",
        "anchor there",
        "Attention the anchor receives, mean over heads, in the block that reads this sink's first state.",
    ),
    Column(
        "anchor_elsewhere",
        "float64",
        "anchor elsewhere",
        "The same, mean over the blocks that read the anchor as a sink and no sink's first state.",
    ),
)


def counted(span: Mapping[str, Any], config: WeakeningConfig) -> bool:
    """Whether a span is one of those that the primary is held against."""
    return not span["anchor"] and (config.of == "any" or span["kind"] == "secondary")


def reads(span: Mapping[str, Any], where: str) -> set[int]:
    """Blocks that read a span: its first state, or any of its life, which may have gaps."""
    return {layer for layer in span["reading"] if where == "life" or layer == span["start_layer"] + 1}


def chosen_layers(told: Mapping[str, Any], config: WeakeningConfig) -> tuple[list[int], list[int]]:
    """Of the blocks that read the anchor as a sink: those in which secondaries begin, and the others."""
    anchor: set[int] = set()
    there: set[int] = set()
    for span in told["spans"]:
        if span["anchor"]:
            anchor |= reads(span, "life")
        elif counted(span, config):
            there |= reads(span, config.where)
    return sorted(anchor & there), sorted(anchor - there)
