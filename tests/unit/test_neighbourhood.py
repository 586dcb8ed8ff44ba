"""The neighbourhood finder against plain computations, and matrix entropy where it is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import interp
from interp.finders.neighbourhood_check import change
from interp.finders.neighbourhood_curves import claim, curve, estimate, mean_over
from interp.finders.neighbourhood_measure import measure
from interp.finders.neighbourhood_spectrum import compression, mean_cosine
from interp.finders.sink_config import SinksConfig
from interp.finders.sink_found import found_sinks
from interp.finders.sink_neighbourhood import sink_neighbourhood
from interp.tracing.passes import cache_of
from tests import plain, plain_neighbourhood
from tests.planted.scan import as_prompt
from tests.tiny import tiny

LOOSE = SinksConfig(floor=0.0, multiple=1.0, norm=0.0, cosine=0.2)
IDS = tuple(int(i) for i in torch.randint(4, 120, (48,), generator=torch.Generator().manual_seed(3)))
FAMILIES = pytest.mark.parametrize("arch", ["llama", "qwen3", "gpt_oss"])


def orthogonal(n: int, width: int) -> torch.Tensor:
    return torch.linalg.qr(torch.randn(width, width, dtype=torch.float64))[0][:n]


def test_rank_one_is_wholly_compressed() -> None:
    row = torch.randn(1, 9)
    found = compression(torch.arange(1.0, 6.0)[:, None] * row)
    assert found.entropy == pytest.approx(0, abs=1e-9) and found.entropy_share == pytest.approx(0, abs=1e-9)
    assert found.anisotropy == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(("n", "width"), [(5, 12), (12, 12)])
def test_orthogonal_rows_have_the_largest_entropy(n: int, width: int) -> None:
    found = compression(7.0 * orthogonal(n, width))
    assert found.entropy == pytest.approx(np.log(n)) and found.entropy_share == pytest.approx(1)
    assert found.anisotropy == pytest.approx(1 / n)


@pytest.mark.parametrize("shape", [(7, 20), (20, 7), (1, 5)])
def test_compression_is_that_of_the_singular_values(shape: tuple[int, int]) -> None:
    states = torch.randn(shape)
    states[0] *= 40
    found = compression(states)
    entropy, anisotropy = plain_neighbourhood.spectrum(states.double().numpy())
    assert found.entropy == pytest.approx(entropy, rel=1e-9, abs=1e-12)
    assert found.anisotropy == pytest.approx(anisotropy, rel=1e-9)
    least = min(shape)
    assert found.entropy_share == pytest.approx(entropy / np.log(least) if least > 1 else 0.0, abs=1e-12)


def test_mean_cosine_is_that_of_all_pairs() -> None:
    states = torch.randn(11, 6) + 1
    assert mean_cosine(states) == pytest.approx(plain_neighbourhood.mean_cosine(states.double().numpy()))
    assert mean_cosine(torch.ones(4, 3)) == pytest.approx(1)
    assert np.isnan(mean_cosine(torch.ones(1, 3)))


@FAMILIES
def test_states_and_vectors_are_those_of_forward_hooks(arch: str) -> None:
    hf: Any = tiny(arch)
    model = interp.load(hf, check=False)
    unit = measure(model, as_prompt(IDS), LOOSE)
    found = found_sinks(model, as_prompt(IDS), LOOSE)
    anchor, ordinary = found.anchor, list(found.ordinary)
    assert anchor is not None and ordinary
    layers = hf.model.layers
    states = plain_neighbourhood.block_outputs(hf, layers, IDS)
    rest = [i for i in range(len(IDS)) if i not in {sink.position for sink in found.sinks}]
    values = plain_neighbourhood.projected(hf, [layer.self_attn.v_proj for layer in layers], IDS, 2)
    keys = plain_neighbourhood.projected(hf, [layer.self_attn.k_proj for layer in layers], IDS, 2)
    for layer, state in enumerate(states):
        entropy, anisotropy = plain_neighbourhood.spectrum(state)
        expected = {
            "entropy": entropy,
            "anisotropy": anisotropy,
            "anisotropy_rest": plain_neighbourhood.spectrum(state[rest])[1],
            "cosine": plain_neighbourhood.mean_cosine(state),
            "norm_anchor": plain_neighbourhood.length_ratio(state[:, None], anchor, ordinary),
            "value_anchor": plain_neighbourhood.length_ratio(values[layer], anchor, ordinary),
            "key_anchor": plain_neighbourhood.length_ratio(keys[layer], anchor, ordinary),
        }
        for name, number in expected.items():
            assert unit.arrays[name][layer] == pytest.approx(number, rel=1e-4), (name, layer)
        others = sorted({s.position for s in found.sinks if s.position != anchor and layer in s.layers})
        if others:
            ratios = [plain_neighbourhood.length_ratio(state[:, None], i, ordinary) for i in others]
            assert unit.arrays["norm_others"][layer] == pytest.approx(np.mean(ratios), rel=1e-4)
        readers = sorted({s.position for s in found.sinks if s.position != anchor and layer - 1 in s.layers})
        if readers:
            ratios = [plain_neighbourhood.length_ratio(values[layer], i, ordinary) for i in readers]
            assert unit.arrays["value_others"][layer] == pytest.approx(np.mean(ratios), rel=1e-4)


@pytest.mark.parametrize("arch", ["llama", "qwen3"])
def test_rotated_keys_are_those_of_the_cache(arch: str) -> None:
    hf: Any = tiny(arch)
    model = interp.load(hf, check=False)
    unit = measure(model, as_prompt(IDS), LOOSE)
    found = found_sinks(model, as_prompt(IDS), LOOSE)
    with torch.no_grad():
        cache = cache_of(hf(torch.tensor([IDS]), use_cache=True))
    assert found.anchor is not None and cache is not None
    for layer, kept in enumerate(cache.layers):
        keys = kept.keys[0].transpose(0, 1).double().numpy()
        ratio = plain_neighbourhood.length_ratio(keys, found.anchor, list(found.ordinary))
        assert unit.arrays["rotated_key_anchor"][layer] == pytest.approx(ratio, rel=1e-4)
    same = np.allclose(unit.arrays["rotated_key_anchor"], unit.arrays["key_anchor"], rtol=1e-4)
    assert same == (arch == "llama")  # rotary keeps lengths, a key norm does not


@FAMILIES
def test_absorbed_mass_is_what_eager_rows_lack(arch: str) -> None:
    hf: Any = tiny(arch)
    unit = measure(interp.load(hf, check=False), as_prompt(IDS), LOOSE)
    ids = torch.tensor([IDS])
    _, patterns = plain.eager(hf, ids, torch.ones_like(ids))
    expected = np.stack([(1 - pattern[0].double().sum(-1)).mean(-1).numpy() for pattern in patterns])
    np.testing.assert_allclose(unit.arrays["absorbed"], expected, atol=2e-6)
    assert (unit.arrays["absorbed"] > 0).all() if arch == "gpt_oss" else (unit.arrays["absorbed"] == 0).all()


def findings_of(arch: str, config: SinksConfig = LOOSE) -> Any:
    model = interp.load(tiny(arch), check=False)
    prompts = [as_prompt(IDS, "whole"), as_prompt(IDS[::-1], "backwards")]
    units = [sink_neighbourhood.measure(model, one, config) for one in prompts]
    return model, prompts, units, sink_neighbourhood.find(prompts, units, config, model.facts())


def test_heatmap_of_absorbed_mass_only_where_there_is_some() -> None:
    _, _, units, found = findings_of("gpt_oss")
    assert [heatmap.name for heatmap in found.heatmaps] == ["absorbed"]
    mean = np.mean([unit.arrays["absorbed"] for unit in units], axis=0)
    np.testing.assert_allclose(found.heatmaps[0].values, mean, rtol=1e-6)
    np.testing.assert_allclose(found.table["absorbed"], mean.mean(axis=1), rtol=1e-6)
    assert "Learned sink logits take" in found.verdict
    assert findings_of("llama")[3].heatmaps == []


def test_families_without_readable_vectors_say_so() -> None:
    found = findings_of("gpt2")[3]
    assert found.summary["missing"] == ["rotated_key"]
    assert found.table["rotated_key_anchor"].isna().all() and found.table["key_anchor"].notna().all()
    assert any("rotated key vectors" in caveat for caveat in found.caveats)
    assert found.summary["claims"]["neighbourhood.rotated_key"]["mean"] is None


def test_without_a_sink_compression_is_still_told() -> None:
    model, prompts, _, found = findings_of("llama", SinksConfig())
    assert "No attention sink" in found.verdict and found.table["anisotropy"].notna().all()
    checks = [sink_neighbourhood.check(model, one, i, found, SinksConfig()) for i, one in enumerate(prompts)]
    assert checks == [None, None]
    done = sink_neighbourhood.conclude(found, checks, SinksConfig())
    assert done.verification is not None and done.verification.verdict == "nothing to verify"


def test_check_compares_blocks_that_were_not_edited() -> None:
    model, prompts, units, found = findings_of("llama")
    unit = sink_neighbourhood.check(model, prompts[0], 0, found, LOOSE)
    assert unit is not None
    starts = [start for start, _ in found.summary["prompts"][0]["spans"]]
    assert unit.facts["layers"] and not set(unit.facts["layers"]) & set(starts)
    np.testing.assert_allclose(unit.arrays["anisotropy.untouched"], units[0].arrays["anisotropy"], rtol=1e-5)
    before = min(starts)
    for case in ("anchor", "control"):
        got = unit.arrays[f"anisotropy.{case}"]
        np.testing.assert_allclose(got[:before], units[0].arrays["anisotropy"][:before], rtol=1e-5)
        assert got[before] != units[0].arrays["anisotropy"][before]
        by_hand = np.mean([got[i] - unit.arrays["anisotropy.untouched"][i] for i in unit.facts["layers"]])
        assert change(unit, "anisotropy", case) == pytest.approx(by_hand, rel=1e-5)


def test_curves_leave_out_what_was_not_measured() -> None:
    values = np.array([[1.0, np.nan, 3.0], [3.0, np.nan, np.nan]])
    drawn = curve("x", values, seed=0)
    assert drawn.y == (2.0, None, 3.0) and drawn.low[1] is None and drawn.low[2] == 3.0
    np.testing.assert_array_equal(mean_over(values), [2.0, np.nan, 3.0])
    assert estimate([np.nan], 0) is None
    assert claim([np.nan], 0, "nothing", T=4) == {
        "mean": None,
        "low": None,
        "high": None,
        "n": 0,
        "why": "nothing",
        "T": 4,
    }
    told = claim([1.0, np.nan, 3.0], 0, "nothing")
    assert told["mean"] == 2 and told["n"] == 2 and 1 <= told["low"] <= told["high"] <= 3
