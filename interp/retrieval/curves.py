"""Masking curves summed up: the causal check of retrieval heads, its figures, charts and sentences. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from interp.finders.base import Unit
from interp.findings import Chart, Findings, Sheet, Verification
from interp.retrieval import curve_pictures as pictures
from interp.retrieval.causal_check import others, proofs_of, verified
from interp.retrieval.config import RetrievalConfig
from interp.retrieval.curve_words import NOTHING, caveats, sentences
from interp.retrieval.effect import on_needles, on_questions, on_text, question_claims
from interp.retrieval.sets import judged
from interp.verify import over_prompts


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

    Judged is the largest K not above the number of retrieval heads (`sets.judged`); see `causal_check.verified`.

    Claims: ``mask.``, ``mask_exact.`` (needles) and ``loss.`` (texts, nats), each with ``untouched`` and
    ``retrieval.K``, ``random.K``, ``difference.K`` (changes); ``extraction``, ``closed_book``, ``open_book`` (changes
    of accuracy at the judged K over questions), each with ``.random`` and ``.difference``;
    ``extraction_minus_closed_book``, the difference of the first two differences.
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
    proofs, strayed = proofs_of(checks), others(findings, checks)
    verification = verified(recall, k, proofs, strayed, sets, config)
    if recall is None or k is None:
        return Curves(verification, claims, said=NOTHING, caveats=())
    return Curves(
        verification,
        claims,
        tuple(pictures.charts(recall, exact, loss, questions, config)),
        tuple(pictures.sheets(recall, exact, loss, sets, proofs, told, config)),
        " ".join(sentences(verification, recall, claims, k, config)),
        tuple(caveats(sets, k, retrieval, told, proofs, strayed, config)),
    )


UNMEASURED = "the run was cut short before it was measured"


def absent(name: str, sets: Mapping[str, Any], why: str) -> dict[str, Any]:
    """Claims of a quantity that was not measured."""
    kinds = [f"{kind}.{k}" for k in sets if int(k) for kind in ("retrieval", "random", "difference")]
    return {f"{name}.{one}": over_prompts([], 0, why) for one in ("untouched", *kinds)}
