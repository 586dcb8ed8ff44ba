"""ACT, its siblings and redistribution against loops over whole patterns; decoding, padding and batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from interp.errors import TraceError, UsageError
from interp.interventions.attention import CutKeys
from interp.interventions.calibrate import ACT, RemoveSinks, SinkEdit, UniformSinks
from interp.interventions.redistribute import RedistributeKeys
from interp.interventions.streaming import StreamingWindow
from interp.tracing.passes import cache_of
from interp.tracing.statistics import Received, Rows, RowSum
from interp.tracing.tracer import trace
from tests import plain, plain_calibration
from tests.tiny import tiny

FAMILIES = ["llama", "qwen3", "gemma3", "gpt2", "gpt_oss"]
HEADS = [(0, 1), (0, 3), (1, 0), (2, 2)]
THRESHOLD = 0.13  # tiny models spread their attention; by this some keys of most heads are sinks, and not all

Make = Callable[[], Any]
EDITS: dict[str, tuple[Make, plain_calibration.Edit]] = {
    "act": (
        lambda: ACT(threshold=THRESHOLD, beta=0.4),
        lambda layer, p, valid: plain_calibration.act(p, valid, 0.4, THRESHOLD),
    ),
    "act on some heads": (
        lambda: ACT(heads=HEADS, threshold=THRESHOLD, beta=0.25),
        lambda layer, p, valid: only(layer, p, plain_calibration.act(p, valid, 0.25, THRESHOLD)),
    ),
    "remove": (
        lambda: RemoveSinks(threshold=THRESHOLD),
        lambda layer, p, valid: plain_calibration.act(p, valid, 0.0, THRESHOLD),
    ),
    "remove with the anchor": (
        lambda: RemoveSinks(threshold=THRESHOLD, keep_anchor=False),
        lambda layer, p, valid: plain_calibration.act(p, valid, 0.0, THRESHOLD, anchor=False),
    ),
    "uniform": (
        lambda: UniformSinks(threshold=THRESHOLD, beta=0.4),
        lambda layer, p, valid: plain_calibration.uniform(p, valid, 0.4, THRESHOLD),
    ),
    "window": (
        lambda: StreamingWindow(first=2, recent=5),
        lambda layer, p, valid: plain_calibration.window(p, valid, 2, 5),
    ),
}


def only(layer: int, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    out = before.copy()
    for at, head in HEADS:
        if at == layer:
            out[head] = after[head]
    return out


@pytest.mark.parametrize("padding", ["right", "left"])  # of the second sequence; the first has none
@pytest.mark.parametrize("name", EDITS)
@pytest.mark.parametrize("arch", FAMILIES)
def test_whole_models_by_hand(arch: str, name: str, padding: str) -> None:
    """Every layer's edited rows and the logits, each layer's sinks found in what the edited layers before made."""
    hf = tiny(arch)
    ids, mask = plain.padded_batch(padding)
    make, by_hand = EDITS[name]
    logits, patterns = plain_calibration.run_with(hf, ids, mask, by_hand)
    untouched, plain_patterns = plain.eager(hf, ids, mask)
    real = mask.bool()
    assert (logits - untouched)[real].abs().max() > 1e-3
    with trace(hf, stats=[Rows()], edit=[make()], block_rows=7) as t:
        edited = t.run(ids, mask).logits
    torch.testing.assert_close(edited[real], logits[real], atol=2e-4, rtol=1e-4)
    for (layer, head), rows in t.stats["rows"].items():
        expected = torch.from_numpy(patterns[layer][:, head]).float()
        torch.testing.assert_close(rows[real], expected[real], atol=2e-5, rtol=1e-4)
    assert len(plain_patterns) == len(patterns)


@pytest.mark.parametrize("arch", ["bloom", "falcon", "gpt_neo"])
def test_families_that_bypass_the_interface(arch: str) -> None:
    """The first layer of families whose own eager attention runs, whatever the size of the blocks."""
    hf = tiny(arch)
    ids, mask = plain.padded_batch("none")
    _, patterns = plain.eager(hf, ids, mask)
    with trace(hf, stats=[Rows(layers=frozenset({0}))], edit=[ACT(threshold=THRESHOLD)], block_rows=4) as t:
        t.run(ids)
    first = patterns[0].double().numpy()
    expected = np.stack([plain_calibration.act(p, m, 0.4, THRESHOLD) for p, m in zip(first, mask.numpy(), strict=True)])
    for (_, head), rows in t.stats["rows"].items():
        torch.testing.assert_close(rows, torch.from_numpy(expected[:, head]).float(), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", EDITS)
def test_rows_keep_their_sum(name: str) -> None:
    """Also where they sum to less than 1: learned sinks."""
    hf, (ids, mask) = tiny("gpt_oss"), plain.padded_batch("none")
    edit = EDITS[name][0]()
    with trace(hf, stats=[RowSum(layers=frozenset({0}))]) as plain_run:
        plain_run.run(ids, mask)
    with trace(hf, stats=[RowSum(layers=frozenset({0}))], edit=[edit]) as t:
        t.run(ids, mask)
    before, after = plain_run.stats["row_sum"][0], t.stats["row_sum"][0]
    assert before.min() < 0.9
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)


# decoding

WHOLE, PREFILL = 26, 19


def decoded(hf: Any, ids: Tensor, mask: Tensor, edit: Any, steps: Sequence[int]) -> tuple[Tensor, dict[Any, Tensor]]:
    """Logits and rows of a prefill up to the first of `steps`, then calls up to each of the others with the cache."""
    logits, cache, start = [], None, 0
    with trace(hf, stats=[Rows()], edit=[edit]) as t:
        for stop in steps:
            out = t.run(ids[:, start:stop], mask[:, :stop], cache=cache, use_cache=True)
            logits.append(out.logits)
            cache, start = cache_of(out), stop
        rows = t.stats["rows"]
    return torch.cat(logits, 1), rows


FIXED: dict[str, Make] = {
    "act": lambda: ACT(sinks=[0, 3, 4, 15]),
    "uniform": lambda: UniformSinks(sinks=torch.arange(26)[None] == torch.tensor([[3], [9]])),
    "remove": lambda: RemoveSinks(sinks=[3, 4], heads=HEADS),
    "window": lambda: StreamingWindow(first=2, recent=5),
    "redistribute": lambda: RedistributeKeys([2, 3, 4, 5, 6], [3, 4], rho=0.2, least=0.1, first_layer=0),
}


@pytest.mark.parametrize("padding", ["none", "left"])
@pytest.mark.parametrize("name", FIXED)
@pytest.mark.parametrize("arch", FAMILIES)
def test_one_row_steps_do_what_one_prefill_does(arch: str, name: str, padding: str) -> None:
    hf = tiny(arch)
    ids, mask = plain.padded_batch(padding, length=WHOLE, cut=2)
    whole, _ = decoded(hf, ids, mask, FIXED[name](), [WHOLE])
    steps, _ = decoded(hf, ids, mask, FIXED[name](), list(range(PREFILL, WHOLE + 1)))
    torch.testing.assert_close(steps[mask.bool()], whole[mask.bool()], atol=2e-4, rtol=1e-4)


def test_a_cache_filled_before_the_trace_is_refused() -> None:
    hf, (ids, mask) = tiny("llama"), plain.padded_batch("none")
    with torch.no_grad():
        cache = cache_of(hf(ids[:, :12], use_cache=True))
    with trace(hf, edit=[ACT()]) as t, pytest.raises(TraceError, match="began after 12 tokens"):
        t.run(ids[:, 12:13], mask[:, :13], cache=cache)
    with torch.no_grad():
        cache = cache_of(hf(ids[:, :12], use_cache=True))
    with trace(hf, edit=[ACT(sinks=[3])]) as t:  # given sinks need no prefill
        t.run(ids[:, 12:13], mask[:, :13], cache=cache)


def test_each_call_without_a_cache_starts_anew() -> None:
    hf, (ids, mask) = tiny("llama"), plain.padded_batch("none")
    edit = ACT(threshold=THRESHOLD)
    with trace(hf, edit=[edit]) as t:
        first = t.run(ids, mask).logits
        t.run(ids[:1, :9])
        again = t.run(ids, mask).logits
    torch.testing.assert_close(again, first, atol=0, rtol=0)


def test_edits_stack_in_order() -> None:
    """ACT after a cut finds its sinks in the rows the cut left."""
    hf, (ids, mask) = tiny("llama"), plain.padded_batch("none")

    def by_hand(layer: int, pattern: np.ndarray, valid: np.ndarray) -> np.ndarray:
        cut = pattern.copy()
        for i in range(1, pattern.shape[1]):
            rest = pattern[:, i, 1:].sum(-1, keepdims=True)
            cut[:, i, 0] = 0
            cut[:, i, 1:] *= pattern[:, i].sum(-1, keepdims=True) / rest
        return plain_calibration.act(cut, valid, 0.4, THRESHOLD)

    expected, _ = plain_calibration.run_with(hf, ids, mask, by_hand)
    with trace(hf, edit=[CutKeys([0]), ACT(threshold=THRESHOLD)]) as t:
        logits = t.run(ids, mask).logits
    torch.testing.assert_close(logits, expected, atol=2e-4, rtol=1e-4)


def test_the_same_edit_twice_is_refused() -> None:
    edit = ACT()
    with trace(tiny("llama"), edit=[edit, edit]) as t, pytest.raises(TraceError, match="twice"):
        t.run(list(range(5, 20)))


def test_redistribution_by_hand() -> None:
    hf, (ids, mask) = tiny("llama"), plain.padded_batch("none")
    keys, sinks, share, rho, least = [2, 3, 4, 5, 6, 7], [0, 3, 11], 0.6, 0.6, 0.3
    _, patterns = plain.eager(hf, ids, mask)
    edit = RedistributeKeys(keys, sinks, share, rho, least, first_layer=0)
    with trace(hf, stats=[Rows(layers=frozenset({0}))], edit=[edit]) as t:
        t.run(ids, mask)
    rows, changed = t.stats["rows"], 0
    good = [k for k in keys if k not in sinks]
    for (_, head), got in rows.items():
        for b in range(2):
            for i in range(ids.shape[1]):
                row = patterns[0][b, head, i].double().numpy()
                expected = row.copy()
                on_set, on_good = row[keys].sum(), row[good].sum()
                if on_set >= least and on_good >= rho * on_set and on_good > 0:
                    changed += 1
                    expected[sinks] *= 1 - share
                    expected[good] += share * row[sinks].sum() * row[good] / on_good
                np.testing.assert_allclose(got[b, i].numpy(), expected, atol=2e-5)
    assert 0 < changed < 2 * 4 * ids.shape[1]


@pytest.mark.parametrize("edit", [ACT, UniformSinks])
def test_beta_one_changes_nothing(edit: type[SinkEdit]) -> None:
    hf, (ids, mask) = tiny("llama"), plain.padded_batch("none")
    with torch.no_grad():
        own = hf(ids, attention_mask=mask).logits
    with trace(hf, edit=[edit(threshold=THRESHOLD, beta=1.0)]) as t:  # type: ignore[call-arg]
        torch.testing.assert_close(t.run(ids, mask).logits, own, atol=1e-5, rtol=1e-5)


def test_only_layers_named_leave_the_fast_path() -> None:
    hf, (ids, mask) = tiny("llama"), plain.padded_batch("none")
    with trace(hf, stats=[Received()], edit=[ACT(heads=[(1, 0)])]) as t:
        t.run(ids, mask)
    with trace(hf, stats=[Received()]) as untouched:
        untouched.run(ids, mask)
    torch.testing.assert_close(t.stats["received"][0], untouched.stats["received"][0], atol=1e-6, rtol=0)
    assert ACT(heads=[(1, 0), (2, 1)]).layers == frozenset({1, 2})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ACT(beta=1.5), r"ACT\(beta=1.5\): expected a number from 0 to 1"),
        (lambda: UniformSinks(beta=-0.1), "beta=-0.1"),
        (lambda: ACT(threshold=2), "threshold=2"),
        (lambda: ACT(heads=[(0, -1)]), "counted from 0"),
        (lambda: ACT(ripe=0), "ripe=0"),
        (lambda: StreamingWindow(recent=0), "recent 1 or more"),
        (lambda: RedistributeKeys([1], [0], share=1.2), "share=1.2"),
    ],
)
def test_settings_out_of_range_are_refused(make: Make, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (ACT(heads=[(0, 9)]), "layer 0 has heads 0..3, asked for 9"),
        (ACT(heads=[(7, 0)]), r"layers \[7\]"),
        (ACT(sinks=[0.5, 1.0]), "expected key positions or a bool mask"),
        (ACT(sinks=torch.zeros(3, 20, dtype=torch.bool)), "for 2 sequences"),
        (StreamingWindow(heads=[(0, 9)]), "asked for 9"),
        (RedistributeKeys([0.5], [0]), "expected key positions"),
    ],
)
def test_what_a_model_does_not_have_is_refused(edit: Any, message: str) -> None:
    ids, mask = plain.padded_batch("none")
    with pytest.raises(UsageError, match=message), trace(tiny("llama"), edit=[edit]) as t:
        t.run(ids, mask)
