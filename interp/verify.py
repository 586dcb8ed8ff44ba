"""Found things against matched controls: paired effects, bootstrap intervals over prompts, a verdict (DESIGN decision
6). Pure NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from interp.findings import Verdict, Verification

MIN_PROMPTS = 8
"""With fewer prompts an interval over prompts says nothing, and neither do we."""
RESAMPLES = 10_000
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over prompts with its bootstrap interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Paired:
    """What an intervention did to the found things and to their controls, prompt by prompt.

    Attributes:
        names: prompts, in order.
        found, control: change of the metric by prompt.
        metric, how: see `Verification`.
        expected: the direction in which the found things must differ from the controls.
        seed: of the bootstrap.
        also_alone: the change of the found things must itself lie on that side of 0; else an edit that does harm, but
            less than its controls, would pass for one that helps.
    """

    names: tuple[str, ...]
    found: np.ndarray
    control: np.ndarray
    metric: str
    how: str
    expected: Literal["higher", "lower"] = "higher"
    seed: int = 0
    also_alone: bool = False

    def verdict(self, minimum: int = MIN_PROMPTS) -> Verdict:
        """``verified`` when the interval of the paired difference (with `also_alone`, that of the found things' change
        too) lies beyond 0 on the expected side, else ``failed``."""
        if len(self.names) == 0:
            return "nothing to verify"
        if len(self.names) < minimum:
            return "too few to say"
        must = [self.found - self.control, *([self.found] if self.also_alone else [])]
        return "verified" if all(self.beyond(self.estimate(values)) for values in must) else "failed"

    def beyond(self, estimate: Estimate) -> bool:
        """Whether an interval lies wholly on the expected side of 0."""
        return estimate.low > 0 if self.expected == "higher" else estimate.high < 0

    def estimate(self, values: np.ndarray) -> Estimate:
        """Mean of values by prompt, with the percentile bootstrap interval over prompts.

        The prompts drawn are the same at each call, so that intervals of found, control and difference belong together.
        """
        return bootstrap_mean(values, seed=self.seed)

    def verification(self) -> Verification:
        """Everything a reader of the findings needs."""
        if len(self.names) == 0:
            return Verification("nothing to verify", self.metric, self.how)
        effect, control, difference = (self.estimate(v) for v in (self.found, self.control, self.found - self.control))
        return Verification(
            self.verdict(),
            self.metric,
            self.how,
            prompts=len(self.names),
            effect=effect.mean,
            effect_low=effect.low,
            effect_high=effect.high,
            control=control.mean,
            control_low=control.low,
            control_high=control.high,
            difference=difference.mean,
            difference_low=difference.low,
            difference_high=difference.high,
            per_prompt=tuple(
                {"name": name, "effect": float(found), "control": float(other)}
                for name, found, other in zip(self.names, self.found, self.control, strict=True)
            ),
        )


def paired(
    names: Sequence[str],
    found: Sequence[float],
    control: Sequence[float],
    *,
    metric: str,
    how: str,
    expected: Literal["higher", "lower"] = "higher",
    seed: int = 0,
    also_alone: bool = False,
) -> Paired:
    """A `Paired` from plain sequences.

    Raises:
        ValueError: the sequences differ in length, or hold something that is not a finite number.
    """
    if not len(names) == len(found) == len(control):
        raise ValueError(
            f"one value a prompt is needed, got {len(names)} names, {len(found)} found, {len(control)} control"
        )
    arrays = np.asarray(found, dtype=np.float64), np.asarray(control, dtype=np.float64)
    for label, values in zip(("found", "control"), arrays, strict=True):
        if not np.isfinite(values).all():
            raise ValueError(
                f"{label}: not a finite number for {names[int(np.flatnonzero(~np.isfinite(values))[0])]!r}"
            )
    return Paired(tuple(names), *arrays, metric, how, expected, seed, also_alone)


def over_prompts(values: Any, seed: int, why: str, /, **more: Any) -> dict[str, Any]:
    """A figure as ``summary["claims"]`` keeps it: ``mean``, ``low``, ``high``, ``n`` over the values, one a prompt, and
    what `more` says; without values the mean and its ends are None, and `why` tells what is missing."""
    if not len(values):
        return {"mean": None, "low": None, "high": None, "n": 0, "why": why, **more}
    found = bootstrap_mean(values, seed=seed)
    return {"mean": found.mean, "low": found.low, "high": found.high, "n": len(values), **more}


def bootstrap_mean(values: Any, *, resamples: int = RESAMPLES, level: float = LEVEL, seed: int = 0) -> Estimate:
    """Mean with a percentile bootstrap interval (Efron 1979) over the values; of a single value the interval is that
    value.

    Raises:
        ValueError: there is no value.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"bootstrap needs values [n], n of at least 1, got shape {list(values.shape)}")
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    step = max(1, 4_000_000 // len(values))  # memory stays bounded however many prompts there are
    for first in range(0, resamples, step):
        last = min(first + step, resamples)
        means[first:last] = values[rng.integers(0, len(values), (last - first, len(values)))].mean(axis=1)
    low, high = np.quantile(means, ((1 - level) / 2, (1 + level) / 2))
    return Estimate(float(values.mean()), float(low), float(high))
