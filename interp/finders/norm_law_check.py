"""The interventions of the norm law on one prompt: the sweep, removal against controls, and the written direction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from interp.finders import norm_law_passes as passes
from interp.finders.base import Unit
from interp.finders.norm_law_config import FIRST, MEASURES, NormLawConfig, longest, swept
from interp.finders.sink_check import controls
from interp.finders.sink_measure import Cut
from interp.interventions.positions import WriteDirection
from probes.base import Prompt


def check(model: Any, prompt: Prompt, index: int, told: Mapping[str, Any], config: NormLawConfig) -> Unit | None:
    """All interventions on one prompt; None where there is no sink.

    Arrays, for each sweep (``tokens``, ``anchor``): ``<sweep>.<measure>`` float64 [multiple, sink] for `MEASURES`, and
    ``<sweep>.loss`` [multiple], nats. Facts: ``swept`` = {sweep: indices of its spans}, ``loss`` (unedited),
    ``identity`` = largest difference of the pass at multiple 1 from the unedited one, ``removal`` and ``reverse``.
    """
    spans, anchor = told["spans"], told["anchor"]
    if anchor is None or told["loss"] is None:
        return None
    sweeps = swept(spans, config)
    blocks = sorted({block for span in spans for block in passes.rescaled(span, config.joint, model.n_layers)})
    natural = passes.look(model, prompt, anchor, blocks)
    unit = Unit(facts={"swept": sweeps, "loss": natural.loss, "identity": None, "removal": None})
    for name, members in sweeps.items():
        of = [spans[i] for i in members]
        gap = sweep(model, prompt, anchor, of, natural, name, config, unit)
        unit.facts["identity"] = max(gap, unit.facts["identity"] or 0.0)
        if name == "tokens":
            unit.facts["removal"] = removal(model, prompt, index, told, of, natural, config, unit)
    unit.facts["reverse"] = reverse(model, prompt, index, told, sweeps, natural, config)
    return unit if sweeps or unit.facts["reverse"] else None


def sweep(
    model: Any,
    prompt: Prompt,
    anchor: int,
    spans: Sequence[Mapping[str, Any]],
    natural: passes.Seen,
    name: str,
    config: NormLawConfig,
    unit: Unit,
) -> float:
    """One pass a multiple; fills the arrays of `unit` and returns how far the pass at 1 is from the unedited one."""
    blocks = sorted(natural.written)
    rows: dict[str, list[list[float]]] = {measure: [] for measure in MEASURES}
    losses, gap = [], 0.0
    for multiple in config.sweep:
        targets = [multiple * natural_norm(natural, span) for span in spans]
        places = edited([(s, s["position"]) for s in spans], natural, multiple, config)
        seen = passes.look(model, prompt, anchor, blocks, passes.rescale(places))
        found = passes.spans_of(seen, config)
        answers = [passes.response(seen, span, found, config) for span in spans]
        for measure in MEASURES[1:]:
            rows[measure].append([answer[measure] for answer in answers])
        rows["norm"].append(targets)
        losses.append(seen.loss)
        if multiple == 1.0:
            gap = passes.alike(seen, natural)
    unit.arrays.update({f"{name}.{measure}": np.array(values) for measure, values in rows.items()})
    unit.arrays[f"{name}.loss"] = np.array(losses, dtype=np.float64)
    return gap


def natural_norm(natural: passes.Seen, span: Mapping[str, Any]) -> float:
    """l2 norm of what the forming MLP adds at the span's position, unedited."""
    return float(natural.written[span["forming_layer"]][span["position"]])


def edited(
    where: Sequence[tuple[Mapping[str, Any], int]], natural: passes.Seen, multiple: float, config: NormLawConfig
) -> list[tuple[int, int, float]]:
    """(block, position, target norm) for each (span, position): in the span's blocks, `multiple` times what their MLPs
    add there unedited. Two spans of one position may share blocks."""
    n_layers = len(natural.measured.norm)
    places = {
        (block, position): multiple * float(natural.written[block][position])
        for span, position in where
        for block in passes.rescaled(span, config.joint, n_layers)
    }
    return [(block, position, norm) for (block, position), norm in places.items()]


def removal(
    model: Any,
    prompt: Prompt,
    index: int,
    told: Mapping[str, Any],
    spans: Sequence[Mapping[str, Any]],
    natural: passes.Seen,
    config: NormLawConfig,
    unit: Unit,
) -> dict[str, float] | None:
    """Attention received by the sinks with their forming MLP's output and without, and by as many ordinary tokens
    nearby under the same edit in the same blocks, over the same layers. None without enough ordinary tokens."""
    ordinary = [position for position in told["ordinary"] if position >= FIRST]
    sinks: Cut = tuple((span["position"], (i,)) for i, span in enumerate(spans))
    draws = controls(sinks, ordinary, config.controls, (config.seed, index))
    if not draws:
        return None
    before, after = [], []
    for draw in draws:
        places = edited([(spans[i], position) for position, (i,) in draw], natural, 0.0, config)
        seen = passes.look(model, prompt, told["anchor"], (), passes.rescale(places), loss=False)
        for one, into in ((natural, before), (seen, after)):
            scores = [passes.score(one, position, spans[i]["reading"]) for position, (i,) in draw]
            into.append(float(np.mean(scores)))
    scores = unit.arrays["tokens.score"]
    return {
        "before": float(scores[config.sweep.index(1.0)].mean()),
        "after": float(scores[config.sweep.index(0.0)].mean()),
        "control_before": float(np.mean(before)),
        "control_after": float(np.mean(after)),
    }


def reverse(
    model: Any,
    prompt: Prompt,
    index: int,
    told: Mapping[str, Any],
    sweeps: Mapping[str, list[int]],
    natural: passes.Seen,
    config: NormLawConfig,
) -> dict[str, Any] | None:
    """Write the sink direction, and random ones of its length, onto ordinary tokens.

    Facts: ``block``, ``of`` (group of the sinks it was taken from), ``norm``, ``targets`` (positions); shares of them
    that become sinks, ``became`` and ``random_became``, and their attention received ``before``, ``received``,
    ``random``. None without ordinary tokens.
    """
    spans = told["spans"]
    model_spans = [spans[i] for i in sweeps.get("tokens", [])]
    if not model_spans and (main := longest(spans)) is not None:
        model_spans = [spans[main]]
    free = [position for position in told["ordinary"] if position >= FIRST]
    if not model_spans or not free:
        return None
    counted = Counter(span["forming_layer"] for span in model_spans)
    block = min(counted, key=lambda one: (-counted[one], one))
    here = [span for span in model_spans if span["forming_layer"] == block]
    lasting = max(here, key=lambda span: span["lifetime"])
    norm = float(np.median([float(natural.measured.norm[block, span["position"]]) for span in here]))
    rng = np.random.default_rng((config.seed, index, 1))
    targets = sorted(int(i) for i in rng.choice(free, size=min(config.writes, len(free)), replace=False))
    layers = lasting["reading"]

    def written(direction: torch.Tensor) -> tuple[float, float]:
        vector = norm * torch.nn.functional.normalize(direction.double(), dim=0)
        edit = WriteDirection((passes.WRITES.format(block),), tuple(targets), vector)
        seen = passes.look(model, prompt, told["anchor"], (), [edit], loss=False)
        found = passes.spans_of(seen, config)
        near = config.near + lasting["start_layer"] - block
        lives = [passes.lifetime(found, position, block, near) > 0 for position in targets]
        return float(np.mean(lives)), float(np.mean([passes.score(seen, position, layers) for position in targets]))

    became, received = written(natural.anchor_states[block])
    width = natural.anchor_states.shape[1]
    noise = [written(torch.from_numpy(rng.standard_normal(width))) for _ in range(config.controls)]
    return {
        "block": block,
        "of": here[0]["group"],
        "norm": norm,
        "targets": targets,
        "became": became,
        "received": received,
        "random_became": float(np.mean([one for one, _ in noise])),
        "random": float(np.mean([one for _, one in noise])),
        "before": float(np.mean([passes.score(natural, position, layers) for position in targets])),
    }
