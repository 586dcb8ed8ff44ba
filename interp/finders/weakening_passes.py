"""Where the primary-weakening finder runs the model: key and value norms, and the anchor's mass with and without other
sinks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.errors import SiteError
from interp.finders import norm_law_passes
from interp.finders.base import Unit
from interp.finders.sink_check import controls
from interp.finders.sink_config import reading_layers
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
            "reading": reading_layers(sink.layers, model.n_layers),
        }
        alpha = found.measured.received[one["reading"], :, sink.position]
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

    Facts, each a mean over the draws of ordinary tokens: ``natural``, ``removed``, ``control`` = {``mass``: attention
    to the anchor, mean over heads, over the blocks that read the sinks and over the queries from the first sink on;
    ``share``: the anchor's share of what a query gives to the other keys, mean over the same; ``sinks``: attention to
    the sinks}. Neither the sinks nor the draw's tokens are among those queries and other keys, in all three: the edits
    change them themselves. None without such sinks or
    queries, or with fewer ordinary tokens than sinks.
    """
    others = {(span["position"], span["forming_layer"]): span for span in told["spans"] if counted(span, config)}
    sinks: Cut = tuple((position, (block,)) for position, block in sorted(others))
    draws = controls(sinks, told["ordinary"], config.controls, (config.seed, index))
    layers = sorted(set().union(*(reads(span, "life") for span in others.values())))
    if not draws or not layers:
        return None
    positions = sorted({position for position, _ in sinks})
    left_out = [sorted({*positions, *(position for position, _ in draw)}) for draw in draws]
    first = max(positions[0], told["anchor"])
    queries = [sorted(set(range(first, len(prompt))) - set(positions)) for positions in left_out]
    if not all(queries):
        return None

    def masses_with(cut: Cut) -> dict[str, Tensor]:
        places = [(block, position, 0.0) for position, (block,) in cut]
        return masses(model, prompt, told["anchor"], positions, left_out, layers, places)

    def over_draws(seen: Sequence[Mapping[str, Tensor]]) -> dict[str, float]:
        made = [reduced(one, i, queries[i]) for i, one in enumerate(seen)]
        return {name: float(np.mean([one[name] for one in made])) for name in made[0]}

    natural, removed = masses_with(()), masses_with(sinks)
    return Unit(
        facts={
            "natural": over_draws([natural] * len(draws)),
            "removed": over_draws([removed] * len(draws)),
            "control": over_draws([masses_with(draw) for draw in draws]),
        }
    )


def masses(
    model: Any,
    prompt: Prompt,
    anchor: int,
    sinks: Sequence[int],
    left_out: Sequence[Sequence[int]],
    layers: Sequence[int],
    places: norm_law_passes.Places,
) -> dict[str, Tensor]:
    """float64 [layer, head, query] of one pass with MLP outputs rescaled: the mass on the ``anchor``, on the ``sinks``
    and, as ``rest.<i>``, on all keys but those of ``left_out[i]``."""
    sets: dict[str, Any] = {"anchor": [anchor], "sinks": list(sinks)}
    for i, positions in enumerate(left_out):
        rest = torch.ones(len(prompt), dtype=torch.bool)
        rest[list(positions)] = False
        sets[f"rest.{i}"] = rest
    stat = MassOn(sets, layers=frozenset(layers))
    with trace(model, stats=[stat], edit=norm_law_passes.rescale(places)) as traced:
        traced.run(list(prompt.ids), **calls.skip_logits(model))
        return {name: rows[list(layers), 0].cpu().double() for name, rows in traced.stats["mass_on"].items()}


def reduced(seen: Mapping[str, Tensor], draw: int, queries: Sequence[int]) -> dict[str, float]:
    """``mass``, ``share`` and ``sinks`` (see `check`) over some queries."""
    mass = {name: seen[name][:, :, list(queries)] for name in ("anchor", f"rest.{draw}", "sinks")}
    share = mass["anchor"] / mass[f"rest.{draw}"].clamp_min(1e-12)  # row by row: competition with the sinks cancels
    return {
        "mass": float(mass["anchor"].mean()),
        "share": float(share.mean()),
        "sinks": float(mass["sinks"].mean()),
    }
