"""The own checks of a run on retrieval heads: whether its numbers can be trusted, apart from what the paper says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from interp.findings import Findings
from interp.papers.checks import ROUGH, TOLERANCE
from interp.papers.claims import Check
from interp.papers.wu2024_rules import RUN
from probes.base import Prompt

STEPS = 4
"""Generated tokens that are computed a second time, slowly."""


def checks(model: Any, prompts: Sequence[Prompt], findings: Mapping[str, Findings]) -> list[Check]:
    """Everything that has to hold before a verdict on the paper means anything."""
    from interp.retrieval.cache import forget
    from interp.retrieval.task import has_task

    needles = [prompt for prompt in prompts if has_task(prompt)]
    found = findings[RUN]
    try:
        return [eager(model, needles), *sharing(model, needles), *masks(found), *effect(model, needles, found)]
    finally:
        forget(model)  # what was read of these prompts is of no more use


def eager(model: Any, prompts: Sequence[Prompt]) -> Check:
    """The first tokens of an answer and every head's best key, against the model's own generation with eager attention.

    Independent of what the scan uses: the model's own cache, read in one piece, and its stored patterns.
    """
    from interp.retrieval.config import RetrievalConfig
    from interp.retrieval.decode import decode
    from interp.retrieval.task import task_of

    prompt = min(prompts, key=len)
    task = task_of(prompt)
    seen = decode(model, replace(task, max_new_tokens=min(STEPS, task.max_new_tokens)), RetrievalConfig())
    ids, best, chosen = slowly(model, prompt.ids, seen.top_key)
    gap = float(max(np.abs(seen.top_weight - best).max(), np.abs(best - chosen).max()))
    bound = TOLERANCE.get(str(model.dtype).removeprefix("torch."), ROUGH)
    same = ids == seen.ids
    return Check(
        "decoding step by step with eager attention",
        same and gap <= bound,
        f"{len(ids)} tokens after {prompt.name!r} ({len(prompt)} tokens): {'the same' if same else 'others'}; largest "
        f"gap in a head's largest weight {gap:.1e} (bound {bound:g})",
    )


def slowly(model: Any, prompt: Sequence[int], top_key: np.ndarray) -> tuple[tuple[int, ...], np.ndarray, np.ndarray]:
    """Greedy generation of as many tokens as `top_key` [layer, head, step] has steps, with stored patterns.

    Returns:
        the ids; [layer, head, step] the largest weight of each head; the weight at the key that `top_key` names.
    """
    import torch

    from interp.tracing.calls import skip_logits
    from interp.tracing.passes import cache_name, cache_of
    from interp.tracing.streamed import implementation

    generated: list[int] = []
    best, chosen = np.zeros(top_key.shape, np.float32), np.zeros(top_key.shape, np.float32)
    modules = [model.sites.attention(layer) for layer in range(model.n_layers)]
    name = cache_name(model.hf)

    def run(ids: Sequence[int], **more: Any) -> Any:
        return model.hf(torch.tensor([list(ids)], device=model.device), use_cache=True, **skip_logits(model), **more)

    with torch.no_grad():
        cache, fed = cache_of(run(prompt[:-1])), int(prompt[-1])
        with implementation(model.hf, modules, "eager"):
            for step in range(top_key.shape[2]):
                out = run([fed], **{name: cache}, output_attentions=True)
                for layer, pattern in enumerate(out.attentions):
                    weights = pattern[0, :, -1].float().cpu().numpy()  # [head, key]
                    keys = top_key[layer, :, step] - (len(prompt) + step - weights.shape[1])  # a window sees the last
                    rest = 1 - weights.sum(axis=1)  # what a learned sink takes; a head at rest names no key
                    best[layer, :, step] = np.maximum(weights.max(axis=1), rest)
                    inside = (keys >= 0) & (keys < weights.shape[1])
                    chosen[layer, inside, step] = weights[inside, keys[inside]]
                    resting = top_key[layer, :, step] < 0
                    chosen[layer, resting, step] = rest[resting]
                fed = int(out.logits[0, -1].argmax())
                generated.append(fed)
                cache = cache_of(out)
    return tuple(generated), best, chosen


def sharing(model: Any, prompts: Sequence[Prompt]) -> list[Check]:
    """What a prompt gives when its beginning was read for another one, against reading it whole.

    No check where no two prompts begin alike for long enough to share anything.
    """
    from interp.retrieval.cache import CHUNK, forget, remember
    from interp.retrieval.config import RetrievalConfig
    from interp.retrieval.decode import decode
    from interp.retrieval.task import task_of

    alike: dict[tuple[int, ...], list[Prompt]] = {}
    for prompt in sorted(prompts, key=len):
        if task_of(prompt).tail > CHUNK:
            alike.setdefault(prompt.ids[:CHUNK], []).append(prompt)
    pairs = [group[:2] for group in alike.values() if len(group) > 1]
    if not pairs:
        return []
    first, second = min(pairs, key=lambda pair: len(pair[1]))
    task = replace(task_of(second), max_new_tokens=STEPS)
    remember(model)
    try:
        decode(model, replace(task_of(first), max_new_tokens=1), RetrievalConfig())
        shared, whole = (decode(model, task, RetrievalConfig(share_prefix=share)) for share in (True, False))
    finally:
        forget(model)
    same = shared.ids == whole.ids and all(
        np.array_equal(getattr(shared, name), getattr(whole, name))
        for name in ("top_key", "top_weight", "span_mass", "query_mass", "null_mass")
    )
    return [
        Check(
            "a shared beginning changes nothing",
            same,
            f"{second.name!r} after {first.name!r}, {common(first.ids, second.ids)} tokens alike: "
            f"{'bit for bit the same' if same else 'not the same'} as read whole",
        )
    ]


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many ids two prompts begin alike for."""
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def masks(findings: Findings) -> list[Check]:
    """Random heads are as many as the masked ones, none of those, no retrieval heads, and as many in each layer unless
    a layer has no others left."""
    from interp.retrieval.sets import pairs

    sets = {k: told for k, told in (findings.summary.get("masks") or {}).items() if told["retrieval"]}
    if not sets:
        return []
    named = (label.split(".") for label in findings.summary["retrieval"])
    retrieval = {(int(layer), int(head)) for layer, head in named}
    wrong = [
        f"{what} (K = {k})"
        for k, told in sets.items()
        for what in dict.fromkeys(
            what
            for drawn in told["random"]
            for what in faults(pairs(told["retrieval"]), pairs(drawn), retrieval, findings.summary["shape"][1])
        )
    ]
    told = f"K = {', '.join(sets)}, {sum(len(one['random']) for one in sets.values())} random sets"
    said = "each as large as the set it stands against, apart from it, layer by layer, and without a retrieval head"
    return [Check("random heads are other heads", not wrong, f"{told}: {'; '.join(wrong) or said}")]


def faults(
    best: Sequence[tuple[int, int]], drawn: Sequence[tuple[int, int]], retrieval: set[tuple[int, int]], heads: int
) -> list[str]:
    """What is wrong with a random set; `heads` = how many a layer has."""
    found, taken = [], {*best, *retrieval}
    if len(set(drawn)) != len(best):
        found.append(f"{len(set(drawn))} heads against {len(best)}")
    if set(drawn) & set(best):
        found.append("masked heads among the random ones")
    if set(drawn) & (retrieval - set(best)):
        found.append("retrieval heads among the random ones")
    wanted, given = (Counter(layer for layer, _ in one) for one in (best, drawn))
    free = {layer: heads - sum(at == layer for at, _ in taken) for layer in wanted}
    short = [layer for layer in sorted(wanted) if given[layer] < min(wanted[layer], free[layer])]
    if short:
        found.append(f"fewer than could be in layers {', '.join(map(str, short))}")
    return found


def effect(model: Any, prompts: Sequence[Prompt], findings: Findings) -> list[Check]:
    """The masks of the largest K show in every layer they name (`interp.retrieval.proof`), on the shortest prompt.

    No check where nothing was masked.
    """
    from interp.retrieval.causal import means_for
    from interp.retrieval.config import RetrievalConfig
    from interp.retrieval.proof import proof
    from interp.retrieval.sets import arms_of
    from interp.retrieval.task import task_of
    from interp.runs.settings import make_config

    arms = [arm for arm in arms_of(findings.summary.get("masks") or {}, 1) if arm.k]
    if not arms:
        return []
    config = make_config(RetrievalConfig, findings.summary["settings"], RUN)
    shown = [arm.heads for arm in arms if arm.k == arms[-1].k]
    told = proof(model, task_of(min(prompts, key=len)), shown, config, means_for(model, config))
    seen = f"{told['heads']} heads in {len(told['layers'])} layers, {config.how}, {config.when}"
    missing = (
        f"not there in layers {', '.join(map(str, told['failed']))}"
        if told["failed"]
        else f"nothing to block in layers {', '.join(map(str, told['nothing']))}"
        if told["nothing"]
        else "there in each of them"
    )
    passed = not told["failed"] and told["nothing"] != told["layers"]
    return [Check("masks took effect", passed, f"K = {arms[-1].k} on {told['prompt']!r}: {seen}: {missing}")]
