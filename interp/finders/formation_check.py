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
from interp.finders.formation_former import is_mlp
from interp.findings import Findings
from interp.tracing.calls import skip_logits
from interp.tracing.statistics import Received
from interp.tracing.tracer import trace
from interp.verify import Paired, paired
from probes.base import Prompt

METRIC = "share of the attention received that the edited token loses"
FLOOR = 1e-4
"""A sink and its control both have to receive so much attention (mean alpha) before the edit: no share is lost of
nothing."""
HOW = (
    "In every prompt, what the module named in formed_by (the block's MLP, or one head) writes at the sink in its "
    "forming block was set to zero, the anchor and the other sinks in separate passes; and apart, in the same block, "
    "at one control token for each sink (the same token where it is no sink, else the nearest ordinary one). Attention "
    "received is the mean over all heads of the blocks that read the sink; compared is the share of it that is lost, "
    f"(before - after) / before, sums over the sinks of a prompt. Pairs of which either receives less than {FLOOR:g} "
    "before are left out."
)
NO_CONTROL = (
    "No sink was formed by a module that could be told, is read by a later block and has a control token, both drawing "
    f"at least {FLOOR:g} of attention."
)
GROUPS = ("all", "anchor", "others", "primary", "secondary", "transient", "secondary_mlp")
"""Whose effect is told: every sink, the anchor's own spans, the others, these by kind, and the secondary ones that an
MLP formed."""


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
    ``mlp`` (whether its former is an MLP), and attention received: ``before``, ``after``, ``control_before``,
    ``control_after``."""
    rows = [
        (number, row)
        for number, row in enumerate(findings.summary["prompts"][index]["rows"])
        if row["formed_by"] is not None
        and row["reading"]
        and row["controls"]
        and min(row["received"], row["control_received"]) >= FLOOR
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
                "mlp": is_mlp(row["formed_by"]),
                "before": row["received"],
                "after": after,
                "control_before": row["control_received"],
                "control_after": other,
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
    """Share of attention lost by prompt over the sinks of one of `GROUPS`, found against control."""
    names, found, control = [], [], []
    for told, unit in zip(findings.summary["prompts"], checks, strict=True):
        rows = [row for row in (unit.facts["rows"] if unit is not None else ()) if _in(row, group)]
        if rows:
            names.append(told["name"])
            found.append(_lost(rows, "before", "after"))
            control.append(_lost(rows, "control_before", "control_after"))
    return paired(names, found, control, metric=METRIC, how=HOW, expected="higher", seed=config.seed)


def _lost(rows: Sequence[dict[str, Any]], before: str, after: str) -> float:
    """Over all rows together, so that a row with little attention does not outweigh the others."""
    return 1 - sum(row[after] for row in rows) / sum(row[before] for row in rows)


def _in(row: dict[str, Any], group: str) -> bool:
    if group in ("all", "anchor"):
        return group == "all" or row["anchor"]
    if row["anchor"]:
        return False
    if group == "secondary_mlp":
        return row["kind"] == "secondary" and row["mlp"]
    return group in ("others", row["kind"])
