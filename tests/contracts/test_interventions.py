"""What every registered intervention keeps, by being registered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import interp
from interp.interventions.ablate import ZeroHeads
from interp.registry import INTERVENTIONS
from tests.contracts.conftest import fingerprint

IDS = [[1, 9, 8, 9, 30, 31, 9, 8], [1, 30, 31, 32, 30, 31, 50, 51]]
HEADS = [(0, 1), (1, 0)]

Make = Callable[[Any, interp.Model], Any]
EXAMPLES: dict[str, Make] = {
    "zero-heads": lambda cls, model: cls(HEADS),
    "mean-heads": lambda cls, model: cls({head: torch.full((model.d_head,), 0.3) for head in HEADS}),
    "cut-keys": lambda cls, model: cls([0, 2]),
    "uniform-heads": lambda cls, model: cls.of(model, HEADS),
    "block-keys": lambda cls, model: cls(HEADS, [0, 2]),
    "resample-heads": lambda cls, model: cls({head: torch.full((8, model.d_head), 0.3) for head in HEADS}),
    "at-positions": lambda cls, model: cls(ZeroHeads(HEADS), [2, 5]),
    "knock-edges": lambda cls, model: cls(HEADS, [5, 7], [0, 2]),
    "streaming-window": lambda cls, model: cls(first=1, recent=2),
    "redistribute-keys": lambda cls, model: cls([1, 2, 3], [0, 2], rho=0.0, least=0.0, first_layer=0),
    "set-dims": lambda cls, model: cls([("blocks.1.hook_resid_post", 2, 3, 5.0), ("blocks.0.hook_mlp_out", 1, 0, 2.0)]),
    "set-norm-at": lambda cls, model: cls(["blocks.0.hook_mlp_out"], [2, 5], 3.0),
    "write-direction-at": lambda cls, model: cls(("blocks.1.hook_resid_post",), (3,), torch.arange(model.d_model)),
}
"""One that must change what the model computes. An intervention without a line here is made without arguments."""

NOTHING: dict[str, Make] = {
    "zero-heads": lambda cls, model: cls([]),
    "mean-heads": lambda cls, model: cls({}),
    "cut-keys": lambda cls, model: cls([]),
    "uniform-heads": lambda cls, model: cls.of(model, []),
    "block-keys": lambda cls, model: cls(HEADS, []),
    "resample-heads": lambda cls, model: cls({}),
    "at-positions": lambda cls, model: cls(ZeroHeads(HEADS), []),
    "knock-edges": lambda cls, model: cls(HEADS, [], [0, 2]),
    "act": lambda cls, model: cls(heads=[]),
    "remove-sinks": lambda cls, model: cls(sinks=[]),
    "uniform-sinks": lambda cls, model: cls(beta=1.0),
    "streaming-window": lambda cls, model: cls(first=0, recent=64),
    "redistribute-keys": lambda cls, model: cls([1, 2], []),
    "set-dims": lambda cls, model: cls([]),
    "set-norm-at": lambda cls, model: cls(["blocks.0.hook_mlp_out"], [], 3.0),
    "write-direction-at": lambda cls, model: cls(("blocks.1.hook_resid_post",), (), torch.ones(model.d_model)),
}
"""One that is asked for nothing, for those that can be."""


def _make(name: str, model: interp.Model) -> Any:
    return EXAMPLES.get(name, lambda cls, model: cls())(INTERVENTIONS.get(name), model)


def _logits(model: interp.Model, *edits: Any, block_rows: int | None = None) -> torch.Tensor:
    with interp.trace(model, edit=list(edits), block_rows=block_rows) as t:
        return t.run(IDS).logits


@pytest.mark.parametrize("name", INTERVENTIONS.names())
def test_it_changes_what_the_model_computes(model: interp.Model, name: str) -> None:
    assert (_logits(model, _make(name, model)) - _logits(model)).abs().max() > 1e-3


@pytest.mark.parametrize("name", INTERVENTIONS.names())
def test_it_leaves_the_model_as_it_was(model: interp.Model, name: str) -> None:
    before, own = fingerprint(model.hf), _logits(model)
    _logits(model, _make(name, model))
    assert fingerprint(model.hf) == before
    torch.testing.assert_close(_logits(model), own, atol=0, rtol=0)


@pytest.mark.parametrize("name", INTERVENTIONS.names())
def test_it_does_the_same_every_time(model: interp.Model, name: str) -> None:
    """Also whatever the size of the blocks it is handed."""
    edit = _make(name, model)
    first = _logits(model, edit)
    torch.testing.assert_close(_logits(model, edit), first, atol=0, rtol=0)
    torch.testing.assert_close(_logits(model, edit, block_rows=3), first, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", INTERVENTIONS.names())
def test_it_says_where_it_acts(model: interp.Model, name: str) -> None:
    edit = _make(name, model)
    assert hasattr(edit, "rows") != hasattr(edit, "sites")
    if hasattr(edit, "sites"):
        assert model.sites.expand(edit.sites)
    else:
        assert edit.layers is None or set(edit.layers) <= set(range(model.n_layers))


@pytest.mark.parametrize("name", NOTHING)
def test_asked_for_nothing_it_does_nothing(model: interp.Model, name: str) -> None:
    edit = NOTHING[name](INTERVENTIONS.get(name), model)
    torch.testing.assert_close(_logits(model, edit), _logits(model), atol=1e-5, rtol=1e-5)
