"""Formation in short, for the sinks finder: which block's MLP or attention wrote each sink it found.

One more traced pass a prompt, reading what enters, what is added and what leaves in the blocks where sinks start. The
finder `sink-formation` looks closer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from interp.finders.base import Unit
from interp.finders.formation_former import former, is_mlp
from interp.finders.formation_measure import split, vectors
from interp.finders.sink_config import SinksConfig
from interp.finders.sink_measure import RULES, measured
from interp.findings import Column, Sheet
from probes.base import Prompt

SITES = ("hook_resid_pre", "hook_attn_out", "hook_mlp_out", "hook_resid_post")


def formation(model: Any, prompt: Prompt, unit: Unit, config: SinksConfig) -> list[dict[str, Any]]:
    """For each sink of a measured prompt: ``position``, ``start``, ``kind``, and as in `formation_measure.split`
    ``carried``, ``mlp``, ``attention``, ``why``. Nothing is run for a prompt without sinks."""
    sinks = RULES[config.rule].find(measured(unit), config)
    positions: dict[int, list[int]] = {}
    for sink in sinks:
        positions.setdefault(sink.start, []).append(sink.position)
    if not sinks:
        return []
    taken = vectors(model, prompt.ids, positions, {site: site for site in SITES})
    parts = {
        (block, at): part
        for block, here in taken.items()
        for at, part in zip(
            positions[block], split(model, block, here, range(len(positions[block])), heads=False), strict=True
        )
    }
    told = ("carried", "mlp", "attention", "why")
    return [
        {
            "position": sink.position,
            "start": sink.start,
            "kind": sink.kind,
            **{name: parts[sink.start, sink.position][name] for name in told},
        }
        for sink in sinks
    ]


def groups(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sinks by start block and former, ``MLP``, ``attention`` or None (`formation_former`): how many, and mean shares;
    no shares where nobody is named, for shares of next to nothing may be any number."""
    found: dict[tuple[int, str | None], list[dict[str, Any]]] = {}
    for row in rows:
        name = former(row)
        module = None if name is None else "MLP" if is_mlp(name) else "attention"
        found.setdefault((row["start"], module), []).append(row)
    return [
        {
            "block": block,
            "formed_by": module,
            "sinks": len(mine),
            **{name: None if module is None else _mean([row[name] for row in mine]) for name in ("mlp", "attention")},
            "carried": _mean([row["carried"] for row in mine]),
        }
        for (block, module), mine in sorted(found.items(), key=lambda item: (item[0][0], -len(item[1])))
    ]


def sentence(found: Sequence[dict[str, Any]]) -> str:
    """Who formed the sinks, the block with most of them first; empty without any."""
    total = sum(group["sinks"] for group in found)
    named = sorted((g for g in found if g["formed_by"] is not None), key=lambda g: (-g["sinks"], g["block"]))
    if not total:
        return ""
    if not named:
        return "No block could be named that formed them."
    listed = [f"the {g['formed_by']} of block {g['block']} formed {g['sinks']}{_share(g)}" for g in named[:3]]
    rest = sum(group["sinks"] for group in named[3:])
    listed += [f"others {rest}"] if rest else []
    unnamed = total - sum(group["sinks"] for group in named)
    listed += [f"for {unnamed} no block can be named"] if unnamed else []
    spans = "span" if total == 1 else "spans"
    return f"Of {total} {spans} as a sink, {', '.join(listed)} (share of what the block added along the state)."


def _share(group: dict[str, Any]) -> str:
    share = group["mlp"] if group["formed_by"] == "MLP" else group["attention"]
    return f" ({100 * share:.0f} %)"


def sheet(found: Sequence[dict[str, Any]]) -> Sheet:
    """The same as a table."""
    columns = (
        Column("block", "Int64", "block", "Forming block: the first whose output is a sink's state."),
        Column("formed_by", "string", "formed by", "What wrote most of the gain; missing where it was there before."),
        Column("sinks", "Int64", "spans", "How many spans as a sink start there."),
        Column("mlp", "float64", "MLP share", "Mean share of what the block added along the new state, from its MLP."),
        Column("attention", "float64", "attention share", "The same from its attention."),
        Column("carried", "float64", "carried", "Mean share of the new state that was there before the block."),
    )
    rows = tuple(tuple(group[column.name] for column in columns) for group in found)
    caption = "The finder sink-formation looks closer: heads, experts, cosines with the anchor, and a causal check."
    return Sheet("formation", "Who formed the sinks", columns, rows, caption)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
