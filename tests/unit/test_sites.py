"""The site map's names, errors and bindings; values are tested in tests/parity."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from interp.errors import LoadError, SiteError, TraceError
from interp.models.binding import Binding, put, take
from interp.models.block_sites import BLOCK_SITES
from interp.models.fused import Slice, qkv_slices
from interp.models.sites import SiteMap
from tests.parity.site_cases import CASES, build
from tests.tiny import ARCHS, tiny


@pytest.mark.parametrize("arch", ARCHS)
def test_names_are_unique_in_forward_order_and_bound(arch: str) -> None:
    sites = SiteMap(tiny(arch))
    names = sites.names()
    assert len(set(names)) == len(names)
    assert names[0] == "hook_embed" and names[-1] == "unembed.hook_out"
    layers = [int(name.split(".")[1]) for name in names if name.startswith("blocks.")]
    assert layers == sorted(layers) and set(layers) == set(range(sites.n_layers))
    assert all(sites.binding(name).site == name for name in names)
    assert sites.attention_layers() == tuple(range(sites.n_layers))
    for layer in range(sites.n_layers):
        assert sites.attention(layer) in set(sites.block(layer).modules())


@pytest.mark.parametrize("case", CASES)
def test_every_name_a_block_lacks_is_an_error_that_says_what_there_is(case: str) -> None:
    sites = SiteMap(build(case))
    for name in BLOCK_SITES:
        site = f"blocks.1.{name}"
        if site in sites.names():
            continue
        for ask in (sites.binding, lambda site: sites.expand([site])):
            with pytest.raises(SiteError) as error:
                ask(site)
            message = str(error.value)
            assert site in message and f"({sites.family})" in message
            assert "hook_" in message.replace(site, ""), message


def test_expand_keeps_forward_order_and_drops_repetitions() -> None:
    sites = SiteMap(tiny("llama"))
    found = sites.expand(["blocks.*.hook_resid_post", "blocks.[01].attn.hook_z", "hook_embed", "blocks.0.attn.hook_z"])
    assert found == (
        "hook_embed",
        "blocks.0.attn.hook_z",
        "blocks.0.hook_resid_post",
        "blocks.1.attn.hook_z",
        "blocks.1.hook_resid_post",
        "blocks.2.hook_resid_post",
    )
    assert sites.expand("blocks.2.hook_*_out") == ("blocks.2.hook_attn_out", "blocks.2.hook_mlp_out")


def test_patterns_that_match_nothing() -> None:
    parallel = SiteMap(tiny("gpt_neox"))
    with pytest.raises(SiteError, match=r"GPTNeoXForCausalLM \(gpt_neox\).*parallel.*hook_resid_post = hook_resid_pre"):
        parallel.expand(["blocks.*.hook_resid_mid"])
    with pytest.raises(SiteError, match="its blocks are 0 to 2"):
        parallel.expand(["blocks.7.hook_resid_pre"])
    with pytest.raises(SiteError, match=r"FalconAttention rotates.*hook_q and attn.hook_k"):
        SiteMap(tiny("falcon")).binding("blocks.0.attn.hook_rot_q")
    with pytest.raises(SiteError, match=r"It has hook_embed,.*attn.hook_z"):
        parallel.expand(["blocks.*.attn.hook_zz"])
    # In a mixture of experts some layers have a hidden layer and some do not.
    mixed = SiteMap(tiny("qwen3_moe"))
    assert mixed.expand(["blocks.*.mlp.hook_post"]) == ("blocks.0.mlp.hook_post",)
    with pytest.raises(SiteError, match=r"routes each token to experts.*mlp\.hook_in and mlp\.hook_out"):
        mixed.binding("blocks.1.mlp.hook_post")


@pytest.mark.parametrize("layer", [-1, 3])
def test_layers_out_of_range(layer: int) -> None:
    sites = SiteMap(tiny("llama"))
    for ask in (sites.block, sites.attention, sites.n_heads, sites.output_weight):
        with pytest.raises(SiteError, match=rf"blocks 0 to 2; there is no block {layer}"):
            ask(layer)


def test_head_counts() -> None:
    counts = {arch: (SiteMap(tiny(arch)).n_heads(0), SiteMap(tiny(arch)).n_kv_heads(0)) for arch in ("llama", "falcon")}
    assert counts == {"llama": (4, 2), "falcon": (4, 1)}
    assert SiteMap(tiny("deepseek_v3")).n_kv_heads(0) == 4


def test_unknown_architectures_are_refused() -> None:
    class HomeMade(nn.Module):
        config = tiny("llama").config

    HomeMade.config.architectures = ["HomeMade"]
    with pytest.raises(LoadError, match=r"HomeMade is not known to TransformerLens.*LlamaForCausalLM"):
        SiteMap(HomeMade())


def test_a_users_subclass_is_its_parent() -> None:
    model = tiny("llama")
    names = SiteMap(model).names()
    model.__class__ = type("MyLlama", (type(model),), {})
    model.config.architectures = None
    assert SiteMap(model).names() == names


def test_the_model_is_left_as_it_was() -> None:
    for arch in ARCHS:
        model = tiny(arch)
        before = {name: id(module) for name, module in model.named_modules()}
        weights = {name: (id(tensor), tensor._version) for name, tensor in model.state_dict(keep_vars=True).items()}
        state = torch.get_rng_state()
        SiteMap(model)
        assert {name: id(module) for name, module in model.named_modules()} == before
        assert {name: (id(t), t._version) for name, t in model.state_dict(keep_vars=True).items()} == weights
        assert torch.equal(torch.get_rng_state(), state)
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_output_weight_of_a_packed_projection_is_an_error() -> None:
    model = tiny("llama")
    projection = model.model.layers[0].self_attn.o_proj
    projection.weight = nn.Parameter(torch.zeros(8, dtype=torch.uint8), requires_grad=False)
    with pytest.raises(SiteError, match=r"output projection of block 0 is packed \(Linear\)"):
        SiteMap(model).output_weight(0)


def test_fused_layouts_that_are_not_regular_are_not_guessed() -> None:
    fused = nn.Linear(4, 12)

    class Shuffled(nn.Module):
        def _split_heads(self, labels: torch.Tensor) -> list[torch.Tensor]:
            return [labels[..., [0, 5, 3, 4]], labels[..., [1, 2, 6, 7]], labels[..., 8:]]

    class Mirrored(nn.Module):
        def _split_heads(self, labels: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return labels.flip(-1).chunk(3, dim=-1)

    class Interleaved(nn.Module):
        def _split_heads(self, labels: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return labels.view(1, 1, 2, 6).chunk(3, dim=-1)

    assert qkv_slices(None, Shuffled(), fused, 4) is None
    assert qkv_slices(None, Mirrored(), fused, 4) is None
    assert qkv_slices(None, nn.Module(), fused, 4) is None
    assert qkv_slices(None, Interleaved(), fused, 4) == {
        "q": Slice(2, 0, 2),
        "k": Slice(2, 2, 4),
        "v": Slice(2, 4, 6),
    }


BINDINGS = {
    "plain": Binding("s", 0, nn.Identity(), "output"),
    "heads": Binding("s", 0, nn.Identity(), "input", heads=3),
    "scaled": Binding("s", 0, nn.Identity(), "output", scale=0.25),
    "slice": Binding("s", 0, nn.Identity(), "output", start=4, stop=8, heads=2),
    "grouped": Binding("s", 0, nn.Identity(), "output", groups=3, start=1, stop=3, heads=3),
    "shared": Binding("s", 0, nn.Identity(), "input", shared=True),
    "overwritten": Binding("s", 0, nn.Identity(), "output", overwritten=True),
    "query": Binding("s", 0, nn.Identity(), "query"),
}


@pytest.mark.parametrize("kind", BINDINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_put_writes_what_take_reads(kind: str, dtype: torch.dtype) -> None:
    binding = BINDINGS[kind]
    shape = (2, 3, 5, 4) if kind == "query" else (2, 5, 12)
    tensor = torch.randn(shape).to(dtype)
    before = tensor.clone()
    value = take(binding, tensor)
    assert value.shape[:2] == (2, 5)
    new = torch.randn(value.shape).to(torch.bfloat16).float()
    result = put(binding, tensor, new)
    assert result.shape == tensor.shape and result.dtype == dtype
    assert torch.equal(take(binding, result).float(), new)
    assert (result is tensor) == (kind == "shared")
    if kind != "shared":
        assert torch.equal(tensor, before)
        assert result.untyped_storage().data_ptr() not in (
            new.untyped_storage().data_ptr(),
            tensor.untyped_storage().data_ptr(),
        )
    assert torch.equal(put(binding, before.clone(), take(binding, before)), before)


def test_values_that_the_model_overwrites_are_copied() -> None:
    for kind in ("shared", "overwritten"):
        tensor = torch.ones(1, 2, 12)
        value = take(BINDINGS[kind], tensor)
        tensor.zero_()
        assert value.min() == 1


def test_flattened_rows_need_the_batch_size() -> None:
    binding = Binding("blocks.0.mlp.hook_pre", 0, nn.Linear(2, 2), "output")
    rows = torch.arange(24.0).view(12, 2)
    assert torch.equal(take(binding, rows, batch=3), rows.view(3, 4, 2))
    assert torch.equal(put(binding, rows, torch.zeros(3, 4, 2)), torch.zeros(12, 2))
    for batch in (None, 0, 5):
        with pytest.raises(TraceError, match=r"blocks.0.mlp.hook_pre: Linear has .* 12 rows"):
            take(binding, rows, batch)


def test_shapes_that_do_not_fit_are_errors() -> None:
    with pytest.raises(TraceError, match="an axis of 12 does not divide into 5 equal parts"):
        take(Binding("s", 0, nn.Identity(), "output", heads=5), torch.zeros(1, 2, 12))
    with pytest.raises(TraceError, match=r"a value of shape \(1, 2, 3\); it has to fill \(1, 2, 12\)"):
        put(BINDINGS["plain"], torch.zeros(1, 2, 12), torch.zeros(1, 2, 3))


def test_importing_the_map_does_not_import_transformer_lens() -> None:
    code = "import sys, interp.models.sites, interp.models.self_check; print('transformer_lens' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
