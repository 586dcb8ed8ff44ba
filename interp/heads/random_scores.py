"""Scores of every head on a random segment given twice: where it attends, and whether it copies what it attends to.

Random tokens leave a head nothing to go by but position and identity, so what it does there is its own and no guess
from meaning (Olsson et al. 2022, arXiv 2209.11895).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from interp.errors import SiteError
from interp.heads.copying import TopOrdinary, copying
from interp.tracing.calls import skip_logits
from interp.tracing.statistics import Offsets
from interp.tracing.tracer import trace

KINDS = ("previous", "duplicate", "induction", "copy")
LEAST = 2


def random_scores(model: Any, seed: int, length: int) -> dict[str, np.ndarray]:
    """Four scores of every head on one sequence, float32 [layer, head] each.

    ``previous``: attention to the token before; mean over the queries whose predecessor is a drawn token, but not the
    sequence's very first, which draws attention whatever it holds.
    ``duplicate``, ``induction``: attention to earlier copies of the query's token, and to the tokens right behind those
    (`interp.tracing.statistics.Offsets`); means over the second copy's queries. In a layer whose sliding window is
    shorter than the segment both are 0.
    ``copy``: from -1 to 1, 0 by chance: see `interp.heads.copying`; over the second copy's queries, among the
    segment's tokens. NaN for a head without any attention on them, and for all heads of a model in which what a head
    adds to the logits cannot be told.

    Args:
        model: a loaded `Model`, with or without a tokenizer.
        seed: 0 or more; one seed, one sequence.
        length: tokens of the segment; fewer where the model has not positions enough for two copies.

    Raises:
        UsageError: there is no room for a segment of two tokens, or no ordinary token to draw.
    """
    ids, start, length = random_segment(model, seed, length)
    with (
        torch.no_grad(),
        trace(
            model,
            ["blocks.*.attn.hook_z"],
            [Offsets(("previous", "duplicate", "induction")), TopOrdinary(max(start, 1))],
        ) as t,
    ):
        t.run(list(ids), **skip_logits(model))
        offsets, top = t.stats["offsets"], t.stats["top_ordinary"]
        second = slice(start + length, None)
        out = {kind: offsets[kind][:, 0, :, second].mean(-1).numpy() for kind in ("duplicate", "induction")}
        out["previous"] = offsets["previous"][:, 0, :, max(start, 1) + 1 :].mean(-1).numpy()
        tokens = sorted(set(ids[start:]))
        index = torch.tensor([tokens.index(one) if at >= start else -1 for at, one in enumerate(ids)])
        position, weight = top["position"][:, 0, :, second], top["weight"][:, 0, :, second]
        attended = torch.where(position < 0, -1, index[position.clamp_min(0)])
        copied = np.full(position.shape[:2], np.nan, dtype=np.float32)
        try:
            for layer in range(len(copied) if len(tokens) > 1 else 0):
                z = t[f"blocks.{layer}.attn.hook_z"][0, second]
                copied[layer] = copying(model.sites, layer, z, attended[layer], weight[layer], tokens).numpy()
        except SiteError:  # this model's heads add nothing to the logits that could be told apart
            copied[:] = np.nan
    return {kind: (out | {"copy": copied})[kind].astype(np.float32) for kind in KINDS}


def random_segment(
    model: Any, seed: int, length: int, probe: str = "random-scores"
) -> tuple[tuple[int, ...], int, int]:
    """(ids, position of the first drawn token, tokens of the segment): the model's own start of a text, then a random
    segment twice.

    Args:
        model: a loaded `Model`.
        seed: 0 or more.
        length: tokens of the segment wanted; fewer where the model has not positions enough.
        probe: names that differ give other sequences for one seed.

    Raises:
        UsageError: there is no room for a segment of two tokens, or no ordinary token to draw.
    """
    from probes.synthetic import body_length, generator, ordinary_ids

    start = beginning(model)
    body = body_length(model, len(start) + 2 * length, start, least=2 * LEAST)
    drawn = generator(probe, seed, 0).choice(ordinary_ids(model), size=body // 2)
    return (*start, *(int(one) for one in np.tile(drawn, 2))), len(start), body // 2


def beginning(model: Any) -> tuple[int, ...]:
    """What the model puts before a text; of one read through its chat template, which cannot hold drawn ids, the BOS
    token that a chat begins with, if any."""
    from probes.synthetic import prefix

    if not model.chat:
        return prefix(model)
    bos = model.tokenizer.bos_token_id
    return (bos,) if bos is not None and model.encode("a").ids[:1] == (bos,) else ()
