"""What masking does beyond the needles: loss on plain text, and answers with and without a text that gives them."""

from __future__ import annotations

from typing import Any

from interp.finders.base import Unit
from interp.findings import Findings
from interp.retrieval import closed_book, plain_text
from interp.retrieval.causal import means_for
from interp.retrieval.config import RetrievalConfig
from interp.retrieval.masks import mask_of
from interp.retrieval.sets import arms_of, judged

NOTHING_MASKED = "no head was masked"


def examined(model: Any, findings: Findings, config: RetrievalConfig) -> Unit:
    """Loss on plain text under every K, and questions under the K that is judged.

    Args:
        findings: ``summary["masks"]`` and ``summary["retrieval"]`` are used.

    Returns:
        A unit whose fact ``examined`` holds ``arms`` with ``losses`` by text, and ``question_arms`` with ``questions``;
        ``losses_why`` and ``questions_why`` say why there are none, None = there are.
    """
    sets = findings.summary["masks"]
    k = judged(sets, len(findings.summary["retrieval"]))
    arms = arms_of(sets, plain_text.DRAWS)
    asked = [arm for arm in arms_of(sets) if arm.kind == "untouched" or arm.k == k]
    told: dict[str, Any] = {
        "arms": [arm.told for arm in arms],
        "losses": [],
        "losses_why": NOTHING_MASKED if len(arms) == 1 else plain_text.why_not(model, config),
        "question_arms": [arm.told for arm in asked],
        "questions": [],
        "questions_why": no_questions(model, k, config),
    }
    means, shape = means_for(model, config) if len(arms) > 1 else None, (model.n_layers, model.n_heads)
    if told["losses_why"] is None:
        told["losses"] = plain_text.losses(model, mask_of([arm.heads for arm in arms], shape), config, means)
    if told["questions_why"] is None:
        told["questions"] = closed_book.examined(model, mask_of([arm.heads for arm in asked], shape), config, means)
    return Unit(facts={"examined": told})


def no_questions(model: Any, k: int | None, config: RetrievalConfig) -> str | None:
    """Why no question is asked; None when they are."""
    if not config.closed_book:
        return "no question was asked (closed_book=0)"
    if k is None:
        return NOTHING_MASKED
    return plain_text.NO_TOKENIZER if model.tokenizer is None else closed_book.too_long(model, config)
