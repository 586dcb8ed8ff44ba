"""Edits against doing the same thing by hand on whole patterns."""

from __future__ import annotations

import pytest
import torch

from interp.interventions.ablate import MeanHeads, ZeroHeads
from interp.interventions.attention import CutKeys
from interp.tracing.blocks import RowBlock
from interp.tracing.statistics import Received, Rows
from interp.tracing.tracer import trace
from tests import plain
from tests.tiny import tiny

IDS = torch.randint(3, 100, (2, 17), generator=torch.Generator().manual_seed(3))
FAMILIES = ["llama", "gemma3", "gpt2", "gpt_oss", "gpt_neox", "falcon", "bloom", "gpt_neo"]


@pytest.mark.parametrize("arch", FAMILIES)
def test_cut_keys_by_hand(arch: str) -> None:
    """In the first layer the cut pattern is the plain one with columns removed and rows scaled back to their sum."""
    hf = tiny(arch)
    _, patterns = plain.eager(hf, IDS, torch.ones_like(IDS))
    expected = patterns[0].clone()
    for q in range(17):
        for key in (0, 5):
            if key == q:
                continue
            total = expected[:, :, q].sum(-1)
            rest = expected[:, :, q].clone()
            rest[..., key] = 0
            scale = torch.where(rest.sum(-1) > 1e-9, total / rest.sum(-1).clamp_min(1e-9), 0.0)
            expected[:, :, q] = torch.where((scale > 0)[..., None], rest * scale[..., None], expected[:, :, q])
    with trace(hf, stats=[Rows(layers=frozenset({0}))], edit=[CutKeys([0, 5])], block_rows=6) as t:
        t.run(IDS)
    for (layer, head), rows in t.stats["rows"].items():
        assert layer == 0
        torch.testing.assert_close(rows, expected[:, head], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("arch", FAMILIES)
def test_rewritten_rows_are_what_the_model_uses(arch: str) -> None:
    """Replacing rows by the rows themselves changes nothing; swapping heads' rows changes z as pattern @ v says."""

    class Same:
        layers = None

        def rows(self, block: RowBlock) -> torch.Tensor:
            return block.rows.clone()

    class SelfOnly:
        layers = frozenset({1})

        def rows(self, block: RowBlock) -> torch.Tensor:
            own = block.key_positions[None, :] == block.query_positions[:, None]
            return own.to(block.rows.dtype).expand_as(block.rows)

    hf = tiny(arch)
    with torch.no_grad():
        plain_logits = hf(IDS).logits
    with trace(hf, edit=[Same()], block_rows=6) as t:
        torch.testing.assert_close(t.run(IDS).logits, plain_logits, atol=2e-5, rtol=1e-5)
    sites = ["blocks.1.attn.hook_v", "blocks.1.attn.hook_z"]
    with trace(hf, edit=[SelfOnly()], read=sites, block_rows=6) as t:
        t.run(IDS)
    value, z = t[sites[0]], t[sites[1]]
    torch.testing.assert_close(z, value.repeat_interleave(z.shape[2] // value.shape[2], dim=2), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("arch", FAMILIES)
def test_zeroed_heads_write_nothing(arch: str) -> None:
    """Ablating heads equals zeroing their columns of the output projection's weight."""
    hf = tiny(arch)
    site = "blocks.1.attn.hook_z"
    with trace(hf, read=[site], edit=[ZeroHeads([(1, 0), (1, 2), (0, 1)])]) as t:
        got = t.run(IDS).logits
    z = t[site]
    assert z[:, :, [0, 2]].abs().max() == 0 and z[:, :, 1].abs().min() > 0
    twin = tiny(arch)
    with trace(twin, read=[site]) as t:
        projections = {layer: t.sites.binding(f"blocks.{layer}.attn.hook_z").module for layer in (0, 1)}
    size = z.shape[-1]
    with torch.no_grad():
        for layer, head in ((1, 0), (1, 2), (0, 1)):
            weight = projections[layer].weight
            columns = weight.T if weight.shape[1] == z.shape[2] * size and arch != "gpt2" else weight
            columns[head * size : (head + 1) * size] = 0
        expected = twin(IDS).logits
    torch.testing.assert_close(got, expected, atol=3e-5, rtol=1e-5)


def test_mean_heads_puts_the_mean_there() -> None:
    hf = tiny("qwen3")
    mean = torch.randn(12)
    by_position = torch.randn(17, 12)
    site = "blocks.2.attn.hook_z"
    with trace(hf, read=[site], edit=[MeanHeads({(2, 1): mean, (2, 3): by_position})]) as t:
        t.run(IDS)
    torch.testing.assert_close(t[site][:, :, 1], mean.expand(2, 17, 12))
    torch.testing.assert_close(t[site][:, :, 3], by_position.expand(2, 17, 12))


def test_cutting_one_head_leaves_the_others() -> None:
    hf = tiny("llama")
    with trace(hf, stats=[Received()]) as t:
        t.run(IDS)
    before = t.stats["received"]
    with trace(hf, stats=[Received()], edit=[CutKeys([0], layers=frozenset({0}), heads=[2])]) as t:
        t.run(IDS)
    after = t.stats["received"]
    assert after[0, :, 2, 0].max() < before[0, :, 2, 0].min()
    torch.testing.assert_close(after[0, :, [0, 1, 3]], before[0, :, [0, 1, 3]])


def test_edits_at_every_kind_of_site_take_effect() -> None:
    class Scale:
        def __init__(self, site: str):
            self.sites = (site,)

        def apply(self, value: torch.Tensor, site: str, layer: int | None) -> torch.Tensor:
            return value * factors(value)

    def factors(value: torch.Tensor) -> torch.Tensor:
        """Uneven ones: a norm after the site would undo one factor for all."""
        return torch.linspace(0.1, 1.0, value.shape[-1])

    for arch in ("llama", "gpt2", "gemma2", "phi3", "gpt_neox"):
        hf = tiny(arch)
        with trace(hf) as t:
            plain_logits = t.run(IDS).logits
            sites = [site for site in t.sites.names() if site.startswith("blocks.1.")]
        for site in sites:
            with trace(hf, read=[site]) as t:
                t.run(IDS)
            before = t[site].clone()
            with trace(hf, read=[site], edit=[Scale(site)]) as t:
                logits = t.run(IDS).logits
            torch.testing.assert_close(t[site], before * factors(before), atol=1e-6, rtol=1e-5)
            assert (logits - plain_logits).abs().max() > 1e-4, f"{arch} {site}: the edit changed nothing"
