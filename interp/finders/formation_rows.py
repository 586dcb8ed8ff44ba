"""Rows and averages of the formation finder: who formed each sink, and cosines against controls (steps 2 and 3)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from interp.finders.base import Unit
from interp.finders.formation_config import CONTROLS, QUANTITIES, FormationConfig
from interp.verify import over_prompts
from probes.base import Prompt

GROUPS = ("primary", "secondary", "transient")
SAME_TOKEN = CONTROLS[:2]


def controls(prompts: Sequence[Prompt], units: Sequence[Unit]) -> list[tuple[np.ndarray, list[str | None], list[int]]]:
    """For each prompt: the controls' cosines [n, quantity], their kind and number.

    A sink without the same token elsewhere in its prompt takes those of the other prompts, each compared with the
    anchor of its own prompt: the controls of a sink of that token in that block, else the token where it is ordinary.
    The latter is known only where some sink of that prompt starts in the same block, and for its most frequent tokens
    (`formation_measure.LENT` of them).
    """
    pool: dict[tuple[int, int], dict[int, np.ndarray]] = defaultdict(dict)
    for number, (prompt, unit) in enumerate(zip(prompts, units, strict=True)):
        for (block, token), cosines in zip(unit.facts["lent"], unit.arrays.get("lent", ()), strict=True):
            pool[block, token][number] = cosines
        for i, row in enumerate(unit.facts["rows"]):
            if row["control"] == CONTROLS[0]:
                pool[row["start"], prompt.ids[row["position"]]][number] = unit.arrays["control_cosines"][i]
    made = []
    for number, (prompt, unit) in enumerate(zip(prompts, units, strict=True)):
        rows = unit.facts["rows"]
        cosines = np.full((len(rows), len(QUANTITIES)), np.nan)
        kinds: list[str | None] = []
        counts: list[int] = []
        for i, row in enumerate(rows):
            lent = pool.get((row["start"], prompt.ids[row["position"]]), {})
            elsewhere = [cosines for at, cosines in lent.items() if at != number]
            kind, count = row["control"], len(row["controls"])
            if kind is not None:
                cosines[i] = unit.arrays["control_cosines"][i]
            if kind != CONTROLS[0] and elsewhere:
                cosines[i], kind, count = np.mean(elsewhere, axis=0), CONTROLS[1], len(elsewhere)
            kinds.append(kind)
            counts.append(count)
        made.append((cosines, kinds, counts))
    return made


def table_row(
    prompt: Prompt, unit: Unit, i: int, told: dict[str, Any], control: tuple[np.ndarray, list[str | None], list[int]]
) -> dict[str, Any]:
    """One row of the table; `told` is the row's facts with ``formed_by``."""
    cosines, kinds, counts = control
    heads = told["heads"]
    top = int(np.argmax(heads)) if heads is not None else None
    position = told["position"]
    mine = unit.arrays["cosines"][i]
    return {
        "prompt": prompt.name,
        "position": position,
        "token_id": prompt.ids[position],
        "token": prompt.tokens[position],
        "kind": told["kind"],
        "anchor": told["anchor"],
        "start_layer": told["start"],
        "formed_by": told["formed_by"],
        "mlp_share": told["mlp"],
        "attention_share": told["attention"],
        "top_head": None if top is None else f"{told['start']}.{top}",
        "top_head_share": max(heads) if heads is not None else None,
        "carried": told["carried"],
        **{f"cosine_{name}": _finite(mine[q]) for q, name in enumerate(QUANTITIES)},
        "control": kinds[i],
        "controls": counts[i],
        "control_mlp_out": _finite(cosines[i, QUANTITIES.index("mlp_out")]),
    }


def claims(
    rows: Sequence[Sequence[dict[str, Any]]],
    units: Sequence[Unit],
    control: Sequence[tuple[np.ndarray, list[str | None], list[int]]],
    config: FormationConfig,
) -> dict[str, Any]:
    """Flat facts for whoever reproduces the paper, with bootstrap intervals over prompts (see `sink_formation`)."""
    made: dict[str, Any] = {}
    for group in (*GROUPS, "anchor"):
        mine = [[r for r in told if (r["anchor"] if group == "anchor" else r["kind"] == group)] for told in rows]
        # Where nobody is named the block added little or none of the state: a share of next to nothing may be anything.
        by_prompt = [[r["mlp"] for r in told if r["formed_by"] is not None] for told in mine]
        what = "the anchor's forming block" if group == "anchor" else f"the forming blocks of {group} sinks"
        made[f"mlp_share.{group}"] = {
            **estimate(by_prompt, config, f"no share could be told in {what}"),
            "left_out": sum(r["formed_by"] is None for told in mine for r in told),
        }
    for q, name in enumerate(QUANTITIES):
        pairs = [
            [
                (unit.arrays["cosines"][i, q], found[i, q], row["kind"], kinds[i] in SAME_TOKEN)
                for i, row in enumerate(told)
                if np.isfinite(unit.arrays["cosines"][i, q]) and np.isfinite(found[i, q])
            ]
            for told, unit, (found, kinds, _) in zip(rows, units, control, strict=True)
        ]
        sides = {
            "sinks": [[a for a, _, _, _ in pair] for pair in pairs],
            "controls": [[b for _, b, _, _ in pair] for pair in pairs],
            "difference": [[a - b for a, b, _, _ in pair] for pair in pairs],
            "secondary": [[a for a, _, kind, _ in pair if kind == "secondary"] for pair in pairs],
            "difference_secondary": [
                [a - b for a, b, kind, same in pair if kind == "secondary" and same] for pair in pairs
            ],
        }
        why = _absent(name, rows, units) or "no secondary sink has a control"
        for side, values in sides.items():
            same = " that is the same token" if side == "difference_secondary" and why.startswith("no ") else ""
            made[f"cosine.{name}.{side}"] = estimate(values, config, why + same)
    counts = Counter(row["formed_by"] for told in rows for row in told if row["formed_by"] is not None)
    total = sum(len(told) for told in rows)
    made["formed_by"] = {"counts": dict(counts.most_common()), "n": total, "unnamed": total - sum(counts.values())}
    return made


def lacking(units: Sequence[Unit]) -> dict[str, dict[str, Any]]:
    """Quantities that some forming block lacks: ``why``, which ``blocks``, ``of`` how many forming blocks."""
    found: dict[str, dict[int, str]] = defaultdict(dict)
    for unit in units:
        for block, missing in zip(unit.facts["blocks"], unit.facts["lacks"], strict=True):
            for name, reason in missing.items():
                found[name][block] = reason
    total = len({block for unit in units for block in unit.facts["blocks"]})
    return {
        name: {"why": next(iter(by.values())), "blocks": sorted(by), "of": total}
        for name, by in sorted(found.items(), key=lambda item: QUANTITIES.index(item[0]))
    }


def _absent(name: str, rows: Sequence[Sequence[dict[str, Any]]], units: Sequence[Unit]) -> str | None:
    """Why no sink has a quantity that can be compared; None where one has."""
    why: str | None = "no sink beside the anchor has a control"
    for told, unit in zip(rows, units, strict=True):
        for row in told:
            if not row["anchor"] and row["controls"]:
                why = unit.facts["lacks"][unit.facts["blocks"].index(row["start"])].get(name)
                if why is None:
                    return None
    return why


def estimate(by_prompt: Sequence[Sequence[float]], config: FormationConfig, why: str) -> dict[str, Any]:
    """Mean over prompts of each prompt's mean, with its interval, the number of prompts and of values."""
    means = [float(np.mean(values)) for values in by_prompt if len(values)]
    return over_prompts(means, config.seed, why, values=sum(len(values) for values in by_prompt))


def expert_rows(rows: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Experts by forming block: at how many sinks each fired, its mean routing weight and mean share of what the MLP
    wrote along the sink; expert -1 is a shared one."""
    found: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)
    sinks: Counter[int] = Counter()
    for row in (row for told in rows for row in told if row["experts"] is not None):
        sinks[row["start"]] += 1
        for expert, weight, share in row["experts"]:
            found[row["start"], expert].append((weight, share))
    return [
        {
            "block": block,
            "expert": expert,
            "fired": len(pairs),
            "sinks": sinks[block],
            "weight": float(np.mean([weight for weight, _ in pairs])),
            "share": float(np.mean([share for _, share in pairs])),
        }
        for (block, expert), pairs in sorted(found.items())
    ]


def _finite(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
