"""How the claims of Wong et al. 2025 (arXiv 2512.22213) are judged: one function a rule, over the runs' findings."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from interp.finders.sink_config import reading_layers
from interp.papers.claims import Evidence, Outcome, beyond, by_interval, missing
from interp.resources import data_path
from interp.verify import MIN_PROMPTS, bootstrap_mean

Judge = Callable[[Evidence], Outcome]
NONE_FOUND = "no secondary sink was found in these prompts"
FEW = 6
"""The most levels a model of the paper has."""


@cache
def published() -> dict[str, Any]:
    """The figures of the paper and of its released results."""
    return json.loads(data_path("references", "wong2025.json").read_text(encoding="utf-8"))


def secondaries(evidence: Evidence) -> Any:
    """The secondary rows of the sinks table."""
    table: Any = evidence.findings["sinks"].table
    return table[table["kind"] == "secondary"]


def figure(values: Any) -> dict[str, Any]:
    """Mean and interval of one value a prompt."""
    values = np.asarray(list(values), dtype=np.float64)
    if not len(values):
        return {"mean": None, "why": NONE_FOUND}
    estimate = bootstrap_mean(values)
    return {"mean": estimate.mean, "low": estimate.low, "high": estimate.high, "n": len(values)}


def exist(evidence: Evidence) -> Outcome:
    """Share of prompts with a secondary sink."""
    names = [told["name"] for told in evidence.findings["sinks"].summary["prompts"]]
    having = set(secondaries(evidence)["prompt"])
    share = figure([name in having for name in names])
    told = f"{len(secondaries(evidence))} in {len(having)} of {len(names)}: share"
    return by_interval(share, above=0.0, what=told)


def in_the_middle(evidence: Evidence) -> Outcome:
    """Mean start layer of a prompt's secondary sinks as a share of the depth, inside the middle half."""
    rows = secondaries(evidence)
    share = figure(rows.groupby("prompt", sort=False)["start_layer"].mean() / evidence.n_layers)
    outcome = by_interval(share, above=0.25, what="start layer / layers")
    if outcome.high is not None and outcome.verdict == "holds" and outcome.high >= 0.75:
        return Outcome("does not hold", outcome.measured, "its interval reaches beyond three quarters of the depth")
    return outcome


def lifetimes_vary(evidence: Evidence) -> Outcome:
    """Two lifetimes, two layers or more apart, that each occur at least twice."""
    lifetimes = Counter(int(life) for life in secondaries(evidence)["lifetime"])
    if not lifetimes:
        return missing(NONE_FOUND)
    told = "lifetime:count " + " ".join(f"{life}:{n}" for life, n in lifetimes.most_common())
    if sum(lifetimes.values()) < MIN_PROMPTS:
        return missing(f"too few to say: {sum(lifetimes.values())} secondary sinks, {MIN_PROMPTS} are needed", told)
    often = [life for life, n in lifetimes.items() if n >= 2]
    varies = bool(often) and max(often) - min(often) >= 2
    numbers = {"value": float(len(lifetimes)), "prompts": secondaries(evidence)["prompt"].nunique()}
    return beyond(varies, told, "no two recurring lifetimes lie two layers apart", numbers)


def masses(evidence: Evidence) -> Iterator[tuple[str, float, float, float]]:
    """(prompt, alpha of a secondary sink, of the anchor, of the median key) in the blocks that read the secondary."""
    findings = evidence.findings["sinks"]
    by_prompt = {told["name"]: (i, told["anchor"]) for i, told in enumerate(findings.summary["prompts"])}
    for row in secondaries(evidence).itertuples(index=False):
        index, anchor = by_prompt[str(row.prompt)]
        alpha = findings.arrays[f"received.{index}"].mean(axis=1, dtype=np.float64)
        life = tuple(range(int(row.start_layer), int(row.start_layer) + int(row.lifetime)))
        read = alpha[reading_layers(life, evidence.n_layers)]
        if len(read):
            position = int(row.position)
            yield str(row.prompt), read[:, position].mean(), read[:, anchor].mean(), np.median(read, axis=1).mean()


def weaker_than_primary(evidence: Evidence) -> Outcome:
    """Mass of the secondary sinks minus the anchor's, in the same layers."""
    frame: Any = pd.DataFrame(list(masses(evidence)), columns=["prompt", "secondary", "anchor", "ordinary"])
    mean = frame.groupby("prompt", sort=False).mean()
    outcome = by_interval(figure(mean["secondary"] - mean["anchor"]), below=0.0, what="alpha minus the anchor's")
    if outcome.value is None:
        return outcome
    times = float((mean["secondary"] / mean["ordinary"].clip(lower=1e-6)).median())
    means = f"secondary {mean['secondary'].mean():.3f}, anchor {mean['anchor'].mean():.3f}"
    extra = f" ({means}, {times:.0f} times a median key)"
    return Outcome(
        outcome.verdict,
        outcome.measured + extra,
        outcome.why,
        outcome.value,
        outcome.low,
        outcome.high,
        outcome.prompts,
    )


def of(run: str, name: str, what: str, *, above: float | None = None, below: float | None = None) -> Judge:
    """The judge of a claim on secondary sinks that hangs on one figure of one run."""

    def judge(evidence: Evidence) -> Outcome:
        if not len(secondaries(evidence)):
            return missing(NONE_FOUND)
        return by_interval(evidence.claims(run).get(name), above=above, below=below, what=what)

    return judge


def causal(run: str, name: str, what: str) -> Judge:
    """The judge of a claim that a causal check puts to the test, kept in a run's claims under `name`."""

    def judge(evidence: Evidence) -> Outcome:
        check = evidence.claims(run).get(name)
        if not check or check.get("difference") is None:
            return missing(NONE_FOUND if not check else f"the check says: {check['verdict']}")
        told = (
            f"{what} {check['effect']:+.3f}, controls {check['control']:+.3f}, difference {check['difference']:+.3f} "
            f"[{check['difference_low']:+.3f}, {check['difference_high']:+.3f}], {check['prompts']} prompts"
        )
        numbers: dict[str, Any] = {
            "value": check["difference"],
            "low": check["difference_low"],
            "high": check["difference_high"],
            "prompts": check["prompts"],
        }
        if check["verdict"] not in ("verified", "failed"):
            return Outcome("cannot be tested here", told, check["verdict"], **numbers)
        return beyond(
            check["verdict"] == "verified", told, "no more than the same edit at ordinary tokens does", numbers
        )

    return judge


def effective(evidence: Evidence) -> Outcome:
    """Directions of MLP inputs that the forming MLP maps onto the anchor's output (|cos| > 0.98)."""
    told = evidence.claims("sink-formation").get("effective_components") or {}
    tested, found = int(told.get("n") or 0), int(told.get("effective") or 0)
    if not tested:
        return missing(told.get("why") or "no layer formed enough secondary sinks for a PCA of its MLP's inputs")
    return beyond(
        found > 0,
        f"{found} of {tested} signed components with |cos| > 0.98",
        "no component is mapped onto the sink's direction",
        {"value": float(found)},
    )


def few_levels(evidence: Evidence) -> Outcome:
    """How many (start layer, lifetime) levels hold the secondary sinks."""
    told = evidence.claims("sinks").get("secondary_levels") or {}
    rows = secondaries(evidence)
    found = told.get("found")
    if not found:
        return missing(NONE_FOUND)
    numbers = {
        "value": float(found),
        "low": told.get("low"),
        "high": told.get("high"),
        "prompts": rows["prompt"].nunique(),
    }
    measured = f"{found} levels of {len(rows)} secondary sinks"
    if len(rows) < 2 * found or numbers["prompts"] < MIN_PROMPTS:
        return Outcome(
            "cannot be tested here", measured, "too few secondary sinks to tell levels from chance", **numbers
        )
    return beyond(found <= FEW, measured, f"more than the {FEW} levels of the paper's models", numbers)


def counts(evidence: Evidence) -> Outcome:
    """The released rule's counts; they can be compared on the published models only."""
    table: Any = evidence.findings["released"].table
    anchors = {told["name"]: told["anchor"] for told in evidence.findings["released"].summary["prompts"]}
    others = table[[anchors[name] != at for name, at in zip(table["prompt"], table["position"], strict=True)]]
    told = f"{len(others)} other tokens in {others['prompt'].nunique()} of {evidence.prompts} prompts"
    run = next((one for one in published()["runs"] if one["model"] == evidence.hub_id), None)
    if run is None:
        return missing(
            f"the counts were published for {' and '.join(one['model'] for one in published()['runs'])}", told
        )
    starts = Counter(int(layer) for layer in others["start_layer"])
    expected = {int(layer) for layer in run["start_layers"]}
    usual = starts.most_common(1)[0][0] if starts else None
    return beyond(usual in expected, f"{told}; usual start layer {usual}", f"published: {sorted(expected)}", {})
