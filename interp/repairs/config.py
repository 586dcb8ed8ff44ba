"""Settings of the repair finder and the schema of its table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from interp.ablation.config import LABEL
from interp.findings import Column

EDITS = ("oracle", "inhibit", "point", "donor", "scale")
"""In the order of the table; `ORACLE` alone uses the label."""
ORACLE = "oracle"
POINTED = ("inhibit", "point", "donor")
"""Edits that need to know which candidate the model's own heads point at."""
TOLD = {
    "oracle": "its attention evenly on the wrong candidates (published; uses the label)",
    "inhibit": "its attention evenly on the candidates that the model's own heads speak against",
    "point": "its attention on the candidate that the model's own heads speak for",
    "donor": "its attention as it is in IOI prompts, role by role",
    "scale": "its output multiplied by a factor",
}


@dataclass(frozen=True)
class RepairConfig:
    """Which edits are tried, how their heads are chosen, and how they are judged."""

    edit: Literal["all", "oracle", "inhibit", "point", "donor", "scale"] = "all"
    heads: tuple[str, ...] = ()  # layer.head, edited together; none = chosen on the training prompts
    pointers: tuple[str, ...] = ()  # heads that say which candidate is meant; none = found on the training prompts
    movers: tuple[str, ...] = ()  # heads whose attention to the answer is told; none = found on the training prompts
    most: int = 4  # heads of one edit at the most (as many as Merullo et al. 2023 edit)
    candidates: int = 8  # heads, the best alone, that are tried together
    pointing: int = 3  # how many pointers, and how many movers, are found
    metric: Literal["top1", "choice"] = "top1"  # answer above every token, or above the wrong answers
    factors: tuple[float, ...] = (0.0, 2.0, 0.5, 4.0, -1.0)  # of scale; the first two try the heads one by one
    donors: int = 24  # IOI prompts
    train: float = 0.5  # share of the prompts that choose; the others, at least 8 where there are 11, judge
    controls: int = 2  # draws, a prompt, of as many random heads of the same layers
    rows: int = 64  # prompts run side by side
    seed: int = 0  # of the split, the random heads, the donors and the bootstrap
    origin: str = ""  # where the heads were read from, in words (told, not read again)
    origin_shape: tuple[int, ...] = ()  # layers and heads of the model they were found in

    def __post_init__(self) -> None:
        if not 0 < self.train < 1:
            raise ValueError(f"train={self.train}: expected a share between 0 and 1")
        least = {"most": 1, "candidates": 1, "pointing": 1, "donors": 1, "controls": 1, "rows": 1, "seed": 0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise ValueError(f"{name}={getattr(self, name)}: expected {bound} or more")
        if not self.factors or 1.0 in self.factors:
            raise ValueError(f"factors={','.join(map(str, self.factors)) or 'none'}: expected numbers other than 1")
        for name in ("heads", "pointers", "movers"):
            for label in getattr(self, name):
                if not LABEL.fullmatch(label.strip()) or "*" in label:
                    raise ValueError(f"{name}={label!r}: expected layer.head, such as 9.1")

    @property
    def edits(self) -> tuple[str, ...]:
        """The edits that are tried."""
        return EDITS if self.edit == "all" else (self.edit,)


def _figure(name: str, label: str, what: str) -> tuple[Column, ...]:
    return (
        Column(name, "float64", label, what),
        Column(f"{name}_low", "float64", f"{label}, low", "Low end of its 95 % bootstrap interval over prompts."),
        Column(f"{name}_high", "float64", f"{label}, high", "High end of its 95 % bootstrap interval over prompts."),
    )


_SHARE = "share of the held-out prompts"

COLUMNS = (
    Column("edit", "string", "edit", "What replaces the attention of the heads at the last token; see the legend."),
    Column("heads", "string", "heads", "layer.head, both counted from 0, edited together."),
    Column("part", "string", "part", "all = the heads of the edit together; one = one of them alone."),
    Column("label_free", "boolean", "label-free", "False: the edit is told the right answer; an upper bound, no fix."),
    Column("factor", "float64", "factor", "Of scale: what the heads' outputs are multiplied by."),
    Column("train_top1", "float64", "top-1, training", "Top-1 accuracy with the edit on the training prompts."),
    Column("top1_before", "float64", "top-1 before", f"Answer above every other token, untouched model; {_SHARE}."),
    *_figure("top1", "top-1 after", f"Answer above every other token, edited; {_SHARE}."),
    Column("choice_before", "float64", "choice before", f"Answer above all wrong ones, untouched model; {_SHARE}."),
    *_figure("choice", "choice after", f"Answer above all wrong ones, edited; {_SHARE}."),
    Column("repaired", "Int64", "repaired", "Held-out prompts wrong before and right after, by the metric set."),
    Column("broken", "Int64", "new mistakes", "Held-out prompts right before and wrong after, by the metric set."),
    Column("difference_before", "float64", "difference before", "Logit difference, untouched model, held-out mean."),
    *_figure("difference", "difference after", "Logit difference, edited, held-out mean, in logits."),
    Column("random", "float64", "random heads", "Accuracy, by the metric set, with the edit on random heads."),
    *_figure("gain", "gain over random", "Accuracy with the edit less that with it on random heads, held-out mean."),
    Column("mover_before", "float64", "movers before", "Attention of later movers from the last token to the answer."),
    Column("mover_after", "float64", "movers after", "The same with the edit; missing where no mover comes later."),
    Column(
        "text_loss",
        "float64",
        "plain text",
        "Change of the next-token loss on plain text, nats, of an edit that can be made there: scale, at every token.",
    ),
    Column("verdict", "string", "verdict", "Of the comparison with random heads; of the heads together only."),
)
