"""The sentences about masking: verdict and caveats. Every number is in the claims; none is measured here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from interp.finders.sink_words import count
from interp.findings import Verification
from interp.retrieval.config import RetrievalConfig
from interp.retrieval.effect import Effect
from interp.retrieval.plain_text import DRAWS
from interp.verify import MIN_PROMPTS

if TYPE_CHECKING:
    from interp.retrieval.causal_check import Others

HOW = {
    "zero": "output at zero",
    "mean": "output at its mean over a calibration text",
    "uniform": "query at zero, so that they attend to all they see alike",
    "block": "attention to the needle's sentence taken away",
}
WHEN = {
    "decode": "in every step that makes a token, from the prompt's last one on",
    "prefill": "while the prompt is read, up to the token before its last",
    "both": "in the prompt and in every step that makes a token",
}
NOTHING = "No head was masked, so nothing is said about what they do."


def unblocked(proofs: Sequence[Mapping[str, Any]]) -> list[int]:
    """Layers in which no prompt had anything to block."""
    nothing = [set(one["nothing"]) for one in proofs]
    return sorted(set.intersection(*nothing)) if nothing else []


def layers(named: Sequence[int]) -> str:
    """``layer 3``, ``layers 1, 2``."""
    return f"layer{'s' * (len(named) != 1)} {', '.join(map(str, named))}"


def best(k: int) -> str:
    """The masked heads in words."""
    return "the best head" if k == 1 else f"the {k} best heads"


def randoms(k: int) -> str:
    """The random heads that stand against them."""
    return "one random head" if k == 1 else f"{k} random heads"


def answered(recall: Effect, config: RetrievalConfig) -> bool:
    """Whether the untouched model answers the needles that judge, so that masks have something to take away."""
    return float(recall.untouched.mean()) > config.min_recall


def unanswered(recall: Effect, config: RetrievalConfig) -> str:
    """That it does not."""
    return (
        f"The untouched model does not answer the held-out needles (mean recall {recall.untouched.mean():.2f}, needed "
        f"is more than {config.min_recall:g}), so nothing is said about what masking takes away."
    )


def sentences(
    checked: Verification, recall: Effect, claims: Mapping[str, Any], k: int, config: RetrievalConfig
) -> list[str]:
    """What the verdict says of masking; every number is a claim."""
    untouched = claims["mask.untouched"]
    # with fewer needles the heading is silent, and the level is told here
    level = f" from {untouched['mean']:.2f}" if untouched["n"] < MIN_PROMPTS else ""
    said = [unanswered(recall, config)]
    if answered(recall, config):
        said = [
            f"On {count(untouched['n'], 'held-out needle')} recall changes{level} by "
            f"{span(claims[f'mask.retrieval.{k}'])} with {best(k)} masked ({HOW[config.how]}), and by "
            f"{span(claims[f'mask.random.{k}'])} with {randoms(k)} masked: {checked.verdict}."
        ]
    loss = claims[f"loss.retrieval.{k}"]
    if loss["mean"] is not None:
        said.append(
            f"The loss on plain text, masked at every position, changes by {span(loss)} nats, under random heads by "
            f"{span(claims[f'loss.random.{k}'])}."
        )
    apart = claims["extraction_minus_closed_book"]
    if apart["mean"] is not None:
        side = "more" if apart["high"] < 0 else "less" if apart["low"] > 0 else "not clearly more and not clearly less"
        said.append(
            f"Beyond what random heads cost, accuracy changes by {span(claims['extraction.difference'])} where a "
            f"passage gives the answer and by {span(claims['closed_book.difference'])} where the model knows it by "
            f"itself: extraction loses {side} (the one less the other: {span(apart)})."
        )
    return said


def span(claim: Mapping[str, Any]) -> str:
    """``-0.93 (-0.98 to -0.87)``."""
    return f"{claim['mean']:+.2f} ({claim['low']:+.2f} to {claim['high']:+.2f})"


def caveats(
    sets: Mapping[str, Any],
    k: int,
    retrieval: int,
    told: Mapping[str, Any],
    proofs: Sequence[Mapping[str, Any]],
    others: Others,
    config: RetrievalConfig,
) -> list[str]:
    """What a reader must know."""
    said = [f"Masked means: {HOW[config.how]}, {WHEN[config.when]}."]
    if told["losses"]:
        said.append(
            "On plain text heads are masked at every position; of the random sets it is run with "
            f"{min(DRAWS, config.draws)}."
        )
    if k > retrieval:
        said.append(f"The smallest number of masked heads, {k}, is above the number of retrieval heads, {retrieval}.")
    dropped = [one for one in config.ks if str(one) not in sets]
    if dropped:
        said.append(
            f"K = {', '.join(map(str, dropped))} {'was' if len(dropped) == 1 else 'were'} left out: the model does not "
            "have so many heads, or not so many others to stand against them."
        )
    if others.prompts:
        said.append(
            f"Without a mask, {len(others.prompts)} of {count(others.of, 'held-out prompt')} got another answer than "
            f"when they were scored ({', '.join(others.prompts[:3])}): answers under masks are made side by side, and "
            "rounding can decide between two tokens that are about as likely."
        )
    nothing = unblocked(proofs)
    if nothing:
        said.append(
            f"There was nothing to block in {layers(nothing)}: the needle lies outside their window, so that masks of "
            "heads there change nothing and prove nothing."
        )
    if told["losses_why"]:
        said.append(f"No loss on plain text: {told['losses_why']}.")
    if told["questions_why"]:
        said.append(f"No closed-book questions: {told['questions_why']}.")
    if config.how == "block" and told["questions"]:
        said.append("A question without a passage has no needle, so blocking changes nothing there by itself.")
    return said
