"""Rules of the claims on retrieval heads (Wu et al. 2024): what each measures and when its verdict is "holds".

Units are needles: instances of one needle at several lengths and depths are one observation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from interp.papers.claims import Evidence, Outcome, beyond, by_interval, missing
from interp.retrieval.published import reference
from interp.retrieval.sets import judged
from interp.retrieval.stability import TOP

Judge = Callable[[Evidence], Outcome]
RUN = "retrieval-heads"
STABLE = 0.5
"""Rank correlation of the heads' scores between halves of the needles from which on they are the same heads."""
HARMLESS = 0.1
"""Share of the untouched model's recall that may be lost where masking "does nothing"."""


@cache
def published() -> dict[str, Any]:
    """The figures of the paper and of its released scores."""
    return reference()


def shares(count: str) -> dict[str, float]:
    """Share of all heads counted under `count` (``at_least_0_1``, ``zero``), by published model."""
    return {name: run[count] / run["heads"] for name, run in published()["models"].items()}


def silent_bound() -> float:
    """The smallest published share of heads that never copy."""
    return min(shares("zero").values())


def overlap(one: str, other: str) -> float:
    """Share of the `TOP` best published heads that two published models have in common."""
    best = [{tuple(head[:2]) for head in published()["models"][name]["top"][:TOP]} for name in (one, other)]
    return len(best[0] & best[1]) / TOP


def figure(evidence: Evidence, name: str) -> Mapping[str, Any]:
    """One figure of the run's claims."""
    return evidence.claims(RUN).get(name) or {}


UNANSWERED = "the model answers none of these questions, so no head can be seen to answer them"


def answers(evidence: Evidence) -> bool:
    """Whether any instance counts."""
    return bool(figure(evidence, "kept_share").get("mean"))


def on(
    evidence: Evidence,
    found: str | Mapping[str, Any],
    what: str,
    *,
    above: float | None = None,
    below: float | None = None,
) -> Outcome:
    """`by_interval` over needles, once the model has been seen to answer any.

    Args:
        found: a figure, or the name of one.
    """
    if not answers(evidence):
        return missing(UNANSWERED)
    given = figure(evidence, found) if isinstance(found, str) else found
    return by_interval(given, above=above, below=below, what=what, unit="needle")


def of(name: str, what: str, *, above: float | None = None, below: float | None = None) -> Judge:
    """The judge of a claim that hangs on one figure."""
    return lambda evidence: on(evidence, name, what, above=above, below=below)


def exist(evidence: Evidence) -> Outcome:
    """Share of heads at the threshold, with how well the model does the task."""
    outcome = on(evidence, "retrieval_share", "share of retrieval heads", above=0.0)
    told = [
        f"{what} {figure(evidence, name)['mean']:.{digits}f}"
        for what, name, digits in (("retrieval heads", "retrieval_heads", 0), ("recall", "recall", 2))
        if figure(evidence, name).get("mean") is not None
    ]
    return replace(outcome, measured="; ".join([outcome.measured, *told]))


def stable(evidence: Evidence) -> Outcome:
    """Rank correlation between halves of the needles, with the share of the best heads that both name."""
    outcome = on(evidence, "split_half", "Spearman's rho of the scores of all heads between halves", above=STABLE)
    shared = figure(evidence, "top_overlap").get("mean")
    return (
        outcome if shared is None else replace(outcome, measured=f"{outcome.measured}; best heads shared {shared:.2f}")
    )


def sometimes(evidence: Evidence) -> Outcome:
    """Share of the retrieval heads that are not always active."""
    always = figure(evidence, "always_active")
    ends = {"mean": "mean", "low": "high", "high": "low"}
    rest = {**always, **{to: None if always.get(by) is None else 1 - always[by] for to, by in ends.items()}}
    outcome = on(evidence, rest, "share of the retrieval heads not always active", above=0.5)
    seldom = figure(evidence, "sometimes_active").get("mean")
    if seldom is None:
        return outcome
    return replace(outcome, measured=f"{outcome.measured}; active in half of the instances or fewer {seldom:.2f}")


def masked(evidence: Evidence) -> dict[int, dict[str, Mapping[str, Any]]]:
    """Changes of recall by number of masked heads, above 0: ``retrieval``, ``random``, ``difference``."""
    found: dict[int, dict[str, Mapping[str, Any]]] = {}
    for name, told in evidence.claims(RUN).items():
        parts = name.split(".")
        if len(parts) == 3 and parts[0] == "mask" and int(parts[2]) > 0 and told and told.get("mean") is not None:
            found.setdefault(int(parts[2]), {})[parts[1]] = told
    return dict(sorted(found.items()))


def judged_k(evidence: Evidence) -> int | None:
    """The K that claims are judged by (`interp.retrieval.sets.judged`): chosen by how many retrieval heads there are,
    not by what masking does."""
    heads = figure(evidence, "retrieval_heads").get("mean") or 0
    return judged(evidence.findings[RUN].summary.get("masks") or {}, int(heads))


def curve(evidence: Evidence) -> str:
    """Every K's change of recall, retrieval heads against random ones."""
    parts = [
        f"{k}: {told['retrieval']['mean']:+.2f} / {told['random']['mean']:+.2f}"
        for k, told in masked(evidence).items()
        if len(told) == 3
    ]
    return f"recall by K, best heads / random heads: {', '.join(parts)}"


NO_K = "no head was masked: there is no retrieval head, or no needle to choose them by"


def masking(evidence: Evidence) -> tuple[int, float] | Outcome:
    """The K that is judged and the untouched model's recall on the needles that judge; or why masking cannot be judged:
    what is not answered without masks cannot be lost."""
    k, untouched = judged_k(evidence), figure(evidence, "mask.untouched").get("mean")
    if k is None or untouched is None:
        return missing(NO_K)
    floor = evidence.findings[RUN].summary["settings"]["min_recall"]
    if untouched > floor:
        return k, untouched
    told = f"recall without a mask {untouched:.2f}"
    return missing(f"the model does not answer the held-out needles: recall above {floor:g} is needed", told)


def breaks(evidence: Evidence) -> Outcome:
    """Recall lost by masking retrieval heads, beyond what as many random heads cost."""
    given = masking(evidence)
    if isinstance(given, Outcome):
        return given
    k, _ = given
    outcome = on(evidence, f"mask.difference.{k}", f"recall lost beyond random heads' at K = {k}", below=0.0)
    if outcome.value is None:
        return outcome
    alone = figure(evidence, f"mask.retrieval.{k}").get("high")
    if outcome.verdict == "holds" and (alone is None or alone >= 0):
        outcome = replace(outcome, verdict="does not hold", why="masking the retrieval heads alone costs no recall")
    return replace(outcome, measured=f"{outcome.measured}; {curve(evidence)}")


def harmless(evidence: Evidence) -> Outcome:
    """Share of the untouched model's recall that is lost by masking random heads."""
    given = masking(evidence)
    if isinstance(given, Outcome):
        return given
    k, untouched = given
    change = figure(evidence, f"mask.random.{k}")
    share = {end: None if change.get(end) is None else change[end] / untouched for end in ("mean", "low", "high")}
    return on(evidence, {**change, **share}, f"change of recall at K = {k}, over {untouched:.2f}", above=-HARMLESS)


def extraction(evidence: Evidence) -> Outcome:
    """Accuracy lost beyond random heads on questions whose answer only the passage gives, minus that on questions asked
    without one."""
    given = figure(evidence, "extraction_minus_closed_book")
    k = given.get("k")
    what = "change of accuracy beyond random heads', extraction minus closed-book" + ("" if k is None else f", K = {k}")
    outcome = by_interval(given, below=0.0, what=what, unit="question")
    alone = figure(evidence, "extraction.difference").get("high")
    if outcome.verdict == "holds" and (alone is None or alone >= 0):
        why = "on extraction alone they cost no more than random heads"
        outcome = replace(outcome, verdict="does not hold", why=why)
    parts = [
        f"{told} {figure(evidence, name)['mean']:+.2f} (random heads {figure(evidence, f'{name}.random')['mean']:+.2f})"
        for told, name in (("extraction", "extraction"), ("closed-book", "closed_book"))
        if figure(evidence, name).get("mean") is not None
    ]
    return replace(outcome, measured="; ".join([outcome.measured, ", ".join(parts)]) if parts else outcome.measured)


def intrinsic(evidence: Evidence) -> Outcome:
    """One model has no descendant to be compared with."""
    return missing("needs a model and one derived from it: scan both with --find retrieval-heads, then interp compare")


def heads(evidence: Evidence) -> Outcome:
    """The best heads, on a published model, against the published ones (`interp.retrieval.published.compared`)."""
    if not answers(evidence):
        return missing(UNANSWERED)
    best = evidence.findings[RUN].table.head(5)
    told = "best here: " + ", ".join(
        f"{layer}.{head} {score:.2f}"
        for layer, head, score in zip(best["layer"], best["head"], best["score"], strict=True)
    )
    known = evidence.findings[RUN].summary.get("published")
    if known is None:
        return missing(f"heads were published for {', '.join(published()['models'])}", told)
    rho = known["rank_correlation"]
    ranked = "" if rho is None else f"; Spearman's rho over the {known['listed']} published heads {rho:.2f}"
    shared = known["overlap"]
    measured = f"{told}; shared of the {known['top']} best {shared:.2f}{ranked}"
    return beyond(shared >= 0.5, measured, "half of the best published heads are needed", {"value": shared})
