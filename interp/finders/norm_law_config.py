"""Settings of the norm-law finder, the schema of its table, and which spans its sweep rescales."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from interp.finders.sink_config import SinksConfig
from interp.findings import Column

MEASURES = ("norm", "score", "peak", "lifetime", "state")
"""What a sweep keeps of each sink: the target norm, and what is left of the sink at it."""
GROUPS = ("secondary", "other", "anchor")
FIRST = 3
"""Positions before this one are left alone (METHODS 1.2), unless the anchor stands there and is asked for."""


@dataclass(frozen=True)
class NormLawConfig(SinksConfig):
    """Which sinks are rescaled, to what, and how many tokens are written on."""

    kinds: tuple[Literal["secondary", "other", "anchor"], ...] = ("secondary", "other")  # whose forming MLP is rescaled
    few: int = 3  # in a prompt with fewer secondary sinks, the other sinks are swept with them
    sweep: tuple[float, ...] = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0)  # target norms, in natural norms
    reach: int = 2  # the forming MLP is looked for in the start block and so many blocks before it
    joint: int = 0  # MLPs of so many blocks after the forming one are rescaled with it, each from its own natural norm
    near: int = 1  # a span counts as the sink's own when it starts within so many blocks of the natural start
    writes: int = 4  # ordinary tokens of a prompt that the sink direction is written onto
    resamples: int = 2_000  # of the bootstrap of a correlation (means take 10,000)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.kinds or set(self.kinds) - set(GROUPS):
            raise ValueError(f"kinds={','.join(self.kinds)}: expected one or more of {', '.join(GROUPS)}")
        if not {0.0, 1.0} <= set(self.sweep) or min(self.sweep) < 0 or len(set(self.sweep)) < len(self.sweep):
            raise ValueError(
                f"sweep={','.join(map(str, self.sweep))}: expected different numbers from 0 up, with 0 (removal) and 1 "
                "(the natural norm, where nothing may change) among them"
            )
        for name, bound in {"few": 1, "reach": 0, "joint": 0, "near": 0, "writes": 1, "resamples": 100}.items():
            if getattr(self, name) < bound:
                raise ValueError(f"{name}={getattr(self, name)}: expected {bound} or more")


COLUMNS = (
    Column("prompt", "string", "prompt", "Name of the prompt."),
    Column("position", "Int64", "position", "0-based position of the token in the prompt."),
    Column("token_id", "Int64", "token id", "Id of the token in the vocabulary."),
    Column("token", "string", "token", "The token as text."),
    Column(
        "group",
        "string",
        "group",
        "secondary: starts later than the anchor; other: any other token's span; anchor: the primary sink itself.",
    ),
    Column("start_layer", "Int64", "start layer", "First block whose output is a sink's state."),
    Column("lifetime", "Int64", "lifetime", "Number of blocks whose output is a sink's state."),
    Column(
        "forming_layer",
        "Int64",
        "forming layer",
        "Block whose MLP adds most along the anchor's state, of the start block and the few before it.",
    ),
    Column("mlp_norm", "float64", "MLP norm", "l2 norm of what that MLP adds to the residual stream at the token."),
    Column("state_norm", "float64", "state norm", "l2 norm of the token's state after the start block."),
    Column(
        "score",
        "float64",
        "sink score",
        "Attention received (alpha), mean over heads and over the blocks that read its states.",
    ),
    Column("peak", "float64", "peak score", "The largest alpha, mean over heads, of the blocks after the start block."),
    Column("swept", "boolean", "swept", "Whether the sweep rescales this sink's forming MLP."),
)


def swept(spans: Sequence[Mapping[str, Any]], config: NormLawConfig) -> dict[str, list[int]]:
    """Indices of the spans that are rescaled together: ``tokens`` in one sweep, the ``anchor`` in one of its own.

    Tokens are the secondary sinks and, where there are fewer than `few` of them, the others as well, never before
    position 3; one that two spans share a forming MLP at is taken once. Of the anchor's spans it is the longest.
    """
    places = [i for i, span in enumerate(spans) if span["group"] != "anchor" and span["position"] >= FIRST]
    chosen = once(spans, [i for i in places if spans[i]["group"] == "secondary" and "secondary" in config.kinds])
    if len(chosen) < config.few and "other" in config.kinds:
        chosen = once(spans, [*chosen, *(i for i in places if spans[i]["group"] == "other")])
    sweeps = {"tokens": sorted(chosen)} if chosen else {}
    if "anchor" in config.kinds and (main := longest(spans)) is not None:
        sweeps["anchor"] = [main]
    return sweeps


def once(spans: Sequence[Mapping[str, Any]], indices: Sequence[int]) -> list[int]:
    """Without the spans whose position and forming MLP an earlier one of `indices` has."""
    taken: dict[tuple[int, int], int] = {}
    for i in indices:
        taken.setdefault((spans[i]["position"], spans[i]["forming_layer"]), i)
    return list(taken.values())


def longest(spans: Sequence[Mapping[str, Any]]) -> int | None:
    """Index of the anchor's longest span."""
    own = [i for i, span in enumerate(spans) if span["group"] == "anchor"]
    return max(own, key=lambda i: spans[i]["lifetime"], default=None)
