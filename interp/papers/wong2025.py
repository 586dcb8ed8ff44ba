"""Secondary attention sinks (Wong et al. 2025, arXiv 2512.22213), claim by claim.

Published figures are in ``data/references/wong2025.json``. Claims about secondary sinks are judged by the relative rule
(`interp.finders.sink_rules`), which looks at attention; the released rule runs beside it, for the published counts.
"""

from __future__ import annotations

from interp.papers import checks
from interp.papers import wong2025_rules as rules
from interp.papers.claims import Claim, Paper, Run


def runs_told() -> str:
    """Counts and start layers of the released results."""
    parts = []
    for run in rules.published()["runs"]:
        starts = ", ".join(run["start_layers"])
        found = f"{run['others']} in {run['generations_with_others']} of {run['generations']}"
        parts.append(f"{run['model']}: {found}, start layer {starts} of {run['layers']}")
    return "; ".join(parts)


def lifetimes_told() -> str:
    """Their lifetimes."""
    return "; ".join(
        f"{run['model']}: " + " ".join(f"{life}:{n}" for life, n in run["lifetimes"].items())
        for run in rules.published()["runs"]
    )


def levels_told() -> str:
    """How many levels were published, by model."""
    return ", ".join(f"{n} in {model}" for model, n in rules.published()["levels"].items())


QUALITATIVE = "no figure among those carried over"


def claims() -> tuple[Claim, ...]:
    """What the paper says, one claim each."""
    return (
        Claim(
            "secondary sinks exist",
            "Tokens other than the primary sink become sinks later than it does.",
            runs_told(),
            "The 95 % interval of the share of prompts with a secondary sink lies above 0.",
            rules.exist,
        ),
        Claim(
            "middle layers",
            "Secondary sinks arise in the middle layers.",
            runs_told(),
            "The share of them that start between 1/4 and 3/4 of the depth has a 95 % interval above 1/2.",
            rules.in_the_middle,
        ),
        Claim(
            "variable lifetime",
            "They live for a variable number of layers.",
            f"lifetime:count {lifetimes_told()}",
            "Two lifetimes at least two layers apart each occur in two prompts or more.",
            rules.lifetimes_vary,
        ),
        Claim(
            "weaker than the primary",
            "They draw less attention than the primary sink, but still much.",
            QUALITATIVE,
            "In the layers that read them, their alpha minus the primary's has a 95 % interval below 0. That they draw "
            "much is part of being called a sink.",
            rules.weaker_than_primary,
        ),
        Claim(
            "formed by an MLP",
            "Specific MLPs form them: the new state's share along the sink direction comes from the MLP.",
            QUALITATIVE,
            "The MLP's share of the projection gained in the forming block has a 95 % interval above one half.",
            rules.of("sink-formation", "mlp_share.secondary", "the MLP's share", above=0.5),
        ),
        Claim(
            "onto the primary's direction",
            "The forming MLP maps their states onto the direction of that layer's primary sink.",
            QUALITATIVE,
            "Its output's cosine with the sink direction exceeds same-token controls': 95 % interval above 0.",
            rules.of(
                "sink-formation", "cosine.direction.difference_secondary", "cosine minus the controls'", above=0.0
            ),
        ),
        Claim(
            "many inputs, one direction",
            "Distinct directions of the MLP's input are mapped onto the one sink direction.",
            "effective: |cos| > 0.98",
            "At least two different principal components of one MLP's inputs, signs apart, are effective.",
            rules.effective,
        ),
        Claim(
            "no MLP output, no sink",
            "Without the forming MLP's output the sink does not form.",
            QUALITATIVE,
            "Taking it away costs them a larger share of their alpha than control tokens: 95 % interval beyond 0.",
            rules.causal("sink-formation", "check.secondary_mlp", "share of alpha lost"),
        ),
        Claim(
            "norm sets the sink score",
            "The norm of the forming MLP's output sets how much attention the sink draws.",
            QUALITATIVE,
            "With that output rescaled, norm and alpha correlate within a sink that still lives (Spearman's rho): 95 % "
            "interval above 0.",
            rules.with_natural(
                "score", rules.of("sink-norm-law", "correlation.score.graded", "Spearman's rho", above=0.0)
            ),
        ),
        Claim(
            "norm sets the lifetime",
            "The norm of the forming MLP's output sets how many layers the sink lives.",
            QUALITATIVE,
            "With that output rescaled, norm and lifetime correlate within a sink that still lives (Spearman's "
            "rho): 95 % interval above 0.",
            rules.with_natural(
                "lifetime", rules.of("sink-norm-law", "correlation.lifetime.graded", "Spearman's rho", above=0.0)
            ),
        ),
        Claim(
            "the direction makes a sink",
            "A state on the sink direction is a sink, whatever the token (the reverse of the norm law).",
            QUALITATIVE,
            "Of ordinary tokens onto which it is written, the share that become sinks has a 95 % interval above "
            "one half.",
            rules.of("sink-norm-law", "reverse.secondary.became_sinks", "share that become sinks", above=0.5),
        ),
        Claim(
            "the primary weakens",
            "The primary sink draws less in the layers where secondary sinks appear.",
            QUALITATIVE,
            "The anchor's alpha there minus elsewhere in its life has a 95 % interval below 0, and shifted "
            "layers are not as weak.",
            rules.weakens,
        ),
        Claim(
            "few levels",
            "Start layer and lifetime fall into a few levels.",
            levels_told(),
            f"At most {rules.FEW} levels hold all secondary sinks; as many random pairs fall into so few in 5 % "
            "of draws at most.",
            rules.few_levels,
        ),
        Claim(
            "released start layer",
            "The other tokens that the released rule records start in one layer of the middle and live for these many.",
            runs_told(),
            "On a published model, the usual start layer and lifetime are among the published ones.",
            rules.counts,
        ),
    )


paper = Paper(
    "wong2025",
    rules.published()["citation"],
    (
        Run("sinks", "sinks", {}, keep_arrays=True),
        Run("released", "sinks", {"rule": "wong2025", "formation": False}),
        Run("sink-formation", "sink-formation", {}),
        Run("sink-norm-law", "sink-norm-law", {"kinds": ("secondary",)}),
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
