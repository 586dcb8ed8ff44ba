"""How the claims of Wong et al. 2025 (arXiv 2512.22213) are judged: one function a rule, over the runs' findings."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from interp.finders.sink_config import reading_layers
from interp.finders.sink_levels import levels
from interp.papers.claims import Evidence, Outcome, beyond, by_interval, missing
from interp.resources import data_path
from interp.verify import MIN_PROMPTS, over_prompts

Judge = Callable[[Evidence], Outcome]
NONE_FOUND = "no secondary sink was found in these prompts"
FEW = 6
"""The most levels a model of the paper has."""
DRAWS = 500
"""Random sets of pairs that the number of levels is held against."""


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
    return over_prompts(np.asarray(list(values), dtype=np.float64), 0, NONE_FOUND)


def exist(evidence: Evidence) -> Outcome:
    """Share of prompts with a secondary sink."""
    names = [told["name"] for told in evidence.findings["sinks"].summary["prompts"]]
    having = set(secondaries(evidence)["prompt"])
    share = figure([name in having for name in names])
    told = f"{len(secondaries(evidence))} in {len(having)} of {len(names)}: share"
    return by_interval(share, above=0.0, what=told)


def in_the_middle(evidence: Evidence) -> Outcome:
    """Share of a prompt's secondary sinks that start in the middle half of the depth."""
    rows = secondaries(evidence)
    depth = rows["start_layer"] / evidence.n_layers
    share = figure(depth.between(0.25, 0.75).groupby(rows["prompt"], sort=False).mean())
    starts = " ".join(f"{layer}:{n}" for layer, n in sorted(Counter(map(int, rows["start_layer"])).items()))
    told = f"start layer:count {starts} of {evidence.n_layers} layers; share in the middle half"
    return by_interval(share, above=0.5, what=told)


def lifetimes_vary(evidence: Evidence) -> Outcome:
    """Two lifetimes, two layers or more apart, that each occur in two prompts at least."""
    rows = secondaries(evidence)
    lifetimes = Counter(int(life) for life in rows["lifetime"])
    if not lifetimes:
        return missing(NONE_FOUND)
    prompts = int(rows["prompt"].nunique())
    told = "lifetime:count " + " ".join(f"{life}:{n}" for life, n in lifetimes.most_common())
    numbers = {"value": float(len(lifetimes)), "prompts": prompts}
    if prompts < MIN_PROMPTS:
        return Outcome("cannot be tested here", told, few(prompts), **numbers)
    recurring = [int(life) for life, group in rows.groupby("lifetime") if group["prompt"].nunique() >= 2]
    varies = bool(recurring) and max(recurring) - min(recurring) >= 2
    return beyond(varies, told, "no two recurring lifetimes lie two layers apart", numbers)


def few(prompts: int) -> str:
    """Why a claim waits for more prompts."""
    return f"too few to say: secondary sinks in {prompts} prompts, {MIN_PROMPTS} are needed"


def masses(evidence: Evidence) -> Iterator[tuple[str, float, float, float]]:
    """(prompt, alpha of a secondary sink, of the primary, of the median key) in the blocks that read the secondary.

    The primary is the released rule's: the longest of the first positions' states. The relative rule's anchor is the
    key that draws most, so that nothing could draw more.
    """
    findings = evidence.findings["sinks"]
    primary = {told["name"]: told["anchor"] for told in evidence.findings["released"].summary["prompts"]}
    by_prompt = {told["name"]: (i, primary[told["name"]]) for i, told in enumerate(findings.summary["prompts"])}
    for row in secondaries(evidence).itertuples(index=False):
        index, anchor = by_prompt[str(row.prompt)]
        if anchor is None:
            continue
        alpha = findings.arrays[f"received.{index}"].mean(axis=1, dtype=np.float64)
        life = tuple(range(int(row.start_layer), int(row.start_layer) + int(row.lifetime)))
        read = alpha[reading_layers(life, evidence.n_layers)]
        if len(read):
            position = int(row.position)
            yield str(row.prompt), read[:, position].mean(), read[:, anchor].mean(), np.median(read, axis=1).mean()


def weaker_than_primary(evidence: Evidence) -> Outcome:
    """Mass of the secondary sinks minus the primary's, in the same layers."""
    frame: Any = pd.DataFrame(list(masses(evidence)), columns=["prompt", "secondary", "primary", "ordinary"])
    mean = frame.groupby("prompt", sort=False).mean()
    outcome = by_interval(figure(mean["secondary"] - mean["primary"]), below=0.0, what="alpha minus the primary's")
    if outcome.value is None:
        return outcome
    times = float((mean["secondary"] / mean["ordinary"].clip(lower=1e-6)).median())
    means = f"secondary {mean['secondary'].mean():.3f}, primary {mean['primary'].mean():.3f}"
    extra = f" ({means}, {times:.0f} times a median key)"
    return replace(outcome, measured=outcome.measured + extra)


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
    """Different components of secondary sinks' inputs that one MLP maps onto the sink direction (|cos| > 0.98)."""
    told = (evidence.claims("sink-formation").get("effective_components") or {}).get("secondary") or {}
    if not told.get("blocks"):
        return missing(told.get("why") or "no block formed enough secondary sinks for a PCA of its MLP's inputs")
    directions, prompts = int(told["directions"]), int(told["prompts"])
    measured = f"{directions} different components of one block with |cos| > 0.98"
    numbers = {"value": float(directions), "prompts": prompts}
    if prompts < MIN_PROMPTS:
        return Outcome("cannot be tested here", measured, few(prompts), **numbers)
    return beyond(directions >= 2, measured, "two different components of one block are needed", numbers)


def weakens(evidence: Evidence) -> Outcome:
    """The finder's own verdict: the interval over prompts, and the test against other layers."""
    outcome = of("primary-weakening", "weakening.difference", "alpha there minus elsewhere", below=0.0)(evidence)
    told = evidence.claims("primary-weakening").get("weakening.outcome") or {}
    if outcome.verdict == "holds" and told.get("verdict") != "weaker":
        untested = told.get("verdict") == "cannot be told"
        verdict = "cannot be tested here" if untested else "does not hold"
        return replace(outcome, verdict=verdict, why=told.get("why") or "other layers of its life are as weak")
    return outcome


def with_natural(measure: str, judge: Judge) -> Judge:
    """`judge`, with the correlation over the sinks as they are beside its figure: that one proves nothing causal."""

    def told(evidence: Evidence) -> Outcome:
        outcome = judge(evidence)
        natural = evidence.claims("sink-norm-law").get(f"correlation.{measure}.natural") or {}
        if natural.get("mean") is None or outcome.value is None:
            return outcome
        return replace(outcome, measured=f"{outcome.measured}; over the sinks as they are {natural['mean']:.2f}")

    return told


def few_levels(evidence: Evidence) -> Outcome:
    """How many (start layer, lifetime) levels hold the secondary sinks, against as many random pairs."""
    rows = secondaries(evidence)
    if not len(rows):
        return missing(NONE_FOUND)
    pairs = [(int(start), int(life)) for start, life in zip(rows["start_layer"], rows["lifetime"], strict=True)]
    found = len(levels(pairs)[1])
    prompts = int(rows["prompt"].nunique())
    chance = np.array([len(levels(random_pairs(len(pairs), evidence.n_layers, seed))[1]) for seed in range(DRAWS)])
    p = float((1 + (chance <= found).sum()) / (1 + DRAWS))
    measured = f"{found} levels of {len(rows)} secondary sinks (random pairs: {np.median(chance):.0f}, p = {p:.3f})"
    numbers = {"value": float(found), "prompts": prompts}
    if prompts < MIN_PROMPTS:
        return Outcome("cannot be tested here", measured, few(prompts), **numbers)
    why = f"more than the {FEW} of the paper's models" if found > FEW else "random pairs fall into as few"
    return beyond(found <= FEW and p <= 0.05, measured, why, numbers)


def random_pairs(count: int, n_layers: int, seed: int) -> list[tuple[int, int]]:
    """So many (start, lifetime) pairs, all that fit the model being equally likely."""
    rng = np.random.default_rng(seed)
    fitting = [(start, life) for start in range(n_layers - 2) for life in range(2, n_layers - start)]
    return [fitting[i] for i in rng.integers(0, len(fitting), count)]


def counts(evidence: Evidence) -> Outcome:
    """The released rule's usual start layer and lifetime; they can be compared on the published models only."""
    table: Any = evidence.findings["released"].table
    anchors = {told["name"]: told["anchor"] for told in evidence.findings["released"].summary["prompts"]}
    others = table[[anchors[name] != at for name, at in zip(table["prompt"], table["position"], strict=True)]]
    told = f"{len(others)} other tokens in {others['prompt'].nunique()} of {evidence.prompts} prompts"
    run = next((one for one in published()["runs"] if one["model"] == evidence.hub_id), None)
    if run is None:
        return missing(
            f"the counts were published for {' and '.join(one['model'] for one in published()['runs'])}", told
        )
    starts, lives = (Counter(int(one) for one in others[name]) for name in ("start_layer", "lifetime"))
    usual = starts.most_common(1)[0][0] if starts else None
    life = lives.most_common(1)[0][0] if lives else None
    holds = str(usual) in run["start_layers"] and str(life) in run["lifetimes"]
    measured = f"{told}; usual start layer {usual}, usual lifetime {life}"
    return beyond(holds, measured, f"published: {', '.join(run['start_layers'])} and {' '.join(run['lifetimes'])}", {})
