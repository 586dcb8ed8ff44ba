"""phi, sink dimensions and heads that look at a set, against plain NumPy and a planted dimension."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from interp.errors import UsageError
from interp.interventions.redistribute import RedistributeKeys
from interp.models.model import Model
from interp.tracing.phi import looks_at, phi, phi_sinks, sink_dimensions
from interp.tracing.statistics import MassOn, Rows
from interp.tracing.tracer import trace
from tests import plain
from tests.tiny import tiny

IDS = [[9, 20, 31, 42, 53, 11], [9, 60, 21, 32, 44, 12], [9, 33, 44, 55, 66, 77]]
PLANTED = 7


@pytest.fixture
def planted() -> Any:
    """A model whose token 9, wherever it stands, is far out in one dimension."""
    hf: Any = tiny("llama")
    with torch.no_grad():
        hf.get_input_embeddings().weight[9, PLANTED] = 400.0
    return hf


def test_phi_by_hand() -> None:
    x = torch.randn(2, 3, 16)
    for place in np.ndindex(2, 3):
        row = x[place].double().numpy()
        expected = max(abs(row[4]), abs(row[9])) / np.sqrt((row**2).mean())
        assert phi(x, [4, 9])[place].item() == pytest.approx(expected, rel=1e-5)
    for dims in ([], [16], [-1]):
        with pytest.raises(UsageError, match=r"expected some of the dimensions 0\.\.15"):
            phi(x, dims)


def test_the_planted_dimension_is_found(planted: Any) -> None:
    found = sink_dimensions(planted, IDS, threshold=5.0, first_layer=1)
    assert found.dims == (PLANTED,)
    assert 5 < found.ratio[0] <= found.limit == pytest.approx(32**0.5)
    assert sink_dimensions(tiny("llama"), IDS, threshold=5.0, first_layer=1).dims == ()
    assert sink_dimensions(planted, IDS).dims == ()  # a width of 32 cannot reach 20
    with pytest.raises(UsageError, match="position 9"):
        sink_dimensions(planted, IDS, anchor=9)
    with pytest.raises(UsageError, match=r"first_layer=3: the model has layers 0\.\.2"):
        sink_dimensions(planted, IDS, first_layer=3)


def test_sinks_by_layer_are_redistributed_in_their_layer(planted: Any) -> None:
    """The mask of `phi_sinks` as it is, and the same as positions; layers before `first_layer` keep their rows."""
    ids = torch.tensor([IDS[0], [20, 9, 31, 42, 53, 11]])
    mask = phi_sinks(planted, ids, [PLANTED], threshold=5.0, first_layer=1)
    mask[2] = False  # sinks in layer 1 alone

    def rows(*edits: Any) -> dict[Any, torch.Tensor]:
        with trace(planted, stats=[Rows()], edit=list(edits)) as t:
            t.run(ids)
        return t.stats["rows"]

    def moved(before: dict[Any, torch.Tensor], after: dict[Any, torch.Tensor], layer: int) -> float:
        return max(float((after[at, head] - before[at, head]).abs().max()) for at, head in before if at == layer)

    settings: dict[str, Any] = {"rho": 0.0, "least": 0.0, "first_layer": 1}
    before, after = rows(), rows(RedistributeKeys([2, 3], mask, **settings))
    assert moved(before, after, 0) == 0 and moved(before, after, 1) > 1e-3
    one = rows(RedistributeKeys([2, 3], {1: mask[1]}, **settings))
    assert all(torch.equal(one[head], after[head]) for head in after)
    for edit in (RedistributeKeys([2, 3], mask, rho=0.0, least=0.0), RedistributeKeys([2, 3], {0: [0]}, **settings)):
        assert all(torch.equal(rows, before[head]) for head, rows in rows(edit).items())
    with pytest.raises(UsageError, match=r"shape \(1, 2, 6\) for layer 1"):
        rows(RedistributeKeys([2, 3], mask[:1], **settings))


def test_sinks_are_where_the_token_stands(planted: Any) -> None:
    ids = torch.tensor([[9, 20, 31, 9], [0, 0, 9, 41]])
    mask = torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]])
    found = phi_sinks(planted, ids, [PLANTED], mask, threshold=5.0, first_layer=1)
    assert found.shape == (3, 2, 4) and not found[0].any()
    for layer in (1, 2):
        assert found[layer].tolist() == [[True, False, False, True], [False, False, True, False]]


def test_rows_that_look_at_a_set_are_those_redistribution_changes() -> None:
    hf, (ids, mask) = tiny("llama"), plain.padded_batch("none")
    keys, sinks, rho, least = [2, 3, 4, 5, 6, 7], [0, 3], 0.6, 0.3
    sets = {"set": keys, "non_sinks": [2, 4, 5, 6, 7], "sinks": sinks}
    only = frozenset({0})
    with trace(hf, stats=[MassOn(sets, layers=only), Rows(layers=only)]) as t:
        t.run(ids, mask)
    masses, before = t.stats["mass_on"], t.stats["rows"]
    looks = looks_at(masses, rho=rho, least=least)[0]
    edit = RedistributeKeys(keys, sinks, rho=rho, least=least, first_layer=0)
    with trace(hf, stats=[Rows(layers=only)], edit=[edit]) as t:
        t.run(ids, mask)
    for (_, head), rows in t.stats["rows"].items():
        moved = (rows - before[0, head]).abs().sum(-1) / 2
        expected = torch.where(looks[:, head], 0.6 * masses["sinks"][0][:, head], 0.0)
        torch.testing.assert_close(moved, expected, atol=1e-5, rtol=1e-4)
    assert looks.any() and not looks.all()
    with pytest.raises(UsageError, match="non_sinks"):
        looks_at({"set": torch.ones(2)})


def test_real_sink_dimensions(smollm2: Model) -> None:
    """SmolLM2's first token, with BOS, at the paper's bar: one dimension holds nearly all of its long state."""
    text = "The tide rises twice a day. The harbour fills, and the boats swing round on their ropes."
    ids = [1, *smollm2.encode(text, name="t").ids]
    found = sink_dimensions(smollm2, [ids])
    assert found.dims == (507,) and 23 < found.ratio[0] < found.limit == 24
    sinks = phi_sinks(smollm2, ids, found.dims)
    assert sinks[15, 0].nonzero().flatten().tolist() == [0]
