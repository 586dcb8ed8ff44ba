"""Massive activations against loops over hooked states, their edits against forward hooks, and `SetDims` itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import interp
from interp.errors import UsageError
from interp.finders import massive_check
from interp.finders.massive_activations import massive_activations
from interp.finders.massive_measure import MassiveConfig, measure
from interp.interventions.dims import SetDims
from interp.tracing.passes import cache_of
from tests import plain_neighbourhood
from tests.planted.scan import as_prompt, scan
from tests.tiny import tiny

IDS = tuple(int(i) for i in torch.randint(4, 120, (40,), generator=torch.Generator().manual_seed(5)))
CONFIG = MassiveConfig(size=0.5, ratio=4.0, most=1000)
FAMILIES = pytest.mark.parametrize("arch", ["llama", "gpt2", "gpt_oss"])


def blocks_of(hf: Any) -> Any:
    return hf.transformer.h if hasattr(hf, "transformer") else hf.model.layers


@FAMILIES
def test_found_as_by_loops(arch: str) -> None:
    hf: Any = tiny(arch)
    unit = measure(interp.load(hf, check=False), as_prompt(IDS), CONFIG)
    states = plain_neighbourhood.block_outputs(hf, blocks_of(hf), IDS)
    expected = plain_neighbourhood.massive(states, CONFIG.size, CONFIG.ratio)
    assert expected
    got = {
        (int(i), int(d)): [int(layer) for layer in np.flatnonzero(unit.arrays["massive"][:, n])]
        for n, (i, d) in enumerate(zip(unit.arrays["position"], unit.arrays["dim"], strict=True))
    }
    assert got == expected
    for n, (i, d) in enumerate(zip(unit.arrays["position"], unit.arrays["dim"], strict=True)):
        np.testing.assert_allclose(unit.arrays["values"][:, n], [state[i, d] for state in states], rtol=1e-4, atol=1e-5)
    sizes = [np.sort(np.abs(state), axis=None)[::-1][:3] for state in states]
    np.testing.assert_allclose(unit.arrays["top"], sizes, rtol=1e-5)
    np.testing.assert_allclose(unit.arrays["median"], [np.median(np.abs(state)) for state in states], rtol=1e-5)
    ratios = [np.abs(state).max() / np.median(np.abs(state)) for state in states]
    layer, position, dim, value, ratio = unit.facts["largest"]
    assert ratio == pytest.approx(max(ratios), rel=1e-5) and layer == int(np.argmax(ratios))
    assert value == pytest.approx(states[layer][position, dim], rel=1e-5)


def test_only_the_largest_are_taken_and_the_rest_counted() -> None:
    model = interp.load(tiny("llama"), check=False)
    whole = measure(model, as_prompt(IDS), CONFIG)
    few = measure(model, as_prompt(IDS), MassiveConfig(size=0.5, ratio=4.0, most=2))
    n = len(whole.arrays["position"])
    assert n > 2 and few.facts["left_out"] == n - 2 and whole.facts["left_out"] == 0
    peaks = np.where(whole.arrays["massive"], np.abs(whole.arrays["values"]), 0).max(axis=0)
    assert (np.diff(peaks) <= 0).all()
    np.testing.assert_array_equal(few.arrays["dim"], whole.arrays["dim"][:2])


@FAMILIES
def test_losses_are_those_of_forward_hooks(arch: str) -> None:
    hf: Any = tiny(arch)
    model = interp.load(hf, check=False)
    config = MassiveConfig(size=0.5, ratio=4.0, most=1)
    prompts = [as_prompt(ids, name) for ids, name in ((IDS, "one"), (IDS, "twin"))]
    units = [massive_activations.measure(model, one, config) for one in prompts]
    findings = massive_activations.find(prompts, units, config, model.facts())
    (entry,) = findings.summary["prompts"][0]["entries"]
    assert entry["mean"] == pytest.approx(entry["value"])  # the twin's, so the edit to the mean is none
    unit = massive_activations.check(model, prompts[0], 0, findings, config)
    assert unit is not None and set(unit.facts["edited"]) == set(massive_check.EDITS)
    block = blocks_of(hf)[entry["first"]]
    zero = plain_neighbourhood.loss_with(hf, block, IDS, [(entry["position"], entry["dim"], 0.0)])
    assert unit.facts["edited"]["zero"] == pytest.approx(zero, abs=1e-4)
    assert unit.facts["loss"] == pytest.approx(plain_neighbourhood.loss_with(hf, block, IDS, []), abs=1e-4)
    assert unit.facts["edited"]["mean"] == pytest.approx(unit.facts["loss"], abs=1e-5)
    assert abs(zero - unit.facts["loss"]) > 1e-3


def test_means_are_over_the_other_prompts() -> None:
    model = interp.load(tiny("llama"), check=False)
    config = MassiveConfig(size=0.0, ratio=3.0, most=400)
    prompts = [as_prompt(IDS[i:] + IDS[:i], f"turned {i}") for i in range(3)]
    units = [massive_activations.measure(model, one, config) for one in prompts]
    findings = massive_activations.find(prompts, units, config, model.facts())
    told = findings.summary["prompts"]
    checked = 0
    for number, one in enumerate(told):
        for entry in one["entries"]:
            alike = [
                other["value"]
                for i, rest in enumerate(told)
                if i != number
                for other in rest["entries"]
                if (other["dim"], other["first"]) == (entry["dim"], entry["first"])
            ]
            assert (entry["mean"] is None) == (not alike)
            if alike:
                assert entry["mean"] == pytest.approx(np.mean(alike), rel=1e-6)
                checked += 1
    assert checked > 10


def test_controls_are_ordinary_and_as_many() -> None:
    rng = np.random.default_rng(0)
    entries = [{"first": 1, "position": 4, "dim": 2}, {"first": 1, "position": 4, "dim": 5}]
    state = np.abs(rng.normal(size=(30, 100)))
    state[4, [2, 5]] = 900.0
    beside = massive_check.beside(entries, {1: state}, rng)
    assert [(site, position) for site, position, _, _ in beside] == [("blocks.1.hook_resid_post", 4)] * 2
    dims = {dim for _, _, dim, _ in beside}
    assert len(dims) == 2 and not dims & {2, 5}
    assert all(0.2 < state[4, dim] / np.median(state) < 5 for dim in dims)
    elsewhere = massive_check.elsewhere(entries, [0, 1, 2, 3, 9], rng)
    assert [dim for _, _, dim, _ in elsewhere] == [2, 5] and all(p in (0, 1, 2, 3, 9) for _, p, _, _ in elsewhere)
    assert massive_check.elsewhere(entries, [], rng) == []
    assert massive_check.beside(entries, {1: state[:, [0, 1, 2]]}, rng) != []
    twice = [{"first": 1, "position": 4, "dim": 0}, {"first": 1, "position": 4, "dim": 1}]
    assert massive_check.beside(twice, {1: state[:, :2]}, rng) == []


def test_nothing_found_is_said_with_the_largest_ratio() -> None:
    found = scan(massive_activations, tiny("llama"), [IDS], MassiveConfig())
    assert len(found.table) == 0 and found.verdict.startswith("No massive activation")
    largest = found.summary["prompts"][0]["largest"]
    assert f"{largest[4]:.4g} times the median" in found.verdict and f"dimension {largest[2]}" in found.verdict
    assert found.summary["claims"]["massive.zero"]["mean"] is None


@pytest.mark.parametrize("field", ["size", "ratio", "most"])
def test_settings_are_checked(field: str) -> None:
    wrong: dict[str, Any] = {field: -1}
    with pytest.raises(ValueError, match=field):
        MassiveConfig(**wrong)


def test_setting_dimensions_changes_nothing_else() -> None:
    model = interp.load(tiny("llama"), check=False)
    site = "blocks.1.hook_resid_post"
    with interp.trace(model, read=[site]) as t:
        t.run(IDS)
        before = t[site]
    with interp.trace(model, read=[site], edit=[SetDims([(site, 3, 7, 2.5), (site, 8, 0, 0.0)])]) as t:
        t.run([IDS, IDS])
        after = t[site]
    expected = before.expand(2, -1, -1).clone()
    expected[:, 3, 7], expected[:, 8, 0] = 2.5, 0.0
    torch.testing.assert_close(after, expected, atol=1e-5, rtol=1e-5)
    assert (after[:, 3, 7] == 2.5).all() and (after[:, 8, 0] == 0).all()


def test_prefill_and_decoding_set_what_one_call_sets() -> None:
    model = interp.load(tiny("llama"), check=False)
    edit = SetDims([("blocks.0.hook_resid_post", 2, 1, 9.0), ("blocks.0.hook_resid_post", 6, 4, -9.0)])
    with interp.trace(model, edit=[edit]) as t:
        whole = t.run(IDS[:9]).logits
    with interp.trace(model, edit=[edit]) as t:
        out = t.run(IDS[:5], use_cache=True)
        parts = [out.logits]
        for token in IDS[5:9]:
            out = t.run([token], cache=cache_of(out))
            parts.append(out.logits)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "entry",
    [
        ("a", 1, 2),
        ("a", -1, 2, 0.0),
        ("a", 1, -2, 0.0),
        ("a", 1, 2, float("nan")),
        ("a", "x", 2, 0.0),
        3,
        ("a.*.b", 1, 2, 0.0),
    ],
)
def test_entries_that_are_none_are_refused(entry: Any) -> None:
    with pytest.raises(UsageError, match="SetDims"):
        SetDims([entry])


def test_a_dimension_the_site_lacks_is_refused() -> None:
    model = interp.load(tiny("llama"), check=False)
    with (
        interp.trace(model, edit=[SetDims([("blocks.0.hook_resid_post", 1, 32, 0.0)])]) as t,
        pytest.raises(UsageError, match=r"blocks.0.hook_resid_post is \[1, 40, 32\].*got 32"),
    ):
        t.run(IDS)
