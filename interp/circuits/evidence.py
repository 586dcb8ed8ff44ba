"""What a pair tells of every head before anything is patched: where it looks, what it adds to the answer, if it copies.

One clean run and one corrupted. Of the attention only the rows of named positions are kept, and of these only what
goes to named positions; of the logits all tokens at the last position alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.circuits.config import Head
from interp.circuits.copy_sign import copy_signs
from interp.circuits.dla import attribution_or_nan
from interp.circuits.metric import Metric, metric_of
from interp.circuits.pairs import Batch, batch_of, pair_of
from interp.circuits.roles import ROLES, roles_of, stand_ins
from interp.circuits.states import Sides, States, states_of
from interp.finders.base import Unit
from interp.tracing.statistics import Rows
from interp.tracing.tracer import trace
from probes.base import Prompt


def evidence(model: Any, prompt: Prompt) -> Unit:
    """Behaviour and every head's look on one pair.

    Args:
        model: a loaded `Model`.
        prompt: with a pair.

    Returns:
        Unit. Arrays, float32 unless said, NaN for a layer without attention or a head that a layer lacks:
        ``attention`` [layer, head, query, key] between the places of ``names``: mean over a role's positions as query,
        sum over them as key; NaN for a role that the prompt lacks.
        ``elsewhere`` [layer, head]: from the last token to tokens that no name covers, of those from the first on at
        which the twins differ.
        ``copying`` [layer, head] and ``top_key`` (int64): see `interp.circuits.copy_sign`.
        ``dla`` [layer, head]: direct logit attribution, in logits; NaN where the logits are no sum of what heads add.

        Facts: ``names``: the roles, then named positions that no role covers. ``difference``, ``corrupt_difference``:
        logit(answer) - mean logit(wrong), clean and corrupted. ``p_answer``. ``rank`` of the answer in the whole
        vocabulary, 0 = top. ``top``: id of the likeliest token. ``choice``: the answer is above every wrong token.
        ``choice_of``, where the prompt has ``choices``: the likeliest of these; ``p_right``, where it has ``right``
        (several right answers): the probability of these together.

    Raises:
        UsageError: the prompt has no pair, or one whose prompts are equal.
        NumbersError: a logit that is not finite.
    """
    batch = batch_of([pair_of(prompt)])
    places = places_of(prompt)
    metric = metric_of(batch)
    queries = sorted({at for spots in places.values() for at in spots})
    clean, rows, logits = _clean_run(model, batch, queries)
    sides = Sides(batch, metric, clean, states_of(model, batch.corrupt, metric, resid=False))
    last = {key: value[queries.index(len(prompt) - 1)] for key, value in rows.items()}
    z = {layer: value[0, -1].cpu() for layer, value in clean.z.items()}
    signs, top_key = copy_signs(model, z, last, stand_ins(prompt))
    open_ = torch.arange(len(prompt)) >= batch.differs
    open_[queries] = False
    arrays = {
        "attention": attention_between(rows, queries, places, (model.n_layers, model.n_heads)),
        "elsewhere": np.full(signs.shape, np.nan, dtype=np.float32),
        "copying": signs,
        "top_key": top_key,
        "dla": attribution_or_nan(model, sides).heads[..., 0],
    }
    for key, row in last.items():
        arrays["elsewhere"][key] = float(row[open_].sum())
    return Unit(arrays, {"names": list(places), **_answered(prompt, sides, logits)})


def places_of(prompt: Prompt) -> dict[str, tuple[int, ...]]:
    """Name -> positions: all of `ROLES`, then the named positions that no role covers, in the order of the prompt."""
    found = roles_of(prompt)
    covered = {at for spots in found.values() for at in spots}
    for name, at in sorted(pair_of(prompt).positions.items(), key=lambda one: one[1]):
        if at not in covered and name not in found:
            found[name] = (at,)
    return {**{role: found.pop(role) for role in ROLES}, **found}


def attention_between(
    rows: Mapping[tuple[int, int], Tensor],
    queries: Sequence[int],
    places: Mapping[str, Sequence[int]],
    shape: tuple[int, int],
) -> np.ndarray:
    """float32 [layer, head, query, key] between places; see `evidence`.

    Args:
        rows: (layer, head) -> [query, key].
        queries: position of each row.
        places: name -> positions, each among `queries`.
        shape: (layers, heads).
    """
    n, length = len(places), max(max(spots, default=0) for spots in places.values()) + 1
    from_, to = torch.full((n, len(queries)), float("nan")), torch.full((length, n), float("nan"))
    for index, spots in enumerate(places.values()):
        if spots:
            from_[index], to[:, index] = 0.0, 0.0
            from_[index, [queries.index(at) for at in spots]] = 1 / len(spots)
            to[list(spots), index] = 1.0
    out = np.full((*shape, n, n), np.nan, dtype=np.float32)
    for key, row in rows.items():
        out[key] = (from_ @ row[:, :length].float() @ to).numpy()
    return out


@dataclass(frozen=True)
class _Columns:
    """Some columns of a model's output."""

    logits: Tensor


@dataclass(frozen=True)
class _Whole(Metric):
    """The metric, read off the logits of the whole vocabulary, which it keeps [pair, vocabulary]."""

    kept: list[Tensor] = field(default_factory=list)

    @contextmanager
    def on(self, model: Any) -> Iterator[None]:
        """Leaves the model's logits as they are."""
        yield

    def of(self, output: Any, rows: Tensor) -> Tensor:
        """As of the columns alone."""
        logits = output.logits[:, -1].float().cpu()
        self.kept.append(logits)
        return super().of(_Columns(logits[:, None, self.tokens]), rows)


def _clean_run(model: Any, batch: Batch, queries: Sequence[int]) -> tuple[States, dict[Head, Tensor], Tensor]:
    """(states; rows [query, key] by head; logits [vocabulary] at the last position)."""
    plain = metric_of(batch)
    metric = _Whole(plain.tokens, plain.answer, plain.wrong, plain.weight)
    with trace(model, stats=[Rows(queries)]) as t:
        states = states_of(model, batch.clean, metric, resid=True)
        rows = {key: value[0] for key, value in t.stats["rows"].items()}
    return states, rows, metric.kept[0][0]


def _answered(prompt: Prompt, sides: Sides, logits: Tensor) -> dict[str, Any]:
    """What the model says, from the logits [vocabulary] at the last position."""
    pair = sides.batch.pairs[0]
    answer = logits[pair.answer]
    norm = torch.logsumexp(logits.double(), 0)
    facts = {
        "difference": float(sides.clean.difference[0]),
        "corrupt_difference": float(sides.corrupt.difference[0]),
        "p_answer": float((answer - norm).exp()),
        "rank": int((logits > answer).sum()),
        "top": int(logits.argmax()),
        "choice": bool((answer > logits[list(pair.wrong)]).all()),
    }
    choices, right = prompt.extra.get("choices"), prompt.extra.get("right")
    if choices:
        facts["choice_of"] = int(choices[int(logits[list(choices)].argmax())])
    if right:
        facts["p_right"] = float((logits[list(right)] - norm).exp().sum())
    return facts
