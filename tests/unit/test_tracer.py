"""The tracer's promises besides its numbers: it leaves no mark, nests, refuses what it does not know, stays small."""

from __future__ import annotations

import copy
import gc
import weakref
from typing import Any

import pytest
import torch
from torch import nn

from interp.errors import TraceError
from interp.interventions.ablate import ZeroHeads
from interp.interventions.attention import CutKeys
from interp.tracing import streamed
from interp.tracing.attention import NAME, RowRules, attend
from interp.tracing.blocks import RowBlock
from interp.tracing.calls import received
from interp.tracing.passes import cache_of
from interp.tracing.statistics import Entropy, Received, Rows, TopKey
from interp.tracing.tracer import trace
from tests.tiny import tiny

IDS = torch.arange(3, 19)[None]
EDGES = ["llama", "gemma2", "gpt2", "gpt_oss", "falcon", "bloom", "opt", "mpt"]


def marks(hf: nn.Module) -> dict[str, Any]:
    """Everything a trace could have left behind in a model object."""
    hooks = {
        (name, kind): list(getattr(module, kind))
        for name, module in hf.named_modules()
        for kind in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_forward_hooks_always_called")
    }
    return {
        "state": {name: tensor.clone() for name, tensor in hf.state_dict().items()},
        "buffers": {name: tensor.clone() for name, tensor in hf.named_buffers()},
        "attributes": {name: sorted(vars(module)) for name, module in hf.named_modules()},
        "modes": {name: module.training for name, module in hf.named_modules()},
        "grads": {name: parameter.grad is None for name, parameter in hf.named_parameters()},
        "requires": {name: parameter.requires_grad for name, parameter in hf.named_parameters()},
        "config": hf.config.to_dict(),
        "attention": hf.config._attn_implementation,
        "classes": {name: type(module) for name, module in hf.named_modules()},
        "hooks": hooks,
    }


def same_marks(before: dict[str, Any], after: dict[str, Any]) -> None:
    for key in ("state", "buffers"):
        assert before[key].keys() == after[key].keys()
        assert all(torch.equal(before[key][name], after[key][name]) for name in before[key]), key
    rest = [key for key in before if key not in ("state", "buffers")]
    assert {key: before[key] for key in rest} == {key: after[key] for key in rest}
    assert not streamed.TAPS and not streamed.FALLBACK


def everything(hf: nn.Module) -> dict[str, Any]:
    heads = ZeroHeads([(0, 1)])
    return {
        "read": ["blocks.*.hook_resid_post", "blocks.1.attn.hook_z"],
        "stats": [Received(), TopKey(), Entropy()],
        "edit": [heads, CutKeys([0])],
    }


@pytest.mark.parametrize("arch", EDGES)
def test_the_model_is_bit_identical_afterwards(arch: str) -> None:
    hf = tiny(arch)
    before = marks(hf)
    with torch.no_grad():
        logits = hf(IDS).logits
    with trace(hf, **everything(hf)) as t:
        changed = t.run(IDS).logits
    assert not torch.equal(changed, logits)
    same_marks(before, marks(hf))
    with torch.no_grad():
        assert torch.equal(hf(IDS).logits, logits)


@pytest.mark.parametrize("arch", EDGES)
@pytest.mark.parametrize("where", ["user", "statistic", "site edit", "row edit"])
def test_the_model_is_bit_identical_after_an_exception(arch: str, where: str) -> None:
    class Boom(Exception):
        pass

    class BadStat(Received):
        def accumulator(self, frame: Any) -> Any:
            raise Boom

    class BadSite:
        sites = ("blocks.1.hook_resid_post",)

        def apply(self, value: torch.Tensor, site: str, layer: int | None) -> torch.Tensor:
            raise Boom

    class BadRows:
        layers = frozenset({1})

        def rows(self, block: RowBlock) -> torch.Tensor:
            raise Boom

    hf = tiny(arch)
    before = marks(hf)
    stats = [BadStat()] if where == "statistic" else [Received()]
    edit = {"site edit": [BadSite()], "row edit": [BadRows()]}.get(where, [])
    with pytest.raises(Boom), trace(hf, stats=stats, edit=edit) as t:
        t.run(IDS)
        raise Boom
    same_marks(before, marks(hf))
    with trace(hf, stats=[Received()]) as t:  # and it can be traced again
        t.run(IDS)
    assert t.stats["received"].isfinite().all()


@pytest.mark.parametrize("arch", ["llama", "bloom", "gpt_neo", "falcon"])
def test_nested_traces_both_see_and_all_edits_apply(arch: str) -> None:
    hf = tiny(arch)
    with trace(hf, edit=[ZeroHeads([(0, 0)])], stats=[Received()]) as alone:
        alone.run(IDS)
    before = marks(hf)
    with trace(hf, edit=[ZeroHeads([(0, 0)])], stats=[Received()]) as outer:
        with trace(hf, stats=[Received()], read=["blocks.0.attn.hook_z"]) as inner:
            inner.run(IDS)
        assert torch.equal(inner.stats["received"], outer.stats["received"])
        assert inner["blocks.0.attn.hook_z"][:, :, 0].abs().max() == 0
        outer.run(IDS)  # the outer one still works when the inner one has closed
    torch.testing.assert_close(outer.stats["received"], alone.stats["received"])
    same_marks(before, marks(hf))


def test_opening_an_inner_trace_leaves_the_outer_ones_pass_alone() -> None:
    """The two tokens that find out the attention path belong to nobody's pass, and nobody's edit acts on them."""
    hf = tiny("llama")
    with trace(hf, read=["blocks.2.hook_resid_post"]) as outer:
        outer.run(IDS)
        with trace(hf, stats=[Received()]):
            pass
        assert outer["blocks.2.hook_resid_post"].shape[1] == IDS.shape[1]


def test_a_failed_call_leaves_no_half_pass() -> None:
    hf = tiny("llama")
    with trace(hf, stats=[Received()]) as t:
        t.run(IDS)
        with pytest.raises(IndexError):
            t.run([[5, 10_000]])
        with pytest.raises(TraceError, match="nothing was traced"):
            t.stats["received"]


def test_a_traced_model_can_be_freed() -> None:
    hf = tiny("llama")
    received(hf, IDS)
    gone = weakref.ref(hf)
    del hf
    gc.collect()
    assert gone() is None


def test_reading_a_new_key_keeps_only_that_key() -> None:
    hf = tiny("llama")
    with trace(hf, read=["blocks.0.attn.hook_rot_k"]) as t:
        out = t.run(IDS)
        for _ in range(8):
            out = t.run([[7]], cache=cache_of(out)) if cache_of(out) is not None else t.run(IDS, use_cache=True)
        parts = t.last().reads["blocks.0.attn.hook_rot_k"]
    assert len(parts) == 8
    assert all(p.untyped_storage().nbytes() == p.numel() * p.element_size() for p in parts)


def test_sums_stay_float32_under_autocast() -> None:
    hf = tiny("llama")
    ids = torch.randint(3, 100, (1, 250), generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", torch.bfloat16), trace(hf, stats=[Received(mean=False), Rows()]) as t:
        t.run(ids)
    rows = torch.stack([torch.stack([t.stats["rows"][n, h][0].sum(0) for h in range(4)]) for n in range(3)])
    torch.testing.assert_close(t.stats["received"][:, 0], rows, atol=1e-4, rtol=1e-5)


def test_repeated_runs_give_the_last_pass() -> None:
    hf = tiny("qwen3")
    with trace(hf, stats=[Received()], read=["blocks.0.hook_resid_post"]) as t:
        t.run(IDS)
        t.run(IDS[:, :5].expand(3, -1))
    assert t.stats["received"].shape == (3, 3, 4, 5)
    assert t["blocks.0.hook_resid_post"].shape == (3, 5, 32)


def test_gradients_only_when_asked_for() -> None:
    hf = tiny("gemma2")
    with trace(hf, read=["blocks.1.hook_resid_post"], stats=[Received()]) as t:
        out = t.run(IDS)
    assert not out.logits.requires_grad and not t["blocks.1.hook_resid_post"].requires_grad
    assert torch.is_grad_enabled()
    with trace(hf, read=["blocks.1.hook_resid_post"], stats=[Received()], grad=True) as t:
        out = t.run(IDS)
        site = t["blocks.1.hook_resid_post"]
        (gradient,) = torch.autograd.grad(out.logits[0, -1, 7], site)
    assert gradient.shape == site.shape and gradient.abs().sum() > 0
    assert not t.stats["received"].requires_grad
    assert all(parameter.grad is None for parameter in hf.parameters())


@pytest.mark.parametrize("arch", ["llama", "gemma2", "gpt_oss", "gpt_neo"])
def test_gradients_through_streamed_attention_are_the_eager_ones(arch: str) -> None:
    def gradient(hf: Any, run: Any) -> torch.Tensor:
        hf.zero_grad()
        run().logits[0, -1].square().sum().backward()
        return torch.cat([parameter.grad.flatten() for parameter in hf.parameters() if parameter.grad is not None])

    hf = tiny(arch)
    hf.config._attn_implementation = "eager"
    expected = gradient(hf, lambda: hf(IDS))
    with trace(hf, stats=[Received()], grad=True, block_rows=5) as t:
        got = gradient(hf, lambda: t.run(IDS))
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_statistics_are_float32_whatever_the_model_is(dtype: torch.dtype) -> None:
    exact = received(tiny("llama"), IDS)
    hf = tiny("llama").to(dtype)
    got = received(hf, IDS)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, exact, atol=0.1, rtol=0)
    # rows accumulated in float32 sum to 1 far better than the model's own dtype could hold
    with trace(hf, stats=[Rows()]) as t:
        t.run(IDS)
    sums = torch.stack([rows.sum(-1) for rows in t.stats["rows"].values()])
    assert (sums - 1).abs().max() < 1e-5


def test_layers_nobody_looks_at_keep_the_models_own_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    hf = tiny("llama")
    calls = []
    monkeypatch.setattr(streamed.attention, "attend", lambda *a, **k: calls.append(1) or attend(*a, **k))
    with trace(hf, stats=[Received(layers=frozenset({1}))]) as t:
        t.run(IDS)
    assert len(calls) == 1
    result = t.stats["received"]
    assert result[[0, 2]].isnan().all() and result[1].isfinite().all()


def test_extra_memory_grows_with_length_not_its_square() -> None:
    """The largest block of one attention call, at 1x and 8x the length."""

    def peak(length: int) -> int:
        q, k = torch.randn(1, 8, length, 16), torch.randn(1, 2, length, 16)
        sizes: list[int] = []
        rules = RowRules(scaling=0.25)
        with torch.no_grad():
            attend(q, k, k, None, rules, lambda rows, *_: sizes.append(rows.numel()))
        return max(sizes)

    assert peak(4096) <= peak(512) * 8 * 1.1
    assert peak(4096) < 8 * 4096 * 4096 / 16


def test_no_pattern_outlives_its_block() -> None:
    hf = tiny("llama")
    ids = torch.randint(3, 100, (1, 600))
    gc.collect()
    biggest = 0

    class Watch(Received):
        def accumulator(self, frame: Any) -> Any:
            inner = super().accumulator(frame)
            fold = inner.fold

            def watched(block: RowBlock) -> None:
                nonlocal biggest
                biggest = max(biggest, block.rows.shape[2])
                fold(block)

            inner.fold = watched
            return inner

    with trace(hf, stats=[Watch()], block_rows=64) as t:
        t.run(ids)
    assert biggest == 64
    tensors = [o for o in gc.get_objects() if type(o) is torch.Tensor]
    alive = [o for o in tensors if o.dim() >= 2 and o.shape[-1] == 600]
    assert all(o.shape[-2] < 64 for o in alive), [tuple(o.shape) for o in alive]


# -- windows and weights ---------------------------------------------------------------------------------------------


def test_received_over_a_query_window_and_with_weights() -> None:
    hf = tiny("qwen2")
    ids = torch.randint(3, 100, (2, 14))
    weights = torch.rand(2, 14)
    stats = [
        Received(window=(4, 9), name="window"),
        Received(weights=weights, name="weighted"),
        Received(mean=False, name="sum"),
        Rows(),
    ]
    with trace(hf, stats=stats, block_rows=4) as t:
        t.run(ids)
    pattern = torch.stack([torch.stack([t.stats["rows"][layer, head] for head in range(4)], 1) for layer in range(3)])
    inside = torch.zeros(14)
    inside[4:9] = 1
    for name, weight in (("window", inside.expand(2, 14)), ("weighted", weights)):
        total = weight.flip(-1).cumsum(-1).flip(-1)[None, :, None]
        expected = (pattern * weight[None, :, None, :, None]).sum(-2) / total.clamp_min(1e-30)
        torch.testing.assert_close(t.stats[name], expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(t.stats["sum"], pattern.sum(-2), atol=1e-5, rtol=1e-5)
    signed = torch.linspace(1, -0.4, 14)  # a contrast of early and late queries: weights may be negative
    with trace(hf, stats=[Received(weights=signed)]) as t:
        t.run(ids)
    total = signed.flip(-1).cumsum(-1).flip(-1)
    expected = (pattern * signed[None, None, None, :, None]).sum(-2) / total
    torch.testing.assert_close(t.stats["received"], expected, atol=1e-4, rtol=1e-4)


def test_a_trace_works_on_a_copy_made_inside_a_trace() -> None:
    """deepcopy of a model under trace must not carry the trace's hooks into numbers of its own."""
    hf = tiny("llama")
    with torch.no_grad():
        expected = hf(IDS).logits
    twin = copy.deepcopy(hf)
    with trace(hf, edit=[ZeroHeads([(0, 0)])]), torch.no_grad():
        torch.testing.assert_close(twin(IDS).logits, expected)
    assert hf.config._attn_implementation != NAME


def test_what_a_closed_trace_read_goes_with_it() -> None:
    """Not when a garbage search comes by: on a long prompt that may be gigabytes later."""
    gc.collect()
    gc.disable()
    try:
        with trace(tiny("llama"), read=["blocks.*.hook_resid_post"], stats=[Received()]) as t:
            t.run(IDS)
        state = weakref.ref(t["blocks.1.hook_resid_post"])
        del t
        assert state() is None
    finally:
        gc.enable()
