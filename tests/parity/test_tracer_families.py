"""Every family: traced logits and every statistic against the model's own eager attention, padded and batched."""

from __future__ import annotations

import pytest
import torch

from interp.tracing.calls import received
from interp.tracing.passes import cache_of
from interp.tracing.statistics import Entropy, MassOn, Offsets, Received, Rows, RowSum, TopKey
from interp.tracing.tracer import trace
from tests import plain
from tests.tiny import ARCHS, BYPASSING, tiny

LOGITS, NUMBERS = 2e-5, 1e-5


def close(got: torch.Tensor, expected: torch.Tensor, atol: float = NUMBERS) -> None:
    torch.testing.assert_close(got.double(), expected.double(), atol=atol, rtol=1e-5)


def test_at_least_24_architectures() -> None:
    assert len(set(ARCHS)) >= 24


@pytest.mark.parametrize("arch", ARCHS)
def test_same_numbers_as_eager(arch: str) -> None:
    hf = tiny(arch)
    for padding in plain.PADDINGS:
        ids, mask = plain.padded_batch(padding)
        logits, patterns = plain.eager(hf, ids, mask)
        with torch.no_grad():
            own = hf(ids, attention_mask=mask, use_cache=False).logits
        sets = {"ends": [0, 1, 19], "masked": mask.bool() & (ids > 20)}
        stats = [Received(), Entropy(), RowSum(), TopKey(), Offsets(), MassOn(sets), Rows()]
        with trace(hf, stats=stats, block_rows=7) as t:
            out = t.run(ids, mask)
        assert t.attention_path == ("eager" if arch in BYPASSING else "streamed")
        assert bool(t.notes) == (arch in BYPASSING)
        close(out.logits[mask.bool()], logits[mask.bool()], LOGITS)
        close(out.logits[mask.bool()], own[mask.bool()], LOGITS)
        stacked = torch.stack(patterns)
        valid = mask.bool()
        close(plain.real(t.stats["received"], mask), plain.real(plain.received(patterns, mask), mask))
        assert t.stats["received"].masked_fill(valid[None, :, None], 0).abs().max() < 1e-6
        close(plain.real(t.stats["entropy"], mask), plain.real(torch.special.entr(stacked).sum(-1), mask))
        close(plain.real(t.stats["row_sum"], mask), plain.real(stacked.sum(-1), mask))
        top = t.stats["top_key"]
        close(plain.real(top["weight"], mask), plain.real(stacked.max(-1).values, mask))
        chosen = stacked.gather(-1, top["position"][..., None]).squeeze(-1)
        close(plain.real(chosen, mask), plain.real(stacked.max(-1).values, mask))
        for layer, pattern in enumerate(patterns):
            for kind, expected in plain.offsets(pattern, ids).items():
                close(plain.real(t.stats["offsets"][kind][layer][None], mask), plain.real(expected[None], mask))
        close(plain.real(t.stats["mass_on"]["ends"], mask), plain.real(stacked[..., sets["ends"]].sum(-1), mask))
        weighted = (stacked * sets["masked"][None, :, None, None, :]).sum(-1)
        close(plain.real(t.stats["mass_on"]["masked"], mask), plain.real(weighted, mask))
        for (layer, head), rows in t.stats["rows"].items():
            close(rows[valid], patterns[layer][:, head][valid])
        # the block size chosen for the shape, and the one-call form, give the same
        close(plain.real(received(hf, ids, mask), mask), plain.real(t.stats["received"], mask))


@pytest.mark.parametrize("arch", ARCHS)
def test_decoding_with_a_cache_continues_the_pass(arch: str) -> None:
    """Prefill and one row at a time give what one call over the whole sequence gives, past the sliding window too."""
    hf = tiny(arch)
    ids, _ = plain.padded_batch("none", length=18)
    mask = torch.ones_like(ids)
    logits, patterns = plain.eager(hf, ids, mask)
    with trace(hf, stats=[Received(), TopKey(), Offsets(["induction"]), Rows(queries=[12, 17])]) as t:
        out = t.run(ids[:, :11], use_cache=True)
        steps = [out.logits]
        for position in range(11, 18):
            out = t.run(ids[:, position : position + 1], cache=cache_of(out))
            steps.append(out.logits)
    close(torch.cat(steps, dim=1), logits, 5e-5)
    close(t.stats["received"], plain.received(patterns, mask))
    stacked = torch.stack(patterns)
    close(t.stats["top_key"]["weight"], stacked.max(-1).values)
    for layer, pattern in enumerate(patterns):
        close(t.stats["offsets"]["induction"][layer], plain.offsets(pattern, ids)["induction"])
    for (layer, head), rows in t.stats["rows"].items():
        close(rows, patterns[layer][:, head, [12, 17]])


@pytest.mark.parametrize("arch", ["llama", "mistral", "gemma3", "gpt2", "gpt_oss", "gpt_neox"])
def test_left_padded_decoding(arch: str) -> None:
    """Left padding and a cache together, as batched generation runs."""
    hf = tiny(arch)
    ids, mask = plain.padded_batch("left", batch=3, length=16)
    _, patterns = plain.eager(hf, ids, mask)
    with trace(hf, stats=[Received()]) as t:
        out = t.run(ids[:, :12], mask[:, :12], use_cache=True)
        for p in range(12, 16):
            out = t.run(ids[:, p : p + 1], mask[:, : p + 1], cache=cache_of(out))
    close(plain.real(t.stats["received"], mask), plain.real(plain.received(patterns, mask), mask))


@pytest.mark.parametrize("arch", ["llama", "gemma2", "gpt_oss", "falcon"])
def test_generate_is_traced_like_any_call(arch: str) -> None:
    hf = tiny(arch)
    ids, _ = plain.padded_batch("none", batch=1, length=9)
    with torch.no_grad():
        settings = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
        expected = hf.generate(ids, attention_mask=torch.ones_like(ids), **settings)
        with trace(hf, stats=[Received()]) as t:
            produced = hf.generate(ids, attention_mask=torch.ones_like(ids), **settings)
    assert produced.tolist() == expected.tolist()
    fed = produced[:, :-1]  # the last token is never fed back
    _, patterns = plain.eager(hf, fed, torch.ones_like(fed))
    close(t.stats["received"], plain.received(patterns, torch.ones_like(fed)))


def test_chunked_prefill_equals_one_call() -> None:
    """Several rows on a cache (the mask carries the causal part): gemma3's sliding layers included."""
    for arch in ("llama", "gemma3", "mistral"):
        hf = tiny(arch)
        ids, mask = plain.padded_batch("none", length=20)
        _, patterns = plain.eager(hf, ids, mask)
        with trace(hf, stats=[Received(), Entropy()]) as t:
            out = t.run(ids[:, :7], use_cache=True)
            out = t.run(ids[:, 7:15], cache=cache_of(out))
            t.run(ids[:, 15:], cache=cache_of(out))
        close(t.stats["received"], plain.received(patterns, mask))
        close(t.stats["entropy"], torch.special.entr(torch.stack(patterns)).sum(-1))
