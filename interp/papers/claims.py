"""A paper's claims: one sentence each, its published figure, how it is measured here, and the rule of its verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from interp.findings import Findings
from interp.verify import MIN_PROMPTS

Holds = Literal["holds", "does not hold", "cannot be tested here"]


@dataclass(frozen=True)
class Outcome:
    """What a claim's rule says of one model.

    Attributes:
        verdict: the rule's answer.
        measured: the figure in words.
        why: for a verdict that is no plain yes: what failed, or what is missing.
        value, low, high: the figure with its 95 % interval, where the claim hangs on one number.
        prompts: how many prompts it rests on.
    """

    verdict: Holds
    measured: str
    why: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    prompts: int | None = None


@dataclass(frozen=True)
class Evidence:
    """What the claims of a paper are judged by.

    Attributes:
        findings: the paper's runs on this model, by name.
        model: display name; hub id, or None.
        n_layers: blocks of the model.
        positions: how the model tells positions apart (``rotary``, ``learned``, ...).
        prompts: how many prompts were run.
    """

    findings: Mapping[str, Findings]
    model: str
    hub_id: str | None
    n_layers: int
    positions: str
    prompts: int

    def claims(self, run: str) -> Mapping[str, Any]:
        """What a run's finder keeps for claims (``summary["claims"]``)."""
        return self.findings[run].summary.get("claims", {})


@dataclass(frozen=True)
class Claim:
    """One sentence of a paper.

    Attributes:
        name: short, for tables.
        statement: what the paper says, in our words.
        published: its figure, or that it gives none.
        rule: when the verdict is "holds", in one sentence.
        judge: applies the rule.
    """

    name: str
    statement: str
    published: str
    rule: str
    judge: Callable[[Evidence], Outcome]


@dataclass(frozen=True)
class Check:
    """One of the run's own checks: not of the paper, but of whether this run's numbers can be trusted."""

    name: str
    passed: bool
    told: str


@dataclass(frozen=True)
class Run:
    """A finder a paper needs, and the settings it needs it with.

    `keep_arrays`: the run keeps the arrays of every prompt, because claims are judged by them.
    `probe`: the run's own prompts come from it, with the settings `probe_set`, where the paper is about several tasks
    or needs other twins.
    """

    name: str
    finder: str
    settings: Mapping[str, Any]
    keep_arrays: bool = False
    probe: str | None = None
    probe_set: Mapping[str, Any] = field(default_factory=dict)

    @property
    def task(self) -> tuple[str, tuple[tuple[str, Any], ...]] | None:
        """Its own prompts' probe and settings; None where it takes what all runs take."""
        return None if self.probe is None else (self.probe, tuple(sorted(self.probe_set.items())))


@dataclass(frozen=True)
class Paper:
    """A paper that can be reproduced.

    Attributes:
        runs: what is run, in order.
        checks: the run's own checks, from the loaded model, the prompts and the findings by run.
        probes: where prompts come from when the caller brings none.
        caveats: what a reader of the verdicts must know.
    """

    name: str
    citation: str
    runs: tuple[Run, ...]
    claims: tuple[Claim, ...]
    checks: Callable[[Any, Any, Mapping[str, Findings]], list[Check]]
    probes: tuple[str, ...]
    caveats: tuple[str, ...] = ()
    version: str = "1"

    @property
    def tasks(self) -> tuple[tuple[str, tuple[tuple[str, Any], ...]], ...]:
        """Probe and settings of the runs that bring their own prompts, each once."""
        return tuple(dict.fromkeys(one.task for one in self.runs if one.task is not None))


def missing(why: str, measured: str = "nothing to measure") -> Outcome:
    """A claim this run cannot speak to."""
    return Outcome("cannot be tested here", measured, why)


def by_interval(
    figure: Mapping[str, Any] | None,
    *,
    above: float | None = None,
    below: float | None = None,
    what: str,
    minimum: int = MIN_PROMPTS,
    digits: int = 3,
    unit: str = "prompt",
) -> Outcome:
    """The rule most claims share: the whole 95 % interval has to lie beyond a bound.

    Args:
        figure: ``mean``, ``low``, ``high``, ``n`` (prompts), and ``why`` where there is no mean.
        above, below: the bound; one of them.
        what: name of the figure, for the words.
        minimum: with fewer prompts the claim cannot be tested.
        unit: what `n` counts.
    """
    if not figure or figure.get("mean") is None:
        return missing((figure or {}).get("why") or f"{what} could not be measured on these prompts")
    mean, low, high, n = figure["mean"], figure.get("low"), figure.get("high"), int(figure.get("n") or 0)
    bounds = "" if low is None or high is None else f" [{low:.{digits}f}, {high:.{digits}f}]"
    told = f"{what} {mean:.{digits}f}{bounds}, {n} {unit}{'s' * (n != 1)}"
    numbers = {"value": mean, "low": low, "high": high, "prompts": n}
    if n < minimum or low is None or high is None:
        return Outcome("cannot be tested here", told, f"too few to say: {n} {unit}s, {minimum} are needed", **numbers)
    if above is not None:
        return beyond(low > above, told, f"its interval does not lie above {above:g}", numbers)
    assert below is not None, "a bound is needed"
    return beyond(high < below, told, f"its interval does not lie below {below:g}", numbers)


def beyond(holds: bool, told: str, otherwise: str, numbers: Mapping[str, Any]) -> Outcome:
    """``holds``, or ``does not hold`` and why."""
    return Outcome("holds" if holds else "does not hold", told, "" if holds else otherwise, **numbers)
