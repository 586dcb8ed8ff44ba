"""Rows and averages of the formation finder: who formed each sink, and cosines against controls (steps 2 and 3)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from interp.finders.base import Unit
from interp.finders.formation_config import CONTROLS, QUANTITIES, FormationConfig
from interp.verify import bootstrap_mean
from probes.base import Prompt

GROUPS = ("primary", "secondary", "transient")


def former(row: dict[str, Any], config: FormationConfig) -> str | None:
    """The module with the largest share of the gain: ``MLP 5``, ``head 5.2``, or ``attention 5`` where its heads cannot
    be told apart; None where the block did not form the sink, or nobody can say who did."""
    if row["mlp"] is None or row["carried"] is None or row["carried"] > config.carried:
        return None
    shares = {f"MLP {row['start']}": row["mlp"]}
    if row["heads"] is None:
        shares[f"attention {row['start']}"] = row["attention"]
    else:
        shares.update({f"head {row['start']}.{head}": share for head, share in enumerate(row["heads"])})
    return max(shares, key=lambda name: shares[name])


def controls(prompts: Sequence[Prompt], units: Sequence[Unit]) -> list[tuple[np.ndarray, list[str | None], list[int]]]:
    """For each prompt: the controls' cosines [n, quantity], their kind and number.

    A sink without the same token elsewhere in its prompt takes the controls which sinks of other prompts have for that
    token in that block, each compared with the anchor of its own prompt.
    """
    pool: dict[tuple[int, int], list[tuple[int, np.ndarray]]] = defaultdict(list)
    for number, (prompt, unit) in enumerate(zip(prompts, units, strict=True)):
        for i, row in enumerate(unit.facts["rows"]):
            if row["control"] == CONTROLS[0]:
                found = unit.arrays["control_cosines"][i]
                pool[row["start"], prompt.ids[row["position"]]].append((number, found))
    made = []
    for number, (prompt, unit) in enumerate(zip(prompts, units, strict=True)):
        rows = unit.facts["rows"]
        cosines = np.full((len(rows), len(QUANTITIES)), np.nan)
        kinds: list[str | None] = []
        counts: list[int] = []
        for i, row in enumerate(rows):
            elsewhere = [c for at, c in pool[row["start"], prompt.ids[row["position"]]] if at != number]
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
        by_prompt = [
            [
                r["mlp"]
                for r in told
                if (r["anchor"] if group == "anchor" else r["kind"] == group) and r["mlp"] is not None
            ]
            for told in rows
        ]
        what = "the anchor's forming block" if group == "anchor" else f"the forming blocks of {group} sinks"
        made[f"mlp_share.{group}"] = estimate(by_prompt, config, f"no share could be told in {what}")
    for q, name in enumerate(QUANTITIES):
        pairs = [
            [
                (unit.arrays["cosines"][i, q], found[i, q], row["kind"])
                for i, row in enumerate(told)
                if np.isfinite(unit.arrays["cosines"][i, q]) and np.isfinite(found[i, q])
            ]
            for told, unit, (found, _, _) in zip(rows, units, control, strict=True)
        ]
        reasons = [unit.facts["lacks"][name] for unit in units if name in unit.facts["lacks"]]
        why = reasons[0] if reasons else "no sink beside the anchor has a control"
        sides = {
            "sinks": [[a for a, _, _ in pair] for pair in pairs],
            "controls": [[b for _, b, _ in pair] for pair in pairs],
            "difference": [[a - b for a, b, _ in pair] for pair in pairs],
            "secondary": [[a for a, _, kind in pair if kind == "secondary"] for pair in pairs],
        }
        for side, values in sides.items():
            made[f"cosine.{name}.{side}"] = estimate(values, config, why)
    counts = Counter(row["formed_by"] for told in rows for row in told if row["formed_by"] is not None)
    total = sum(len(told) for told in rows)
    made["formed_by"] = {"counts": dict(counts.most_common()), "n": total, "unnamed": total - sum(counts.values())}
    return made


def estimate(by_prompt: Sequence[Sequence[float]], config: FormationConfig, why: str) -> dict[str, Any]:
    """Mean over prompts of each prompt's mean, with its interval, the number of prompts and of values."""
    means = [float(np.mean(values)) for values in by_prompt if len(values)]
    if not means:
        return {"mean": None, "low": None, "high": None, "n": 0, "values": 0, "why": why}
    found = bootstrap_mean(means, seed=config.seed)
    values = sum(len(values) for values in by_prompt)
    return {"mean": found.mean, "low": found.low, "high": found.high, "n": len(means), "values": values}


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
