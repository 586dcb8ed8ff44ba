"""What the report draws of primary weakening. Pure: it only arranges what the units hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from interp.finders.sink_words import count
from interp.findings import Chart, Column, Series, Sheet, Verification
from interp.verify import bootstrap_mean

CURVES = {
    "received": ("Attention the anchor receives", "attention received (alpha), mean over heads"),
    "key": ("Key norm, before rotary", "l2 norm, mean over key heads"),
    "rot_key": ("Key norm, as attended to (after rotary and any key norm)", "l2 norm, mean over key heads"),
    "value": ("Value norm", "l2 norm, mean over value heads"),
}
HOW = (
    "Each point is a mean over prompts with its 95 % bootstrap interval; ordinary = the median of the tokens that are "
    "no sinks. Vertical lines: layers that read the first state of a secondary sink (it was formed one layer before), "
    "with the number of such sinks."
)


def charts(
    arrays: Sequence[Mapping[str, np.ndarray]], having: Sequence[bool], starts: Mapping[int, int], seed: int, what: str
) -> list[Chart]:
    """Curves over layers of the anchor and the median ordinary key.

    Args:
        arrays: of each prompt with an anchor, as `weakening_passes.measure` made them.
        having: whether the prompt has such sinks as the primary is held against.
        starts: start layer -> how many of them.
        seed: of the intervals.
        what: name of those sinks.
    """
    marks = tuple((float(layer + 1), f"{n} start{'s' if n == 1 else ''}") for layer, n in sorted(starts.items()))
    made = []
    for name, (title, label) in CURVES.items():
        lines = []
        for told, flag in ((f"with {what}", True), (f"without {what}", False)):
            own = [one[name] for one, has in zip(arrays, having, strict=True) if has == flag and name in one]
            if own:
                group = f"{count(len(own), 'prompt')} {told}"
                lines += [
                    curve(f"{who}, {group}", np.stack(own)[:, i], seed) for i, who in enumerate(("anchor", "ordinary"))
                ]
        if lines:
            made.append(Chart(f"weakening.{name}", f"{title}, by layer", "layer", label, tuple(lines), HOW, marks))
    return made


def curve(name: str, values: np.ndarray, seed: int) -> Series:
    """Mean over prompts of values [prompt, layer], with intervals; a layer that was not measured is a gap."""
    found = [bootstrap_mean(column, seed=seed) if np.isfinite(column).all() else None for column in values.T]
    return Series(
        name,
        tuple(float(layer) for layer in range(values.shape[1])),
        tuple(one and one.mean for one in found),
        tuple(one and one.low for one in found),
        tuple(one and one.high for one in found),
    )


def start_counts(spans: Sequence[Mapping[str, Any]]) -> dict[int, int]:
    """Start layer -> number of spans, in order."""
    return dict(sorted(Counter(span["start_layer"] for span in spans).items()))


def sheets(checks: Sequence[tuple[str, Verification]]) -> list[Sheet]:
    """What the removal did, one row a measure."""
    columns = (
        Column("measure", "string", "measure", "What is compared, with and without the other sinks."),
        *(
            Column(name, "float64", name.replace("_", " "), told)
            for name, told in (
                ("effect", "Mean change over prompts when the other sinks are kept from forming."),
                ("effect_low", "Lower end of its 95 % bootstrap interval."),
                ("effect_high", "Upper end."),
                ("control", "Mean change when the same MLP outputs are removed at ordinary tokens."),
                ("difference", "Effect minus control, paired by prompt."),
                ("difference_low", "Lower end of its interval."),
                ("difference_high", "Upper end."),
            )
        ),
        Column("prompts", "Int64", "prompts", "Prompts behind it."),
    )
    rows = tuple(
        (name, *(getattr(check, column.name) for column in columns[1:])) for name, check in checks if check.prompts
    )
    if not rows:
        return []
    caption = (
        "The mass shows all that the anchor gains, also by mere competition in the softmax; the share of the other "
        "keys' mass moves only if the anchor gains on those too."
    )
    return [Sheet("removal", "The anchor without the other sinks", columns, rows, caption)]
