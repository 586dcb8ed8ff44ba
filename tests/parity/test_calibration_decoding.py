"""ACT while a KV cache grows, what rows edits are shown, key sets of every kind, and rows with hardly any mass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from interp.errors import UsageError
from interp.interventions.attention import CutKeys
from interp.interventions.calibrate import ACT, RemoveSinks
from interp.interventions.rows import move_mass
from interp.interventions.streaming import StreamingWindow
from interp.tracing.blocks import PassFrame, RowBlock
from interp.tracing.passes import cache_of
from interp.tracing.statistics import Received, Rows
from interp.tracing.tracer import trace
from tests import plain, plain_calibration
from tests.tiny import tiny

THRESHOLD = 0.13
FIRST = [(0, head) for head in range(4)]  # the first layer's rows do not feel the edit of earlier ones


def decoded_rows(hf: Any, ids: Tensor, mask: Tensor, edit: Any, prefill: int) -> dict[Any, Tensor]:
    """Rows of a prefill and single steps to the end."""
    with trace(hf, stats=[Rows(layers=frozenset({0}))], edit=[edit]) as t:
        cache = cache_of(t.run(ids[:, :prefill], mask[:, :prefill], use_cache=True))
        for step in range(prefill, ids.shape[1]):
            cache = cache_of(t.run(ids[:, step : step + 1], mask[:, : step + 1], cache=cache))
        return t.stats["rows"]


def calibrated(row: np.ndarray, sinks: list[int]) -> Tensor:
    """ACT with beta 0.4 on one row."""
    inside = np.isin(np.arange(len(row)), sinks)
    out = np.where(inside, 0.4 * row, row * (1 + 0.6 * row[inside].sum() / row[~inside].sum()))
    return torch.from_numpy(out).float()


@pytest.mark.parametrize("padding", ["none", "left"])
def test_sinks_follow_the_running_mean(padding: str) -> None:
    """A plain ledger by hand: at every step S is found anew, among keys that enough queries have seen."""
    hf, ripe, prefill, whole = tiny("llama"), 9, 12, 30
    ids, mask = plain.padded_batch(padding, length=whole, cut=2)
    _, patterns = plain.eager(hf, ids, mask)
    rows = decoded_rows(hf, ids, mask, ACT(FIRST, THRESHOLD, ripe=ripe), prefill)
    joined = dropped = unconfirmed = 0
    for b in range(2):
        valid, p = mask[b].numpy(), patterns[0][b].double().numpy()
        for head in range(4):
            before = set(plain_calibration.over_threshold(p[[head], :prefill, :prefill], valid, THRESHOLD)[0])
            for i in range(prefill, whole):
                enough = min(ripe, int(valid[: i + 1].sum()) // 2)
                found = []
                for k in range(i + 1):
                    queries = [q for q in range(k, i + 1) if valid[q]]
                    if valid[k] and len(queries) >= enough and p[head, queries, k].mean() > THRESHOLD:
                        found.append(k)
                unconfirmed += i == prefill and len(before - set(found))
                joined, dropped = joined + len(set(found) - before), dropped + (i > prefill) * len(before - set(found))
                before = set(found)
                expected = calibrated(p[head, i, : i + 1], found[1:])
                torch.testing.assert_close(rows[0, head][b, i, : i + 1], expected, atol=2e-5, rtol=1e-4)
    assert joined and dropped and unconfirmed, "nothing joined or dropped out while decoding: the case tests nothing"


def test_sinks_after_decoding_are_those_of_one_prefill() -> None:
    """40 tokens and 80 steps: the sinks of a prefill of 120, of keys that 32 queries have seen, and their anchor."""
    hf, whole = tiny("llama", max_position_embeddings=256), 120
    ids, mask = plain.padded_batch("none", length=whole)
    threshold, differ = 0.02, 0
    _, patterns = plain.eager(hf, ids, mask)
    rows = decoded_rows(hf, ids, mask, ACT(FIRST, threshold), 40)
    for b in range(2):
        p = patterns[0][b].double().numpy()
        every = plain_calibration.over_threshold(p, mask[b].numpy(), threshold)
        at_prefill = plain_calibration.over_threshold(p[:, :40, :40], mask[b, :40].numpy(), threshold)
        for head in range(4):
            ripe = [k for k in every[head] if whole - k >= 32]
            differ += set(at_prefill[head]) - set(ripe) != set()
            expected = calibrated(p[head, -1], ripe[1:])
            torch.testing.assert_close(rows[0, head][b, -1], expected, atol=2e-5, rtol=1e-4)
            assert len(ripe) > 1
    assert differ, "no key of the first 40 tokens dropped out: the case tests nothing"


def test_no_more_than_a_block_of_rows_is_ever_shown() -> None:
    """Two edits that need whole layers, in nested traces: the second is surveyed on what the first left."""
    seen: list[int] = []

    class Watch(RemoveSinks):
        def survey(self, block: RowBlock) -> None:
            seen.append(block.rows.shape[2])
            super().survey(block)

        def rows(self, block: RowBlock) -> Tensor:
            seen.append(block.rows.shape[2])
            return super().rows(block)

    hf, (ids, mask) = tiny("llama"), plain.padded_batch("none")
    first, second = ACT(threshold=THRESHOLD), Watch(threshold=THRESHOLD)

    def by_hand(layer: int, pattern: np.ndarray, valid: np.ndarray) -> np.ndarray:
        return plain_calibration.act(plain_calibration.act(pattern, valid, 0.4, THRESHOLD), valid, 0.0, THRESHOLD)

    expected, _ = plain_calibration.run_with(hf, ids, mask, by_hand)
    with trace(hf, edit=[first, second], block_rows=5) as t:
        torch.testing.assert_close(t.run(ids, mask).logits, expected, atol=2e-4, rtol=1e-4)
    assert max(seen) == 5
    with trace(hf, edit=[first]), trace(hf, stats=[Received()], edit=[second], block_rows=5) as t:
        torch.testing.assert_close(t.run(ids, mask).logits, expected, atol=2e-4, rtol=1e-4)
    with trace(hf, edit=[second], grad=True) as t:
        t.run(ids, mask).logits.sum().backward()


# key sets and rows


def block_of(rows: Tensor, start: int = 0) -> RowBlock:
    return RowBlock(0, rows, start, 0, PassFrame(1, rows.shape[0], 0, rows.shape[-1]))


def test_key_sets_of_every_kind() -> None:
    rows = torch.full((2, 1, 1, 4), 0.25)
    expected = torch.tensor([1, 0, 0, 1]) / 2
    mask = torch.tensor([False, True, True])
    for keys in ([1, 2], {2, 1}, (1, 2), range(1, 3), np.array([1, 2]), torch.tensor([2, 1]), mask, mask[None]):
        torch.testing.assert_close(CutKeys(keys).rows(block_of(rows, 3))[1, 0, 0], expected)
    for keys, message in (
        (torch.tensor([[0, 1, 1, 0]]), r"got torch.int64 of shape \(1, 4\)"),
        ([1, -1], "count from 0, got -1"),
        ([0.5], "expected key positions"),
        ("first", "got 'first'"),
        ({"a": 1}, "expected key positions"),
        (torch.zeros(3, 4, dtype=torch.bool), "for 2 sequences"),
    ):
        for edit in (CutKeys(keys), ACT(sinks=keys)):
            with pytest.raises(UsageError, match=message):
                edit.rows(block_of(rows, 3))


def test_sharp_rows_are_edited_too() -> None:
    """All but a millionth of a millionth on the sink; and where nothing at all is left, it stays or goes to oneself."""
    rows = torch.tensor([[[[1.0, 3e-12, 1e-12]], [[1.0, 0.0, 0.0]]]])
    sink, other = torch.tensor([True, False, False]), torch.tensor([False, True, True])
    moved = move_mass(rows, sink, other, 0.6)
    torch.testing.assert_close(moved[0, 0, 0], torch.tensor([0.4, 0.45, 0.15]))
    torch.testing.assert_close(moved[0, 1, 0], rows[0, 1, 0])
    window = StreamingWindow(first=0, recent=2).rows(block_of(rows, 2))
    torch.testing.assert_close(window[0, :, 0], torch.tensor([[0.0, 0.75, 0.25], [0.0, 0.0, 1.0]]))
