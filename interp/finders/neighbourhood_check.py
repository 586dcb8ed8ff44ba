"""The causal check of compression: take away the anchor's extra length where it is formed, and see the states spread.

The anchor's state is given the block's median length in the output of each block that begins one of its spans. The
control shortens an ordinary token's state by the same factor in the same blocks. What is compared is the change of
anisotropy in the later blocks of the anchor's spans, where nothing was edited (arXiv 2510.06477 removes the massive
activation and sees the compression go).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from interp.errors import NumbersError
from interp.finders.base import Unit
from interp.finders.neighbourhood_spectrum import compression
from interp.finders.sink_config import SinksConfig
from interp.finders.sink_measure import RESIDUAL, next_token_loss
from interp.findings import Findings
from interp.interventions.positions import SetNorm
from interp.tracing.tracer import trace
from interp.verify import Paired, paired
from probes.base import Prompt

NEAREST = 32
"""The control is drawn from so many ordinary positions nearest to the anchor."""
METRIC = "anisotropy (sigma_1^2 over the sum of sigma^2)"
HOW = (
    "In every prompt, the anchor's state was given the median length in the output of each block that begins one of "
    "its spans, and apart, in the same blocks, the state of an ordinary position was shortened by the same factor (one "
    f"of the {NEAREST} nearest to the anchor, {{draws}}); the change is the mean over the other blocks of the anchor's "
    "spans."
)
NO_CONTROL = "No prompt has a second token, an anchor that lives for two blocks, and an ordinary position as control."
CASES = ("untouched", "anchor", "control")


def check(model: Any, prompt: Prompt, index: int, findings: Findings, config: SinksConfig) -> Unit | None:
    """Compression and loss of one prompt, untouched and under both edits; None without an anchor or a control.

    Arrays float32 [layer]: ``anisotropy.<case>`` and ``entropy_share.<case>`` for each of `CASES`. Facts: ``layers`` =
    the blocks compared, ``loss`` = {case: nats} (controls: means over the draws).
    """
    told = findings.summary["prompts"][index]
    starts = sorted(start for start, _ in told["spans"])
    layers = sorted({layer for start, stop in told["spans"] for layer in range(start, stop)} - set(starts))
    if told["loss"] is None or not layers or not told["ordinary"]:
        return None
    untouched, norm = observe(model, prompt, {})
    usual = {start: float(np.median(norm[start])) for start in starts}
    anchor = told["anchor"]
    edited, _ = observe(model, prompt, {start: (anchor, usual[start]) for start in starts})
    near = sorted(told["ordinary"], key=lambda at: (abs(at - anchor), at))[:NEAREST]
    draws = np.random.default_rng((config.seed, index)).permutation(near)[: config.controls]
    factor = {start: usual[start] / max(float(norm[start, anchor]), 1e-12) for start in starts}
    controls = [
        observe(model, prompt, {start: (int(at), factor[start] * float(norm[start, at])) for start in starts})[0]
        for at in draws
    ]
    control = tuple(np.mean(each, axis=0) for each in zip(*controls, strict=True))
    unit = Unit(facts={"layers": layers, "loss": {}})
    for case, (anisotropy, entropy, loss) in zip(CASES, (untouched, edited, control), strict=True):
        unit.arrays[f"anisotropy.{case}"] = np.asarray(anisotropy, dtype=np.float32)
        unit.arrays[f"entropy_share.{case}"] = np.asarray(entropy, dtype=np.float32)
        unit.facts["loss"][case] = float(loss)
    return unit


def observe(
    model: Any, prompt: Prompt, lengths: dict[int, tuple[int, float]]
) -> tuple[tuple[np.ndarray, np.ndarray, float], np.ndarray]:
    """((anisotropy [layer], entropy share [layer], loss), state lengths [layer, position]) with the state at one
    position given a length in the output of the blocks named: layer -> (position, length)."""
    sites = [RESIDUAL.format(layer) for layer in range(model.n_layers)]
    edits = [SetNorm([RESIDUAL.format(layer)], [at], length) for layer, (at, length) in lengths.items()]
    with trace(model, read=sites, edit=edits) as traced:
        loss = next_token_loss(traced.run(list(prompt.ids)).logits, prompt.ids)
        states = [traced[site][0].detach().to("cpu", torch.float32) for site in sites]
    if not np.isfinite(loss):
        raise NumbersError(f"prompt {prompt.name!r}: with states rescaled the loss is {loss}; try --dtype float32")
    found = [compression(state) for state in states]
    norm = torch.stack([state.norm(dim=-1) for state in states]).numpy()
    return (np.array([o.anisotropy for o in found]), np.array([o.entropy_share for o in found]), loss), norm


def change(unit: Unit, measure: str, case: str) -> float:
    """Mean change under `case` of ``anisotropy`` or ``entropy_share`` over the blocks compared."""
    layers = unit.facts["layers"]
    difference = unit.arrays[f"{measure}.{case}"].astype(np.float64) - unit.arrays[f"{measure}.untouched"]
    return float(difference[layers].mean())


def effects(names: Sequence[str], checks: Sequence[Unit | None], config: SinksConfig) -> Paired:
    """Change of anisotropy by prompt, anchor against control."""
    made = [(name, unit) for name, unit in zip(names, checks, strict=True) if unit is not None]
    draws = "1 draw" if config.controls == 1 else f"mean of {config.controls} draws"
    return paired(
        [name for name, _ in made],
        [change(unit, "anisotropy", "anchor") for _, unit in made],
        [change(unit, "anisotropy", "control") for _, unit in made],
        metric=METRIC,
        how=HOW.format(draws=draws),
        expected="lower",
        seed=config.seed,
    )
