"""Fused kernels and blocks of rows, a prompt in one piece and in chunks: the same numbers on every family."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from interp.errors import UsageError
from interp.interventions.attention import CutKeys
from interp.tracing import masks
from interp.tracing.budget import Budget, within
from interp.tracing.calls import received
from interp.tracing.engines import using
from interp.tracing.fused import choose
from interp.tracing.passes import cache_of
from interp.tracing.statistics import Entropy, MassOn, Offsets, Received, RowSum, TopKey
from interp.tracing.tracer import trace
from tests import plain
from tests.tiny import ARCHS, BYPASSING, tiny

LINEAR = (
    Received(),
    Received(window=(6, 15), name="late"),
    Entropy(),
    RowSum(),
    Offsets(["previous", "current"]),
    MassOn({"ends": [0, 1, 9], "third": [3]}),
)
"""Copies of a token are left to the contracts: a loop over tokens on every family would take minutes."""
NEVER = {"gemma2", "mistral", "starcoder2"} | set(BYPASSING)
"""A soft cap, nothing but sliding windows, and families with an attention of their own: never fused on a CPU."""


def leaves(result: Any) -> list[torch.Tensor]:
    return [result] if isinstance(result, torch.Tensor) else [leaf for one in result.values() for leaf in leaves(one)]


def same(one: Any, other: Any, mask: torch.Tensor, atol: float = 2e-5) -> None:
    for left, right in zip(leaves(one), leaves(other), strict=True):
        torch.testing.assert_close(plain.real(left, mask), plain.real(right, mask), atol=atol, rtol=1e-5)


@pytest.mark.parametrize("arch", ARCHS)
def test_fused_and_blocked_agree(arch: str) -> None:
    hf = tiny(arch)
    for padding in plain.PADDINGS:
        ids, mask = plain.padded_batch(padding)
        found = {}
        for engine in ("blocked", "fused"):
            with trace(hf, stats=LINEAR, engine=engine) as t:
                logits = t.run(ids, mask).logits
            found[engine] = {stat.name: t.stats[stat.name] for stat in LINEAR}, logits, dict(t.engines), t.notes
        for stat in LINEAR:
            same(found["fused"][0][stat.name], found["blocked"][0][stat.name], mask)
        real = mask.bool()
        torch.testing.assert_close(found["fused"][1][real], found["blocked"][1][real], atol=2e-5, rtol=1e-5)
        served = found["fused"][2]
        assert "fused" not in found["blocked"][2].values()
        assert ("fused" in served.values()) == (arch not in NEVER), served
        if "blocked" in served.values():
            assert any("in place of fused kernels" in note for note in found["fused"][3])


def test_a_statistic_that_needs_rows_brings_the_others_with_it() -> None:
    ids, _ = plain.padded_batch("none")
    with trace(tiny("llama"), stats=[Received(), TopKey(layers=frozenset({1}))], engine="fused") as t:
        t.run(ids)
    assert t.engines == {0: "fused", 1: "blocked", 2: "fused"}
    assert t.notes == ["blocks of rows in place of fused kernels: top_key need the rows themselves"]


def test_edits_of_rows_are_never_passed_over() -> None:
    hf = tiny("llama")
    ids, _ = plain.padded_batch("none")
    logits = []
    for engine in ("blocked", "fused"):
        with trace(hf, stats=[Received()], edit=[CutKeys([0])], engine=engine) as t:
            logits.append(t.run(ids).logits)
        assert set(t.engines.values()) == {"blocked"}
    assert torch.equal(*logits)


def test_an_outer_trace_counts_too() -> None:
    """An inner trace that could be fused, in an outer one that edits rows: the edit is applied."""
    hf = tiny("llama")
    ids, _ = plain.padded_batch("none")
    with trace(hf, edit=[CutKeys([0])]), trace(hf, stats=[Received()], engine="fused") as inner:
        inner.run(ids)
    assert inner.stats["received"][..., 1:, :][..., 0].abs().max() < 1 and set(inner.engines.values()) == {"blocked"}
    with trace(hf, stats=[Received(mean=False)]) as outer, trace(hf, stats=[Received()], engine="fused") as inner:
        inner.run(ids)
    assert set(inner.engines.values()) == {"fused"} == set(outer.engines.values())
    with trace(hf, stats=[Received(mean=False)]) as alone:
        alone.run(ids)
    torch.testing.assert_close(outer.stats["received"], alone.stats["received"], atol=1e-5, rtol=1e-5)


def test_the_engine_of_a_run_reaches_the_traces_inside_it() -> None:
    hf = tiny("llama")
    ids, _ = plain.padded_batch("none")
    seen = []
    for engine in ("fused", "blocked", "auto"):
        with using(engine), trace(hf, stats=[Received()]) as t:
            t.run(ids)
        seen.append(set(t.engines.values()))
    assert seen == [{"fused"}, {"blocked"}, {"blocked"}]  # on a CPU, blocks are the faster
    with using("fused"), trace(hf, stats=[Received()], engine="blocked") as t:
        t.run(ids)
    assert set(t.engines.values()) == {"blocked"}
    with pytest.raises(UsageError, match="engine 'flash'; there are auto, blocked, fused"):
        trace(hf, stats=[Received()], engine="flash")


def test_a_kernel_that_fails_costs_no_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chosen automatically, and broken: the blocks take over, and it is said. Forced, it is an error."""

    def broken(call: Any) -> Any:
        raise RuntimeError("no such kernel")

    hf = tiny("llama")
    ids, _ = plain.padded_batch("none")
    expected = received(hf, ids)
    monkeypatch.setattr(choose, "attended", broken)
    with pytest.raises(RuntimeError, match="no such kernel"):
        received(hf, ids, engine="fused")
    monkeypatch.setattr(choose, "worth_it", lambda query: True)
    with trace(hf, stats=[Received()]) as t:
        t.run(ids)
    assert torch.equal(t.stats["received"], expected)
    assert t.notes == ["blocks of rows in place of fused kernels: fused kernels failed (RuntimeError: no such kernel)"]


@pytest.mark.parametrize(
    "arch",
    ["llama", "qwen2", "mistral", "gemma2", "gemma3", "gpt_oss", "gpt2", "opt", "bloom", "falcon", "deepseek_v3"],
)
def test_a_prompt_in_chunks_is_the_prompt(arch: str) -> None:
    """Also where a window has let go of the first keys, and in a padded batch."""
    hf = tiny(arch)
    site = "blocks.1.hook_resid_post"
    for engine, padding, chunk in (("blocked", "left", 7), ("fused", "none", 11), ("fused", "left", 12)):
        ids, mask = plain.padded_batch(padding)
        with trace(hf, read=[site], stats=LINEAR) as whole:
            logits = whole.run(ids, mask).logits
        with trace(hf, read=[site], stats=LINEAR, engine=engine) as t:
            out = t.run(ids, mask, chunk=chunk)
        assert cache_of(out) is None
        real = mask.bool()
        torch.testing.assert_close(out.logits[real], logits[real], atol=5e-5, rtol=1e-5)
        torch.testing.assert_close(t[site][real], whole[site][real], atol=5e-5, rtol=1e-5)
        for stat in LINEAR:
            same(t.stats[stat.name], whole.stats[stat.name], mask)


def test_layers_nobody_looks_at_run_right_in_chunks() -> None:
    """Their attention goes to sdpa, which would take queries that continue a cache for the first ones."""
    hf = tiny("llama")
    ids, _ = plain.padded_batch("none")
    with torch.no_grad():
        own = hf(ids).logits
    with trace(hf, stats=[Received(layers=frozenset({2}))]) as t:
        torch.testing.assert_close(t.run(ids, chunk=6).logits, own, atol=5e-5, rtol=1e-5)


@pytest.mark.parametrize("keep", [0, 1, 3, 9])
def test_chunks_compute_the_logits_that_are_asked_for(keep: int) -> None:
    hf = tiny("llama")
    ids, _ = plain.padded_batch("none")
    with trace(hf) as t:
        whole = t.run(ids, logits_to_keep=keep).logits
        parts = t.run(ids, chunk=7, logits_to_keep=keep).logits
    assert parts.shape == whole.shape
    torch.testing.assert_close(parts, whole, atol=5e-5, rtol=1e-5)


def test_chunks_can_be_gone_on_from() -> None:
    hf = tiny("llama")
    ids, _ = plain.padded_batch("none")
    with trace(hf, stats=[Received()]) as t:
        out = t.run(ids[:, :-1], chunk=6, use_cache=True)
        t.run(ids[:, -1:], cache=cache_of(out))
    torch.testing.assert_close(t.stats["received"], received(hf, ids), atol=1e-5, rtol=1e-5)


def test_what_chunks_cannot_do_is_refused() -> None:
    hf = tiny("llama")
    ids, _ = plain.padded_batch("none")
    with trace(hf) as t:
        with pytest.raises(UsageError, match="chunk=0"):
            t.run(ids, chunk=0)
        with pytest.raises(UsageError, match="chunk=5: output_hidden_states speaks of the whole prompt"):
            t.run(ids, chunk=5, output_hidden_states=True)
        with pytest.raises(UsageError, match="position_ids"):
            t.run(ids, chunk=5, position_ids=torch.arange(ids.shape[1])[None])
        with pytest.raises(UsageError, match="mask of 4 axes"):
            t.run(ids, torch.ones(1, 1, 20, 20), chunk=5)
        with within(Budget(chunk=5)):  # planned, not asked for: the prompt is read in one piece
            assert t.run(ids, output_hidden_states=True).logits.shape[1] == ids.shape[1]


def test_rotary_positions_that_hang_on_the_length_are_not_cut() -> None:
    """Dynamic NTK and longrope take their frequencies from the longest position of a call."""
    scaled = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4, "original_max_position_embeddings": 16}
    hf = tiny("llama", rope_parameters=scaled, max_position_embeddings=16)
    ids, _ = plain.padded_batch("none")
    assert ids.shape[1] > 16
    with trace(hf) as t:
        with pytest.raises(UsageError, match=r"rotary positions \(dynamic\)"):
            t.run(ids, chunk=7)
        whole = t.run(ids).logits
        with within(Budget(chunk=7)):
            assert torch.equal(t.run(ids).logits, whole)
        t.run(ids[:, :12], chunk=5)  # short of the length from which on they change


def test_gradients_of_a_continued_prompt_are_those_of_attention() -> None:
    """On layers nobody looks at, too: a fused kernel's logsumexp has no gradient, so none is used there."""
    hf = tiny("llama")
    ids, _ = plain.padded_batch("none")
    grads = []
    for look in (None, frozenset({0, 1, 2})):
        hf.zero_grad()
        stats = [Received(layers=look)] if look else [Received(layers=frozenset({2}))]
        with trace(hf, stats=stats, grad=True) as t:
            out = t.run(ids[:, :9], use_cache=True)
            t.run(ids[:, 9:], cache=cache_of(out)).logits.sum().backward()
        grads.append(hf.get_input_embeddings().weight.grad.clone())
    torch.testing.assert_close(*grads, atol=1e-3, rtol=1e-3)


def test_what_fused_kernels_and_blocks_gave_is_laid_together() -> None:
    """A prompt through fused kernels, the tokens after it through blocks, as on a GPU."""
    hf = tiny("llama")
    ids, _ = plain.padded_batch("none")
    with trace(hf, stats=LINEAR) as whole:
        whole.run(ids)
    with trace(hf, stats=LINEAR) as t:
        with using("fused"):
            out = t.run(ids[:, :-2], use_cache=True)
        assert set(t.engines.values()) == {"fused"}
        for place in (-2, -1):
            end = ids.shape[1] + place + 1
            out = t.run(ids[:, end - 1 : end], cache=cache_of(out))
        assert set(t.engines.values()) == {"blocked"}
    for stat in LINEAR:
        same(t.stats[stat.name], whole.stats[stat.name], torch.ones_like(ids))


def test_a_mask_of_order_and_padding_is_told_from_any_other() -> None:
    order = torch.ones(2, 1, 4, 7, dtype=torch.bool).tril(3)
    assert masks.hidden_keys(None, 4, 7) == (True, None)
    assert masks.hidden_keys(order, 4, 7) == (True, None)
    padded = order.clone()
    padded[1, ..., :2] = False
    simple, valid = masks.hidden_keys(padded, 4, 7, rows=3)
    assert simple and valid is not None and valid.tolist() == [[True] * 7, [False] * 2 + [True] * 5]
    window = order & torch.ones(4, 7, dtype=torch.bool).triu(1)
    assert masks.hidden_keys(window, 4, 7) == (False, None)
    assert masks.hidden_keys(order.float(), 4, 7) == (False, None)


def test_padding_of_a_cache_is_looked_for_where_its_keys_are() -> None:
    """A mask [batch, position] may be longer than the keys (a static cache's), or begin before them (a window's)."""
    hides = torch.tensor([[0, 0, 1, 1, 1, 1, 1, 1]])
    assert not masks.all_real(hides, 0, 6) and masks.all_real(hides, 2, 6) and not masks.all_real(hides, 4, 6)
    assert masks.streamed_mask(1, 2, 6, q_offset=4, attention_mask=hides) is not None
    assert masks.streamed_mask(1, 2, 6, q_offset=4, attention_mask=torch.ones(1, 6)) is None
