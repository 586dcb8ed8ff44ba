"""In which form a model can do the task: tried on a few short haystacks, the first form that works is taken.

SmolLM2-Instruct often answers a bare prompt with its end token and nothing else, and copies when the answer is begun
for it or when the prompt stands in its chat template. Scores of heads mean nothing where a model does not do the task.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from probes.base import Prompt

if TYPE_CHECKING:
    from interp.models.model import Model

DEPTHS = (0.25, 0.5, 0.75, 1.0)
"""Depths at which each form is tried, each with a needle and a haystack of its own."""
LENGTH = 200
"""Tokens of those prompts, as far as the model and `max_length` allow."""
RECALL = 0.5
"""ROUGE-1 recall above which an answer counts as brought back (Wu et al. 2024, arXiv 2404.15574, section 2)."""

UNTRIED = "no form of the question was tried, for the model's weights are not here"

_CHOSEN: WeakKeyDictionary[Any, dict[Hashable, dict[str, Any]]] = WeakKeyDictionary()


def chosen(
    model: Model, forms: Sequence[str], make: Callable[[str], Sequence[Prompt]], settings: Hashable
) -> dict[str, Any]:
    """The form to ask in and how it was found: ``{"chosen", "why", "tried": [{"form", "brought_back", "of",
    "recall"}]}``.

    Args:
        forms: the forms that may be used, the first that works is taken.
        make: a form's prompts to try it on.
        settings: what `make` depends on besides the model: the outcome is remembered by it as long as the model lives.
    """
    if len(forms) == 1:
        return {"chosen": forms[0], "why": "asked for", "tried": []}
    weight = model.hf.get_input_embeddings().weight
    if weight.device.type == "meta" and not hasattr(model.hf.get_input_embeddings(), "_hf_hook"):
        return {"chosen": forms[0], "why": UNTRIED, "tried": []}
    known = _CHOSEN.setdefault(model.hf, {})
    if settings not in known:
        known[settings] = _try(model, forms, make)
    return known[settings]


def _try(model: Model, forms: Sequence[str], make: Callable[[str], Sequence[Prompt]]) -> dict[str, Any]:
    tried: list[dict[str, Any]] = []
    for form in forms:
        recalls = [recalled(model, prompt) for prompt in make(form)]
        brought = sum(one > RECALL for one in recalls)
        mean = round(sum(recalls) / len(recalls), 4)
        tried.append({"form": form, "brought_back": brought, "of": len(recalls), "recall": mean})
        if 2 * brought > len(recalls):
            return {"chosen": form, "why": "the first in which the model brings most answers back", "tried": tried}
    best = max(tried, key=lambda one: (one["brought_back"], one["recall"]))
    return {
        "chosen": best["form"],
        "why": "the best, though in none the model brings most answers back",
        "tried": tried,
    }


def recalled(model: Model, prompt: Prompt) -> float:
    """ROUGE-1 recall of the answer in what the model writes behind the prompt, up to the first line's end."""
    from interp.retrieval.rouge import recall
    from interp.retrieval.task import task_of
    from interp.runs.generate import greedy, stop_ids, written

    task, stops = task_of(prompt), stop_ids(model)
    said = greedy(model, prompt, min(task.max_new_tokens, task.sentence[1] - task.sentence[0] + 8), stops)
    text = written(model, said, model.decode_tokens(said)).strip().partition("\n")[0]
    return recall(text, task.answer)
