"""Secondary attention sinks (Wong et al. 2025, arXiv 2512.22213), claim by claim.

Published figures are in ``data/references/wong2025.json``. Claims about secondary sinks are judged by the relative rule
(`interp.finders.sink_rules`), which looks at attention; the released rule runs beside it, for the published counts.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from interp.finders.sink_config import reading_layers
from interp.papers import checks
from interp.papers.claims import Claim, Evidence, Outcome, Paper, Run, beyond, by_interval, missing
from interp.resources import data_path
from interp.verify import MIN_PROMPTS, bootstrap_mean

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
    outcome = by_interval(
        share, above=0.0, what=f"{len(secondaries(evidence))} in {len(having)} of {len(names)}: share"
    )
    return outcome


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


def of(run: str, name: str, what: str, *, above: float | None = None, below: float | None = None) -> Any:
    """The judge of a claim that hangs on one figure of one run."""

    def judge(evidence: Evidence) -> Outcome:
        return by_interval(evidence.claims(run).get(name), above=above, below=below, what=what)

    return judge


def causal(run: str, what: str) -> Any:
    """The judge of a claim that a run's causal check puts to the test."""

    def judge(evidence: Evidence) -> Outcome:
        check = evidence.findings[run].verification
        if check is None or check.difference is None:
            return missing(NONE_FOUND if check is None else f"{check.verdict}: {check.how}")
        told = (
            f"{what} {check.effect:+.3f}, controls {check.control:+.3f}, difference {check.difference:+.3f} "
            f"[{check.difference_low:+.3f}, {check.difference_high:+.3f}], {check.prompts} prompts"
        )
        numbers: dict[str, Any] = {
            "value": check.difference,
            "low": check.difference_low,
            "high": check.difference_high,
        }
        numbers["prompts"] = check.prompts
        if check.verdict not in ("verified", "failed"):
            return Outcome("cannot be tested here", told, check.verdict, **numbers)
        return beyond(check.verdict == "verified", told, "no more than the same edit at ordinary tokens does", numbers)

    return judge


def effective(evidence: Evidence) -> Outcome:
    """Directions of MLP inputs that the forming MLP maps onto the anchor's output (|cos| > 0.98)."""
    told = evidence.claims("sink-formation").get("effective_components") or {}
    tested, found = int(told.get("tested") or 0), int(told.get("effective") or 0)
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


def _runs_told() -> str:
    parts = []
    for run in published()["runs"]:
        starts = ", ".join(run["start_layers"])
        parts.append(f"{run['model']}: {run['others']} in {run['generations_with_others']} of {run['generations']}, "
                     f"start layer {starts} of {run['layers']}")  # fmt: skip
    return "; ".join(parts)


def _lifetimes_told() -> str:
    return "; ".join(
        f"{run['model']}: " + " ".join(f"{life}:{n}" for life, n in run["lifetimes"].items())
        for run in published()["runs"]
    )


def _levels_told() -> str:
    return ", ".join(f"{n} in {model}" for model, n in published()["levels"].items())


QUALITATIVE = "no figure among those carried over"


def claims() -> tuple[Claim, ...]:
    """What the paper says, one claim each."""
    return (
        Claim(
            "secondary sinks exist",
            "Tokens other than the primary sink become sinks later than it does.",
            _runs_told(),
            "The 95 % interval of the share of prompts with a secondary sink lies above 0.",
            exist,
        ),
        Claim(
            "middle layers",
            "Secondary sinks arise in the middle layers.",
            _runs_told(),
            "The 95 % interval of their start layer over the number of layers lies between 1/4 and 3/4.",
            in_the_middle,
        ),
        Claim(
            "variable lifetime",
            "They live for a variable number of layers.",
            f"lifetime:count {_lifetimes_told()}",
            "Two lifetimes at least two layers apart each occur at least twice.",
            lifetimes_vary,
        ),
        Claim(
            "weaker than the primary",
            "They draw less attention than the primary sink, but still much.",
            QUALITATIVE,
            "In the layers that read them, their alpha minus the anchor's has a 95 % interval below 0.",
            weaker_than_primary,
        ),
        Claim(
            "formed by an MLP",
            "Specific MLPs form them: the new state's share along the sink direction comes from the MLP.",
            QUALITATIVE,
            "The MLP's share of the projection gained in the forming block has a 95 % interval above one half.",
            of("sink-formation", "mlp_share.secondary", "the MLP's share", above=0.5),
        ),
        Claim(
            "onto the primary's direction",
            "The forming MLP maps their states onto the direction of that layer's primary sink.",
            QUALITATIVE,
            "Its output's cosine with the sink direction exceeds same-token controls': 95 % interval above 0.",
            of("sink-formation", "cosine.mlp_out.difference", "cosine minus the controls'", above=0.0),
        ),
        Claim(
            "many inputs, one direction",
            "Distinct directions of the MLP's input are mapped onto the one sink direction.",
            "effective: |cos| > 0.98",
            "At least one signed principal component of the MLP's inputs is effective.",
            effective,
        ),
        Claim(
            "no MLP output, no sink",
            "Without the forming MLP's output the sink does not form.",
            QUALITATIVE,
            "Taking that output away lowers alpha by more than at control tokens: 95 % interval beyond 0.",
            causal("sink-formation", "change of alpha"),
        ),
        Claim(
            "norm sets the sink score",
            "The norm of the forming MLP's output sets how much attention the sink draws.",
            QUALITATIVE,
            "Rescaling that output, norm and alpha correlate within a sink (Spearman): 95 % interval above 0.",
            of("sink-norm-law", "correlation.score.causal", "Spearman's rho", above=0.0),
        ),
        Claim(
            "norm sets the lifetime",
            "The norm of the forming MLP's output sets how many layers the sink lives.",
            QUALITATIVE,
            "Rescaling that output, norm and lifetime correlate within a sink (Spearman): 95 % interval above 0.",
            of("sink-norm-law", "correlation.lifetime.causal", "Spearman's rho", above=0.0),
        ),
        Claim(
            "the direction makes a sink",
            "A state on the sink direction is a sink, whatever the token (the reverse of the norm law).",
            QUALITATIVE,
            "Of ordinary tokens onto which it is written, the share that become sinks has a 95 % interval above "
            "one half.",
            of("sink-norm-law", "reverse.became_sinks", "share that become sinks", above=0.5),
        ),
        Claim(
            "the primary weakens",
            "The primary sink draws less in the layers where secondary sinks appear.",
            QUALITATIVE,
            "The anchor's alpha there minus elsewhere in its life has a 95 % interval below 0.",
            of("primary-weakening", "weakening.difference", "alpha there minus elsewhere", below=0.0),
        ),
        Claim(
            "few levels",
            "Start layer and lifetime fall into a few levels.",
            _levels_told(),
            f"At most {FEW} levels hold all secondary sinks, at least twice as many sinks as levels.",
            few_levels,
        ),
        Claim(
            "released counts",
            "The released rule finds these many other tokens, with these start layers.",
            _runs_told(),
            "On a published model, the usual start layer is the published one.",
            counts,
        ),
    )


paper = Paper(
    "wong2025",
    published()["citation"],
    (
        Run("sinks", "sinks", {}),
        Run("released", "sinks", {"rule": "wong2025"}),
        Run("sink-formation", "sink-formation", {}),
        Run("sink-norm-law", "sink-norm-law", {}),
        Run("primary-weakening", "primary-weakening", {}),
    ),
    claims(),
    checks.wong2025,
    ("text", "problems"),
    (
        "The paper generates with reasoning models on AIME24 problems; the verdicts here are for this model on these "
        "prompts (--generate lets the model write on).",
        "Secondary is meant by the relative rule, which looks at attention as well as states; the released rule's "
        "counts are in the last claim.",
    ),
)
