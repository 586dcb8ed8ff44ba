"""Masking curves: the causal check of retrieval heads, its figures, charts and sentences. Pure; see `effect`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from interp.finders.base import Unit
from interp.finders.sink_words import count
from interp.findings import Chart, Findings, Sheet, Verification
from interp.retrieval import curve_pictures as pictures
from interp.retrieval.config import RetrievalConfig
from interp.retrieval.effect import Effect, on_needles, on_questions, on_text, question_claims
from interp.retrieval.sets import elsewhere, judged
from interp.verify import over_prompts, paired

METRIC = "ROUGE-1 recall of the answer"
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


@dataclass(frozen=True)
class Curves:
    """What `conclude` adds to the findings.

    Attributes:
        verification: change of recall on held-out needles at the K that is judged, against random heads.
        claims: see `curves`.
        charts, sheets: for the report.
        said: sentences for the verdict.
        caveats: what a reader must know beside it.
    """

    verification: Verification
    claims: dict[str, Any]
    charts: tuple[Chart, ...] = ()
    sheets: tuple[Sheet, ...] = ()
    said: str = ""
    caveats: tuple[str, ...] = ()


def curves(findings: Findings, checks: Sequence[Unit | None], examined: Unit | None, config: RetrievalConfig) -> Curves:
    """Sum up the masked answers (`causal.masked`) and what `examine.examined` measured.

    Judged is the largest K not above the number of retrieval heads (`sets.judged`); `verified` means that recall falls
    below the untouched model's and below that under random heads, both by their whole intervals over needles.

    Claims: ``mask.``, ``mask_exact.`` (needles) and ``loss.`` (texts, nats), each with ``untouched`` and
    ``retrieval.K``, ``random.K``, ``difference.K`` (changes); ``extraction``, ``closed_book``, ``open_book`` (changes
    of accuracy at the judged K over questions), each with ``.random``; ``extraction_minus_closed_book``.
    """
    sets, retrieval = findings.summary["masks"], len(findings.summary["retrieval"])
    k = judged(sets, retrieval)
    recall, exact = on_needles(checks, "recall"), on_needles(checks, "exact")
    told: dict[str, Any] = (
        {"losses": [], "questions": [], "losses_why": UNMEASURED, "questions_why": UNMEASURED}
        if examined is None
        else examined.facts["examined"]
    )
    loss, questions = on_text(told), on_questions(told)
    claims: dict[str, Any] = {}
    for name, one, why in (
        ("mask", recall, "no held-out needle was answered under masks"),
        ("mask_exact", exact, "no held-out needle was answered under masks"),
        ("loss", loss, told["losses_why"] or ""),
    ):
        claims |= absent(name, sets, why) if one is None else one.claims(name, config.seed)
    claims |= question_claims(questions, config.seed, told["questions_why"] or "")
    proofs = proofs_of(checks)
    verification = verified(recall, k, proofs, sets, config)
    if recall is None or k is None:
        return Curves(verification, claims, said=NOTHING, caveats=())
    return Curves(
        verification,
        claims,
        tuple(pictures.charts(recall, exact, loss, questions, config)),
        tuple(pictures.sheets(recall, exact, loss, sets, proofs, told, config)),
        " ".join(sentences(verification, claims, k, config)),
        tuple(caveats(sets, k, retrieval, recall, told, config)),
    )


UNMEASURED = "the run was cut short before it was measured"
NOTHING = "No head was masked, so nothing is said about what they do."


def absent(name: str, sets: Mapping[str, Any], why: str) -> dict[str, Any]:
    """Claims of a quantity that was not measured."""
    kinds = [f"{kind}.{k}" for k in sets if int(k) for kind in ("retrieval", "random", "difference")]
    return {f"{name}.{one}": over_prompts([], 0, why) for one in ("untouched", *kinds)}


def proofs_of(checks: Sequence[Unit | None]) -> list[dict[str, Any]]:
    """The proofs of every held-out prompt."""
    ran = [unit.facts["masked"]["proof"] for unit in checks if unit is not None and "masked" in unit.facts]
    return [one for one in ran if one is not None]


def unseen(proofs: Sequence[Mapping[str, Any]]) -> list[int]:
    """Layers in which a mask was not seen in some prompt."""
    return sorted({layer for one in proofs for layer in one["failed"]})


def verified(
    recall: Effect | None,
    k: int | None,
    proofs: Sequence[Mapping[str, Any]],
    sets: Mapping[str, Any],
    config: RetrievalConfig,
) -> Verification:
    """The causal check."""
    if recall is None or k is None:
        return Verification("nothing to verify", METRIC, NOTHING)
    other = elsewhere(sets, k)
    where = "of the same layers" if not other else f"of the same layers, but for {other} of the nearest others"
    found = paired(
        recall.names,
        list(recall.change("retrieval", k)),
        list(recall.change("random", k)),
        metric=METRIC,
        how=(
            f"On held-out needles, the {k} best heads masked ({HOW[config.how]}; {WHEN[config.when]}), and apart, as "
            f"many random heads {where}, no retrieval head among them (mean of {count(config.draws, 'draw')}). "
            "Instances of one needle are one unit. Verified means that recall falls, and falls below that under random "
            "heads, both by their whole intervals."
        ),
        expected="lower",
        seed=config.seed,
        also_alone=True,
    ).verification()
    missing = unseen(proofs)
    if missing:
        named = ", ".join(map(str, missing))
        return replace(
            found,
            verdict="failed",
            how=f"The masks did not take effect in layers {named}, so nothing holds. {found.how}",
        )
    return found


def sentences(checked: Verification, claims: Mapping[str, Any], k: int, config: RetrievalConfig) -> list[str]:
    """What the verdict says of masking; every number is a claim."""
    untouched = claims["mask.untouched"]
    heads = "head" if k == 1 else f"{k} heads"
    said = [
        f"Masking the best {heads} ({HOW[config.how]}) takes recall on {count(untouched['n'], 'held-out needle')} from "
        f"{untouched['mean']:.2f} by {span(claims[f'mask.retrieval.{k}'])}, as many random heads by "
        f"{span(claims[f'mask.random.{k}'])}: {checked.verdict}."
    ]
    loss = claims[f"loss.retrieval.{k}"]
    if loss["mean"] is not None:
        said.append(
            f"The loss on plain text changes by {span(loss)} nats, under random heads by "
            f"{span(claims[f'loss.random.{k}'])}."
        )
    apart = claims["extraction_minus_closed_book"]
    if apart["mean"] is not None:
        side = "more" if apart["high"] < 0 else "less" if apart["low"] > 0 else "not clearly more or less"
        said.append(
            f"Accuracy changes by {span(claims['extraction'])} where a passage gives the answer and by "
            f"{span(claims['closed_book'])} where the model knows it: extraction loses {side} (difference "
            f"{span(apart)})."
        )
    return said


def span(claim: Mapping[str, Any]) -> str:
    """``-0.93 (-0.98 to -0.87)``."""
    return f"{claim['mean']:+.2f} ({claim['low']:+.2f} to {claim['high']:+.2f})"


def caveats(
    sets: Mapping[str, Any],
    k: int,
    retrieval: int,
    recall: Effect,
    told: Mapping[str, Any],
    config: RetrievalConfig,
) -> list[str]:
    """What a reader must know."""
    said = [f"Masked means: {HOW[config.how]}, {WHEN[config.when]}."]
    if k > retrieval:
        said.append(f"The smallest number of masked heads, {k}, is above the {retrieval} retrieval heads.")
    dropped = [one for one in config.ks if str(one) not in sets]
    if dropped:
        said.append(
            f"K = {', '.join(map(str, dropped))} was left out: the model has not so many heads, or not so many others "
            "to stand against them."
        )
    if float(np.mean(recall.untouched)) <= config.min_recall:
        said.append("The untouched model rarely answers the held-out needles, so masking has little to take away.")
    if told["losses_why"]:
        said.append(f"No loss on plain text: {told['losses_why']}.")
    if told["questions_why"]:
        said.append(f"No closed-book questions: {told['questions_why']}.")
    if config.how == "block" and told["questions"]:
        said.append("A question without a passage has no needle, so blocking changes nothing there by itself.")
    return said
