"""The graph, rankings and curves of edges."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import interp
from interp.circuits.edge_curve import edge_curve
from interp.circuits.edge_parts import EdgeParts
from interp.circuits.edge_runs import kept_edges
from interp.circuits.edge_scores import EdgeScores, edge_attributions, merged, random_scores
from interp.circuits.edges import Block, EdgeGraph, edge_graph, graph_of
from interp.circuits.pairs import Pair, batch_of
from interp.circuits.states import Sides, sides_of
from interp.errors import SiteError, UsageError
from probes.base import Prompt
from tests.tiny import tiny


def _sides(model: Any, pairs: int = 3, length: int = 8, seed: int = 0) -> Sides:
    generator = torch.Generator().manual_seed(seed)
    made = []
    for index in range(pairs):
        clean = torch.randint(3, 100, (length,), generator=generator)
        corrupt = clean.clone()
        corrupt[3] = (clean[3] + 7) % 100
        made.append(
            Pair(
                Prompt(f"p{index}", "", tuple(clean.tolist()), tuple("x" * length)), tuple(corrupt.tolist()), 10, (20,)
            )
        )
    return sides_of(model, batch_of(made))


@pytest.fixture(scope="module")
def llama() -> Any:
    return interp.load(tiny("llama"))


def _small() -> EdgeGraph:
    return edge_graph([Block(2, 1), Block(2, 2, mlp=False), Block(0, 0)])


def test_gpt2_small_has_the_published_numbers_of_nodes_and_edges() -> None:
    # MIB's graph of GPT-2 small (Mueller et al. 2025): 12 layers of 12 heads
    graph = edge_graph([Block(12, 12)] * 12)
    assert (graph.n_nodes, graph.n_edges) == (158, 32491)
    assert int(graph.edges.sum()) == 32491


def test_who_reads_whom() -> None:
    graph = _small()
    assert [one.name for one in graph.writers] == ["input", "a0.h0", "a0.h1", "m0", "a1.h0", "a1.h1", "m2"]
    reads = {one.name: reach for one, reach in zip(graph.receivers, graph.reach, strict=True)}
    assert reads == {
        "a0.h0<q>": 1, "a0.h1<q>": 1, "a0.h0<k>": 1, "a0.h0<v>": 1, "m0": 3,
        "a1.h0<q>": 4, "a1.h1<q>": 4, "a1.h0<k>": 4, "a1.h1<k>": 4, "a1.h0<v>": 4, "a1.h1<v>": 4,
        "m2": 6, "logits": 7,
    }  # fmt: skip
    assert graph.heads(1) == slice(4, 6) and graph.of("k", 1) == slice(7, 9) and graph.of("logits") == slice(12, 13)


def test_parallel_heads_do_not_reach_their_own_mlp() -> None:
    blocks = [Block(2, 2)] * 2
    sequential, parallel = edge_graph(blocks), edge_graph(blocks, parallel=True)
    assert sequential.n_edges - parallel.n_edges == 4
    parallel.index("a0.h1->m1")
    with pytest.raises(UsageError, match=r"a1\.h0->m1"):
        parallel.index("a1.h0->m1")


@pytest.mark.parametrize(("arch", "kv_heads", "parallel"), [("llama", 2, False), ("gpt2", 4, False), ("phi", 2, True)])
def test_the_graph_of_a_model(arch: str, kv_heads: int, parallel: bool) -> None:
    assert graph_of(interp.load(tiny(arch))) == edge_graph([Block(4, kv_heads)] * 3, parallel)


def test_edges_by_name() -> None:
    graph = _small()
    assert graph.name(*graph.index("a0.h1->a1.h0<q>")) == "a0.h1->a1.h0<q>"
    for wrong in ("a0.h1->a0.h0<q>", "a0.h1", "m2->m2", "a0.h0->a1.h0"):
        with pytest.raises(UsageError, match="no edge"):
            graph.index(wrong)


def _scores(graph: EdgeGraph, gap: float = -2.0) -> EdgeScores:
    change = np.where(graph.edges, 0.0, np.nan)
    for edge, value in {"input->m0": -1.0, "a0.h0->m0": 0.5, "a1.h0->logits": -0.25}.items():
        change[graph.index(edge)] = value
    return EdgeScores(graph, change, gap, 4)


def test_rankings_by_support_and_by_size() -> None:
    scores = _scores(_small())

    def names(mask: np.ndarray) -> set[str]:
        return {scores.graph.name(*at) for at in np.argwhere(mask)}

    assert names(scores.best(2)) == {"input->m0", "a1.h0->logits"}
    assert names(scores.best(2, absolute=True)) == {"input->m0", "a0.h0->m0"}
    assert not scores.best(0).any() and (scores.best(scores.graph.n_edges) == scores.graph.edges).all()
    assert (scores.best(scores.graph.n_edges - 1) <= scores.graph.edges).all()
    assert scores.top(2) == [("input->m0", 0.5), ("a0.h0->m0", -0.25)]
    with pytest.raises(UsageError, match="999 edges"):
        scores.best(999)


def test_batches_are_merged_pair_by_pair() -> None:
    graph = _small()
    one, other = _scores(graph), random_scores(graph, 3)
    other = EdgeScores(graph, other.change, 1.0, 12)
    whole = merged([one, other])
    assert whole.pairs == 16 and whole.gap == pytest.approx((-2.0 * 4 + 12) / 16)
    np.testing.assert_allclose(whole.change, (one.change * 4 + other.change * 12) / 16)
    with pytest.raises(UsageError, match="0 sets"):
        merged([])


def test_a_random_ranking_is_one_of_edges_alone() -> None:
    graph = _small()
    drawn = random_scores(graph, 1)
    assert (np.isnan(drawn.change) == ~graph.edges).all()
    assert (random_scores(graph, 1).best(5) == drawn.best(5)).all()
    assert (random_scores(graph, 2).best(5) != drawn.best(5)).any()


def test_scores_of_two_batches_are_those_of_one(llama: Any) -> None:
    sides = _sides(llama, pairs=5)
    whole, pairs = edge_attributions(llama, sides), sides.batch.pairs
    parts = merged([edge_attributions(llama, sides_of(llama, batch_of(some))) for some in (pairs[:2], pairs[2:])])
    np.testing.assert_allclose(parts.change, whole.change, atol=1e-5)
    assert parts.gap == pytest.approx(whole.gap, abs=1e-5)


def test_memory_bounds_the_groups_not_the_result(llama: Any) -> None:
    sides = _sides(llama, pairs=5)
    graph = graph_of(llama)
    mask = random_scores(graph).best(graph.n_edges // 2)
    torch.testing.assert_close(kept_edges(llama, sides, mask, memory=1), kept_edges(llama, sides, mask))
    np.testing.assert_allclose(
        edge_attributions(llama, sides, memory=1).change, edge_attributions(llama, sides).change, atol=1e-5
    )


def test_the_curve(llama: Any) -> None:
    batches = [_sides(llama, pairs=2), _sides(llama, pairs=1, length=9, seed=4)]
    scores = merged([edge_attributions(llama, sides) for sides in batches])
    shares = (0.001, 0.3, 1.0)
    found = edge_curve(llama, batches, scores, shares)
    n_edges = scores.graph.n_edges
    assert found["kept"] == [0, int(0.3 * n_edges), n_edges] and found["pairs"] == 3
    for label, absolute in (("signed", False), ("absolute", True)):
        f = found[label]["f"]
        assert f[0] == 0 and f[2] == 1
        kept = torch.cat([kept_edges(llama, one, scores.best(found["kept"][1], absolute=absolute)) for one in batches])
        expected = (float(kept.double().mean()) - found["empty"]) / (found["whole"] - found["empty"])
        assert f[1] == pytest.approx(expected, abs=1e-5)
    assert found["cpr"] == found["signed"]["cpr"] and found["cmd"] == found["absolute"]["cmd"]
    f = found["signed"]["f"]
    assert found["cpr"] == pytest.approx(0.299 * (f[0] + f[1]) / 2 + 0.7 * (f[1] + f[2]) / 2)
    assert found["whole"] == pytest.approx(float(torch.cat([one.clean.difference for one in batches]).mean()), abs=1e-5)


def test_refusals(llama: Any) -> None:
    sides = _sides(llama)
    with pytest.raises(UsageError, match="points=0"):
        edge_attributions(llama, sides, points=0)
    with pytest.raises(UsageError, match=r"shape \[2, 2\]"):
        kept_edges(llama, sides, np.ones((2, 2), dtype=bool))
    with pytest.raises(UsageError, match="this model's"):
        edge_curve(llama, [sides], random_scores(_small()))
    with pytest.raises(UsageError, match="0 batches"):
        edge_curve(llama, [], random_scores(graph_of(llama)))
    with pytest.raises(UsageError, match="no share"):
        _scores(_small(), gap=0.0).ratio()
    with pytest.raises(SiteError, match="hook_k"):
        EdgeParts(interp.load(tiny("deepseek_v3")))


def test_a_norm_that_is_not_the_models_is_refused(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    weight = EdgeParts.weight
    monkeypatch.setattr(EdgeParts, "weight", lambda self, layer, side: (weight(self, layer, side)[0] * 1.01, None))
    with pytest.raises(SiteError, match="computes it otherwise"):
        EdgeParts(llama)
