"""Settings of the ablation finder, how heads are named, and the schema of its table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from interp.errors import UsageError
from interp.findings import Column

LABEL = re.compile(r"(\d+)\.(\d+|\*)")
Head = tuple[int, int]
Named = Literal["act", "remove-sinks", "uniform", "streaming", "cut", "zero", "mean", "resample"]
HOWS: tuple[str, ...] = get_args(Named)
KNOCKOUT = "knockout"
"""Stands before the positions of ``knockout:FROM->TO``."""
EVERYWHERE = "all"
AT_POSITIONS = ("zero", "mean", "resample")
"""Edits of heads' outputs, which can be held to a position."""
ON_PAIRS = ("resample", KNOCKOUT)
"""Edits that a text without a corrupted twin and named positions cannot have."""


@dataclass(frozen=True)
class AblationConfig:
    """What is done to which heads, and how it is judged."""

    how: Named | str = "act"  # or knockout:FROM->TO, attention from these positions to those cut
    position: str = EVERYWHERE  # zero, mean and resample act here alone: a named position or a role
    heads: tuple[str, ...] = ()  # layer.head or layer.* (a whole layer); none = choose among candidates
    select: int | None = None  # the best so many; none = all whose interval lies on the side aimed at
    by: Literal["head", "layer"] = "head"  # what a candidate is: one head, or all heads of a layer
    candidates: int = 16  # those the edit changes most on a calibration text are tried; 0 = all
    aim: Literal["auto", "help", "hurt"] = "auto"  # auto: hurt (heads that matter) but for edits of sinks, help
    metric: Literal["auto", "loss", "targets", "difference"] = (
        "auto"  # next-token loss, that of the probe's target tokens, or a pair's logit difference (auto: where all are)
    )
    correct: Literal["holm", "bh"] = "holm"  # how p values are corrected for the number of candidates
    train: float = 0.5  # share of the prompts that choose; the others, at least 8 where there are 11, judge
    beta: float = 0.4  # share of a sink's mass that stays (act, uniform; Yu et al. 2406.15765)
    threshold: float = 0.1  # a key that receives more on average is a sink (act, remove-sinks, uniform; same paper)
    keep_anchor: bool = True  # the first sink of a head is left alone (act, remove-sinks, uniform; same paper)
    first: int = 4  # first keys that stay (streaming; Xiao et al. 2309.17453)
    recent: int = 64  # latest keys that stay (streaming)
    keys: tuple[int, ...] = (0,)  # key positions that are cut (cut)
    controls: int = 2  # draws of as many random heads, of the same layers where these have enough
    renormalise: bool = True  # what a knockout leaves of a row is scaled up to the row's former sum
    origin: str = ""  # where the heads were read from, in words (told, not read again)
    origin_shape: tuple[int, ...] = ()  # layers and heads of the model they were found in
    seed: int = 0  # of the split, those draws, the bootstrap and the sign-flip test

    def __post_init__(self) -> None:
        if self.how not in HOWS:
            edges_of(self.how)
        if self.position != EVERYWHERE and self.way not in AT_POSITIONS:
            raise ValueError(f"position={self.position}: how={self.how} takes none, only {', '.join(AT_POSITIONS)} do")
        if not self.position.strip():
            raise ValueError(f"position is empty; expected a name, a role, or {EVERYWHERE}")
        if self.way in ON_PAIRS and not self.heads and self.candidates:
            raise ValueError(
                f"how={self.how}: name the heads, or take a run's (from), or try them all (candidates=0); which ones "
                "the edit changes most cannot be measured on a text of no pair"
            )
        for name in ("beta", "threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)}: expected a number from 0 to 1")
        if not 0 < self.train < 1:
            raise ValueError(f"train={self.train}: expected a share between 0 and 1")
        for name, bound in {"candidates": 0, "first": 0, "recent": 1, "controls": 1, "seed": 0}.items():
            if getattr(self, name) < bound:
                raise ValueError(f"{name}={getattr(self, name)}: expected {bound} or more")
        if self.select is not None and self.select < 1:
            raise ValueError(f"select={self.select}: expected 1 or more, or none")
        if self.heads and self.select is not None:
            raise ValueError("heads and select given together: name the heads, or have them selected")
        if any(key < 0 for key in self.keys) or (self.how == "cut" and not self.keys):
            raise ValueError(f"keys={','.join(map(str, self.keys)) or 'none'}: expected key positions, 0 or more")
        for label in self.heads:
            if not LABEL.fullmatch(label.strip()):
                raise ValueError(f"heads={label!r}: expected layer.head, such as 9.1, or layer.* for a whole layer")

    @property
    def way(self) -> str:
        """`how` without its positions."""
        return KNOCKOUT if self.how not in HOWS else self.how

    @property
    def helps(self) -> bool:
        """Whether the edit is to make the model better."""
        return self.aim == "help" or (self.aim == "auto" and self.way not in ("cut", *AT_POSITIONS, KNOCKOUT))

    @property
    def lowers(self) -> bool:
        """Whether the edit is to lower the metric, a logit difference where `metric` says so, else a loss."""
        return self.helps != (self.metric == "difference")


def edges_of(how: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(names of query positions, names of key positions) of ``knockout:FROM->TO``; several names with commas between.

    Raises:
        ValueError: it is nothing of the kind.
    """
    kind, colon, edges = how.strip().partition(":")
    queries, arrow, keys = edges.partition("->")
    names = [tuple(one.strip() for one in side.split(",")) for side in (queries, keys)]
    if kind != KNOCKOUT or not colon or not arrow or not all(name for side in names for name in side):
        raise ValueError(
            f"how={how!r}: expected one of {', '.join(HOWS)}, or knockout:FROM->TO with names of positions or roles, "
            "such as 'knockout:end->answer'"
        )
    return names[0], names[1]


def heads_named(label: str, n_layers: int, n_heads: int) -> tuple[Head, ...]:
    """The heads of ``layer.head`` or ``layer.*``.

    Raises:
        UsageError: a head the model does not have.
    """
    layer, head = label.strip().split(".")
    if int(layer) >= n_layers or (head != "*" and int(head) >= n_heads):
        raise UsageError(f"no head {label.strip()}: the model has layers 0..{n_layers - 1}, heads 0..{n_heads - 1}")
    heads = range(n_heads) if head == "*" else [int(head)]
    return tuple((int(layer), one) for one in heads)


def label_of(heads: Sequence[Head]) -> str:
    """``layer.head`` of one head, ``layer.*`` of a whole layer."""
    layer, head = heads[0]
    return f"{layer}.{head}" if len(heads) == 1 else f"{layer}.*"


COLUMNS = (
    Column("name", "string", "head", "layer.head, both counted from 0; layer.* is a whole layer."),
    Column("layer", "Int64", "layer", "Layer, counted from 0."),
    Column("head", "Int64", "head in layer", "Head in its layer, counted from 0; missing for a whole layer."),
    Column(
        "size",
        "float64",
        "size of the edit",
        "How much the edit changes the head on the calibration text: share of a row's mass that it moves, mean over "
        "rows; for zero and mean the l2 norm of the change of the head's output (hook_z), mean over positions. Missing "
        "for resample and knockout: that text has no twin and no names.",
    ),
    Column("effect", "float64", "effect, training", "Change of the metric under the edit of this alone, training."),
    Column("effect_low", "float64", "low", "Low end of its 95 % interval (Student's t) over the training prompts."),
    Column("effect_high", "float64", "high", "High end of its 95 % interval (Student's t) over the training prompts."),
    Column("p_value", "float64", "p", "One-sided sign-flip test over the training prompts."),
    Column("p_corrected", "float64", "p corrected", "The same, corrected for the number of candidates."),
    Column("held_out", "float64", "effect, held out", "Change of the metric under the edit of this alone, held out."),
    Column("selected", "boolean", "selected", "Whether it belongs to the set that was tested."),
)
