"""Colours and colour scaling, decided once for the page and the notebook figures.

Sequential: cividis. Diverging: blue to orange. Categories: Okabe and Ito's palette. All three stay apart under the
common forms of colour blindness.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from interp.findings import Heatmap

SEQUENTIAL = "Cividis"
DIVERGING = ((0.0, "#1f5aa6"), (0.25, "#7fb0dc"), (0.5, "#f4f2ee"), (0.75, "#f0a860"), (1.0, "#b35806"))
FOUND, CONTROL, DIFFERENCE = "#d55e00", "#8a8f98", "#0072b2"
CATEGORIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#8a8f98")
CLASSES = (
    "#c9ced6", "#f0e442", "#e69f00", "#cc79a7", "#56b4e9", "#0072b2", "#d55e00", "#009e73", "#7b5ea7", "#8a6d4b",
)  # fmt: skip
NEGATIVE, POSITIVE = "#2f78c4", "#c8661a"  # lines by their sign, as in the diverging scale, on light and on dark ground

_LOG_RATIO = 100.0  # a largest value this many times the median hides everything else on a linear scale


@dataclass(frozen=True)
class Scale:
    """How a matrix is coloured: `log` = by log10 of the value; `low`, `high` = the values at the ends of the scale."""

    log: bool
    low: float
    high: float


def colour_of(role: str | int | None, place: int) -> str:
    """Colour of a series: by its role (`interp.findings.Series`), else by its place in the chart."""
    if isinstance(role, int):  # "nothing of note", pale in a map, must still be seen as a point
        return CONTROL if role == 0 else kind_colour(role)
    return {"found": FOUND, "control": CONTROL}.get(role or "", CATEGORIES[place % len(CATEGORIES)])


def kind_colour(kind: int) -> str:
    """Colour of the kind with this index; 0 = nothing of note."""
    return CLASSES[kind if kind < len(CLASSES) else 1 + (kind - 1) % (len(CLASSES) - 1)]


def steps(count: int) -> list[list[float | str]]:
    """Plotly colour scale of `count` kinds, each a flat colour; the first is pale, past the tenth they come again."""
    colours = [kind_colour(i) for i in range(count)]
    return [[(i + end) / count, colour] for i, colour in enumerate(colours) for end in (0, 1)]


def ink(colour: str) -> str:
    """Black or white, whichever can be read better on ``#rrggbb`` (WCAG relative luminance)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    bright = sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return "#000000" if (bright + 0.05) / 0.05 >= 1.05 / (bright + 0.05) else "#ffffff"


def letters(name: str) -> str:
    """What a cell of this kind bears, so that colour is not all there is: the initials of its words."""
    return "".join(word[0].upper() for word in re.findall(r"[^\W\d_]+", name))


def scale(heatmap: Heatmap) -> Scale:
    """The map's own limits; else linear from 0, symmetric about 0 when diverging, or logarithmic for positive values
    far apart."""
    if heatmap.categories:
        return Scale(False, -0.5, len(heatmap.categories) - 0.5)
    if heatmap.limits is not None:
        return Scale(False, *map(float, heatmap.limits))
    values = np.asarray(heatmap.values, dtype=np.float64)
    values = values[np.isfinite(values)]
    if not values.size:
        return Scale(False, 0.0, 1.0)
    low, high = float(values.min()), float(values.max())
    if heatmap.diverging or low < 0:
        end = max(abs(low), abs(high)) or 1.0
        return Scale(False, -end, end)
    median = float(np.median(values))
    if low > 0 and high / median > _LOG_RATIO:
        return Scale(True, float(np.quantile(values, 0.01)), high)
    return Scale(False, low if 0.5 * high < low < high else 0.0, high or 1.0)
