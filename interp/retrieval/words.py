"""The sentences about retrieval heads: verdict and caveats. Numbers come from the findings, none is measured here."""

from __future__ import annotations

from typing import Any

import numpy as np

from interp.finders.base import ModelFacts
from interp.finders.sink_words import LONGEST_NAME, count
from interp.findings import Findings
from interp.retrieval.config import RetrievalConfig
from interp.retrieval.instances import Instances
from interp.retrieval.sets import judged
from interp.retrieval.stability import ALWAYS, TOP
from interp.retrieval.table import Scores, label
from interp.text import printable
from interp.verify import MIN_PROMPTS

FORMS = {
    "bare": "the question alone",
    "prefix": "the question and the answer's beginning",
    "chat": "the model's chat template",
    "own": "the prompts' own words",
}


def verdict(findings: Findings, masked: str) -> str:
    """The whole verdict; `masked` is what masking did, sentences (`interp.retrieval.curves`), empty before it ran."""
    if not findings.summary["kept"]:
        return findings.summary["heading"]
    return " ".join(filter(None, [f"{findings.summary['heading']}{recall_lost(findings)}.", behind(findings), masked]))


def recall_lost(findings: Findings) -> str:
    """The second half sentence: recall under masks; empty where nothing was masked, or not yet, or on few needles."""
    claims, k = findings.summary["claims"], judged(findings.summary["masks"], len(findings.summary["retrieval"]))
    changes = [claims.get(f"mask.{kind}.{k}", {}).get("mean") for kind in ("retrieval", "random")]
    if k is None or None in changes:
        return ""
    checked = findings.verification
    if claims["mask.untouched"]["n"] < MIN_PROMPTS or checked is None or checked.effect is None:
        return ""  # too few to say anything in large letters, or nothing to lose
    if findings.summary["broken"]:
        return ""
    untouched = claims["mask.untouched"]["mean"]
    which, others = ("the best one", "a random one") if k == 1 else (f"the best {k}", "as many random heads")
    return (
        f"; masking {which} takes recall from {untouched:.2f} to {untouched + changes[0]:.2f}, masking {others} to "
        f"{untouched + changes[1]:.2f}"
    )


def heading(findings: Findings, instances: Instances, config: RetrievalConfig, facts: ModelFacts) -> str:
    """The verdict's first half sentence: how many heads retrieve, and the best one; or that nothing can be said."""
    if not findings.summary["kept"]:
        return unanswered(instances, facts, config)
    counts, name = findings.summary["sparsity"], printable(facts.name, LONGEST_NAME)
    best = findings.table.iloc[0]
    led = f"{label((int(best['layer']), int(best['head'])))} ({best['score']:.2f})"
    retrieval, heads, threshold = counts["retrieval"], counts["heads"], f"score >= {counts['threshold']:g}"
    if retrieval:
        verb = "retrieves" if retrieval == 1 else "retrieve"
        return f"{retrieval} of {heads} heads of {name} {verb} ({threshold}), led by {led}"
    if counts["zero"] == heads:
        return f"None of {heads} heads of {name} retrieves ({threshold}): none copied a single token of an answer"
    return f"None of {heads} heads of {name} retrieves ({threshold}); the best is {led}"


def unanswered(instances: Instances, facts: ModelFacts, config: RetrievalConfig) -> str:
    """The verdict when no instance is kept."""
    return (
        f"No head of {printable(facts.name, LONGEST_NAME)} can be scored: the model did not bring back the answer in "
        f"any of {count(len(instances), 'instance')}. Its mean recall is {instances.recall.mean():.2f}, the best "
        f"{instances.recall.max():.2f}, and an instance counts above {config.min_recall:g}; try {ways_out(instances)}."
    )


def ways_out(instances: Instances) -> str:
    """What might bring answers back, of what was not tried: ``shorter prompts (--max-length), or a larger model``."""
    forms = {task.form for task in instances.tasks} | {one["form"] for one in forms_of(instances)}
    ways = ["shorter prompts (--max-length)"]
    if "own" in forms:
        if all(task.prompt.text.rstrip().endswith("Answer:") for task in instances.tasks):
            ways.append('a "prefix" in each line of the file, which begins the answer')
    elif "prefix" not in forms:
        without = ", without --chat" * ("chat" in forms)  # in the template's turn nothing can be begun
        ways.append(f"the answer's beginning behind the question (--probe-set form=prefix{without})")
    if not forms & {"own", "chat"}:
        ways.append("the model's chat template, if it has one (--probe-set form=chat --chat)")
    return f"{', '.join(ways)}, or a larger model"


def behind(findings: Findings) -> str:
    """The sentences behind the heading: how well the model answers, how sparse and how stable the scores are."""
    claims, summary = findings.summary["claims"], findings.summary
    counts, kept = summary["sparsity"], summary["kept"]
    said = [
        f"Of {count(summary['total'], 'instance')} {kept} counted (recall above "
        f"{summary['settings']['min_recall']:g}); mean recall {ends(claims['recall'])} over "
        f"{count(claims['recall']['n'], 'needle')}.",
        f"No token was ever copied by {count(counts['zero'], 'head')} ({percent(counts['zero'] / counts['heads'])}).",
    ]
    if claims["split_half"]["mean"] is not None:
        shared = claims["top_overlap"]["mean"]
        top = "" if shared is None else f", and they share {percent(shared)} of their best heads (at most {TOP})"
        said.append(
            f"Between random halves of the needles the scores' rank correlation is "
            f"{claims['split_half']['mean']:.2f}{top}."
        )
    if claims["always_active"]["mean"] is not None:
        said.append(
            f"Of the retrieval heads {percent(claims['always_active']['mean'])} copy in more than {percent(ALWAYS)} of "
            f"the counted instances, {percent(claims['sometimes_active']['mean'])} in at most half of them."
        )
    known = summary["published"]
    if known is not None:
        rho = "not defined" if known["rank_correlation"] is None else f"{known['rank_correlation']:.2f}"
        said.append(
            f"Of the {known['top']} best published heads of this model {percent(known['overlap'])} are among the "
            f"{known['top']} best here; rank correlation over the {known['listed']} listed ones: {rho}."
        )
    return " ".join(said)


def percent(share: float) -> str:
    """``93 %``."""
    return f"{100 * share:.0f} %"


def ends(claim: dict[str, Any]) -> str:
    """``0.93 (0.90 to 0.96)``."""
    if claim["low"] is None:
        return f"{claim['mean']:.2f}"
    return f"{claim['mean']:.2f} ({claim['low']:.2f} to {claim['high']:.2f})"


def asked(instances: Instances) -> str:
    """In which form the model is asked, and what each form brought back when they were tried."""
    forms = sorted({task.form for task in instances.tasks})
    said = f"Asked with {', and with '.join(FORMS.get(form, form) for form in forms)}"
    tried = [
        f"{one['form']} brought {one['brought_back']} of {count(one['of'], 'answer')} back"
        for one in forms_of(instances)
    ]
    return f"{said}; on short trial texts the form {', '.join(tried)}." if tried else f"{said}."


def forms_of(instances: Instances) -> list[dict[str, Any]]:
    """How often each form that was tried brought the answer back, as the probe noted it on every prompt."""
    return list(instances.tasks[0].prompt.extra.get("needle_forms", {}).get("tried", []))


def caveats(
    instances: Instances, found: Scores, choosing: frozenset[str], judging: frozenset[str], config: RetrievalConfig
) -> list[str]:
    """What a reader must know beside the verdict."""
    said = []
    needles = len(np.unique(found.which))
    if 0 < needles < MIN_PROMPTS:
        said.append(
            f"Intervals of the scores are over {count(needles, 'needle')}: at least {MIN_PROMPTS} are needed for them "
            "to mean much."
        )
    unsure = int((found.retrieval(config.threshold) & (found.low < config.threshold)).sum()) if found.kept else 0
    if unsure:
        said.append(
            f"{count(unsure, 'head')} called retrieval by {'its' if unsure == 1 else 'their'} mean might score less "
            f"than {config.threshold:g} on other needles: the interval reaches below it."
        )
    never = [name for i, name in enumerate(instances.needles) if not instances.kept[instances.which == i].any()]
    if found.kept and never:
        verbs = ("chooses", "judges") if len(never) == 1 else ("choose", "judge")
        said.append(
            f"No instance counted of {count(len(never), 'needle')}, which neither {verbs[0]} heads nor {verbs[1]} "
            f"them: {', '.join(never[:8])}."
        )
    said.append(asked(instances))
    said.append(parted(len(choosing), len(judging), len(instances.needles)))
    cut = sum(task.prompt.truncated for task in instances.tasks)
    if cut:
        said.append(f"{count(cut, 'prompt')} {'was' if cut == 1 else 'were'} truncated.")
    return said


def parted(choosing: int, judging: int, needles: int) -> str:
    """How many needles choose the heads that are masked, and how many judge them."""
    if choosing:
        answered = choosing + judging
        which = "" if answered == needles else f", of the {answered} of {needles} that were answered"
        return (
            f"Heads to be masked are chosen on {count(choosing, 'needle')} and judged on {count(judging, 'other')}"
            f"{which}; the table's scores are over all kept instances."
        )
    if not judging:
        return "No needle was answered, so no head is masked."
    alone = "One needle alone" if needles == 1 else f"Of {needles} needles only one was answered, which"
    return f"{alone} cannot both choose heads and judge them, so none is masked; at least two are needed."
