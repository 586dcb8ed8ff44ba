"""Settings of the circuit finder and the schema of its table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from interp.findings import Column

Head = tuple[int, int]
"""(layer, head), both counted from 0."""
CLASSES = (
    "mover",
    "negative mover",
    "backup mover",
    "inhibition",
    "content gatherer",
    "induction",
    "duplicate token",
    "previous token",
    "other",
)
"""What a head of the circuit is shown as: the first that applies; ``other`` = found, and none of these."""
NONE = "none"
"""What a head outside the circuit is shown as."""
DEFAULT_STAGES = ("logits@end", "q@end", "v@auto", "k@auto")


@dataclass(frozen=True)
class CircuitConfig:
    """What is measured, how heads are chosen, and how the circuit is judged."""

    share: float = (
        0.02  # share of the heads that can reach its receivers that a stage takes (Merullo et al. 2023, figure 3)
    )
    least: int = 4  # but so many at least: of a small model's heads that share is one or two
    stages: tuple[str, ...] = (
        DEFAULT_STAGES  # side@position, backwards from the logits; auto = where the last ones look
    )
    select: float = 0.5  # share of the prompts that choose the circuit, whole templates; the others judge it
    freeze_mlps: bool = False  # hold MLPs, too, in the stages
    points: int = 5  # of the integrated gradients (Hanna et al. 2024)
    position: str = "all"  # total effects are of the head at all positions, or at a named one
    curves: bool = True  # compare rankings of heads by what the best of each carry
    edges: bool = False  # attribute every edge as well (EAP, EAP-IG), and draw its curves
    knockout: Literal["mean", "zero", "resample"] = "mean"  # what stands for a head outside the circuit
    resamples: int = 200  # of the prompts that choose, to see which heads are found again
    subsets: int = 10  # random parts of the circuit, for completeness
    controls: int = 2  # draws, a prompt, of as many random heads of the same layers
    anyway: bool = False  # go on with a task that the model cannot do
    tokens: int = 1 << 14  # tokens (rows x positions) run side by side
    seed: int = 0  # of the split, the resamples, the random heads and the bootstrap

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"share={self.share}: expected a share above 0, at most 1")
        if not 0 < self.select < 1:
            raise ValueError(f"select={self.select}: expected a share between 0 and 1")
        counts = {"least": 1, "points": 1, "resamples": 0, "subsets": 0, "controls": 1, "tokens": 1, "seed": 0}
        for name, bound in counts.items():
            if getattr(self, name) < bound:
                raise ValueError(f"{name}={getattr(self, name)}: expected {bound} or more")
        if not self.stages or self.stages[0] != "logits@end":
            raise ValueError(f"stages={','.join(self.stages)}: expected logits@end first, then q@, k@ or v@ positions")
        for stage in self.stages[1:]:
            side, _, position = stage.partition("@")
            if side not in ("q", "k", "v") or not position:
                raise ValueError(f"stages: {stage!r}; expected q, k or v @ position, such as q@end, v@S2 or k@auto")


def _effect(name: str, label: str, what: str) -> tuple[Column, ...]:
    return (
        Column(name, "float64", label, what),
        *(
            Column(f"{name}_{end}", "float64", f"{label}, {end}", f"{end.title()} end of the 95 % bootstrap interval.")
            for end in ("low", "high")
        ),
    )


_SHARE = "as a share of what corrupting the whole prompt does (negative: the head works against the answer)"
COLUMNS = (
    Column("layer", "Int64", "layer", "Layer, counted from 0."),
    Column("head", "Int64", "head", "Query head in its layer, counted from 0."),
    Column(
        "class",
        "string",
        "class",
        f"What the head does in the circuit: {', '.join(CLASSES)}; {NONE} = outside. A backup mover without a stage is "
        "outside, too: it takes over when the movers are gone.",
    ),
    Column("stage", "Int64", "stage", "Stage of the search that found it, 0 = to the logits; missing = none."),
    Column("stage_effect", "float64", "effect in stage", f"Effect along that stage's path, {_SHARE}."),
    Column(
        "stability",
        "float64",
        "found again",
        "Share of resamples of the prompts that choose in which its stage takes it again, receivers held.",
    ),
    Column("held_out_found", "boolean", "on held-out", "Whether its stage takes it on the held-out prompts, too."),
    *_effect(
        "total",
        "total effect",
        f"Change of the logit difference when its output (hook_z) is the corrupted run's and all that follows is "
        f"computed anew, {_SHARE}.",
    ),
    Column("total_p", "float64", "p", "Two-sided sign-flip test of the total effect over the prompts that choose."),
    Column("total_holm", "float64", "p, Holm", "That p value after Holm's correction for all heads."),
    Column("total_bh", "float64", "p, BH", "That p value after Benjamini and Hochberg's correction for all heads."),
    Column("total_held_out", "float64", "total, held-out", "Total effect on the held-out prompts."),
    *_effect(
        "direct",
        "direct effect",
        "The same at the last position with every other head as in the clean run and the MLPs computed anew.",
    ),
    Column("direct_held_out", "float64", "direct, held-out", "Direct effect on the held-out prompts."),
    Column("direct_frozen_mlps", "float64", "direct, MLPs held", "Direct effect with the MLPs held as well."),
    Column(
        "dla",
        "float64",
        "DLA",
        "Direct logit attribution: what the head's output at the last position adds to the logit difference, in "
        "logits, under the final normalisation of the untouched run.",
    ),
    Column("attribution", "float64", "attribution", f"First-order estimate of the total effect, {_SHARE}."),
    Column("attribution_ig", "float64", "attribution, IG", "The same by integrated gradients on the inputs."),
    Column("backup", "float64", "DLA gained", "What its DLA gains when the movers' outputs are taken away, in logits."),
    Column("looks_at", "string", "looks at", "Named position that it attends to most from where it is read."),
    Column("looks_from", "string", "from", "Named position that it is read at."),
    Column("attention", "float64", "attention", "Mean attention paid there."),
    Column(
        "copying",
        "float64",
        "copying",
        "How far what it writes raises the logit of the token it attends to: 1 most of the prompt, -1 least.",
    ),
)
