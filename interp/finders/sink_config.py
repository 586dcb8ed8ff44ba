"""Settings of the sinks finder, the schema of its table, and what its rules hand over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from interp.findings import Column

Kind = Literal["primary", "secondary", "transient"]


@dataclass(frozen=True)
class SinksConfig:
    """Every number a sink hangs on. The relative rule's were read off SmolLM2-135M and Gemma 3 270M.

    On 22 texts of 105 to 512 tokens, with BOS and without, called keys hold a mean alpha of 0.03 to 0.77 in states of 2
    to 190 times the median norm; of the others 999 in 1,000 stay under 0.04. Attention alone would not tell them apart:
    177 more (block, key) pairs after block 0 pass `floor` and `multiple`, ordinary states but for the fading ends of
    called spans and a few single layers. Nor would the cosine (see the anisotropy caveat of a Gemma run).
    """

    rule: Literal["relative", "wong2025"] = "relative"  # METHODS 1.2: ours, or the released one
    eps: float = 0.3  # a head attends to a key when alpha > eps (Gu et al. 2410.10781, section 3)
    cosine: float = 0.9  # a state is aligned with the anchor's above it (Wong et al. 2512.22213)
    floor: float = 0.03  # a sink's alpha, mean over heads, is at least this ...
    multiple: float = 5.0  # ... and at least so many times the median key's around it
    norm: float = 2.0  # a sink's state is at least so many times as long as the block's median state
    anisotropic: float = 0.1  # where a larger share of keys passes `cosine`, the centred cosine must pass it too
    gap: int = 1  # so many layers without the marks of a sink are bridged inside a span
    least: int = 2  # a span holds at least so many layers in direct succession
    unranked: int = 32  # keys that fewer queries can see are not ranked (at most a quarter of the prompt)
    keep_arrays: int = 16  # prompts whose [layer, head, position] arrays are kept
    draw: int = 4  # prompts drawn in the report, with heatmaps and token strip
    heads_drawn: int = 4  # heads whose patterns the token strips carry
    formation: bool = True  # say which block's MLP or attention formed the sinks (one more pass a prompt)
    controls: int = 2  # draws of matched ordinary positions in the causal check
    seed: int = 0  # of those draws and of the bootstrap

    def __post_init__(self) -> None:
        if self.rule not in ("relative", "wong2025"):
            raise ValueError(f"rule={self.rule!r}: expected relative or wong2025")
        for name in ("eps", "cosine", "floor", "anisotropic"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)}: expected a number from 0 to 1")
        least = {
            "multiple": 0,
            "norm": 0,
            "gap": 0,
            "least": 1,
            "unranked": 0,
            "keep_arrays": 0,
            "draw": 0,
            "heads_drawn": 0,
        }
        for name, bound in {**least, "controls": 1, "seed": 0}.items():
            if getattr(self, name) < bound:
                raise ValueError(f"{name}={getattr(self, name)}: expected {bound} or more")


COLUMNS = (
    Column("prompt", "string", "prompt", "Name of the prompt."),
    Column(
        "position", "Int64", "position", "0-based position of the token in the prompt, BOS and chat template included."
    ),
    Column("token_id", "Int64", "token id", "Id of the token in the vocabulary."),
    Column("token", "string", "token", "The token as text."),
    Column(
        "kind",
        "string",
        "kind",
        "primary: lives as long as the anchor; secondary: starts later; transient: any other span.",
    ),
    Column(
        "start_layer",
        "Int64",
        "start layer",
        "The forming block, 0-based: the first whose output is a sink's state. Attention shows it one block later.",
    ),
    Column(
        "lifetime",
        "Int64",
        "lifetime",
        "Number of blocks whose output is a sink's state (relative rule: bridged gaps included).",
    ),
    Column("cosine", "float64", "cosine", "Cosine of its state with the anchor's, mean over the blocks of its life."),
    Column("norm", "float64", "norm", "l2 norm of its state (block output), mean over the blocks of its life."),
    Column(
        "received",
        "float64",
        "attention received",
        "Share of their attention that queries at and after it give it (alpha), mean over heads and over the blocks"
        " that read its states, each one after a block of its life.",
    ),
    Column("heads", "float64", "share of heads", "Share of those blocks' heads in which alpha exceeds eps."),
    Column(
        "level",
        "Int64",
        "level",
        "Group of like start layer and lifetime over all prompts, numbered in order.",
    ),
)


@dataclass(frozen=True)
class Measured:
    """One prompt, as `measure` stored it.

    Attributes:
        received: float32 [layer, head, position], alpha.
        norm, cosine, centred: float32 [layer, position]: of block outputs; cosines are taken with the anchor's state.
        anchor: position of the anchor, None when nothing looks like a sink (cosines are then with `reference`).
    """

    received: np.ndarray
    norm: np.ndarray
    cosine: np.ndarray
    centred: np.ndarray
    anchor: int | None
    reference: int


@dataclass(frozen=True)
class Sink:
    """A found span: blocks `layers` leave the token at `position` in a sink's state; `bridged` of the blocks between
    are gaps."""

    position: int
    kind: Kind
    start: int
    lifetime: int
    layers: tuple[int, ...]
    bridged: int = 0


def reading_layers(layers: tuple[int, ...], n_layers: int) -> list[int]:
    """The blocks whose attention reads what `layers` left behind (none reads the last block's output)."""
    return [layer + 1 for layer in layers if layer + 1 < n_layers]
