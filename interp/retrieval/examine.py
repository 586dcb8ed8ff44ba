"""What masking does beyond the needles, and the proof that the masks are there. Part 4 of `retrieval-heads`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from interp.finders.base import Unit
from interp.findings import Findings
from interp.retrieval import closed_book, plain_text
from interp.retrieval.causal import means_for
from interp.retrieval.config import RetrievalConfig
from interp.retrieval.masks import mask_of
from interp.retrieval.proof import proof
from interp.retrieval.sets import Arm, arms_of, judged
from interp.retrieval.task import Task, task_of
from probes.base import Prompt

DRAWS = 2
"""Random sets a K, of those of the needles, that run on plain text and on questions."""


def examined(model: Any, findings: Findings, config: RetrievalConfig, prompt: Prompt | Task | None = None) -> Unit:
    """Loss on plain text, questions with and without their passage, and the proof of the masks.

    Args:
        findings: ``summary["masks"]`` and ``summary["retrieval"]`` are used.
        prompt: a needle prompt to prove the masks on; None = a question with its passage.

    Returns:
        A unit whose fact ``examined`` is a dict of ``proof`` (see `interp.retrieval.proof.proof`; None without masks),
        ``arms`` and ``losses`` (by text), ``losses_why``, ``question_arms`` and ``questions``, ``questions_why``; each
        ``why`` says what there is not, None = nothing.
    """
    sets = findings.summary["masks"]
    arms = arms_of(sets, DRAWS)
    told: dict[str, Any] = {"proof": None, "arms": [arm.told for arm in arms], "losses": [], "questions": []}
    told["losses_why"] = "no head was masked" if len(arms) == 1 else plain_text.why_not(model, config)
    k = judged(sets, len(findings.summary["retrieval"]))
    at_k = [arm for arm in arms if arm.kind == "untouched" or arm.k == k]
    told["question_arms"] = [arm.told for arm in at_k]
    told["questions_why"] = no_questions(model, k, config)
    if len(arms) == 1:
        return Unit(facts={"examined": told})
    means, shape = means_for(model, config), (model.n_layers, model.n_heads)
    if prompt is not None or model.tokenizer is not None:
        told["proof"] = proof(model, proving(model, prompt), [arm.heads for arm in largest(arms)], config, means)
    if told["losses_why"] is None:
        told["losses"] = plain_text.losses(model, mask_of([arm.heads for arm in arms], shape), config, means)
    if told["questions_why"] is None:
        told["questions"] = closed_book.examined(model, mask_of([arm.heads for arm in at_k], shape), config, means)
    return Unit(facts={"examined": told})


def largest(arms: Sequence[Arm]) -> list[Arm]:
    """The arms of the largest K."""
    return [arm for arm in arms if arm.k == max(one.k for one in arms)]


def proving(model: Any, prompt: Prompt | Task | None) -> Task:
    """The task the proof runs on."""
    if prompt is None:
        return closed_book.as_task(model, closed_book.of_kind("extraction", 1)[0], "extraction")
    return prompt if isinstance(prompt, Task) else task_of(prompt)


def no_questions(model: Any, k: int | None, config: RetrievalConfig) -> str | None:
    """Why no question is asked; None when they are."""
    if not config.closed_book:
        return "none were asked for (closed_book=0)"
    if k is None:
        return "no head was masked"
    return plain_text.NO_TOKENIZER if model.tokenizer is None else None
