"""Principal components of the MLP inputs of sinks and controls, and what the MLP makes of each (step 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from interp.finders.base import Unit
from interp.finders.formation_config import FormationConfig
from interp.findings import Findings

SMALLEST = 1e-6
"""Components with a smaller share of the variance than this are rounding."""
SINKS, SECONDARY = "sinks", "secondary sinks"


@dataclass(frozen=True)
class Inputs:
    """What went into one block's MLP.

    Attributes:
        block: the forming block.
        among: whose inputs: ``sinks``, or ``secondary sinks`` where none other and no anchor is among them.
        sinks, controls: float32 [n, d_model], paired.
        labels: of the sinks, for a reader.
        anchors: how many of the sinks are the anchor's own.
        prompts: how many prompts the sinks are from.
        anchor_out, direction: float32 [d_model], mean over prompts of the anchor's MLP output and of its state after
            the block, each scaled to length 1 first.
    """

    block: int
    among: str
    sinks: np.ndarray
    controls: np.ndarray
    labels: tuple[str, ...]
    anchors: int
    prompts: int
    anchor_out: np.ndarray
    direction: np.ndarray

    @property
    def key(self) -> str:
        """Ends the names of the arrays and charts made of them; a block can have two."""
        return f"{self.block}" if self.among == SINKS else f"{self.block}.secondary"


def pooled(units: Sequence[Unit], labels: Sequence[Sequence[str]], config: FormationConfig) -> list[Inputs]:
    """MLP inputs by forming block, over all prompts: of all its sinks, and of the secondary ones alone where that is
    not the same. Fewer than `config.enough` pairs are left out.

    The anchor's own inputs are taken only where there are too few others: behind a BOS they repeat from prompt to
    prompt and would be a component of their own.
    """
    made = []
    for block in sorted({block for unit in units for block in unit.facts["blocks"]}):
        pairs = [
            (unit.arrays["mlp_in"][i], unit.arrays["control_in"][i], names[i], row, number)
            for number, (unit, names) in enumerate(zip(units, labels, strict=True))
            for i, row in enumerate(unit.facts["rows"])
            if row["start"] == block and np.isfinite(unit.arrays["mlp_in"][i] + unit.arrays["control_in"][i]).all()
        ]
        others = [pair for pair in pairs if not pair[3]["anchor"]]
        used = others if len(others) >= config.enough else pairs
        secondary = [pair for pair in others if pair[3]["kind"] == "secondary"]
        groups = {SECONDARY: secondary} if len(secondary) == len(used) else {SINKS: used, SECONDARY: secondary}
        for among, chosen in groups.items():
            if len(chosen) < config.enough:
                continue
            sinks, controls, names, rows, prompts = zip(*chosen, strict=True)
            made.append(
                Inputs(
                    block,
                    among,
                    np.stack(sinks),
                    np.stack(controls),
                    tuple(names),
                    sum(row["anchor"] for row in rows),
                    len(set(prompts)),
                    *(_mean_direction(units, name, block) for name in ("anchor_out", "anchor_state")),
                )
            )
    return made


def components(inputs: Inputs, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Principal components of the centred inputs: unit vectors float32 [k, d_model] with positive scores on the sinks'
    side, their shares of the variance [k], and the scores [2n, k] (sinks first)."""
    pool = np.concatenate([inputs.sinks, inputs.controls]).astype(np.float64)
    centred = pool - pool.mean(axis=0)
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    shares = sizes**2 / max(float((sizes**2).sum()), 1e-30)
    axes = axes[: min(most, int((shares > SMALLEST).sum()))]
    scores = centred @ axes.T
    n = len(inputs.sinks)
    signs = np.where(scores[:n].mean(axis=0) < scores[n:].mean(axis=0), -1.0, 1.0)
    return (axes * signs[:, None]).astype(np.float32), shares[: len(axes)], scores * signs


def scales(config: FormationConfig) -> np.ndarray:
    """The factors of the sweep, -sweep .. sweep - 1."""
    return np.arange(-config.sweep, config.sweep)


def examine(model: Any, findings: Findings, config: FormationConfig) -> Unit:
    """Every component, at every scale of the sweep, through the MLP of its block, at the site which that MLP reads.

    Arrays, float32 [component, scale], by `Inputs.key`: ``norm.<key>`` of what the MLP returns, ``cosine.<key>`` of
    that with the anchor's own, ``direction.<key>`` of what is added to the residual with the anchor's state. A cosine
    of nothing is NaN.
    """
    import torch

    from interp.models.mlp import feed

    unit = Unit()
    factors = scales(config)
    for told in findings.summary["pca"]:
        block, key = told["block"], told["key"]
        axes = findings.arrays[f"components.{key}"]
        if not len(axes):  # inputs that are all the same
            continue
        vectors = (axes[:, None] * factors[:, None].astype(np.float32)).reshape(-1, axes.shape[1])
        returned, added = (value.cpu().numpy() for value in feed(model, block, torch.from_numpy(vectors)))
        shape = (len(axes), len(factors))
        unit.arrays[f"norm.{key}"] = np.linalg.norm(returned, axis=1).reshape(shape)
        for name, values, other in (("cosine", returned, "anchor_out"), ("direction", added, "anchor_state")):
            unit.arrays[f"{name}.{key}"] = _cosine(values, findings.arrays[f"{other}.{key}"]).reshape(shape)
    return unit


def signed(findings: Findings, examined: Unit, config: FormationConfig) -> list[dict[str, Any]]:
    """One fact a signed unit component: block, among (see `Inputs`), component (from 1), sign, share of variance,
    output norm, cosines, whether it is effective."""
    factors = scales(config).tolist()
    made = []
    for told in findings.summary["pca"]:
        for number, share in enumerate(told["explained"]):
            for sign in (1, -1):
                at = factors.index(sign)
                norm, cosine, direction = (
                    _number(examined.arrays[f"{name}.{told['key']}"][number, at])
                    for name in ("norm", "cosine", "direction")
                )
                made.append(
                    {
                        "block": told["block"],
                        "among": told["among"],
                        "component": number + 1,
                        "sign": "+" if sign > 0 else "-",
                        "explained": share,
                        "norm": norm,
                        "cosine": cosine,
                        "direction": direction,
                        "effective": cosine is not None and abs(cosine) > config.effective,
                    }
                )
    return made


def directions(findings: Findings, signed: Sequence[dict[str, Any]], config: FormationConfig) -> dict[str, Any]:
    """ "Many inputs, one direction", of secondary sinks alone: ``blocks`` with such a PCA; ``directions``, the largest
    number of different components (+ and - of one count once) that are effective in one of them; ``block``, which one,
    and ``prompts``, how many are behind it. Without any, ``blocks`` is 0, the others are None, and ``why`` says so."""
    blocks = {told["block"]: told["prompts"] for told in findings.summary["pca"] if told["among"] == SECONDARY}
    if not blocks:
        why = f"no block formed {config.enough} secondary sinks that have a control"
        return {"blocks": 0, "directions": None, "block": None, "prompts": None, "why": why}
    numbers: dict[int, set[int]] = {block: set() for block in blocks}
    for one in signed:
        if one["among"] == SECONDARY and one["effective"]:
            numbers[one["block"]].add(one["component"])
    best = max(blocks, key=lambda block: (len(numbers[block]), blocks[block]))
    return {"blocks": len(blocks), "directions": len(numbers[best]), "block": best, "prompts": blocks[best]}


def _mean_direction(units: Sequence[Unit], name: str, block: int) -> np.ndarray:
    found = [unit.arrays[name][unit.facts["blocks"].index(block)] for unit in units if block in unit.facts["blocks"]]
    lengths = [max(float(np.linalg.norm(vector)), 1e-30) for vector in found]
    return np.mean([v / length for v, length in zip(found, lengths, strict=True)], axis=0).astype(np.float32)


def _cosine(values: np.ndarray, other: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(values, axis=1) * np.linalg.norm(other)
    return np.divide(values @ other, lengths, out=np.full(len(values), np.nan, np.float32), where=lengths > 0)


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
