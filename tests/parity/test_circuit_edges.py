"""Runs with some edges kept, and attributions of edges, against TransformerLens's split hooks one edge at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import interp
from interp.circuits.attribution import attributions
from interp.circuits.edge_parts import EdgeParts
from interp.circuits.edge_runs import Stream, kept_edges
from interp.circuits.edge_scores import edge_attributions
from interp.circuits.pairs import Pair, batch_of
from interp.circuits.states import Sides, sides_of
from interp.tracing.tracer import trace
from probes.base import Prompt
from tests.contracts.conftest import fingerprint
from tests.plain_edges import Name, SlowEdges
from tests.tiny import tiny

FAMILIES = ("llama", "qwen3", "gpt2", "gemma2", "gemma3", "gpt_neox")
MORE = ("phi", "falcon", "opt", "bloom", "granite", "olmo2")  # a norm for both, flat inputs, eager, a factor, no norm
TOLERANCE = {"atol": 1e-4, "rtol": 1e-4}


def _sides(model: Any, length: int = 12, pairs: int = 3, first: int = 4) -> Sides:
    generator = torch.Generator().manual_seed(5)
    made = []
    for index in range(pairs):
        clean = torch.randint(3, 100, (length,), generator=generator)
        corrupt = clean.clone()
        corrupt[first + index] = (clean[first + index] + 7) % 100
        prompt = Prompt(f"p{index}", "", tuple(clean.tolist()), tuple("x" * length))
        made.append(Pair(prompt, tuple(corrupt.tolist()), 10 + index, (20 + index,) if index else (30, 31)))
    return sides_of(model, batch_of(made))


Case = tuple[EdgeParts, Sides, SlowEdges]


@pytest.fixture(scope="module", params=FAMILIES)
def case(request: pytest.FixtureRequest) -> Case:
    model = interp.load(tiny(request.param))
    sides = _sides(model)
    batch = sides.batch
    slow = SlowEdges(model.bridge(), batch.clean, batch.corrupt, batch.answer, batch.wrong)
    return EdgeParts(model), sides, slow


def _names(parts: EdgeParts, at: Any) -> tuple[Name, Name]:
    writer, receiver = parts.graph.writers[at[0]], parts.graph.receivers[at[1]]
    return (writer.kind, writer.layer, writer.head), (receiver.kind, receiver.layer, receiver.head)


def _some(parts: EdgeParts, n: int) -> np.ndarray:
    """Edges [n, 2], one or more to each kind of receiver."""
    edges, rng = np.argwhere(parts.graph.edges), np.random.default_rng(2)
    kinds = np.array([parts.graph.receivers[receiver].kind for _, receiver in edges])
    firsts = [rng.choice(edges[kinds == kind]) for kind in ("q", "k", "v", "mlp", "logits")]
    return np.concatenate([firsts, rng.choice(edges, n - len(firsts), replace=False)])


@pytest.mark.parametrize("arch", (*FAMILIES, *MORE))
def test_all_edges_are_the_clean_run_and_none_the_corrupted(arch: str) -> None:
    model = interp.load(tiny(arch))
    sides, parts = _sides(model), EdgeParts(model)
    before = fingerprint(model.hf)
    edges = parts.graph.edges
    torch.testing.assert_close(kept_edges(model, sides, edges, parts=parts), sides.clean.difference, **TOLERANCE)
    torch.testing.assert_close(kept_edges(model, sides, ~edges, parts=parts), sides.corrupt.difference, **TOLERANCE)
    assert fingerprint(model.hf) == before
    assert sides.gap.abs().min() > 1e-3


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_kept_edges_are_those_of_transformer_lens(case: Case, share: float) -> None:
    parts, sides, slow = case
    mask = parts.graph.edges & (np.random.default_rng(1).random(parts.graph.edges.shape) < share)
    expected = slow.kept([_names(parts, at) for at in np.argwhere(mask)])
    torch.testing.assert_close(kept_edges(parts.model, sides, mask, parts=parts), expected, **TOLERANCE)
    assert (expected - sides.clean.difference).abs().max() > 1e-2


def test_scores_are_slopes_of_transformer_lens(case: Case) -> None:
    parts, sides, slow = case
    scores = edge_attributions(parts.model, sides, parts=parts)
    some = _some(parts, 8)
    found = np.array([scores.change[tuple(at)] for at in some])
    slopes = np.array([float(slow.slope(*_names(parts, at), step=1e-2).mean()) for at in some])
    np.testing.assert_allclose(found, slopes, atol=1e-2 * np.abs(slopes).max(), rtol=1e-2)


def test_scores_are_slopes_of_the_runs_with_edges_kept(case: Case) -> None:
    parts, sides, _ = case
    scores = edge_attributions(parts.model, sides, parts=parts)

    def run(at: Any, share: float) -> float:
        mask = parts.graph.edges.astype(np.float64)
        mask[tuple(at)] = share
        return float(kept_edges(parts.model, sides, mask, parts=parts).double().mean())

    some = _some(parts, 6)
    found = np.array([scores.change[tuple(at)] for at in some])
    slopes = np.array([(run(at, 0.99) - run(at, 1.01)) / 0.02 for at in some])
    np.testing.assert_allclose(found, slopes, atol=1e-2 * np.abs(slopes).max(), rtol=1e-2)


@pytest.mark.parametrize(("arch", "points"), [("llama", 3), ("gpt2", 1), ("gpt_neox", 2), ("phi", 1), ("qwen3", 1)])
def test_a_writers_edges_add_up_to_its_attribution(arch: str, points: int) -> None:
    # what a writer does to the logits goes along its edges, each once: the gradients at what reads it add up
    model = interp.load(tiny(arch))
    sides = _sides(model)
    scores, whole = edge_attributions(model, sides, points), attributions(model, sides, points=points)
    by_writer, graph = np.nansum(scores.change, 1), scores.graph
    for layer in range(model.n_layers):
        np.testing.assert_allclose(by_writer[graph.heads(layer)], whole.heads[layer].mean(-1), atol=2e-5)
        mlp = graph.writer["mlp", layer, -1]
        np.testing.assert_allclose(by_writer[mlp], whole.mlps[layer].mean(), atol=2e-5)


@pytest.mark.parametrize("arch", ("gpt2", "gemma2"))
def test_integrated_gradients_of_the_inputs_edges_add_up_to_the_change(arch: str) -> None:
    model = interp.load(tiny(arch))
    sides, parts = _sides(model), EdgeParts(model)
    one, coarse, fine = (np.nansum(edge_attributions(model, sides, n, parts=parts).change[0]) for n in (1, 8, 16))
    gap = float(sides.gap.mean())
    # a sum over m points is off by about c/m, so twice the finer less the coarser is off by about 1/m^2
    assert abs(2 * fine - coarse - gap) < 0.02 < abs(one - gap)
    assert abs(fine - gap) < 0.6 * abs(coarse - gap)


@pytest.mark.parametrize("arch", ("gpt2", "gemma3", "granite"))
def test_writers_add_up_to_the_residual_stream(arch: str) -> None:
    model = interp.load(tiny(arch))
    parts, ids = EdgeParts(model), torch.arange(5, 14)[None]
    stream = Stream(parts)
    with trace(model, read=[parts.last], edit=[stream]) as t:
        t.run(ids)
    torch.testing.assert_close(stream.added().sum(0), t[parts.last], atol=1e-5, rtol=1e-4)
