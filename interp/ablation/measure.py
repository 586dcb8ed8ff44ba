"""The metric of one prompt: untouched, and under an edit of some heads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from interp.ablation.config import ON_PAIRS, AblationConfig, Head, heads_named
from interp.ablation.outputs import twin_outputs
from interp.ablation.places import places_of
from interp.ablation.ways import WAYS, Outputs, edits, sizes
from interp.circuits.metric import metric_of
from interp.circuits.pairs import KEY, batch_of, pair_of
from interp.errors import NumbersError, UsageError
from interp.finders.base import Unit
from interp.interventions.attention import same_path
from interp.tracing.calls import next_token_loss, skip_logits
from interp.tracing.tracer import trace
from probes.base import Prompt

CALIBRATION = "a calibration text (arithmetic problems with worked solutions, in no prompt)"
CALIBRATION_SEED = 2406_15765
"""Of the text that names the candidates: of our own making and the same for every run, so that no prompt under test has
a say."""
SHORTEST, LONGEST = 256, 4096
Calibrated = tuple[np.ndarray, dict[Head, torch.Tensor]]
"""What `sizes` gives."""


def calibration_ids(model: Any, config: AblationConfig) -> tuple[int, ...]:
    """Token ids of the calibration text, long enough for the edit to reach; random ones without a tokenizer.

    The length follows the settings, not the prompts, so that every prompt of a resumed run had the same candidates.
    """
    from probes import problems, random_tokens

    reach = {"streaming": config.first + config.recent, "cut": max(config.keys, default=0)}.get(config.way, 0)
    length = min(max(SHORTEST, 2 * reach), LONGEST, model.max_positions or LONGEST)
    probe = random_tokens.probe if model.tokenizer is None else problems.probe
    return probe.prompts(model, limit=1, max_length=length, seed=CALIBRATION_SEED)[0].ids


def metric_for(prompt: Prompt, config: AblationConfig) -> str:
    """What ``metric=auto`` is for one prompt: ``difference`` of a pair, else ``loss``."""
    if config.metric != "auto":
        return config.metric
    return "difference" if KEY in prompt.extra else "loss"


def target_range(prompt: Prompt, config: AblationConfig) -> tuple[int, int]:
    """[start, stop) of the tokens whose loss is the metric.

    Raises:
        UsageError: ``metric=targets`` and a prompt whose probe marks none.
    """
    if config.metric != "targets":
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


@dataclass(frozen=True)
class Score:
    """The metric of one prompt, in nats or logits; of a pair, whether the answer's logit is above all wrong ones."""

    value: float
    right: bool | None = None


def score(
    model: Any, prompt: Prompt, config: AblationConfig, heads: Sequence[Head] = (), outputs: Outputs | None = None
) -> Score:
    """The metric under the edit of `heads`: a loss, or a pair's logit difference at its last position.

    Args:
        outputs: of ``mean`` and ``resample``, what heads are made to put out.

    Raises:
        NumbersError: it is no finite number.
    """
    if metric_for(prompt, config) == "difference":
        return difference(model, prompt, config, heads, outputs)
    return Score(loss(model, prompt, config, heads, outputs))


def difference(
    model: Any, prompt: Prompt, config: AblationConfig, heads: Sequence[Head] = (), outputs: Outputs | None = None
) -> Score:
    """Logit of the answer less the mean logit of the wrong tokens, under the edit of `heads`.

    Raises:
        UsageError: the prompt is no pair.
        NumbersError: a logit that is not finite.
    """
    metric = metric_of(batch_of([pair_of(prompt)]))
    with metric.on(model), trace(model, edit=made(model, prompt, config, heads, outputs)) as t:
        out = t.run(list(prompt.ids), **skip_logits(model))
    value = float(metric.of(out, torch.zeros(1, dtype=torch.long))[0])
    logits = out.logits[0, -1].float().cpu()
    return Score(value, bool(logits[metric.answer[0]] > logits[metric.wrong[0]].max()))


def made(
    model: Any, prompt: Prompt, config: AblationConfig, heads: Sequence[Head], outputs: Outputs | None
) -> list[Any]:
    """The edits of a run, none of heads' without `heads`; runs that are compared are on one path."""
    same = same_path(model) if WAYS[config.way].on_rows else []
    return [*same, *(edits(heads, config, outputs or {}, places_of(prompt, config)) if heads else [])]


def loss(
    model: Any, prompt: Prompt, config: AblationConfig, heads: Sequence[Head] = (), outputs: Outputs | None = None
) -> float:
    """Mean next-token loss of the prompt's target tokens in nats, under the edit of `heads`.

    Raises:
        NumbersError: it is no finite number.
    """
    start, stop = target_range(prompt, config)
    with trace(model, edit=made(model, prompt, config, heads, outputs)) as t:
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
    return [groups[index] for index in sorted(best) if not changed[index] <= 0]  # NaN: not known


def calibrated(model: Any, config: AblationConfig) -> Calibrated:
    """`sizes` on the calibration text; it hangs on no prompt."""
    ids = () if config.way in ON_PAIRS else calibration_ids(model, config)
    return sizes(model, ids, config)


def measure(model: Any, prompt: Prompt, config: AblationConfig, known: Calibrated | None = None) -> Unit:
    """Facts: ``metric``, ``untouched`` (its value), ``right`` (of pairs), ``candidates`` [[layer, head], ...] a
    candidate; arrays: ``edited`` and ``size`` by candidate.

    Of named heads, one by one only if there are no more of them than `candidates` (0 = any number); else ``edited`` is
    NaN. So it is where the means of a pair are asked for, which takes all prompts (`interp.ablation.finder`). `known`
    spares the pass over the calibration text.
    """
    check_origin(model, config.origin, config.origin_shape)
    for label in config.heads:
        heads_named(label, model.n_layers, model.n_heads)
    size, means = calibrated(model, config) if known is None else known
    tried = candidates(config, size)
    later = means_of_twins(prompt, config)
    outputs = twin_outputs(model, prompt) if config.way == "resample" else means
    edited = [
        score(model, prompt, config, group, outputs).value if one_by_one(config, tried) and not later else math.nan
        for group in tried
    ]
    untouched = score(model, prompt, config)
    return Unit(
        arrays={
            "edited": np.array(edited, dtype=np.float64),
            "size": np.array([float(np.mean([size[head] for head in group])) for group in tried], dtype=np.float64),
        },
        facts={
            "metric": metric_for(prompt, config),
            "untouched": untouched.value,
            "right": untouched.right,
            "candidates": [[list(head) for head in group] for group in tried],
        },
    )


def one_by_one(config: AblationConfig, tried: Sequence[Any]) -> bool:
    """Whether every candidate is measured alone."""
    return not config.heads or not config.candidates or len(tried) <= config.candidates


def means_of_twins(prompt: Prompt, config: AblationConfig) -> bool:
    """Whether a head's mean is one over twins of pairs."""
    return config.way == "mean" and KEY in prompt.extra


def check_origin(model: Any, origin: str, shape: Sequence[int]) -> None:
    """Heads of one model mean nothing in another.

    Raises:
        UsageError: they were found in a model of another shape.
    """
    if shape and tuple(shape) != (model.n_layers, model.n_heads):
        layers, heads = shape
        raise UsageError(
            f"the heads of {origin} are those of a model of {layers} layers of {heads} heads; {model.name} has "
            f"{model.n_layers} of {model.n_heads}"
        )


def common_metric(prompts: Sequence[Prompt], units: Sequence[Unit]) -> Any:
    """The metric that all units have.

    Raises:
        UsageError: pairs among prompts that are none, and ``metric=auto``.
    """
    kinds = [unit.facts["metric"] for unit in units]
    for prompt, kind in zip(prompts, kinds, strict=True):
        if kind != kinds[0]:
            raise UsageError(
                f"metric=auto: it is the {kinds[0]} of prompt {prompts[0].name!r} and the {kind} of {prompt.name!r}, "
                "since only pairs have a logit difference; give metric=loss, or pairs alone"
            )
    return kinds[0]


def share_right(scores: Sequence[Score]) -> float | None:
    """Share of scores whose answer is above all wrong ones; None of none."""
    return float(np.mean([one.right is True for one in scores])) if scores else None
