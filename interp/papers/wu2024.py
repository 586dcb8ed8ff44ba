"""Retrieval heads (Wu et al. 2024, arXiv 2404.15574), claim by claim.

Published figures are in ``data/references/wu2024.json``: the released scores of seven models, and what the abstract
states. All that is measured comes from one run of the finder ``retrieval-heads``.
"""

from __future__ import annotations

from interp.papers import wu2024_checks, wu2024_rules
from interp.papers.claims import Claim, Paper, Run

PLOT = "the paper gives a plot"
NO_FIGURE = "no figure among those carried over"


def percent(count: str) -> str:
    """A published share of heads, by model."""
    return ", ".join(f"{share:.1%} in {name}" for name, share in wu2024_rules.shares(count).items())


def claims() -> tuple[Claim, ...]:
    """What the paper says, one claim each."""
    rules, stated = wu2024_rules, wu2024_rules.published()["stated"]
    runs = wu2024_rules.published()["models"]
    counted = ", ".join(f"{run['at_least_0_1']} of {run['heads']} heads in {name}" for name, run in runs.items())
    always = stated["always_active"]
    scored = f"{runs[always['scores']]['at_least_0_1']} that score 0.1 or more in {always['scores']}"
    return (
        Claim(
            "universal",
            "Every model that finds a needle in a long text has retrieval heads.",
            f"all models of {stated['families']} families and {stated['scales']} scales; {counted}",
            "The model answers some of the questions, and the share of its heads that score 0.1 or more has a 95 % "
            "interval above 0.",
            rules.exist,
        ),
        Claim(
            "sparse",
            "Only few of the heads are retrieval heads.",
            f"fewer than {stated['sparse_below']:.0%}; {percent('at_least_0_1')}",
            f"The share of heads that score 0.1 or more has a 95 % interval below {stated['sparse_below']:.0%}.",
            rules.of("retrieval_share", "share of retrieval heads", below=stated["sparse_below"]),
        ),
        Claim(
            "most heads never copy",
            "About half of the heads or more copy no token of any needle.",
            percent("zero"),
            f"The share of heads that never copied has a 95 % interval above {rules.silent_bound():.1%}, the smallest "
            "published one.",
            rules.of("zero_share", "share of heads that never copied", above=rules.silent_bound()),
        ),
        Claim(
            "stable",
            "They are the same heads whatever is asked for.",
            NO_FIGURE,
            "The rank correlation of all heads' scores between random halves of the needles has its middle 95 % above "
            f"{rules.STABLE:g}.",
            rules.stable,
        ),
        Claim(
            "some always active",
            "Some retrieval heads look at what is asked for in every context.",
            f"{always['heads']} in {always['model']}, of {scored}",
            "The share of the retrieval heads that copy in over 90 % of the answered instances has a 95 % interval "
            "above 0.",
            rules.of("always_active", "share of the retrieval heads", above=0.0),
        ),
        Claim(
            "most only in some contexts",
            "The rest of them are active in some contexts and not in others.",
            f"the rest: all but {always['heads']} in {always['model']}, of {scored}",
            "The share of the retrieval heads that copy in 90 % of the answered instances or less has a 95 % interval "
            "above one half.",
            rules.sometimes,
        ),
        Claim(
            "causal",
            "Without its retrieval heads the model no longer finds the needle.",
            PLOT,
            "On held-out needles, with the best K heads masked, recall falls, and by more than with K random heads: "
            "95 % intervals below 0. K is the largest there is that does not exceed the number of retrieval heads. The "
            "untouched model's recall on these needles has to be above the recall that an instance needs to count.",
            rules.breaks,
        ),
        Claim(
            "random heads do not matter",
            "Masking as many random other heads leaves it able to.",
            PLOT,
            f"With K random heads masked, the change of recall, over the untouched model's recall, has a 95 % interval "
            f"above -{rules.HARMLESS:g}.",
            rules.harmless,
        ),
        Claim(
            "extraction, not knowledge",
            "Answers taken from the text need them more than answers that the model knows by itself.",
            PLOT,
            "What masking K retrieval heads changes in accuracy beyond what masking K random heads does, on questions "
            "whose answer only the passage gives, and that minus the same on questions asked without a passage: 95 % "
            "intervals below 0.",
            rules.extraction,
        ),
        Claim(
            "intrinsic",
            "Models derived from one model have its retrieval heads.",
            "; ".join(
                f"{rules.overlap(one, other):.0%} of the {rules.TOP} best shared by {one} and {other}"
                for one, other in stated["relatives"]
            ),
            "Two models are needed.",
            rules.intrinsic,
        ),
        Claim(
            "published heads",
            "The best heads of the published models.",
            "; ".join(
                f"{name}: " + ", ".join(f"{layer}.{head} {score:.2f}" for layer, head, score in run["top"][:3])
                for name, run in runs.items()
            ),
            f"On a published model, half of its {rules.TOP} best published heads are among the {rules.TOP} best here.",
            rules.heads,
        ),
    )


paper = Paper(
    "wu2024",
    wu2024_rules.published()["citation"],
    (Run(wu2024_rules.RUN, wu2024_rules.RUN, {}),),
    claims(),
    wu2024_checks.checks,
    ("needle",),
    (
        "The published scores count repeated copies and are of other needles and far longer texts; the scores here "
        "count each token of an answer once.",
        "Heads that never copied grow fewer with more instances; the published models answered "
        f"{min(run['instances'] for run in wu2024_rules.published()['models'].values())} to "
        f"{max(run['instances'] for run in wu2024_rules.published()['models'].values())}.",
        "What the paper says of chain of thought and of question answering over documents is not put to the test.",
    ),
)
