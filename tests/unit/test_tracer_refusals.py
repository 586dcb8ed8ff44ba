"""What the tracer refuses, and that it says what and why."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from interp.errors import LoadError, SiteError, TraceError, UsageError
from interp.interventions.ablate import ZeroHeads
from interp.interventions.attention import CutKeys
from interp.tracing.calls import received
from interp.tracing.passes import cache_of
from interp.tracing.statistics import MassOn, Offsets, Received, Rows
from interp.tracing.tracer import trace
from tests.tiny import tiny

IDS = torch.arange(3, 19)[None]


def test_an_unknown_attention_keyword_is_an_error_that_names_it() -> None:
    hf = tiny("llama")
    with pytest.raises(TraceError, match="block_sparse_map"), trace(hf, stats=[Received()]) as t:
        t.run(IDS, block_sparse_map=torch.ones(3))


def test_attention_dropout_is_refused() -> None:
    hf = tiny("llama", attention_dropout=0.3).train()
    with pytest.raises(TraceError, match="eval"), trace(hf, stats=[Received()]) as t:
        t.run(IDS)
    assert all(module.training for module in hf.modules())


def test_a_static_cache_is_refused() -> None:
    from transformers import StaticCache

    hf = tiny("llama")
    with pytest.raises(TraceError, match="static"), trace(hf, stats=[Received()]) as t:
        t.run(IDS, cache=StaticCache(config=hf.config, max_cache_len=64))


def test_one_block_called_by_itself_is_refused() -> None:
    hf = tiny("gpt2")
    with pytest.raises(TraceError, match="forward call"), trace(hf, stats=[Received()]):
        hf.transformer.h[0](torch.randn(1, 4, 32))


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda hf: trace(hf, read=["blocks.0.hook_nothing"]), SiteError, "hook_nothing"),
        (lambda hf: trace(hf, stats=[Received(), Received()]), UsageError, "different names"),
        (lambda hf: trace(hf, edit=[object()]), UsageError, "not an edit"),
        (lambda hf: trace(hf, block_rows=0), UsageError, "block_rows"),
        (lambda hf: trace("llama"), UsageError, "str"),
        (lambda hf: Offsets(["next"]), UsageError, "next"),
        (lambda hf: ZeroHeads([(0, -1)]), UsageError, "-1"),
        (lambda hf: ZeroHeads([3]), UsageError, "pairs"),
    ],
)
def test_bad_requests(make: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make(tiny("llama"))


def test_bad_requests_inside_the_block() -> None:
    hf = tiny("llama")
    with trace(hf, stats=[Received()], read=["blocks.0.hook_resid_post"]) as t:
        with pytest.raises(TraceError, match="nothing was traced"):
            t.stats["received"]
        with pytest.raises(UsageError, match=r"shape"):
            t.run([[]])
        with pytest.raises(UsageError, match="float"):
            t.run(torch.rand(1, 4))
        with pytest.raises(UsageError, match="Rows"):
            t.run(IDS, output_attentions=True)
        t.run(IDS)
        with pytest.raises(UsageError, match="entropy"):
            t.stats["entropy"]
        with pytest.raises(UsageError, match=r"blocks\.1"):
            t["blocks.1.hook_resid_post"]
    with pytest.raises(UsageError, match="closed"):
        t.run(IDS)
    with trace(hf, edit=[ZeroHeads([(0, 99)])]) as t, pytest.raises(UsageError, match=r"heads 0\.\.3"):
        t.run(IDS)
    with trace(hf, stats=[MassOn()]) as t, pytest.raises(UsageError, match="at least one"):
        t.run(IDS)


@pytest.mark.parametrize(
    ("what", "where"),
    [
        ({"edit": [CutKeys([0], layers=frozenset({3}))]}, r"CutKeys: layers \[3\]"),
        ({"stats": [Rows(heads=[(3, 0)])]}, r"Rows: layers \[3\]"),
        ({"stats": [Received(layers=frozenset({99}))]}, r"0\.\.2"),
    ],
)
def test_layers_the_model_does_not_have(what: dict[str, Any], where: str) -> None:
    with pytest.raises(UsageError, match=where):
        trace(tiny("llama"), **what)


def test_an_edit_that_never_applied_is_an_error() -> None:
    """Site maps know the modules a model was loaded with; one replaced since is not hooked."""
    from interp.models.load import load

    model = load(tiny("llama"), check=False)
    assert model.sites.n_layers == 3  # the map is made now
    attention = model.hf.model.layers[0].self_attn
    attention.o_proj = torch.nn.Linear(32, 32, bias=False)
    with trace(model, edit=[ZeroHeads([(0, 1)])]) as t, pytest.raises(TraceError, match=r"blocks\.0.*never applied"):
        t.run(IDS)


def test_beam_search_is_refused_and_the_cache_is_itself_afterwards() -> None:
    hf = tiny("llama")
    settings = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0, "attention_mask": torch.ones_like(IDS)}
    with pytest.raises(TraceError, match="num_beams"), trace(hf, stats=[Received()]):
        hf.generate(IDS, num_beams=3, **settings)
    with trace(hf, stats=[Received()]) as t:
        cache = cache_of(t.run(IDS, use_cache=True))
    assert "reorder_cache" not in vars(cache)
    hf.generate(IDS, num_beams=3, **settings)  # and outside a trace it works


def test_a_cache_of_another_sequence_begins_a_pass_of_its_own() -> None:
    hf = tiny("llama")
    first, second = IDS, IDS + 20
    with trace(hf, stats=[Received(mean=False)]) as t:
        cache = cache_of(t.run(first, use_cache=True))
        t.run(second, use_cache=True)
        t.run([[7]], cache=cache)
    assert t.last().frame.start == IDS.shape[1]
    got = t.stats["received"]
    with trace(hf, stats=[Received(mean=False, window=(16, 17))]) as t:
        t.run(torch.cat([first, torch.tensor([[7]])], dim=1))
    torch.testing.assert_close(got, t.stats["received"], atol=1e-5, rtol=1e-5)


def test_a_cropped_cache_is_refused() -> None:
    hf = tiny("llama")
    with trace(hf, stats=[Received()]) as t:
        cache = cache_of(t.run(IDS, use_cache=True))
        cache.crop(-6)
        with pytest.raises(TraceError, match="holds 10 tokens"):
            t.run([[7]], cache=cache)


def test_an_encoder_is_refused_by_the_one_call_form_too() -> None:
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, vocab_size=64, pad_token_id=0
    )
    with pytest.raises(LoadError, match="Bert"):
        received(BertForMaskedLM(config).eval(), IDS)
