"""Masked answers summed up: what every K does to held-out needles, to plain text and to questions. Pure NumPy.

Instances of one needle are one unit: means by needle first, intervals over needles. Where random heads are in a figure,
its interval is over their draws as well: units and draws are both drawn anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from interp.finders.base import Unit
from interp.retrieval.closed_book import KINDS, Kind
from interp.verify import LEVEL, RESAMPLES, Estimate, over_prompts

Claim = dict[str, Any]
NAMES: Mapping[str, Kind] = {
    "extraction": "extraction",
    "closed_book": "closed-book",
    "open_book": "known with passage",
}
"""Claims on questions, and the kind of each."""


@dataclass(frozen=True)
class Effect:
    """A quantity under masks, unit by unit (needles, texts, or questions).

    Attributes:
        names: of the units.
        untouched: [unit].
        retrieval: K -> [unit].
        draws: K -> [unit, draw], under each random set.
    """

    names: tuple[str, ...]
    untouched: np.ndarray
    retrieval: Mapping[int, np.ndarray]
    draws: Mapping[int, np.ndarray]

    @property
    def ks(self) -> tuple[int, ...]:
        """Numbers of masked heads, ascending."""
        return tuple(sorted(self.retrieval))

    def level(self, kind: str, k: int) -> np.ndarray:
        """[unit, draw] the quantity under ``retrieval`` heads (one column) or ``random`` heads; K = 0: untouched."""
        if not k:
            return self.untouched[:, None]
        return self.retrieval[k][:, None] if kind == "retrieval" else self.draws[k]

    def changes(self, kind: str, k: int) -> np.ndarray:
        """[unit, draw] what masking changes: of ``retrieval``, of ``random``, or the ``difference`` of the two."""
        if kind == "difference":
            return self.level("retrieval", k) - self.level("random", k)
        return self.level(kind, k) - self.untouched[:, None]

    def change(self, kind: str, k: int) -> np.ndarray:
        """[unit] `changes`, the mean of the draws."""
        return self.changes(kind, k).mean(axis=1)

    def claims(self, name: str, seed: int) -> dict[str, Claim]:
        """``name.untouched``, and ``name.retrieval.K``, ``name.random.K``, ``name.difference.K``: changes."""
        out = {f"{name}.untouched": over_prompts(self.untouched, seed, "")}
        for k in self.ks:
            for kind in ("retrieval", "random", "difference"):
                out[f"{name}.{kind}.{k}"] = claim(self.changes(kind, k), seed, "", k=k)
        return out


def effect(rows: Sequence[tuple[str, Sequence[Mapping[str, Any]], Sequence[float]]]) -> Effect | None:
    """From (name of the unit, arms, value of each arm) by instance; None without an instance."""
    if not rows:
        return None
    names = tuple(dict.fromkeys(name for name, _, _ in rows))
    at = np.array([names.index(name) for name, _, _ in rows])
    arms = rows[0][1]
    values = np.array([values for _, _, values in rows], dtype=np.float64)  # [instance, arm]
    means = np.stack([values[at == unit].mean(axis=0) for unit in range(len(names))])

    def of(k: int, kind: str) -> np.ndarray:
        return means[:, [i for i, arm in enumerate(arms) if arm["kind"] == kind and arm["k"] == k]]

    ks = sorted({arm["k"] for arm in arms if arm["kind"] == "retrieval"})
    return Effect(
        names, of(0, "untouched")[:, 0], {k: of(k, "retrieval")[:, 0] for k in ks}, {k: of(k, "random") for k in ks}
    )


def on_needles(checks: Sequence[Unit | None], metric: str) -> Effect | None:
    """``recall`` or ``exact`` on the held-out needles."""
    ran = [unit.facts["masked"] for unit in checks if unit is not None and "masked" in unit.facts]
    return effect([(one["needle"], one["arms"], [float(arm[metric]) for arm in one["arms"]]) for one in ran])


def on_text(told: Mapping[str, Any]) -> Effect | None:
    """Loss on plain text."""
    return effect([(one["name"], told["arms"], one["loss"]) for one in told["losses"]])


def on_questions(told: Mapping[str, Any]) -> dict[str, Effect]:
    """Accuracy by kind of question, on those that the untouched model answers right; kinds without one are left out."""
    found = {
        kind: effect(
            [
                (one["name"], told["question_arms"], [float(right) for right in one["correct"]])
                for one in told["questions"]
                if one["kind"] == kind and one["correct"][0]
            ]
        )
        for kind in KINDS
    }
    return {kind: one for kind, one in found.items() if one is not None}


def question_claims(found: Mapping[str, Effect], seed: int, why: str) -> dict[str, Claim]:
    """``extraction``, ``closed_book`` and ``open_book``: change of accuracy with the retrieval heads masked; each with
    ``.random``, that with as many random heads masked, and ``.difference``, the one less the other, question by
    question. ``extraction_minus_closed_book``: the two differences, one less the other."""
    out: dict[str, Claim] = {}
    differences: dict[str, np.ndarray] = {}
    for name, kind in NAMES.items():
        one = found.get(kind)
        for label, what in ((name, "retrieval"), (f"{name}.random", "random"), (f"{name}.difference", "difference")):
            values = np.empty((0, 1)) if one is None else one.changes(what, one.ks[0])
            missing = why or f"the untouched model answered no {kind} question"
            out[label] = claim(values, seed, missing, **({} if one is None else {"k": one.ks[0]}))
            differences[name] = values
    out["extraction_minus_closed_book"] = apart(differences["extraction"], differences["closed_book"], seed, out)
    return out


def apart(one: np.ndarray, other: np.ndarray, seed: int, claims: Mapping[str, Claim]) -> Claim:
    """Difference of the means of two sets of questions [question, draw] with its bootstrap interval: the questions of
    both are drawn, and the random sets, which are the same in both; n = the smaller number of questions."""
    if not len(one) or not len(other):
        why = next(claims[name]["why"] for name in ("extraction", "closed_book") if "why" in claims[name])
        return {"mean": None, "low": None, "high": None, "n": 0, "why": why}
    rng = np.random.default_rng(seed)
    rows = [shares(rng, len(values)) for values in (one, other)]
    draws = shares(rng, one.shape[1])
    means = ((rows[0] @ one - rows[1] @ other) * draws).sum(axis=1)
    found = ends(float(one.mean() - other.mean()), means)
    told = {"mean": found.mean, "low": found.low, "high": found.high, "n": min(len(one), len(other))}
    return {**told, "k": claims["extraction"]["k"]}


def claim(values: np.ndarray, seed: int, why: str, **more: Any) -> Claim:
    """`interp.verify.over_prompts`, of values [unit, draw] with the interval of `estimate`."""
    if not len(values):
        return over_prompts([], seed, why, **more)
    found = estimate(values, seed)
    return {"mean": found.mean, "low": found.low, "high": found.high, "n": len(values), **more}


def estimate(values: np.ndarray, seed: int) -> Estimate:
    """Mean of values [unit, draw] with its percentile bootstrap interval over units and draws; a single draw stands
    for itself, and the units drawn are then those of `interp.verify.bootstrap_mean`."""
    rng = np.random.default_rng(seed)
    units, draws = shares(rng, len(values)), shares(rng, values.shape[1])
    return ends(float(values.mean()), ((units @ values) * draws).sum(axis=1))


def shares(rng: np.random.Generator, n: int) -> np.ndarray:
    """[resample, n] the share of each of n things in a sample of n of them, drawn with replacement."""
    drawn = rng.integers(0, n, (RESAMPLES, n))
    at = drawn + n * np.arange(RESAMPLES)[:, None]
    return np.bincount(at.ravel(), minlength=RESAMPLES * n).reshape(RESAMPLES, n) / n


def ends(mean: float, means: np.ndarray) -> Estimate:
    """A mean with the interval that holds 95 % of its resamples."""
    low, high = np.quantile(means, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Estimate(mean, float(low), float(high))
