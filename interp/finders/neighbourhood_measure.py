"""Schema of the sink-neighbourhood finder, and the pass that measures what surrounds a sink."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from interp.finders.base import Unit
from interp.finders.neighbourhood_spectrum import compression, mean_cosine
from interp.finders.sink_config import SinksConfig, reading_layers
from interp.finders.sink_found import Found, found_sinks
from interp.finders.sink_measure import RESIDUAL
from interp.findings import Column
from interp.tracing import calls
from interp.tracing.statistics import RowSum
from interp.tracing.tracer import trace
from probes.base import Prompt

VECTORS = {"value": "attn.hook_v", "key": "attn.hook_k", "rotated_key": "attn.hook_rot_k"}
"""What is compared in length inside attention, and its site."""

COLUMNS = (
    Column("layer", "Int64", "block", "Block, 0-based. States are its output; attention, keys and values its own."),
    Column("mass", "float64", "anchor's mass", "Attention the anchor receives (alpha), mean over heads and prompts."),
    Column(
        "rate", "float64", "sink rate", "Share of heads in which the anchor's alpha exceeds eps, mean over prompts."
    ),
    Column("norm_anchor", "float64", "state, anchor", "Length of the anchor's state over the median ordinary one."),
    Column("norm_others", "float64", "state, others", "The same of the other sinks, where they are sinks."),
    Column(
        "value_anchor",
        "float64",
        "value, anchor",
        "Length of the anchor's value vector over the median ordinary one, mean over heads; far below 1 = drained.",
    ),
    Column("value_others", "float64", "value, others", "The same of the other sinks, in the blocks that read them."),
    Column(
        "key_anchor",
        "float64",
        "key, anchor",
        "Length of the anchor's key over the median ordinary one, as projected (before any norm and rotary).",
    ),
    Column("rotated_key_anchor", "float64", "rotated key", "The same of the key that is attended to (after both)."),
    Column("entropy", "float64", "matrix entropy", "Of the spectrum of all states, nats; low = compressed."),
    Column("entropy_share", "float64", "entropy share", "Matrix entropy over log(min(tokens, dimensions)), 0 to 1."),
    Column("anisotropy", "float64", "anisotropy", "Share of the states' power in the strongest direction, 0 to 1."),
    Column("anisotropy_rest", "float64", "anisotropy, rest", "The same without the rows of the prompt's sinks."),
    Column("cosine", "float64", "mean cosine", "Mean cosine over all pairs of tokens' states; near 1 = over-mixed."),
    Column(
        "absorbed",
        "float64",
        "absorbed mass",
        "Attention that a learned sink logit takes (1 minus the row sum), mean over heads and queries; else 0.",
    ),
)


def measure(model: Any, prompt: Prompt, config: SinksConfig) -> Unit:
    """Two passes over one prompt: its sinks, then states, keys, values and row sums.

    Arrays, float32 [layer] but ``absorbed`` [layer, head]: ``mass``, ``rate``; ``norm_anchor``, ``norm_others``, and
    likewise ``value_``, ``key_``, ``rotated_key_``; ``entropy``, ``entropy_share``, ``anisotropy``,
    ``anisotropy_rest``, ``cosine``. NaN = not measured (no sink, no such vectors in this family). Facts: ``anchor``,
    ``spans`` = [[start, stop]] of the anchor, ``others`` = how many other sinks, ``ordinary`` positions, ``missing`` =
    names of `VECTORS` the family does not hand out, ``loss`` in nats.
    """
    found = found_sinks(model, prompt, config)
    n = model.n_layers
    there = {name: [f"blocks.{i}.{site}" for i in range(n)] for name, site in VECTORS.items()}
    names = set(model.sites.names())
    there = {name: sites for name, sites in there.items() if names.issuperset(sites)}
    states_at = [RESIDUAL.format(layer) for layer in range(n)]
    with trace(model, read=[*states_at, *(s for sites in there.values() for s in sites)], stats=[RowSum()]) as traced:
        traced.run(list(prompt.ids), **calls.skip_logits(model))
        states = [traced[site][0] for site in states_at]
        lengths = {
            name: [traced[site][0].detach().float().norm(dim=-1).cpu().numpy() for site in sites]
            for name, sites in there.items()
        }
        sums = traced.stats["row_sum"][:, 0].numpy()
    arrays = spectra(states, {sink.position for sink in found.sinks})
    arrays["absorbed"] = np.round(1 - sums.mean(axis=-1, dtype=np.float64), 6) + 0.0  # float32 rows are no better
    arrays.update(attention(found, n, config))
    inside = {sink.position: list(sink.layers) for sink in found.sinks}
    for sink in found.sinks:  # one token may have several spans
        inside[sink.position] = sorted({*inside[sink.position], *sink.layers})
    norm = found.measured.norm[:, :, None]
    arrays.update(ratios("norm", list(norm), found, inside))
    readers = {position: reading_layers(tuple(layers), n) for position, layers in inside.items()}
    for name in VECTORS:
        arrays.update(ratios(name, lengths.get(name), found, readers))
    facts = {
        "anchor": found.anchor,
        "spans": [[s.start, s.start + s.lifetime] for s in found.sinks if s.position == found.anchor],
        "others": len(inside) - (found.anchor in inside),
        "ordinary": list(found.ordinary),
        "missing": sorted(set(VECTORS) - set(there)),
        "loss": found.unit.facts["loss"],
    }
    return Unit({name: np.asarray(array, dtype=np.float32) for name, array in arrays.items()}, facts)


def spectra(states: Sequence[Tensor], sinks: set[int]) -> dict[str, np.ndarray]:
    """Compression of states, each [token, dimension], with and without the sinks' rows, and their mean cosine."""
    whole = [compression(state) for state in states]
    rest = [i for i in range(states[0].shape[0]) if i not in sinks]
    return {
        "entropy": np.array([one.entropy for one in whole]),
        "entropy_share": np.array([one.entropy_share for one in whole]),
        "anisotropy": np.array([one.anisotropy for one in whole]),
        "anisotropy_rest": np.array([compression(state[rest]).anisotropy if rest else np.nan for state in states]),
        "cosine": np.array([mean_cosine(state) for state in states]),
    }


def attention(found: Found, n_layers: int, config: SinksConfig) -> dict[str, np.ndarray]:
    """Attention the anchor receives and the share of heads above eps, by layer."""
    if found.anchor is None:
        nothing = np.full(n_layers, np.nan)
        return {"mass": nothing, "rate": nothing}
    alpha = found.measured.received[:, :, found.anchor]
    return {"mass": alpha.mean(axis=1), "rate": (alpha > config.eps).mean(axis=1)}


def ratios(
    name: str, lengths: Sequence[np.ndarray] | None, found: Found, layers: dict[int, list[int]]
) -> dict[str, np.ndarray]:
    """Lengths [token, head] of each layer at the anchor (all layers) and at the other sinks (mean, in their `layers`),
    over the median of the ordinary tokens; mean over heads."""
    n = len(found.measured.norm)
    made = {f"{name}_anchor": np.full(n, np.nan), f"{name}_others": np.full(n, np.nan)}
    if lengths is None or not found.ordinary:
        return made
    ordinary = list(found.ordinary)
    for layer, size in enumerate(lengths):
        usual = np.maximum(np.median(size[ordinary], axis=0), np.finfo(np.float32).tiny)
        ratio = (size.astype(np.float64) / usual).mean(axis=1)
        if found.anchor is not None:
            made[f"{name}_anchor"][layer] = ratio[found.anchor]
        others = [position for position, at in layers.items() if position != found.anchor and layer in at]
        if others:
            made[f"{name}_others"][layer] = ratio[others].mean()
    return made
