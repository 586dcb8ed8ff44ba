"""Where the primary-weakening finder runs the model: key and value norms, and the anchor's mass with and without other
sinks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from interp.errors import SiteError
from interp.finders import norm_law_passes
from interp.finders.base import Unit
from interp.finders.sink_check import controls
from interp.finders.sink_found import Found, found_sinks
from interp.finders.sink_measure import Cut
from interp.finders.weakening_config import SITES, WeakeningConfig, counted, reads
from interp.tracing import calls
from interp.tracing.statistics import MassOn
from interp.tracing.tracer import trace
from probes.base import Prompt


def measure(model: Any, prompt: Prompt, config: WeakeningConfig) -> Unit:
    """The sinks of one prompt and the anchor beside the median ordinary key.

    Arrays, of prompts with an anchor and an ordinary key, each float64 [2 (anchor, ordinary), layer]: ``received``
    (alpha, mean over heads), and norms, mean over key-value heads, NaN where a layer lacks the site: ``key``,
    ``rot_key``, ``value``. Facts: ``anchor``, ``spans``, ``ordinary``, ``loss``, ``attention_path``, ``lacks`` =
    {array: why the family has no such site}.
    """
    found = found_sinks(model, prompt, config)
    facts = {name: found.unit.facts[name] for name in ("loss", "attention_path")}
    unit = Unit(facts={**facts, "anchor": found.anchor, "spans": [], "ordinary": list(found.ordinary), "lacks": {}})
    if found.anchor is None:
        return unit
    unit.facts["spans"] = spans(model, prompt, found, found.anchor, config)
    if found.ordinary:
        mass = found.measured.received.mean(axis=1, dtype=np.float64)
        unit.arrays["received"] = beside(mass, found.anchor, found.ordinary)
        norms, unit.facts["lacks"] = norms_of(model, prompt)
        unit.arrays.update({name: beside(norm, found.anchor, found.ordinary) for name, norm in norms.items()})
    return unit


def spans(model: Any, prompt: Prompt, found: Found, anchor: int, config: WeakeningConfig) -> list[dict[str, Any]]:
    """Every span as the table and the check take it."""
    formed = norm_law_passes.forming(model, prompt, found.sinks, anchor, config.reach)
    made = []
    for sink, (block, _) in zip(found.sinks, formed, strict=True):
        one = {
            "position": sink.position,
            "kind": sink.kind,
            "anchor": sink.position == anchor,
            "start_layer": sink.start,
            "lifetime": sink.lifetime,
            "forming_layer": block,
        }
        layers = sorted(reads(one, "life", model.n_layers))
        alpha = found.measured.received[layers, :, sink.position]
        made.append({**one, "received": float(alpha.mean(dtype=np.float64)) if alpha.size else None})
    return made


def beside(values: np.ndarray, anchor: int, ordinary: Sequence[int]) -> np.ndarray:
    """[2, layer] of values [layer, position]: at the anchor, and the median over ordinary positions."""
    return np.stack([values[:, anchor], np.median(values[:, list(ordinary)], axis=1)]).astype(np.float64)


def norms_of(model: Any, prompt: Prompt) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """l2 norms [layer, position] of keys and values, mean over their heads, by the names of `SITES`; and why some are
    not there."""
    lacks, wanted = {}, {}
    there = set(model.sites.names())
    for name, short in SITES.items():
        try:
            model.sites.expand([f"blocks.*.{short}"])
        except SiteError as error:
            lacks[name] = str(error)
            continue
        sites = {layer: f"blocks.{layer}.{short}" for layer in range(model.n_layers)}
        wanted[name] = {layer: site for layer, site in sites.items() if site in there}
    if not wanted:
        return {}, lacks
    norms = {name: np.full((model.n_layers, len(prompt)), np.nan) for name in wanted}
    with trace(model, read=[site for sites in wanted.values() for site in sites.values()]) as traced:
        traced.run(list(prompt.ids), **calls.skip_logits(model))
        for name, sites in wanted.items():
            for layer, site in sites.items():
                norms[name][layer] = traced[site][0].float().norm(dim=-1).mean(dim=-1).cpu().numpy()
    return norms, lacks


def check(model: Any, prompt: Prompt, index: int, told: Mapping[str, Any], config: WeakeningConfig) -> Unit | None:
    """The anchor's attention as it is, without the other sinks, and without the same MLP outputs at ordinary tokens.

    Facts: ``natural``, ``removed``, ``control`` = {``mass``: attention to the anchor, mean over heads, over the blocks
    that read the sinks and over the other queries from the first sink on; ``share``: the anchor's share of what a
    query gives to keys other than the sinks, mean over the same; ``sinks``: attention to the sinks}. None
    without such sinks, or with fewer ordinary tokens than sinks.
    """
    others = {(span["position"], span["forming_layer"]): span for span in told["spans"] if counted(span, config)}
    sinks: Cut = tuple((position, (block,)) for position, block in sorted(others))
    draws = controls(sinks, told["ordinary"], config.controls, (config.seed, index))
    layers = sorted(set().union(*(reads(span, "life", model.n_layers) for span in others.values())))
    if not draws or not layers:
        return None

    def anchor_with(cut: Cut) -> dict[str, float]:
        places = [(block, position, 0.0) for position, (block,) in cut]
        return anchor_mass(model, prompt, told["anchor"], [position for position, _ in sinks], layers, places)

    natural, removed = anchor_with(()), anchor_with(sinks)
    drawn = [anchor_with(draw) for draw in draws]
    control = {name: float(np.mean([one[name] for one in drawn])) for name in natural}
    return Unit(facts={"natural": natural, "removed": removed, "control": control})


def anchor_mass(
    model: Any,
    prompt: Prompt,
    anchor: int,
    sinks: Sequence[int],
    layers: Sequence[int],
    places: norm_law_passes.Places,
) -> dict[str, float]:
    """``mass``, ``share`` (see `check`) and ``sinks``, the mass on the sinks, in one pass with MLP outputs rescaled."""
    rest = torch.ones(len(prompt), dtype=torch.bool)
    rest[list(sinks)] = False
    sets = {"anchor": [anchor], "rest": rest, "sinks": list(sinks)}
    stat = MassOn(sets, layers=frozenset(layers))
    with trace(model, stats=[stat], edit=norm_law_passes.rescale(places)) as traced:
        traced.run(list(prompt.ids), **calls.skip_logits(model))
        first = max(min(sinks), anchor)  # the sinks' own queries are left out: removal changes those themselves
        queries = [query for query in range(first, len(prompt)) if query not in sinks]
        mass = {name: rows[list(layers), 0][:, :, queries].double() for name, rows in traced.stats["mass_on"].items()}
    share = mass["anchor"] / mass["rest"].clamp_min(1e-12)  # row by row: there competition with the sinks cancels
    return {
        "mass": float(mass["anchor"].mean()),
        "share": float(share.mean()),
        "sinks": float(mass["sinks"].mean()),
    }
