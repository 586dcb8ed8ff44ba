"""Fused kernels on a GPU: the numbers of the blocks, in single and half precision, on every family and in chunks."""

from __future__ import annotations

import pytest
import torch

from interp.tracing.calls import received
from interp.tracing.fused import flex
from interp.tracing.statistics import Entropy, MassOn, Offsets, Received, RowSum
from interp.tracing.tracer import trace
from tests import plain
from tests.tiny import ARCHS, BYPASSING, tiny

pytestmark = pytest.mark.cuda
TOLERANCE = {torch.float32: 2e-4, torch.bfloat16: 0.03}
WIDER = {"qwen3": {"head_dim": 16}}
"""Heads whose width is no multiple of 8 are padded; one family of them is enough."""
STATS = (Received(), RowSum(), Offsets(["previous", "current"]), MassOn({"ends": [0, 1, 9]}))


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("padding", plain.PADDINGS)
@pytest.mark.parametrize("arch", ARCHS)
def test_fused_and_blocked_agree_on_cuda(arch: str, padding: str, dtype: torch.dtype) -> None:
    """Soft caps and sliding windows too: FlexAttention is compiled here."""
    hf = tiny(arch, **WIDER.get(arch, {})).to(dtype).cuda()
    stats = STATS if arch == "gemma2" else (*STATS, Entropy())
    ids, mask = plain.padded_batch(padding)
    found = {}
    for engine in ("blocked", "fused"):
        with trace(hf, stats=stats, engine=engine) as t:
            t.run(ids, mask)
        found[engine] = t
    served = set(found["fused"].engines.values())
    assert served == ({"fused"} if arch not in BYPASSING and flex.usable() else served)
    for stat in stats:
        pairs = zip(leaves(found["fused"].stats[stat.name]), leaves(found["blocked"].stats[stat.name]), strict=True)
        for left, right in pairs:
            torch.testing.assert_close(plain.real(left, mask), plain.real(right, mask), atol=TOLERANCE[dtype], rtol=0)


def leaves(result: object) -> list[torch.Tensor]:
    if isinstance(result, torch.Tensor):
        return [result]
    assert isinstance(result, dict)
    return [leaf for one in result.values() for leaf in leaves(one)]


@pytest.mark.parametrize("length", [1024, 3000, 4097])
def test_long_prompts_are_fused_by_themselves_and_in_chunks(length: int) -> None:
    hf = tiny("llama", max_position_embeddings=8192).cuda()
    ids = torch.randint(3, 60, (1, length))
    with trace(hf, stats=[Received()]) as t:
        t.run(ids)
    assert set(t.engines.values()) == {"fused"}
    torch.testing.assert_close(t.stats["received"], received(hf, ids, engine="blocked"), atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(received(hf, ids, chunk=700), t.stats["received"], atol=1e-5, rtol=1e-3)


def test_a_prompt_is_fused_and_what_follows_is_not() -> None:
    hf = tiny("llama", max_position_embeddings=8192).cuda()
    ids = torch.randint(3, 60, (1, 1200)).cuda()
    with trace(hf, stats=[Received(), RowSum()]) as t:
        out = t.run(ids[:, :-1], use_cache=True)
        assert set(t.engines.values()) == {"fused"}
        t.run(ids[:, -1:], cache=out.past_key_values)
        assert set(t.engines.values()) == {"blocked"}
    torch.testing.assert_close(t.stats["received"], received(hf, ids, engine="blocked"), atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(received(hf, ids, chunk=1024), t.stats["received"], atol=1e-5, rtol=1e-3)


def test_memory_beyond_the_plain_forward_stays_small() -> None:
    """At 16k tokens one layer's pattern would be 4 GiB; no more than 200 MB are held beyond plain sdpa."""
    hf = tiny("llama", max_position_embeddings=32768).to(torch.bfloat16).cuda()
    ids = torch.randint(3, 60, (1, 16384)).cuda()
    received(hf, ids)  # compiles
    peaks = []
    for run in (lambda: hf(ids, use_cache=False, logits_to_keep=1), lambda: received(hf, ids)):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        with torch.no_grad():
            run()
        peaks.append(torch.cuda.max_memory_allocated())
    assert peaks[1] - peaks[0] < 200e6
