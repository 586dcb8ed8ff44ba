"""What every registered statistic keeps, by being registered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

import interp
from interp.registry import STATISTICS
from tests.contracts.conftest import fingerprint

IDS = [[1, 9, 8, 9, 30, 31, 9, 8, 40, 41, 9], [1, 30, 31, 32, 30, 31, 50, 51, 52, 53, 54]]

EXAMPLES: dict[str, Callable[[Any], Any]] = {
    "mass_on": lambda cls: cls(sets={"first": [0], "pair": [2, 5]}),
    "top_mass": lambda cls: cls(positions=[0, 2, 5], count=2),
}
"""How to make one where its defaults will not do."""


@pytest.fixture(params=STATISTICS.names())
def statistic(request: pytest.FixtureRequest) -> Any:
    cls = STATISTICS.get(request.param)
    made = EXAMPLES.get(request.param, lambda cls: cls())(cls)
    assert made.name == request.param
    return made


def _measure(model: Any, statistic: Any, ids: Any, mask: Any = None, block_rows: int | None = None) -> Any:
    with interp.trace(model, stats=[statistic], block_rows=block_rows) as t:
        t.run(ids, mask)
    return t.stats[statistic.name]


def _leaves(result: Any, path: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(result, torch.Tensor):
        yield path, result
        return
    assert isinstance(result, dict) and result, f"a result is a tensor or a dict of tensors, got {result!r}"
    for key, value in result.items():
        yield from _leaves(value, f"{path}/{key}")


def _assert_equal(left: Any, right: Any) -> None:
    lefts, rights = dict(_leaves(left)), dict(_leaves(right))
    assert lefts.keys() == rights.keys()
    for path, tensor in lefts.items():
        torch.testing.assert_close(
            tensor, rights[path], atol=1e-5, rtol=1e-5, equal_nan=True, msg=lambda m, p=path: f"{p}: {m}"
        )


def test_results_are_exact_kinds_on_the_cpu(model: interp.Model, statistic: Any) -> None:
    for _, tensor in _leaves(_measure(model, statistic, IDS)):
        assert tensor.dtype in (torch.float32, torch.int64)
        assert tensor.device.type == "cpu"
        assert not tensor.requires_grad


@pytest.mark.parametrize("block_rows", [1, 3, 128])
def test_the_size_of_a_block_changes_nothing(model: interp.Model, statistic: Any, block_rows: int) -> None:
    _assert_equal(_measure(model, statistic, IDS, block_rows=block_rows), _measure(model, statistic, IDS))


def test_fused_kernels_give_what_blocks_give(model: interp.Model, statistic: Any) -> None:
    """Or say that they cannot: one that needs rows is never answered by anything else."""
    found = {}
    for engine in ("blocked", "fused"):
        with interp.trace(model, stats=[statistic], engine=engine) as t:
            t.run(IDS)
        found[engine] = t
    _assert_equal(found["fused"].stats[statistic.name], found["blocked"].stats[statistic.name])
    served = set(found["fused"].engines.values())
    assert served == {"fused"} or found["fused"].notes == [
        f"blocks of rows in place of fused kernels: {statistic.name} need the rows themselves"
    ]


def test_the_model_is_left_as_it_was(model: interp.Model, statistic: Any) -> None:
    before = fingerprint(model.hf)
    _measure(model, statistic, IDS)
    assert fingerprint(model.hf) == before


def test_measuring_changes_no_logits(model: interp.Model, statistic: Any) -> None:
    with torch.no_grad():
        own = model.hf(torch.tensor(IDS)).logits
    with interp.trace(model, stats=[statistic]) as t:
        traced = t.run(IDS).logits
    torch.testing.assert_close(traced, own, atol=1e-5, rtol=1e-5)


def test_prompts_of_a_batch_do_not_mix(model: interp.Model, statistic: Any) -> None:
    """Each row of a batch gives what it gives alone. The batch axis is the one that has two entries."""
    both = dict(_leaves(_measure(model, statistic, IDS)))
    for index, ids in enumerate(IDS):
        for path, alone in _leaves(_measure(model, statistic, ids)):
            axis = next(a for a in range(alone.dim()) if alone.shape[a] == 1 and both[path].shape[a] == 2)
            torch.testing.assert_close(both[path].narrow(axis, index, 1), alone, atol=1e-5, rtol=1e-5, equal_nan=True)


def test_the_same_statistic_twice_gives_the_same(model: interp.Model, statistic: Any) -> None:
    _assert_equal(_measure(model, statistic, IDS), _measure(model, statistic, IDS))
