"""One pass over a block: against float64, against the statistics one by one, and inside a trace."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import interp
from interp.scoring.asked import OFFSETS, Asked, Folded
from interp.scoring.block_fold import CHUNK, block_fold
from interp.tracing import one_pass
from interp.tracing.blocks import PassFrame, RowBlock
from interp.tracing.statistics import Entropy, MassOn, Offsets, Received, RowSum, TopKey, TopMass
from tests.tiny import tiny


def softmax(rng: np.random.Generator, *shape: int, scale: float = 3.0) -> np.ndarray:
    scores = rng.normal(0, scale, shape)
    rows = np.exp(scores - scores.max(-1, keepdims=True))
    return np.ascontiguousarray(rows / rows.sum(-1, keepdims=True), dtype=np.float32)


def everything(rng: np.random.Generator, rows: np.ndarray, query_start: int, key_start: int) -> Asked:
    batch, _, n_rows, n_keys = rows.shape
    return Asked(
        received=rng.random((batch, n_rows)).astype(np.float32),
        entropy=True,
        row_sum=True,
        top=True,
        sets=(rng.random((2, batch, n_keys)) < 0.3).astype(np.float32),
        offsets=OFFSETS,
        ids=rng.integers(0, 4, (batch, max(query_start + n_rows, key_start + n_keys))),
    )


def plainly(rows: np.ndarray, query_start: int, key_start: int, asked: Asked) -> Folded:
    """float64, definition by definition."""
    p, (batch, _, n_rows, n_keys) = rows.astype(np.float64), rows.shape
    assert asked.received is not None and asked.sets is not None and asked.ids is not None
    queries, keys = query_start + np.arange(n_rows)[:, None], key_start + np.arange(n_keys)[None]
    ids = asked.ids
    own, there = ids[:, queries[:, 0]][:, :, None], ids[:, keys[0]][:, None]
    before = ids[:, np.maximum(keys[0] - 1, 0)][:, None]
    related = {
        "previous": np.broadcast_to(keys == queries - 1, (batch, n_rows, n_keys)),
        "current": np.broadcast_to(keys == queries, (batch, n_rows, n_keys)),
        "duplicate": (own == there) & (keys < queries),
        "induction": (own == before) & (keys >= 1) & (keys <= queries),
    }
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.where(p > 0, p * np.log(p), 0).sum(-1)
    return Folded(
        np.einsum("br,bhrk->bhk", asked.received.astype(np.float64), p),
        entropy,
        p.sum(-1),
        key_start + p.argmax(-1),
        p.max(-1),
        np.einsum("bhrk,sbk->sbhr", p, np.broadcast_to(asked.sets, (len(asked.sets), batch, n_keys))),
        {name: (p * related[name][:, None]).sum(-1) for name in OFFSETS},
    )


def assert_same(found: Folded, plain: Folded, tolerance: float = 1e-6) -> None:
    for name in ("received", "entropy", "row_sum", "top_weight", "sets"):
        np.testing.assert_allclose(
            getattr(found, name), getattr(plain, name), rtol=tolerance, atol=tolerance, err_msg=name
        )
    np.testing.assert_array_equal(found.top_position, plain.top_position)
    for name in OFFSETS:
        np.testing.assert_allclose(
            found.offsets[name], plain.offsets[name], rtol=tolerance, atol=tolerance, err_msg=name
        )


@given(
    batch=st.integers(1, 2),
    heads=st.integers(1, 3),
    n_rows=st.integers(1, 5),
    n_keys=st.integers(1, 12),
    query_start=st.integers(0, 6),
    key_start=st.integers(0, 6),
    scale=st.sampled_from([0.0, 1.0, 30.0]),
    seed=st.integers(0, 10**6),
)
def test_equals_float64(
    batch: int, heads: int, n_rows: int, n_keys: int, query_start: int, key_start: int, scale: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    rows = softmax(rng, batch, heads, n_rows, n_keys, scale=scale)  # scale 0: all keys tie; 30: zeros among them
    asked = everything(rng, rows, query_start, key_start)
    assert_same(block_fold(rows, query_start, key_start, asked), plainly(rows, query_start, key_start, asked))


def test_rows_longer_than_a_chunk() -> None:
    rng = np.random.default_rng(0)
    for n_keys in (CHUNK, CHUNK + 1, 3 * CHUNK - 7):
        rows = softmax(rng, 1, 2, 17, n_keys)
        start = n_keys - 17
        asked = everything(rng, rows, start, 0)
        assert_same(block_fold(rows, start, 0, asked), plainly(rows, start, 0, asked), 3e-6)


def test_a_large_value_late_in_the_row_wins_and_the_first_of_ties_is_told() -> None:
    rows = np.zeros((1, 1, 2, 2 * CHUNK), dtype=np.float32)
    rows[0, 0, 0, [3, CHUNK + 5]] = 0.25, 0.5
    rows[0, 0, 1, [7, CHUNK + 5]] = 0.5
    found = block_fold(rows, 0, 10, Asked(top=True))
    assert found.top_position.tolist() == [[[10 + CHUNK + 5, 17]]] and found.top_weight.tolist() == [[[0.5, 0.5]]]


def test_nan_is_told_where_torch_tells_it() -> None:
    rng = np.random.default_rng(0)
    rows = softmax(rng, 1, 2, 3, 9)
    rows[0, 1, 2, 4] = np.nan
    asked = everything(rng, rows, 6, 0)
    found = block_fold(rows, 6, 0, asked)
    spoilt = np.zeros((1, 2, 3), dtype=bool)
    spoilt[0, 1, 2] = True
    for values in (found.entropy, found.row_sum, found.top_weight):
        assert np.array_equal(np.isnan(values), spoilt)
    weight, position = torch.from_numpy(rows).max(-1)
    assert found.top_position.tolist() == position.tolist() and torch.isnan(weight[0, 1, 2])


def test_nothing_asked_nothing_found() -> None:
    found = block_fold(softmax(np.random.default_rng(0), 1, 1, 2, 3), 0, 0, Asked())
    assert found.received.size == found.entropy.size == found.top_weight.size == found.sets.size == 0
    assert found.offsets == {}


@pytest.mark.parametrize(
    ("rows", "asked", "told"),
    [
        (np.zeros((2, 3), np.float32), Asked(), r"\[2, 3\]"),
        (np.zeros((1, 1, 2, 3)), Asked(), "float64"),
        (np.zeros((1, 1, 3, 2), np.float32).swapaxes(2, 3), Asked(), "C-contiguous"),
        (np.zeros((1, 1, 0, 3), np.float32), Asked(), r"\[1, 1, 0, 3\]"),
        (np.zeros((1, 1, 2, 3), np.float32), Asked(received=np.ones((1, 3), np.float32)), r"weights \[1, 3\]"),
        (np.zeros((2, 1, 2, 3), np.float32), Asked(sets=np.ones((1, 3, 3), np.float32)), r"sets \[1, 3, 3\]"),
        (np.zeros((1, 1, 2, 3), np.float32), Asked(offsets=("next",)), "'next'"),
        (np.zeros((1, 1, 2, 3), np.float32), Asked(offsets=("duplicate",)), "got None"),
        (
            np.zeros((1, 1, 2, 3), np.float32),
            Asked(offsets=("induction",), ids=np.zeros((1, 2), np.int64)),
            r"got \[1, 2\]",
        ),
    ],
)
def test_bad_input_is_told_with_its_shape(rows: np.ndarray, asked: Asked, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        block_fold(rows, 0, 0, asked)


STATS: list[Any] = [
    Received(),
    Received(window=(2, 30), name="some"),
    Entropy(),
    RowSum(),
    TopKey(),
    TopKey(rest=True, name="resting"),
    MassOn({"first": [0], "later": range(3, 9)}),
    TopMass(range(3, 9), 3),
    Offsets(),
]


def results(model: Any, ids: list[list[int]], mask: torch.Tensor | None) -> dict[str, Any]:
    with interp.trace(model, stats=STATS) as t:
        t.run(torch.tensor(ids), **({} if mask is None else {"attention_mask": mask}))
        return {stat.name: t.stats[stat.name] for stat in STATS}


def flat(found: Any) -> list[torch.Tensor]:
    return list(found.values()) if isinstance(found, dict) else [found]


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt_oss"])
@pytest.mark.parametrize("padded", [False, True])
def test_a_trace_says_the_same_with_and_without_sharing(
    family: str, padded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny(family)
    ids = torch.randint(3, 40, (2, 40)).tolist()
    mask = torch.ones(2, 40, dtype=torch.long)
    mask[0, :6] = 0
    shared = []
    monkeypatch.setattr(one_pass, "LEAST", 0)
    real = one_pass.together
    monkeypatch.setattr(one_pass, "together", lambda *given: shared.append(real(*given)) or shared[-1])
    together = results(model, ids, mask if padded else None)
    assert {len(found) for found, _ in shared} == {7} and {len(alone) for _, alone in shared} == {2}
    monkeypatch.setattr(one_pass, "LEAST", 1 << 60)
    apart = results(model, ids, mask if padded else None)
    assert not shared[-1][0]
    for stat in STATS:
        for one, other in zip(flat(together[stat.name]), flat(apart[stat.name]), strict=True):
            assert one.dtype == other.dtype
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6, equal_nan=True)


def test_a_statistic_of_ones_own_folds_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    class Count:
        blocks = 0

        def fold(self, block: RowBlock) -> None:
            self.blocks += 1

        def result(self) -> int:
            return self.blocks

    monkeypatch.setattr(one_pass, "LEAST", 0)
    frame = PassFrame(1, 1, 0, 4)
    block = RowBlock(0, torch.full((1, 1, 4, 4), 0.25), 0, 0, frame)
    count, entropy, sums = Count(), Entropy().accumulator(frame), RowSum().accumulator(frame)
    one_pass.fold_all(block, [count, entropy, sums])
    assert count.result() == 1 and sums.result().tolist() == [[[[1.0] * 4]]]
    torch.testing.assert_close(entropy.result(), torch.full((1, 1, 1, 4), float(np.log(4))))
