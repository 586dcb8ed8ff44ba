"""Circuits reused across tasks (Merullo et al. 2023, arXiv 2310.08744), claim by claim.

Published figures and heads are in ``data/references/merullo2023.json``. What is measured comes from three runs: the
finder ``circuit`` on indirect object identification and on Colored Objects, and ``repair`` on the latter.
"""

from __future__ import annotations

from interp.papers import circuit_checks, merullo2023_rules, wang2022_rules
from interp.papers.circuit_figures import NO_FIGURE, names_of, of_kind
from interp.papers.claims import Claim, Paper, Run

SUMMED = "on the held-out prompts their effect along the path by which they were found, summed, has a 95 % interval"
CHANGE = (
    "On held-out prompts the accuracy with the edit, less that without, has a 95 % interval above 0, and less that "
    "with the edit in random heads of the same layers, too."
)


def heads(name: str) -> str:
    """Published heads of one class."""
    told = merullo2023_rules.published()
    return f"{names_of(told['heads'][name])} in {told['model']['name']}"


def claims() -> tuple[Claim, ...]:
    """What the paper says, one claim each."""
    rules, told = merullo2023_rules, merullo2023_rules.published()
    model, repair = told["model"]["name"], told["repair"]
    before, low, high = repair["accuracy_before"], *rules.HALF
    both = f"The same head is one in both circuits; {SUMMED} above 0 in both tasks"
    return (
        Claim(
            "does IOI",
            "The model names the indirect object.",
            NO_FIGURE,
            "The logit difference has a 95 % interval above 0, and the share of prompts with the answer above the "
            "wrong name one above chance, one half.",
            lambda evidence: wang2022_rules.does(evidence, rules.IOI),
        ),
        Claim(
            "does Colored Objects half of the time",
            "It names the colour of the object asked for about half of the time.",
            f"{before:.1%} in {model}",
            f"The share of prompts with the answer above all other tokens has a 95 % interval between {low:g} and "
            f"{high:g}.",
            rules.half,
        ),
        Claim(
            "the circuits share heads",
            "The two tasks are done by largely the same heads.",
            f"{told['shared_heads']} of {told['in_circuit_heads']} heads ({told['overlap']:.0%}) in {model}",
            "The two circuits share more heads than the middle 95 % of random circuits with as many in each layer.",
            rules.reuse,
        ),
        Claim(
            "movers in both",
            "The mover heads of IOI copy the colour in Colored Objects.",
            heads("mover"),
            f"{both}, and so has their direct logit attribution.",
            rules.in_both(rules.MOVER),
        ),
        Claim(
            "induction heads in both",
            "The induction heads of IOI find the object's first occurrence in Colored Objects.",
            heads("induction"),
            f"{both}.",
            rules.in_both(rules.INDUCTION),
        ),
        Claim(
            "duplicate-token heads in both",
            "So do its duplicate-token heads.",
            heads("duplicate_token"),
            f"{both}.",
            rules.in_both(rules.DUPLICATE),
        ),
        Claim(
            "content gatherers",
            "In Colored Objects content gatherers tell the movers, through their queries, what is asked.",
            heads("content_gatherer"),
            f"The search found at least one there, and {SUMMED} above 0.",
            of_kind(rules.OBJECTS, rules.GATHERER, rules.MOVER),
        ),
        Claim(
            "inhibition is missing",
            "The inhibition heads of IOI do little in Colored Objects.",
            heads("inhibition"),
            "What the inhibition heads found in IOI do to queries at the last token, as a share of the gap, has in "
            "Colored Objects a 95 % interval below the whole interval of what they do in IOI.",
            rules.uninhibited,
        ),
        Claim(
            "the published edit repairs it",
            "With a few heads' attention at the last token put on the wrong colours, the model does Colored Objects. "
            "The edit is told which colours are wrong.",
            f"{before:.1%} -> {repair['accuracy_after']:.1%} in {model}, heads {names_of(repair['heads'])}",
            CHANGE,
            rules.oracle,
        ),
        Claim(
            "inhibition heads alone",
            "That edit in inhibition heads alone does most of it.",
            f"{before:.1%} -> {repair['inhibition_only']:.1%} in {model}",
            "With the edit in inhibition heads of IOI alone, of those chosen, the accuracy on held-out prompts has a "
            "95 % interval above the untouched accuracy.",
            rules.only(rules.INHIBITION),
        ),
        Claim(
            "negative movers alone",
            "That edit in the negative mover alone does much of it, too.",
            f"{before:.1%} -> {repair['negative_mover_only']:.1%} in {model}",
            "With the edit in negative movers of IOI alone, of those chosen, the accuracy on held-out prompts has a "
            "95 % interval above the untouched accuracy.",
            rules.only(rules.NEGATIVE),
        ),
        Claim(
            "movers turn to the answer",
            "With the edit the movers attend to the right colour.",
            NO_FIGURE,
            "On held-out prompts the mean attention of the later movers from the last token to the answer rises; no "
            "interval is kept.",
            rules.attention,
        ),
        Claim(
            "repaired without the label",
            "Ours, not the paper's: an edit that is not told the answer repairs it as well.",
            "none: the published edit uses the label",
            f"{CHANGE} Of the edits without the label the best on the training prompts is judged.",
            rules.label_free,
        ),
        Claim(
            "published heads",
            f"The heads of {model}, by class.",
            "; ".join(f"{name.replace('_', ' ')} {names_of(told['heads'][name])}" for name in rules.CLASSES),
            "On the published model, half of the heads named are in one of the two circuits found, and more than the "
            "middle 95 % of random heads of the same layers would be.",
            rules.listed,
        ),
    )


paper = Paper(
    "merullo2023",
    merullo2023_rules.published()["citation"],
    (
        Run(merullo2023_rules.IOI, "circuit", {"anyway": True}, probe="ioi"),
        Run(merullo2023_rules.OBJECTS, "circuit", {"anyway": True}, probe="colored-objects"),
        Run(merullo2023_rules.REPAIR, "repair", {}, probe="colored-objects"),
    ),
    claims(),
    circuit_checks.checks,
    ("ioi", "colored-objects"),
    (
        "The published edit is told which colours are wrong: what it reaches is an upper bound, no fix.",
        "The heads that are edited are chosen on one half of the prompts and judged on the other; the paper edited "
        "heads of IOI's circuit.",
        "How many heads a circuit has follows from the settings share and least, so the sizes are not a finding; what "
        "they share beyond chance is.",
        f"The paper does not list all {merullo2023_rules.published()['in_circuit_heads']} heads of its circuits.",
    ),
)
