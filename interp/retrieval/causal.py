"""One held-out needle prompt, answered under every mask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from interp.ablation.config import AblationConfig, Head
from interp.ablation.measure import calibration_ids
from interp.ablation.ways import sizes
from interp.finders.base import Unit
from interp.retrieval.arms import answers
from interp.retrieval.config import RetrievalConfig
from interp.retrieval.decode import Ends
from interp.retrieval.masks import mask_of
from interp.retrieval.proof import proof
from interp.retrieval.rouge import exact, recall
from interp.retrieval.sets import Sets, arms_of
from interp.retrieval.task import task_of
from probes.base import Prompt


def masked(model: Any, prompt: Prompt, index: int, sets: Sets, config: RetrievalConfig) -> Unit:
    """The answers of one prompt: untouched, and under every set of `interp.retrieval.sets.mask_sets`.

    Args:
        index: of the prompt in the run.

    Returns:
        A unit whose fact ``masked`` is {"prompt", "index", "needle", "dtype", "arms": [{"k", "kind", "draw", "recall",
        "exact", "tokens", "text"}, ...], "proof"}, the untouched arm first; ``proof`` says whether the masks of the
        largest K were seen in every layer they name (`interp.retrieval.proof.proof`).

    Raises:
        UsageError: the prompt holds no needle, or the model's family cannot be masked this way.
        NumbersError: an arm's logits are not finite.
    """
    task, arms = task_of(prompt), arms_of(sets)
    mask = mask_of([arm.heads for arm in arms], (model.n_layers, model.n_heads))
    text_of = Ends(model, config, task).text
    means, told = means_for(model, config), []
    for arm, ids in zip(arms, answers(model, task, mask, config, means), strict=True):
        text = text_of(ids)
        said = {"recall": recall(text, task.answer), "exact": exact(text, task.answer), "tokens": len(ids)}
        told.append({**arm.told, **said, "text": text})
    facts = {"prompt": prompt.name, "index": index, "needle": task.needle, "dtype": str(model.dtype), "arms": told}
    shown = [arm.heads for arm in arms if arm.k == arms[-1].k and arm.draw == 0]  # the largest K, best and random heads
    return Unit(facts={"masked": {**facts, "proof": proof(model, task, shown, config, means) if arms[1:] else None}})


def means_for(model: Any, config: RetrievalConfig) -> Mapping[Head, Tensor] | None:
    """Every head's mean output [d_head] over the ablation finder's calibration text, where they are needed."""
    if config.how != "mean":
        return None
    ablation = AblationConfig(how="mean")
    return sizes(model, calibration_ids(model, ablation), ablation)[1]
