"""Every edit on a held-out prompt, beside the untouched model and the same edits in random heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from interp.ablation.choose import random_heads
from interp.circuits.config import Head
from interp.circuits.pairs import batch_of, pair_of
from interp.circuits.roles import roles_of
from interp.errors import UsageError
from interp.finders.base import Unit
from interp.interventions.ablate import check_heads, heads_of, z_sites
from interp.repairs.config import ORACLE, RepairConfig
from interp.repairs.ends import Ends, Rows
from interp.repairs.layout import answer_slot, layout_of
from interp.repairs.plan import Look, Plan
from interp.tracing.calls import next_token_loss
from interp.tracing.tracer import trace
from probes.base import Prompt

TEXTS, TEXT_LENGTH = 4, 256
"""Plain texts, and tokens of each, that an edit is tried on."""


@dataclass(frozen=True)
class ScaleHeads:
    """Multiply the outputs of (layer, head) pairs by a factor, at every token."""

    heads: tuple[Head, ...]
    factor: float

    @property
    def sites(self) -> tuple[str, ...]:
        """`hook_z` of every layer concerned."""
        return z_sites(self.heads)

    def apply(self, value: Tensor, site: str, layer: int | None) -> Tensor:
        """z [batch, position, head, d_head] with the heads' slices multiplied."""
        heads = heads_of(self.heads, int(site.split(".")[1]))
        check_heads(value, heads, site)
        out = value.clone()
        out[:, :, heads] *= self.factor
        return out


def ends_alone(model: Any, prompt: Prompt) -> Ends:
    """One prompt, read."""
    return Ends(model, batch_of([pair_of(prompt)]), [layout_of(prompt).repeat])


def untouched(model: Any, prompt: Prompt, config: RepairConfig) -> Unit:
    """Facts: ``difference`` (logits), ``choice``, ``top1`` (bool) of the untouched model."""
    out = ends_alone(model, prompt).run([(0, {})], rows=config.rows)
    assert out.top1 is not None
    return Unit(
        facts={"difference": float(out.difference[0]), "choice": bool(out.choice[0]), "top1": bool(out.top1[0])}
    )


def pairs_in(given: Sequence[Sequence[int]]) -> tuple[Head, ...]:
    """Heads as JSON keeps them."""
    return tuple((int(layer), int(head)) for layer, head in given)


def plan_in(summary: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Plan:
    """What was settled in training, from findings."""
    return Plan(pairs_in(summary["pointers"]), bool(summary["spare"]), arrays.get("masses"))


def check(
    model: Any,
    prompt: Prompt,
    index: int,
    summary: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    config: RepairConfig,
) -> Unit:
    """Facts: ``before`` and, a variant of the summary each, ``after``: {difference, choice, top1, mover (attention of
    the movers that come later, to the answer; None without any), mover_before, random (share right by the metric in
    the draws; None without any)}; ``pointed`` = whether the pointers tell the answer (None without any)."""
    plan, shape = plan_in(summary, arrays), (model.n_layers, model.n_heads)
    ends = ends_alone(model, prompt)
    look = Look.of(ends, 0, model.n_layers)

    def edited(variant: Mapping[str, Any], heads: Sequence[Head]) -> Rows:
        edit, factor = variant["edit"], 1.0 if variant["factor"] is None else variant["factor"]
        return plan.rows(edit, heads, look, factor, prompt if edit == ORACLE else None)

    cells: list[tuple[int, Rows]] = [(0, {})]
    drawn: list[range] = []
    for variant in summary["variants"]:
        cells.append((0, edited(variant, pairs_in(variant["heads"]))))
    for number, variant in enumerate(summary["variants"]):
        first, heads = len(cells), pairs_in(variant["heads"])
        draws = [random_heads(heads, shape, (config.seed, index, number, i)) for i in range(config.controls)]
        cells += [(0, edited(variant, draw)) for draw in draws if draw is not None and variant["part"] == "all"]
        drawn.append(range(first, len(cells)))
    movers = pairs_in(summary["movers"])
    out = ends.run(cells, rows=config.rows, see=sorted({layer for layer, _ in movers}))
    assert out.top1 is not None
    answer = list(roles_of(prompt)["answer"])
    right = getattr(out, config.metric)

    def told(cell: int) -> dict[str, Any]:
        return {
            "difference": float(out.difference[cell]),
            "choice": bool(out.choice[cell]),
            "top1": bool(out.top1[cell]),  # pyright: ignore[reportOptionalSubscript]
        }

    def attention(cell: int, heads: Sequence[Head]) -> float | None:
        if not heads or not answer:
            return None
        return float(np.mean([out.seen[layer][cell, head, answer].sum() for layer, head in heads]))

    after = []
    for number, variant in enumerate(summary["variants"]):
        heads, draws = pairs_in(variant["heads"]), drawn[number]
        later = [one for one in movers if one[0] > min(layer for layer, _ in heads) and one not in heads]
        more = {
            "mover": attention(number + 1, later),
            "mover_before": attention(0, later),
            "random": float(np.mean(right[list(draws)])) if len(draws) else None,
        }
        after.append(told(number + 1) | more)
    points = look.layout.repeat is not None and look.layout.slots and plan.pointers
    pointed = look.slot(plan.pointers) == answer_slot(prompt) if points else None
    return Unit(facts={"before": told(0), "after": after, "pointed": pointed})


def on_text(model: Any, heads: Sequence[Head], factor: float, config: RepairConfig) -> Unit:
    """Facts: ``texts``: [{name, loss, edited}], nats, with the heads' outputs multiplied at every token."""
    from probes import random_tokens, text

    probe = random_tokens.probe if model.tokenizer is None else text.probe
    try:
        prompts = probe.prompts(model, limit=TEXTS, max_length=TEXT_LENGTH, seed=config.seed)
    except UsageError as error:
        return Unit(facts={"texts": [], "why": str(error)})
    told = []
    for prompt in prompts:
        losses = []
        for edits in ([], [ScaleHeads(tuple(heads), factor)]):
            with trace(model, edit=edits) as t:
                logits = t.run(list(prompt.ids)).logits
            losses.append(float(next_token_loss(logits, list(prompt.ids)).cpu().double().mean()))
        told.append({"name": prompt.name, "tokens": len(prompt), "loss": losses[0], "edited": losses[1]})
    return Unit(facts={"texts": told, "random": model.tokenizer is None})
