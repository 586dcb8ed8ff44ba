"""Primary weakening: the statistic the slow way, what is measured against hooks on the projections, removal by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import interp
import interp.resources
from interp.finders import weakening_passes, weakening_words
from interp.finders.primary_weakening import primary_weakening, start_layers
from interp.finders.sink_check import controls
from interp.finders.weakening_config import WeakeningConfig, chosen_layers
from interp.finders.weakening_stats import Case, outcome, p_layers, sign_test, weakening
from interp.findings import Verification
from tests import plain_sinks
from tests.planted.builder import plant
from tests.planted.plan import PLANTED, prompt
from tests.planted.scan import as_prompt, scan

CONFIG = WeakeningConfig()


def case(mass: list[float], there: list[int], elsewhere: list[int]) -> Case:
    return Case(np.array(mass), tuple(there), tuple(elsewhere))


# -- the statistic ----------------------------------------------------------------------------------------------------


def test_difference_and_ratio_by_hand() -> None:
    one = case([9, 0.5, 0.1, 0.3, 0.6, 9], [2, 3], [1, 4])
    assert one.difference == pytest.approx(0.2 - 0.55) and one.ratio == pytest.approx(0.2 / 0.55)
    claims = weakening([one, case([9, 0.5, 0.1, 0.3, 0.6, 9], [1], [2, 3, 4])], 0)
    found = claims["weakening.difference"]
    assert found["mean"] == pytest.approx((-0.35 + (0.5 - 1 / 3)) / 2)
    assert (found["n"], found["below"], found["above"], found["p_sign"]) == (2, 1, 1, 1.0)
    nothing = weakening([], 0)
    assert nothing["weakening.difference"]["mean"] is None and nothing["weakening.ratio"]["why"]


def test_sign_test_by_hand() -> None:
    assert sign_test(0, 0) == 1.0
    assert sign_test(8, 0) == pytest.approx(2 / 256)
    assert sign_test(2, 8) == pytest.approx(2 * (1 + 10 + 45) / 1024)


def test_p_of_layers_against_all_shifts() -> None:
    """Three prompts that share their layers; every step around the five layers, counted out by hand."""
    rng = np.random.default_rng(1)
    cases = [
        case([0, *(0.1 + rng.random(5))], there, [layer for layer in range(1, 6) if layer not in there])
        for there in ([2], [2, 3], [2])
    ]
    values = []
    for step in range(5):
        means = []
        for one in cases:
            there = [(layer - 1 + step) % 5 + 1 for layer in one.there]
            rest = [layer for layer in range(1, 6) if layer not in there]
            means.append(one.mass[there].mean() - one.mass[rest].mean())
        values.append(np.mean(means))
    assert p_layers(cases) == (np.mean(np.array(values) <= values[0] + 1e-12), 1 / 5, 5)


def test_layers_that_shift_onto_themselves() -> None:
    p, smallest, shifts = p_layers([case([0.1, 0.9, 0.1, 0.9], [0, 2], [1, 3])])
    assert (p, smallest, shifts) == (0.5, 0.5, 4)


@pytest.mark.parametrize("null", ["walk", "smoothed", "waves"])
def test_smooth_profiles_are_seldom_called_weaker(null: str) -> None:
    """Where one to three neighbours of a smooth profile are chosen at random, p <= 0.05 is as rare as it says."""
    rng = np.random.default_rng(7)
    hits, runs, n = 0, 1500, 25
    for _ in range(runs):
        noise = rng.normal(size=n + 6)
        waves = np.sin(2 * np.pi * (np.arange(n) / n * rng.uniform(0.5, 2) + rng.random()))
        mass = {"walk": noise.cumsum()[:n], "smoothed": np.convolve(noise, np.ones(7), "valid"), "waves": waves}[null]
        width = int(rng.integers(1, 4))
        first = int(rng.integers(0, n - width + 1))
        there = list(range(first, first + width))
        hits += p_layers([case(mass.tolist(), there, [i for i in range(n) if i not in there])])[0] <= 0.05
    assert hits / runs <= 0.07


def test_many_prompts_are_no_substitute_for_layers() -> None:
    """Twenty prompts with one profile and one start layer, by chance the lowest of six: by layers one in six."""
    profile = [0.5, 0.6, 0.4, 0.55, 0.7, 0.65]
    found = weakening([case(profile, [2], [0, 1, 3, 4, 5]) for _ in range(20)], 0)["weakening.difference"]
    assert found["p"] == found["p_smallest"] == 1 / 6 and found["high"] < 0
    assert outcome(found) == {
        "verdict": "cannot be told",
        "why": "too few layers to tell from position alone: p cannot fall below 0.17",
    }


def test_outcome_takes_interval_and_layers() -> None:
    rest = [layer for layer in range(24) if layer != 12]
    low, high = ([0.5 + 0.01 * layer for layer in range(24)] for _ in range(2))
    low[12] = 0.1
    high[12] = 0.55  # lower than the mean, but not lower than other layers
    told = {
        name: weakening([case(mass, [12], rest)] * 8, 0)["weakening.difference"]
        for name, mass in {"low": low, "high": high}.items()
    }
    assert outcome(told["low"])["verdict"] == "weaker" and told["low"]["p"] == 1 / 24
    assert told["high"]["high"] < 0 and outcome(told["high"])["verdict"] == "not weaker"
    assert "p = 0.2" in outcome(told["high"])["why"]
    rises = weakening([case([-one for one in low], [12], rest)] * 8, 0)["weakening.difference"]
    assert outcome(rises) == {"verdict": "not weaker", "why": "the interval of the difference is not below 0"}
    few = weakening([case(low, [12], rest)] * 7, 0)["weakening.difference"]
    assert outcome(few)["verdict"] == "cannot be told" and "too few prompts" in outcome(few)["why"]
    assert outcome(weakening([], 0)["weakening.difference"])["verdict"] == "cannot be told"


def test_start_layers_count_prompts_not_sinks() -> None:
    """Nine sinks of one prompt weigh as much as the one of another."""
    spans = [
        [{"anchor": False, "kind": "secondary", "start_layer": start} for start in starts]
        for starts in ([4] * 9, [10], [])
    ]
    found = start_layers([{"spans": one} for one in spans], CONFIG)
    assert (found["mean"], found["low"], found["high"]) == (7, 4, 10)
    assert (found["n"], found["sinks"], found["counts"]) == (2, 10, {"4": 9, "10": 1})
    assert start_layers([{"spans": []}], CONFIG)["why"]


def test_sinks_that_drew_nothing_keep_no_share() -> None:
    check = Verification("failed", "", "", 8, 0.1, 0.0, 0.2, 0.0, 0.0, 0.0, 0.1, 0.0, 0.2)
    assert "keep" not in weakening_words.checked(check, check, None)
    assert "keep 40 %" in weakening_words.checked(check, check, 0.4)


def test_layers_of_a_prompt() -> None:
    def span(start: int, life: int, kind: str = "secondary", anchor: bool = False) -> dict[str, Any]:
        reading = list(range(start + 1, min(start + 1 + life, 12)))
        return {"start_layer": start, "lifetime": life, "kind": kind, "anchor": anchor, "reading": reading}

    told = {"spans": [span(0, 8, "primary", True), span(3, 3), span(5, 9), span(1, 2, "transient")]}
    assert chosen_layers(told, CONFIG) == ([4, 6], [1, 2, 3, 5, 7, 8])
    assert chosen_layers(told, WeakeningConfig(where="life")) == ([4, 5, 6, 7, 8], [1, 2, 3])
    assert chosen_layers(told, WeakeningConfig(of="any")) == ([2, 4, 6], [1, 3, 5, 7, 8])
    assert chosen_layers({"spans": []}, CONFIG) == ([], [])
    gaps = {"spans": [told["spans"][0], {**span(3, 2), "reading": [4, 8]}]}  # as rule=wong2025 may give them
    assert chosen_layers(gaps, WeakeningConfig(where="life")) == ([4, 8], [1, 2, 3, 5, 6, 7])
    for wrong in ({"of": "all"}, {"where": "end"}, {"reach": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            WeakeningConfig(**wrong)  # pyright: ignore[reportArgumentType]


# -- what is measured -------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_curves_against_hooks_on_the_projections() -> None:
    hf = plant("llama")
    ids = prompt(3)
    unit = weakening_passes.measure(interp.load(hf, check=False), as_prompt(ids), CONFIG)
    seen: dict[str, list[np.ndarray]] = {"key": [], "value": []}

    def keep(name: str) -> Any:
        def hook(_: Any, __: Any, out: torch.Tensor) -> None:
            heads = out[0].view(len(ids), -1, 16)
            seen[name].append(np.array([[float(head.norm()) for head in token] for token in heads]).mean(1))

        return hook

    handles = []
    for layer in hf.model.layers:
        handles.append(layer.self_attn.k_proj.register_forward_hook(keep("key")))
        handles.append(layer.self_attn.v_proj.register_forward_hook(keep("value")))
    alpha, _, _ = plain_sinks.observe(hf, list(hf.model.layers), ids)
    for handle in handles:
        handle.remove()
    planted = {one.position for one in PLANTED}
    ordinary = [
        i for i in range(len(ids) - len(ids) // 4) if i not in planted
    ]  # a quarter of a short prompt is left out
    measured = {"received": alpha.mean(1).numpy(), **{name: np.stack(rows) for name, rows in seen.items()}}
    assert unit.facts["ordinary"] == ordinary
    for name, values in measured.items():
        expected = np.stack([values[:, 0], np.median(values[:, ordinary], axis=1)])
        np.testing.assert_allclose(unit.arrays[name], expected, rtol=1e-4, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(unit.arrays["rot_key"], unit.arrays["key"], rtol=1e-4)  # llama only rotates
    assert unit.facts["lacks"] == {}


def test_what_a_family_lacks_is_told() -> None:
    findings = scan(primary_weakening, plant("gpt2"), [prompt(3)], CONFIG)
    assert any("rot key" in caveat and "not rotary" in caveat for caveat in findings.caveats)
    assert {chart.name for chart in findings.charts} == {"weakening.received", "weakening.key", "weakening.value"}


@torch.no_grad()
def test_removal_by_hand() -> None:
    """The anchor's mass, and its share of the keys that are no sinks, with hooks on two MLPs and eager attention."""
    hf = plant("llama")
    ids = prompt(3)
    findings = scan(primary_weakening, hf, [ids], CONFIG)
    unit = primary_weakening.check(interp.load(hf, check=False), as_prompt(ids), 0, findings, CONFIG)
    assert unit is not None
    sinks = {one.position: one for one in PLANTED if one.kind == "secondary"}
    layers = sorted({layer + 1 for one in sinks.values() for layer in range(one.start, one.start + one.lifetime)})
    draws = controls(
        tuple((position, (one.start,)) for position, one in sorted(sinks.items())),
        findings.summary["prompts"][0]["ordinary"],
        CONFIG.controls,
        (CONFIG.seed, 0),
    )
    edited = [{*sinks, *(position for position, _ in draw)} for draw in draws]
    assert len(edited) == 2 and all(len(positions) == 2 * len(sinks) for positions in edited)

    def answers() -> dict[str, float]:
        with plain_sinks.eager(hf):
            patterns = hf(torch.tensor([ids]), output_attentions=True).attentions
        made = []
        for positions in edited:
            masses, shares = [], []
            for layer in layers:
                for head in patterns[layer][0].double():
                    for q in sorted(set(range(min(sinks), len(ids))) - positions):
                        rest = sum(float(head[q, k]) for k in range(q + 1) if k not in positions)
                        masses.append(float(head[q, 0]))
                        shares.append(float(head[q, 0]) / rest)
            made.append((np.mean(masses), np.mean(shares)))
        return dict(zip(("mass", "share"), np.mean(made, axis=0).tolist(), strict=True))

    def silence(position: int) -> Any:
        def hook(_: Any, __: Any, out: torch.Tensor) -> torch.Tensor:
            out = out.clone()
            out[0, position] = 0
            return out

        return hook

    for name, value in answers().items():
        assert unit.facts["natural"][name] == pytest.approx(value, abs=1e-5)
    handles = [
        hf.model.layers[one.start].mlp.register_forward_hook(silence(position)) for position, one in sinks.items()
    ]
    for name, value in answers().items():
        assert unit.facts["removed"][name] == pytest.approx(value, abs=1e-5)
    for handle in handles:
        handle.remove()


# -- what is said -----------------------------------------------------------------------------------------------------


def test_a_planted_run() -> None:
    """Planted keys compete for attention and do nothing else: all that the anchor gains is competition."""
    findings = scan(primary_weakening, plant("llama"), [prompt(seed) for seed in range(8)], CONFIG)
    claims, check = findings.summary["claims"], findings.verification
    assert claims["secondary_start_layers"]["counts"] == {"4": 8, "5": 8}
    found = claims["weakening.difference"]
    assert found["n"] == found["below"] == 8 and found["high"] < -0.1
    assert found["p"] == 3 / 9 and found["p_smallest"] == 1 / found["shifts"] == 1 / 9  # so few layers settle nothing
    assert claims["weakening.outcome"]["verdict"] == "cannot be told"
    assert "cannot be told (too few layers" in findings.verdict and "could not be below 0.11" in findings.verdict
    assert check is not None and check.verdict == "failed" and check.prompts == 8
    assert check.effect == pytest.approx(0, abs=1e-3) and "share" in check.metric
    mass = findings.summary["removal"]["mass"]
    assert mass["effect"] > 0.3 and mass["control"] == pytest.approx(0, abs=1e-3) and mass["verdict"] == "verified"
    assert findings.summary["removal"]["left"] < 0.02 and "keep" in findings.verdict
    assert [row["start_layer"] for row in findings.records()] == [4, 5] * 8
    for row in findings.records():
        assert row["anchor_there"] < row["anchor_elsewhere"]
    chart = findings.charts[0]
    assert chart.name == "weakening.received" and [x for x, _ in chart.marks] == [5, 6]
    assert len(findings.sheets[0].rows) == 2


def test_without_secondaries_it_cannot_be_tested() -> None:
    findings = scan(primary_weakening, plant("llama"), [prompt(seed, {1: 0}) for seed in range(3)], CONFIG)
    assert "cannot be tested: no secondary sinks in 3 prompts" in findings.verdict
    assert findings.summary["claims"]["weakening.outcome"]["verdict"] == "cannot be told" and len(findings.table) == 0
    assert findings.verification is not None and findings.verification.verdict == "nothing to verify"
    assert findings.summary["claims"]["weakening.ratio"]["mean"] is None
    assert len(findings.charts) == 4 and not findings.charts[0].marks and not findings.sheets
    nothing = scan(primary_weakening, plant("llama"), [prompt(3, {})], CONFIG)
    assert "cannot be tested" in nothing.verdict and nothing.charts == []


@pytest.mark.gemma3
def test_gemma_has_key_norms_before_and_after(gemma3: Any) -> None:
    """Gemma normalises its keys, so what is attended to has another length than the projection."""
    text = interp.resources.data_path("texts", "code_c.txt").read_text("utf-8")
    ids = (gemma3.tokenizer.bos_token_id, *gemma3.tokenizer(text, add_special_tokens=False)["input_ids"][:95])
    unit = weakening_passes.measure(gemma3, as_prompt(ids), CONFIG)
    assert unit.facts["anchor"] == 0 and unit.facts["lacks"] == {}
    assert all(values.shape == (2, 18) and np.isfinite(values).all() for values in unit.arrays.values())
    assert (np.abs(unit.arrays["rot_key"] / unit.arrays["key"] - 1) > 0.01).mean() > 0.9
    later = slice(2, 17)
    assert (unit.arrays["received"][0, later] > 5 * unit.arrays["received"][1, later]).all()
    assert (unit.arrays["value"][0, later] < unit.arrays["value"][1, later]).mean() > 0.5  # values drain at sinks
