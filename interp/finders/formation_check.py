"""The causal check of formation: take away what the named module wrote at the sink, in the forming block.

The state after the block then lacks it. If the module formed the sink, the blocks that read it attend to it less; the
same module silenced at a control token, in the same block of the same prompt, changes little. The anchor is edited in a
pass of its own, for what it does to the other sinks is another question.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from interp.errors import NumbersError
from interp.finders.base import Unit
from interp.finders.formation_config import FormationConfig
from interp.findings import Findings
from interp.tracing.calls import skip_logits
from interp.tracing.statistics import Received
from interp.tracing.tracer import trace
from interp.verify import Paired, paired
from probes.base import Prompt

METRIC = "change in attention received by the edited token"
HOW = (
    "In every prompt, what the module named in formed_by (the block's MLP, or one head) writes at the sink in its "
    "forming block was set to zero, the anchor and the other sinks in separate passes; and apart, in the same block, "
    "at one control token for each sink (the same token where it is no sink, else the nearest ordinary one). Attention "
    "received is the mean over all heads of the blocks that read the sink."
)
NO_CONTROL = "No sink was formed by a module that could be told, is read by a later block and has a control token."
GROUPS = ("all", "anchor", "others", "primary", "secondary", "transient")
"""Whose effect is told: every sink, the anchor's own spans, the others, and these by kind."""


@dataclass(frozen=True)
class Silenced:
    """An edit: one site of one block is zero at some positions, for one head or as a whole."""

    sites: tuple[str, ...]
    positions: tuple[int, ...]
    head: int | None = None

    def apply(self, value: Tensor, site: str, layer: int | None) -> Tensor:
        """`value` [batch, position, ...] with the zeros in it."""
        out = value.clone()
        if self.head is None:
            out[:, list(self.positions)] = 0
        else:
            out[:, list(self.positions), self.head] = 0
        return out


def silence(where: Iterable[tuple[str, int]]) -> list[Silenced]:
    """Edits that silence modules (``MLP 5``, ``head 5.2``, ``attention 5``) at positions."""
    positions: dict[str, set[int]] = {}
    for module, position in where:
        positions.setdefault(module, set()).add(position)
    edits = []
    for module, at in sorted(positions.items()):
        kind, _, place = module.partition(" ")
        block, _, head = place.partition(".")
        site = {"MLP": "hook_mlp_out", "attention": "hook_attn_out", "head": "attn.hook_z"}[kind]
        edits.append(Silenced((f"blocks.{block}.{site}",), tuple(sorted(at)), int(head) if head else None))
    return edits


def check(model: Any, prompt: Prompt, index: int, findings: Findings, config: FormationConfig) -> Unit | None:
    """Facts: ``rows``, one dict a sink that could be edited: ``row`` (its number in the prompt), ``kind``, ``anchor``,
    ``effect`` and ``control`` (changes of attention received)."""
    rows = [
        (number, row)
        for number, row in enumerate(findings.summary["prompts"][index]["rows"])
        if row["formed_by"] is not None and row["reading"] and row["controls"]
    ]
    made = []
    for anchor in (True, False):
        group = [(number, row) for number, row in rows if row["anchor"] == anchor]
        if not group:
            continue
        chosen = [row for _, row in group]
        found = received(model, prompt, chosen, [row["position"] for row in chosen])
        control = received(model, prompt, chosen, [row["controls"][0] for row in chosen])
        made += [
            {
                "row": number,
                "kind": row["kind"],
                "anchor": anchor,
                "effect": after - row["received"],
                "control": other - row["control_received"],
            }
            for (number, row), after, other in zip(group, found, control, strict=True)
        ]
    return Unit(facts={"rows": made}) if made else None


def received(model: Any, prompt: Prompt, rows: Sequence[dict[str, Any]], positions: Sequence[int]) -> list[float]:
    """Attention received at `positions` in the blocks each row is read by, with its module silenced there."""
    edits = silence((row["formed_by"], at) for row, at in zip(rows, positions, strict=True))
    with trace(model, stats=[Received()], edit=edits) as traced:
        traced.run(list(prompt.ids), **skip_logits(model))
        alpha = traced.stats["received"][:, 0].double()
    if not bool(alpha.isfinite().all()):
        raise NumbersError(f"prompt {prompt.name!r}: attention is not finite with {edits[0].sites[0]} at zero")
    return [float(alpha[row["reading"], :, at].mean()) for row, at in zip(rows, positions, strict=True)]


def effects(findings: Findings, checks: Sequence[Unit | None], group: str, config: FormationConfig) -> Paired:
    """Mean change by prompt over the sinks of one of `GROUPS`, found against control."""
    names, found, control = [], [], []
    for told, unit in zip(findings.summary["prompts"], checks, strict=True):
        rows = [row for row in (unit.facts["rows"] if unit is not None else ()) if _in(row, group)]
        if rows:
            names.append(told["name"])
            found.append(sum(row["effect"] for row in rows) / len(rows))
            control.append(sum(row["control"] for row in rows) / len(rows))
    return paired(names, found, control, metric=METRIC, how=HOW, expected="lower", seed=config.seed)


def _in(row: dict[str, Any], group: str) -> bool:
    if group in ("all", "anchor"):
        return group == "all" or row["anchor"]
    return not row["anchor"] and group in ("others", row["kind"])
