"""Settings and schema of the probe finder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from interp.findings import Column

LARGEST_CLASSES = 50


@dataclass(frozen=True)
class ProbeConfig:
    """What is asked, where it is read, and how it is fitted and judged."""

    label: str = "repeated"  # the question: see interp.probing.labels
    site: str = "hook_resid_post"  # of every block
    layers: tuple[int, ...] = ()  # none = all
    positions: tuple[str, ...] = ()  # all, last, a number, or the name of a pair's position; none = as the label wants
    tokens: int = 64  # of a prompt read at all positions, so many are drawn
    select: float = 0.5  # share of the prompts that train; the others judge
    classes: int = 10  # the most frequent ones among the training prompts; others are left out
    least: int = 3  # a class needs so many training examples
    strengths: tuple[float, ...] = (0.001, 0.1, 10.0)  # regularisation tried: C of LogisticRegression, 1/alpha of Ridge
    folds: int = 3  # of cross-validation within the training prompts, whole prompts each
    iterations: int = 2000  # of a fit, at the most
    margin: float = 0.0  # a held-out score must beat the baseline by more, with its interval
    draws: int = 5  # random directions a prompt in the causal check
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.select < 1:
            raise ValueError(f"select={self.select}: expected a share between 0 and 1")
        if not 2 <= self.classes <= LARGEST_CLASSES:
            raise ValueError(f"classes={self.classes}: expected 2 to {LARGEST_CLASSES}")
        if not self.strengths or any(not 0 < one < float("inf") for one in self.strengths):
            raise ValueError(f"strengths={self.strengths}: expected positive numbers")
        for name, bound in (("tokens", 1), ("least", 1), ("folds", 2), ("iterations", 1), ("draws", 1), ("seed", 0)):
            if getattr(self, name) < bound:
                raise ValueError(f"{name}={getattr(self, name)}: expected {bound} or more")
        if any(layer < 0 for layer in self.layers):
            raise ValueError(f"layers={self.layers}: layers count from 0")


COLUMNS = (
    Column("site", "string", "site", "Where the states were read."),
    Column("layer", "Int64", "layer", "Block the site belongs to, 0-based; missing outside the blocks."),
    Column("position", "string", "position", "Position that was read: all, last, a number, or a name of the prompts'."),
    Column(
        "score", "float64", "score", "Held-out accuracy (of numbers: R squared), over examples of held-out prompts."
    ),
    Column("score_low", "float64", "from", "Lower end of its 95 % bootstrap interval over held-out prompts."),
    Column("score_high", "float64", "to", "Upper end of that interval."),
    Column(
        "baseline", "float64", "baseline", "Score of always saying the commonest training label (numbers: the mean)."
    ),
    Column("gain", "float64", "gain", "Score minus baseline."),
    Column("gain_low", "float64", "gain from", "Lower end of its interval, paired by prompt."),
    Column("gain_high", "float64", "gain to", "Upper end of that interval."),
    Column("control", "float64", "control", "Held-out score of the same probe on the control task: random labels."),
    Column("selectivity", "float64", "selectivity", "Score minus control (Hewitt and Liang 2019)."),
    Column("selectivity_low", "float64", "selectivity from", "Lower end of its interval, paired by prompt."),
    Column("selectivity_high", "float64", "selectivity to", "Upper end of that interval."),
    Column(
        "validation", "float64", "validation", "Cross-validated score within the training prompts: picks the best row."
    ),
    Column("strength", "float64", "strength", "Regularisation it picked: C of LogisticRegression, 1/alpha of Ridge."),
    Column("converged", "boolean", "converged", "Whether the final fits, control included, reached their tolerance."),
    Column("train", "Int64", "training examples", "Examples the probe was fitted on."),
    Column("test", "Int64", "held-out examples", "Examples it was judged by."),
)


def selected(config: ProbeConfig, n_layers: int) -> list[int]:
    """The layers that are probed.

    Raises:
        UsageError: one the model does not have.
    """
    from interp.errors import UsageError

    beyond = [layer for layer in config.layers if layer >= n_layers]
    if beyond:
        raise UsageError(f"layers={list(config.layers)}: the model has blocks 0 to {n_layers - 1}")
    return sorted(set(config.layers)) or list(range(n_layers))


def plain_number(value: Any) -> bool:
    """Whether a label stands for a quantity: floats do; whole numbers, truth values and texts are classes."""
    return isinstance(value, float)
