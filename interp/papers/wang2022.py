"""Indirect object identification (Wang et al. 2022, arXiv 2211.00593), claim by claim.

Published figures and heads are in ``data/references/wang2022.json``. All that is measured comes from one run of the
finder ``circuit`` on the probe ``ioi`` with ABC twins (three other names), as in the paper.
"""

from __future__ import annotations

from interp.circuits.classes import BACKUP
from interp.papers import circuit_checks, wang2022_rules
from interp.papers.circuit_figures import NO_FIGURE, names_of, of_kind
from interp.papers.claims import Claim, Paper, Run

SUMMED = (
    "The search found at least one, and on the held-out prompts their effect along the path by which they were found, "
    "summed, has a 95 % interval"
)


def heads(*classes: str) -> str:
    """Published heads of some classes."""
    told = wang2022_rules.published()
    listed = "; ".join(f"{name.replace('_', ' ')} {names_of(told['heads'][name])}" for name in classes)
    return f"{listed} in {told['model']['name']}"


def claims() -> tuple[Claim, ...]:
    """What the paper says, one claim each."""
    rules, told = wang2022_rules, wang2022_rules.published()
    model = told["model"]["name"]
    kept = 1 - rules.gap()
    count = f"{len(rules.heads())} of {told['model']['shape'][0] * told['model']['shape'][1]} heads"
    return (
        Claim(
            "does the task",
            "The model names the indirect object, not the subject that comes twice.",
            f"logit difference {told['logit_difference']}, IO above S in {told['io_over_s']:.1%}, P(IO) "
            f"{told['p_io']:.0%} in {model}",
            "The logit difference has a 95 % interval above 0, and the share of prompts with IO above S one above "
            "chance, one half.",
            rules.does,
        ),
        Claim(
            "name movers",
            "Name movers attend from the last token to the indirect object and write it.",
            heads("name_mover"),
            f"{SUMMED} above 0, and so has their direct logit attribution.",
            of_kind(rules.RUN, rules.MOVER),
        ),
        Claim(
            "negative name movers",
            "Negative name movers attend there, too, and write against it.",
            heads("negative_name_mover"),
            f"{SUMMED} below 0, and so has their direct logit attribution.",
            of_kind(rules.RUN, rules.NEGATIVE),
        ),
        Claim(
            "S-inhibition heads",
            "S-inhibition heads attend from the last token to the repeated subject and, through the queries of the "
            "name movers, keep these off it.",
            heads("s_inhibition"),
            f"{SUMMED} above 0; they are found by what they do to queries at the last token.",
            of_kind(rules.RUN, rules.INHIBITION, rules.MOVER),
        ),
        Claim(
            "induction and duplicate-token heads",
            "Induction and duplicate-token heads tell the S-inhibition heads, at the second subject, that it is one.",
            heads("induction", "duplicate_token"),
            f"{SUMMED} above 0; they are found by what they do to the values that S-inhibition heads read at S2.",
            of_kind(rules.RUN, rules.FEEDING, rules.INHIBITION),
        ),
        Claim(
            "previous-token heads",
            "Previous-token heads feed the keys of the induction heads.",
            heads("previous_token"),
            f"{SUMMED} above 0; they are found by what they do to keys at the token behind the first subject.",
            of_kind(rules.RUN, rules.PREVIOUS, rules.INDUCTION),
        ),
        Claim(
            "backups take over",
            "Without the name movers others do their work: backup name movers.",
            heads("backup_name_mover"),
            f"At least one other head that attends to the answer and copies gains {BACKUP:.0%} or more of what the "
            "name movers' direct logit attribution loses when their outputs are replaced.",
            rules.takes_over,
        ),
        Claim(
            "the circuit matters",
            "The circuit does the task: without it the answer is lost.",
            NO_FIGURE,
            "With the outputs of its heads that support the answer from the twin the logit difference falls on the "
            "held-out prompts, and by more than with as many random heads of the same layers: 95 % intervals below 0.",
            rules.knocked_out,
        ),
        Claim(
            "small",
            "A small part of the model does it.",
            f"{count} ({rules.share():.0%}) in {model}",
            f"The circuit has {rules.share():.0%} of the heads at the most, and F(C) less that of random circuits of "
            "its size and layers has a 95 % interval above 0.",
            rules.small,
        ),
        Claim(
            "faithful",
            "Alone, with all other heads replaced by their means, the circuit does nearly as well as the model.",
            f"|F(M) - F(C)| = {told['faithfulness_gap']} of {told['logit_difference']}: F(C) / F(M) = {kept:.0%} in "
            f"{model}",
            f"F(C) / F(M) has a 95 % interval within {rules.gap():.0%} of 1, the published gap, on held-out prompts.",
            rules.faithful,
        ),
        Claim(
            "complete",
            "Without any part K of the circuit, circuit and model still do alike.",
            NO_FIGURE,
            "Over K = each class and random parts, |F(C without K) - F(M without K)|, at the far end of its 95 % "
            f"interval, is on average no more than {rules.gap():.0%} of F(M), the published gap of the whole circuit.",
            rules.complete,
        ),
        Claim(
            "minimal",
            "Every head of the circuit is needed.",
            f"each head changes F by {told['minimal_share']:.0%} of F(M) or more, with some others gone",
            f"Each head, with one of a few sets of others gone, changes F(C) by {told['minimal_share']:.0%} of F(M) or "
            "more, with a 95 % interval that leaves out 0.",
            rules.minimal,
        ),
        Claim(
            "published heads",
            f"The heads of {model}, by class.",
            heads(*rules.CLASSES),
            "On the published model, half of its heads are in the circuit or among the backups found, and more than "
            "the middle 95 % of random heads of the same layers would be.",
            rules.listed,
        ),
    )


paper = Paper(
    "wang2022",
    wang2022_rules.published()["citation"],
    (Run(wang2022_rules.RUN, "circuit", {"anyway": True}, probe="ioi", probe_set={"corrupt": "abc"}),),
    claims(),
    circuit_checks.checks,
    ("ioi",),
    (
        "Heads are chosen by one rule, a share of the heads a stage can reach (settings share, after Merullo et al. "
        "2023, and least), on one half of the templates and judged on the other; the paper chose its heads by hand. "
        "How large the circuit is follows from those settings.",
        "The templates and names are this package's own, so published logit differences are not expected to be met to "
        "the digit.",
        "Backups are told from the prompts that chose the movers: no effect of theirs is kept prompt by prompt.",
        "Completeness and minimality are tried on a few parts K; the paper's search over K is larger.",
    ),
)
