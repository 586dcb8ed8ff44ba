"""One probe: scikit-learn's LogisticRegression (classes) or Ridge (quantities) on standardised states.

The regularisation is chosen by cross-validation over whole training prompts; the standardisation is part of what is
fitted, so that nothing of a fold, or of the held-out prompts, is seen before it is predicted. Alain and Bengio 2016
(arXiv 1610.01644) introduced the method; Hewitt and Liang 2019 (arXiv 1909.03368) the control task beside it.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from interp.probing.config import ProbeConfig
from interp.probing.task import Task


@dataclass(frozen=True)
class Removal:
    """How a probe's directions are taken out of a state x: x - ((x - centre) read^T) write.

    Projected out in the space of standardised states, where the probe was fitted and all dimensions weigh the same;
    afterwards the probe says the same of every state. (Projected out in the space of the states itself, weights of
    dimensions that hardly vary would settle the direction, and hardly anything would be taken out.)

    Attributes:
        read: float64 [k, size], of k + 1 classes or one quantity: orthonormal directions over the spread.
        write: float64 [k, size]: the same directions times the spread.
        centre, spread: float64 [size]: mean and standard deviation of the training states.
    """

    read: np.ndarray
    write: np.ndarray
    centre: np.ndarray
    spread: np.ndarray


@dataclass(frozen=True)
class Fitted:
    """What one probe reaches. Scores are ratios of sums over examples: `gained` / `possible`, [held-out prompt].

    For classes these are examples told right and all examples; for quantities R squared: what of the squared distance
    to the training mean the probe takes away, and that distance.

    Attributes:
        prompts: numbers of the held-out prompts, [held-out prompt].
        gained, baseline, control: [held-out prompt] of the probe, of the commonest training label, of the control.
        possible, control_possible: [held-out prompt].
        validation: cross-validated score within the training prompts; NaN with a single training prompt.
        strength: the regularisation chosen.
        converged: both final fits reached their tolerance.
        removal: what takes out of a state all that the probe tells classes (or quantities) by.
    """

    prompts: np.ndarray
    gained: np.ndarray
    baseline: np.ndarray
    control: np.ndarray
    possible: np.ndarray
    control_possible: np.ndarray
    validation: float
    strength: float
    converged: bool
    removal: Removal


def fit(states: np.ndarray, task: Task, config: ProbeConfig) -> Fitted:
    """Fit a probe and its control on the training examples and hold them against the held-out ones.

    Args:
        states: [n, size] of the task's examples.
    """
    x = np.asarray(states, dtype=np.float64)
    x_train, y_train, groups = x[task.train], task.y[task.train], task.prompts[task.train]
    strength, validation = _chosen(x_train, y_train, groups, task.numbers, config)
    probe, probe_done = _fit(x_train, y_train, strength, task.numbers, config)
    control, control_done = _fit(x_train, task.control[task.train], strength, task.numbers, config)
    prompts = np.unique(task.prompts[task.test])
    place = np.searchsorted(prompts, task.prompts[task.test])

    def by_prompt(values: np.ndarray) -> np.ndarray:
        return np.bincount(place, weights=values, minlength=len(prompts))

    sums = [_sums(probe, x[task.test], task.y[task.test], y_train, task.numbers)]
    sums.append(_sums(control, x[task.test], task.control[task.test], task.control[task.train], task.numbers))
    return Fitted(
        prompts=prompts,
        gained=by_prompt(sums[0][0]),
        baseline=by_prompt(sums[0][1]),
        control=by_prompt(sums[1][0]),
        possible=by_prompt(sums[0][2]),
        control_possible=by_prompt(sums[1][2]),
        validation=validation,
        strength=strength,
        converged=probe_done and control_done,
        removal=_removal(probe),
    )


def _sums(probe: Any, x: np.ndarray, y: np.ndarray, known: np.ndarray, numbers: bool) -> tuple[np.ndarray, ...]:
    """(gained by the probe, by always saying one thing, possible), [example]."""
    said = probe.predict(x)
    if not numbers:
        values, counts = np.unique(known, return_counts=True)
        return (said == y).astype(float), (values[counts.argmax()] == y).astype(float), np.ones(len(y))
    around = (y - known.mean()) ** 2
    return around - (y - said) ** 2, np.zeros(len(y)), around


def _chosen(
    x: np.ndarray, y: np.ndarray, groups: np.ndarray, numbers: bool, config: ProbeConfig
) -> tuple[float, float]:
    """(regularisation, its cross-validated score); the middle one and NaN where there is nothing to part."""
    from sklearn.model_selection import GroupKFold

    strengths = sorted(config.strengths)
    middle = strengths[len(strengths) // 2]
    count = min(config.folds, len(np.unique(groups)))
    if count < 2:
        return middle, float("nan")
    gained, possible = np.zeros(len(strengths)), 0.0
    for train, test in GroupKFold(count).split(x, y, groups):
        if len(np.unique(y[train])) < 2:
            continue
        for number, strength in enumerate(strengths):
            probe, _ = _fit(x[train], y[train], strength, numbers, config)
            sums = _sums(probe, x[test], y[test], y[train], numbers)
            gained[number] += sums[0].sum()
        possible += sums[2].sum()
    if possible == 0:
        return middle, float("nan")
    best = int(gained.argmax())  # of equals the strongest regularisation
    return strengths[best], float(gained[best] / possible)


def _fit(x: np.ndarray, y: np.ndarray, strength: float, numbers: bool, config: ProbeConfig) -> tuple[Any, bool]:
    """(fitted pipeline, whether it converged)."""
    from sklearn.dummy import DummyClassifier
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if numbers:
        last: Any = Ridge(alpha=1 / strength)
    elif len(np.unique(y)) < 2:  # of few prompts the control may draw one label for all
        last = DummyClassifier(strategy="most_frequent")
    else:
        last = LogisticRegression(C=strength, max_iter=config.iterations)
    pipeline = make_pipeline(StandardScaler(), last)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        pipeline.fit(x, y)
    for one in seen:  # what is no matter of convergence is none of ours to judge
        if not issubclass(one.category, ConvergenceWarning):
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    return pipeline, not any(issubclass(one.category, ConvergenceWarning) for one in seen)


def _removal(probe: Any) -> Removal:
    """See `Removal`."""
    scaler, last = probe[0], probe[-1]
    weights = np.atleast_2d(last.coef_)
    if len(weights) > 1:
        weights = weights - weights.mean(0)  # what all classes share tells none from another
    _, sizes, rows = np.linalg.svd(weights, full_matrices=False)
    directions = rows[sizes > 1e-10 * max(sizes.max(), 1e-300)]
    return Removal(directions / scaler.scale_, directions * scaler.scale_, scaler.mean_, np.sqrt(scaler.var_))


def best_of(fits: Sequence[Fitted]) -> int:
    """The probe that did best in cross-validation, on training prompts alone; of equals that with the strongest
    regularisation, which needs the least to read the property; then the first, as without any cross-validation."""
    scores = np.array([one.validation for one in fits])
    if np.isnan(scores).all():
        return 0
    equals = np.flatnonzero(scores == np.nanmax(scores)).tolist()
    return min(equals, key=lambda number: fits[number].strength)
