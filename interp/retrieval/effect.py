"""Masked answers summed up: what every K does to held-out needles, to plain text and to questions. Pure NumPy.

Instances of one needle are one unit: means by needle first, intervals over needles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from interp.finders.base import Unit
from interp.retrieval.closed_book import KINDS
from interp.verify import LEVEL, RESAMPLES, bootstrap_mean, over_prompts

Claim = dict[str, Any]


@dataclass(frozen=True)
class Effect:
    """A quantity under masks, unit by unit (needles, texts, or questions).

    Attributes:
        names: of the units.
        untouched: [unit].
        retrieval, random: K -> [unit]; random is the mean over the random sets.
    """

    names: tuple[str, ...]
    untouched: np.ndarray
    retrieval: Mapping[int, np.ndarray]
    random: Mapping[int, np.ndarray]

    @property
    def ks(self) -> tuple[int, ...]:
        """Numbers of masked heads, ascending."""
        return tuple(sorted(self.retrieval))

    def change(self, kind: str, k: int) -> np.ndarray:
        """[unit] what masking changes: of ``retrieval``, of ``random``, or the ``difference`` of the two."""
        if kind == "difference":
            return self.retrieval[k] - self.random[k]
        return (self.retrieval if kind == "retrieval" else self.random)[k] - self.untouched

    def claims(self, name: str, seed: int) -> dict[str, Claim]:
        """``name.untouched``, and ``name.retrieval.K``, ``name.random.K``, ``name.difference.K``: changes."""
        out = {f"{name}.untouched": over_prompts(self.untouched, seed, "")}
        for k in self.ks:
            for kind in ("retrieval", "random", "difference"):
                out[f"{name}.{kind}.{k}"] = over_prompts(self.change(kind, k), seed, "", k=k)
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
        return means[:, [i for i, arm in enumerate(arms) if arm["kind"] == kind and arm["k"] == k]].mean(axis=1)

    ks = sorted({arm["k"] for arm in arms if arm["kind"] == "retrieval"})
    return Effect(names, of(0, "untouched"), {k: of(k, "retrieval") for k in ks}, {k: of(k, "random") for k in ks})


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
    """``extraction`` and ``closed_book``: change of accuracy with the retrieval heads masked, both with ``.random``;
    ``extraction_minus_closed_book``: the one less the other, over two independent sets of questions."""
    out: dict[str, Claim] = {}
    changes: dict[str, np.ndarray] = {}
    for name, kind in (
        ("extraction", "extraction"),
        ("closed_book", "closed-book"),
        ("open_book", "known with passage"),
    ):
        for label, what in ((name, "retrieval"), (f"{name}.random", "random")):
            one = found.get(kind)
            values = np.empty(0) if one is None else one.change(what, one.ks[0])
            missing = why or f"the untouched model answered no {kind} question"
            out[label] = over_prompts(values, seed, missing, **({} if one is None else {"k": one.ks[0]}))
            changes[label] = values
    out["extraction_minus_closed_book"] = apart(changes["extraction"], changes["closed_book"], seed, out)
    return out


def apart(one: np.ndarray, other: np.ndarray, seed: int, claims: Mapping[str, Claim]) -> Claim:
    """Difference of two independent means with its bootstrap interval; n = the smaller number of questions."""
    if not len(one) or not len(other):
        why = next(claims[name]["why"] for name in ("extraction", "closed_book") if "why" in claims[name])
        return {"mean": None, "low": None, "high": None, "n": 0, "why": why}
    rng = np.random.default_rng(seed)
    means = [values[rng.integers(0, len(values), (RESAMPLES, len(values)))].mean(axis=1) for values in (one, other)]
    low, high = np.quantile(means[0] - means[1], ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    ends = {"low": float(low), "high": float(high), "n": min(len(one), len(other))}
    return {"mean": float(one.mean() - other.mean()), **ends, "k": claims["extraction"]["k"]}


def level(values: np.ndarray, seed: int) -> tuple[float, float, float]:
    """(mean, low, high) over units."""
    found = bootstrap_mean(values, seed=seed)
    return found.mean, found.low, found.high
