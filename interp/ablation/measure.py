"""Losses of one prompt: untouched, and under an edit of some heads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from interp.ablation.config import AblationConfig, Head, heads_named
from interp.ablation.ways import WAYS, Means, sizes
from interp.errors import NumbersError, UsageError
from interp.finders.base import Unit
from interp.interventions.attention import same_path
from interp.tracing.calls import next_token_loss
from interp.tracing.tracer import trace
from probes.base import Prompt

CALIBRATION = "a calibration text (arithmetic problems with worked solutions, in no prompt)"
CALIBRATION_SEED = 2406_15765
"""Of the text that names the candidates: of our own making and the same for every run, so that no prompt under test has
a say."""
SHORTEST, LONGEST = 256, 4096


def calibration_ids(model: Any, config: AblationConfig) -> tuple[int, ...]:
    """Token ids of the calibration text, long enough for the edit to reach; random ones without a tokenizer.

    The length follows the settings, not the prompts, so that every prompt of a resumed run had the same candidates.
    """
    from probes import problems, random_tokens

    reach = {"streaming": config.first + config.recent, "cut": max(config.keys, default=0)}.get(config.how, 0)
    length = min(max(SHORTEST, 2 * reach), LONGEST, model.max_positions or LONGEST)
    probe = random_tokens.probe if model.tokenizer is None else problems.probe
    return probe.prompts(model, limit=1, max_length=length, seed=CALIBRATION_SEED)[0].ids


def target_range(prompt: Prompt, config: AblationConfig) -> tuple[int, int]:
    """[start, stop) of the tokens whose loss is the metric.

    Raises:
        UsageError: ``metric=targets`` and a prompt whose probe marks none.
    """
    if config.metric == "loss":
        return 1, len(prompt)
    extra = prompt.extra
    if "targets" in extra:
        start, stop = (int(place) for place in extra["targets"])
    elif int(extra.get("period", 1)) > 1:  # of a segment given twice, only the second copy can be known
        start, stop = len(prompt) - int(extra["period"]), len(prompt)
    else:
        raise UsageError(
            f"metric=targets: prompt {prompt.name!r} marks no target tokens; use a probe that does "
            "(repeated-segment), give prompts with extra={'targets': [start, stop]}, or metric=loss"
        )
    if not 1 <= start < stop <= len(prompt):
        raise UsageError(f"prompt {prompt.name!r}: targets {start}..{stop} do not lie in 1..{len(prompt)}")
    return start, stop


def loss(
    model: Any, prompt: Prompt, config: AblationConfig, heads: Sequence[Head] = (), means: Means | None = None
) -> float:
    """Mean next-token loss of the prompt's target tokens in nats, under the edit of `heads`.

    Raises:
        NumbersError: it is no finite number.
    """
    start, stop = target_range(prompt, config)
    way = WAYS[config.how]
    edits = [*(same_path(model) if way.on_rows else []), *(way.make(heads, config, means or {}) if heads else [])]
    with trace(model, edit=edits) as t:
        logits = t.run(list(prompt.ids)).logits
    value = float(next_token_loss(logits, list(prompt.ids))[0, start - 1 : stop - 1].cpu().double().mean())
    if not math.isfinite(value):
        told = f"under {config.how} of {len(heads)} heads" if heads else "of the untouched model"
        raise NumbersError(f"prompt {prompt.name!r}: the loss {told} is {value}")
    return value


def candidates(config: AblationConfig, size: np.ndarray) -> list[tuple[Head, ...]]:
    """What is tried: the heads (or layers) named, else those the edit changes most, in order of layer and head."""
    n_layers, n_heads = size.shape
    if config.heads:
        return [heads_named(label, n_layers, n_heads) for label in dict.fromkeys(config.heads)]
    layers, heads = range(n_layers), range(n_heads)
    groups: list[tuple[Head, ...]] = (
        [tuple((layer, head) for head in heads) for layer in layers]
        if config.by == "layer"
        else [((layer, head),) for layer in layers for head in heads]
    )
    changed = np.array([sum(size[head] for head in group) for group in groups])
    best = np.argsort(-changed, kind="stable")[: config.candidates or None]
    return [groups[index] for index in sorted(best) if changed[index] > 0]


def measure(model: Any, prompt: Prompt, config: AblationConfig) -> Unit:
    """Facts: ``loss``, ``candidates`` [[layer, head], ...] a candidate; arrays: ``edited`` and ``size`` by candidate.

    Of named heads, one by one only if there are no more of them than `candidates` (0 = any number); else ``edited`` is
    NaN.
    """
    for label in config.heads:
        heads_named(label, model.n_layers, model.n_heads)
    size, means = sizes(model, calibration_ids(model, config), config)
    tried = candidates(config, size)
    alone = not config.heads or not config.candidates or len(tried) <= config.candidates
    edited = [loss(model, prompt, config, group, means) if alone else math.nan for group in tried]
    return Unit(
        arrays={
            "edited": np.array(edited, dtype=np.float64),
            "size": np.array([float(np.mean([size[head] for head in group])) for group in tried], dtype=np.float64),
        },
        facts={"loss": loss(model, prompt, config), "candidates": [[list(head) for head in group] for group in tried]},
    )
