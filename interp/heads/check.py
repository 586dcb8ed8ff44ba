"""What taking out the heads of a class does to a fresh random sequence, beside as many random heads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from interp.ablation.choose import random_heads
from interp.errors import NumbersError
from interp.finders.base import Unit
from interp.heads.classes import Head
from interp.heads.config import KINDS, TESTED, HeadsConfig
from interp.heads.measure import seed_of
from interp.heads.random_scores import random_segment
from interp.interventions.ablate import ZeroHeads
from interp.tracing.calls import next_token_loss, skip_logits
from interp.tracing.statistics import Offsets
from interp.tracing.tracer import trace
from probes.base import Prompt

PROBE = "heads-check"
"""Names the sequences that judge: others than those the scores were measured on."""


def check(
    model: Any, prompt: Prompt, index: int, sets: Mapping[str, Sequence[Sequence[int]]], config: HeadsConfig
) -> Unit:
    """Facts: ``first``, ``second`` (loss on each copy untouched, nats, but for its first token), ``induction`` (mean
    induction score of the induction heads untouched), and ``classes``: class -> ``loss`` and ``loss_random`` (change on
    the second copy), ``induction`` and ``induction_random`` (change of the induction heads' score; None for the class
    itself). Where a class leaves too few other heads for a random set, the figures of that set are None."""
    ids, _, length = random_segment(model, seed_of(prompt), config.length, PROBE)
    watched = [(int(layer), int(head)) for layer, head in sets[TESTED]]
    shape = (model.n_layers, model.n_heads)

    def run(heads: Sequence[Head]) -> tuple[float, float | None]:
        (second,), seen = losses(model, ids, length, heads, watched)
        return second, seen

    (first, second), induction = losses(model, ids, length, [], watched, copies=2)
    classes = {}
    for number, kind in enumerate(KINDS):
        heads = [(int(layer), int(head)) for layer, head in sets[kind]]
        if not heads:
            continue
        draws = [random_heads(heads, shape, (config.seed, index, number, draw)) for draw in range(config.controls)]
        own, others = run(heads), [run(draw) for draw in draws if draw is not None]
        through = None if kind == TESTED else induction
        classes[kind] = {
            "loss": own[0] - second,
            "loss_random": change([one[0] for one in others], second),
            "induction": change([own[1]], through),
            "induction_random": change([one[1] for one in others], through),
        }
    return Unit(facts={"first": first, "second": second, "induction": induction, "classes": classes})


def change(values: Sequence[float | None], before: float | None) -> float | None:
    """Mean of the values less what was there before; None where either is missing."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) - before if known and before is not None else None


def losses(
    model: Any, ids: Sequence[int], length: int, heads: Sequence[Head], watched: Sequence[Head], copies: int = 1
) -> tuple[list[float], float | None]:
    """(loss on each of the last `copies` copies of `length` tokens, mean induction score of the watched heads on the
    last one; None without any), with `heads` zeroed. The first token of a copy, which nothing foretells, does not
    count.

    Raises:
        NumbersError: a loss is not finite.
    """
    stats = [Offsets(("induction",), frozenset(layer for layer, _ in watched))] if watched else []
    kept = dict.fromkeys(skip_logits(model), copies * length)  # no logits where no loss is asked for
    with trace(model, stats=stats, edit=[ZeroHeads(heads)] if heads else []) as t:
        logits = t.run(list(ids), **kept).logits[:, -copies * length :]
        mass = t.stats["offsets"]["induction"][:, 0, :, -length:].mean(-1) if watched else None
    tokens = list(ids[-copies * length :])
    out = []
    for first in range(0, copies * length, length):
        copy = slice(first, first + length)
        out.append(float(next_token_loss(logits[:, copy], tokens[copy])[0].cpu().double().mean()))
    if not all(map(math.isfinite, out)):
        raise NumbersError(f"the loss on random tokens with {len(heads)} heads zeroed is {out}; try --dtype float32")
    seen = None if mass is None else float(torch.stack([mass[layer, head] for layer, head in watched]).mean())
    return out, seen
