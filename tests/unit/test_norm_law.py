"""The norm law's parts: position edits by hand and while decoding, correlations the slow way, and one prompt's sweep
against hooks on the modules themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import interp
import interp.resources
from interp.errors import UsageError
from interp.finders import norm_law_check, norm_law_passes, norm_law_stats, norm_law_words
from interp.finders.base import Unit
from interp.finders.norm_law_config import NormLawConfig, swept
from interp.finders.norm_law_correlation import over_groups, pearson, ranks, spearman
from interp.finders.sink_config import Measured
from interp.finders.sink_norm_law import norm_law
from interp.interventions.positions import SetNorm, WriteDirection
from interp.tracing.passes import cache_of
from tests import plain_sinks
from tests.planted.builder import plant
from tests.planted.plan import PLANTED, prompt
from tests.planted.scan import as_prompt, scan
from tests.tiny import tiny

IDS = torch.randint(3, 100, (2, 12), generator=torch.Generator().manual_seed(5))
SITE = "blocks.1.hook_mlp_out"


# -- edits at positions -----------------------------------------------------------------------------------------------


def test_set_norm_by_hand() -> None:
    value = torch.randn(2, 5, 8)
    out = SetNorm([SITE], [1, 4], [3.0, 0.0]).apply(value, SITE, 1)
    expected = value.clone()
    for row in range(2):
        expected[row, 1] = 3.0 * value[row, 1] / value[row, 1].norm()
        expected[row, 4] = 0
    torch.testing.assert_close(out, expected)
    heads = torch.randn(1, 3, 2, 4)
    out = SetNorm([SITE], [2], 5.0).apply(heads, SITE, 1)
    assert float(out[0, 2].norm()) == pytest.approx(5.0)
    torch.testing.assert_close(out[0, 2] / 5, heads[0, 2] / heads[0, 2].norm())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_norm_it_has_changes_no_bit(dtype: torch.dtype) -> None:
    value = (1000 * torch.randn(3, 20, 64)).to(dtype)
    for position in range(20):
        natural = float(value[0, position].double().norm())
        out = SetNorm([SITE], [position], natural).apply(value[:1], SITE, 1)
        assert torch.equal(out, value[:1])


def test_write_direction_by_hand() -> None:
    value, vector = torch.randn(2, 5, 8), torch.randn(8)
    added = WriteDirection((SITE,), (0, 3), vector).apply(value, SITE, 1)
    placed = WriteDirection((SITE,), (0, 3), vector, replace=True).apply(value, SITE, 1)
    for position in range(5):
        written = position in (0, 3)
        torch.testing.assert_close(added[:, position], value[:, position] + (vector if written else 0))
        torch.testing.assert_close(placed[:, position], vector.expand(2, 8) if written else value[:, position])


@pytest.mark.parametrize("arch", ["llama", "gpt2", "gemma3", "gpt_oss", "falcon"])
def test_in_steps_as_in_one_call(arch: str) -> None:
    """Prefill of 5 tokens, then 4, then one by one: each position is edited once, in the call that brings it."""
    hf = tiny(arch)
    width = hf.get_input_embeddings().weight.shape[1]
    edits = [
        SetNorm(["blocks.0.hook_mlp_out"], [0, 4, 7, 10], 9.0),
        WriteDirection((SITE,), (2, 6, 11), torch.linspace(-3, 3, width)),
    ]
    with interp.trace(hf, edit=edits) as t:
        whole = t.run(IDS).logits
    with interp.trace(hf, edit=edits, read=[SITE]) as t:
        out = t.run(IDS[:, :5], use_cache=True)
        parts = [out.logits]
        for start, stop in ((5, 9), (9, 10), (10, 11), (11, 12)):
            out = t.run(IDS[:, start:stop], cache=cache_of(out))
            parts.append(out.logits)
        assert t[SITE].shape[1] == 12
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=2e-4, rtol=1e-4)
    with interp.trace(hf) as t:
        assert (t.run(IDS).logits - whole).abs().max() > 1e-2


def test_a_trace_opened_after_prefill_knows_where_it_stands() -> None:
    hf = tiny("llama")
    edit = SetNorm(["blocks.0.hook_mlp_out"], [0, 8], 9.0)
    with interp.trace(hf, edit=[SetNorm(["blocks.0.hook_mlp_out"], [8], 9.0)]) as t:
        whole = t.run(IDS).logits
    with torch.no_grad():
        first = hf(input_ids=IDS[:, :6], use_cache=True)
    with interp.trace(hf, edit=[edit]) as t:
        rest = t.run(IDS[:, 6:], cache=cache_of(first)).logits
    torch.testing.assert_close(rest, whole[:, 6:], atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "make",
    [
        lambda: SetNorm([SITE], [1, 1], 2.0),
        lambda: SetNorm([SITE], [-1], 2.0),
        lambda: SetNorm([SITE], [1.5], 2.0),  # pyright: ignore[reportArgumentType]
        lambda: SetNorm([SITE], [True, False], 2.0),
        lambda: SetNorm([SITE], [1, 2], [2.0]),
        lambda: SetNorm([SITE], [1], -2.0),
        lambda: SetNorm([SITE], [1], float("nan")),
        lambda: SetNorm([SITE], [1], 2.0).apply(torch.zeros(1, 3, 4), SITE, 1),
        lambda: WriteDirection((SITE,), (1,), torch.ones(3)).apply(torch.zeros(1, 3, 4), SITE, 1),
    ],
)
def test_refused_by_name(make: Any) -> None:
    with pytest.raises(UsageError, match=r"SetNorm|WriteDirection|position"):
        make()


def test_zero_stays_zero() -> None:
    assert torch.equal(SetNorm([SITE], [1], 0.0).apply(torch.zeros(1, 3, 4), SITE, 1), torch.zeros(1, 3, 4))


# -- correlations -----------------------------------------------------------------------------------------------------


def test_correlations_the_slow_way() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        x, y = rng.integers(0, 6, 15).astype(float), rng.normal(size=15)
        frame = pd.DataFrame({"x": x, "y": y})
        assert ranks(x) == pytest.approx(frame["x"].rank().to_numpy())
        assert pearson(x, y) == pytest.approx(frame["x"].corr(frame["y"]))
        assert spearman(x, y) == pytest.approx(frame["x"].rank().corr(frame["y"].rank()))
    assert spearman(np.ones(5), np.arange(5.0)) is None and pearson(np.array([1.0]), np.array([2.0])) is None
    rounding = 200 * (1 + 1e-8 * np.arange(5.0))
    assert spearman(rounding, np.arange(5.0)) is None


def test_intervals_draw_whole_prompts() -> None:
    """Two prompts that disagree: whatever is drawn is one of them or both, so the ends are known."""
    x, y, groups = [1.0, 2, 3, 1, 2, 3], [1.0, 2, 3, 3, 2, 1], [0, 0, 0, 1, 1, 1]
    found = over_groups(x, y, groups, resamples=200)
    assert (found.value, found.low, found.high, found.n) == (pytest.approx(0), pytest.approx(-1), pytest.approx(1), 6)
    alone = over_groups(x[:3], y[:3], groups[:3])
    assert (alone.value, alone.low, alone.high) == (pytest.approx(1), None, None)
    with pytest.raises(ValueError, match="kind"):
        over_groups(x, y, groups, kind="kendall")


# -- what is swept ----------------------------------------------------------------------------------------------------


def span(position: int, group: str, start: int = 4, lifetime: int = 5, forming: int = 4) -> dict[str, Any]:
    return {
        "position": position,
        "group": group,
        "start_layer": start,
        "lifetime": lifetime,
        "forming_layer": forming,
    }


def test_what_is_swept() -> None:
    spans = [span(0, "anchor", 1, 3), span(0, "anchor", 6, 9), span(1, "other"), span(2, "secondary")]
    assert swept(spans, NormLawConfig()) == {}  # nothing before position 3 but the anchor, and that only when asked for
    assert swept(spans, NormLawConfig(kinds=("anchor",))) == {"anchor": [1]}
    spans += [span(9, "other"), span(12, "secondary"), span(20, "secondary"), span(20, "secondary", 6)]
    assert swept(spans, NormLawConfig()) == {"tokens": [4, 5, 6]}  # position 20 once
    assert swept(spans, NormLawConfig(few=2)) == {"tokens": [5, 6]}
    assert swept(spans, NormLawConfig(kinds=("other",))) == {"tokens": [4]}
    for wrong in (
        {"kinds": ()},
        {"kinds": ("primary",)},
        {"sweep": (0.0, 2.0)},
        {"sweep": (0.0, 1.0, -1.0)},
        {"few": 0},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            NormLawConfig(**wrong)  # pyright: ignore[reportArgumentType]


# -- one prompt against plain hooks -----------------------------------------------------------------------------------


@torch.no_grad()
def plain_dose(hf: Any, ids: tuple[int, ...], places: list[tuple[int, int, float]]) -> tuple[Any, Any, float]:
    """alpha, states and loss with MLP modules' outputs rescaled by a forward hook: eager attention, loops."""

    def hook(_: Any, __: Any, out: torch.Tensor, position: int, norm: float) -> torch.Tensor:
        out = out.clone()
        out[0, position] *= norm / out[0, position].norm()
        return out

    handles = [
        hf.model.layers[block].mlp.register_forward_hook(
            lambda m, a, out, position=position, norm=norm: hook(m, a, out, position, norm)
        )
        for block, position, norm in places
    ]
    try:
        return plain_sinks.observe(hf, list(hf.model.layers), ids)
    finally:
        for handle in handles:
            handle.remove()


def test_sweep_against_plain_hooks() -> None:
    hf = plant("llama")
    ids = prompt(3)
    model = interp.load(hf, check=False)
    config = NormLawConfig(sweep=(0.0, 0.04, 0.5, 1.0, 3.0))
    findings = scan(norm_law, hf, [ids], config)
    unit = norm_law.check(model, as_prompt(ids), 0, findings, config)
    assert unit is not None and unit.facts["identity"] == 0.0
    secondaries = [one for one in PLANTED if one.kind == "secondary"]
    natural = [row["mlp_norm"] for row in findings.records() if row["swept"]]
    assert len(natural) == len(secondaries) == 2
    for i, multiple in enumerate(config.sweep):
        places = [(one.start, one.position, multiple * norm) for one, norm in zip(secondaries, natural, strict=True)]
        alpha, states, loss = plain_dose(hf, ids, places)
        found = {(row["position"], row["start_layer"]): row["lifetime"] for row in plain_sinks.find(alpha, states)}
        assert unit.arrays["tokens.loss"][i] == pytest.approx(loss, abs=1e-4)
        for column, one in enumerate(secondaries):
            mass = alpha[:, :, one.position].mean(1)
            answers = {name: unit.arrays[f"tokens.{name}"][i, column] for name in norm_law_check.MEASURES}
            assert answers["norm"] == pytest.approx(multiple * natural[column], rel=1e-4)
            reads = slice(one.start + 1, one.start + 1 + one.lifetime)
            assert answers["score"] == pytest.approx(float(mass[reads].mean()), abs=1e-5)
            assert answers["peak"] == pytest.approx(float(mass[one.start + 1 :].max()), abs=1e-5)
            assert answers["state"] == pytest.approx(float(states[one.start, one.position].norm()), rel=1e-4)
            assert answers["lifetime"] == found.get((one.position, one.start), 0)
    lifetimes = unit.arrays["tokens.lifetime"]
    assert lifetimes[0].tolist() == [0, 0] and lifetimes[3].tolist() == [one.lifetime for one in secondaries]
    # the block that ends a planted sink takes its natural length away and no more: it then lives until the anchor dies
    assert lifetimes[4].tolist() == [10 - one.start for one in secondaries]


def test_joint_takes_the_blocks_after_as_well() -> None:
    natural = norm_law_passes.Seen(Measured(*[np.ones((6, 9))] * 4, 0, 0), 1.0, {}, torch.ones(6, 2))
    natural.written.update({block: np.full(9, 10.0 + block) for block in range(6)})
    where = [(span(5, "secondary"), 5), (span(7, "secondary", forming=3), 7)]
    alone = norm_law_check.edited(where, natural, 0.5, NormLawConfig())
    assert alone == [(4, 5, 7.0), (3, 7, 6.5)]
    joint = norm_law_check.edited(where, natural, 0.5, NormLawConfig(joint=2))
    assert sorted(joint) == [(3, 7, 6.5), (4, 5, 7.0), (4, 7, 7.0), (5, 5, 7.5), (5, 7, 7.5)]  # there is no block 6


def test_a_planted_run_is_told_in_numbers() -> None:
    findings = scan(norm_law, plant("llama"), [prompt(seed) for seed in range(8)], NormLawConfig(sweep=(0.0, 1.0, 2.0)))
    check, claims = findings.verification, findings.summary["claims"]
    assert check is not None and check.verdict == "verified" and check.prompts == 8
    assert check.effect == pytest.approx(1, abs=0.02) and check.control == pytest.approx(0, abs=0.02)
    assert [one["multiple"] for one in claims["dose"]] == [0.0, 1.0, 2.0]
    assert [one["lifetime"]["mean"] for one in claims["dose"]] == [0, 4.5, 5.5]
    assert claims["dose"][1]["loss_change"] == {"mean": 0, "low": 0, "high": 0, "n": 8}
    assert claims["reverse.became_sinks"]["mean"] == 1 and claims["reverse.random_became_sinks"]["mean"] == 0
    assert claims["reverse.received"]["low"] > 10 * claims["reverse.random"]["high"]
    assert (claims["correlation.score.natural"]["n"], claims["correlation.score.natural"]["prompts"]) == (16, 8)
    assert findings.arrays["sweep.tokens.lifetime"].shape == (3, 16)
    rows = findings.table.iloc[findings.arrays["sweep.tokens.row"]]
    assert rows["swept"].all() and set(rows["group"]) == {"secondary"}
    np.testing.assert_array_equal(findings.arrays["sweep.tokens.lifetime"][1], rows["lifetime"].to_numpy(dtype=float))
    assert {chart.name for chart in findings.charts} >= {"dose.score", "dose.lifetime", "dose.loss_change"}
    assert "0.0 layers" in findings.verdict and "4.5 layers" in findings.verdict and "verified" in findings.verdict


def test_the_anchor_alone_and_without_any_sink() -> None:
    only = scan(norm_law, plant("llama"), [prompt(3, {1: 0})], NormLawConfig(sweep=(0.0, 1.0)))
    assert only.summary["claims"]["dose"] == [] and only.verification is not None
    assert only.verification.metric.startswith("attention received") and only.verification.effect is not None
    assert only.summary["claims"]["reverse.became_sinks"]["mean"] == 1  # from the anchor's own forming block
    asked = scan(norm_law, plant("llama"), [prompt(3, {1: 0})], NormLawConfig(kinds=("anchor",), sweep=(0.0, 1.0)))
    assert [one["of"] for one in asked.summary["claims"]["dose"]] == ["anchor", "anchor"]
    assert [one["lifetime"]["mean"] for one in asked.summary["claims"]["dose"]] == [0, 9]
    none = scan(norm_law, plant("llama"), [prompt(3, {})], NormLawConfig())
    assert none.verification is not None and none.verification.verdict == "nothing to verify"
    assert none.verdict.startswith("No attention sink was found")
    assert none.summary["claims"]["reverse.received"]["why"]


def test_mean_over_sinks_then_over_prompts() -> None:
    config = NormLawConfig(sweep=(1.0, 0.0))
    spans = [span(9, "secondary"), span(12, "other"), span(15, "secondary")]
    prompts = [{"name": str(i), "spans": spans} for i in range(2)]

    def unit(scores: list[list[float]]) -> Unit:
        shape = np.array(scores)
        arrays = {
            f"tokens.{name}": shape if name == "score" else np.ones_like(shape) for name in norm_law_check.MEASURES
        }
        arrays["tokens.loss"] = np.array([2.0, 3.0])
        return Unit(arrays, {"swept": {"tokens": [0, 1, 2]}, "loss": 2.0})

    checks = [unit([[0.2, 9, 0.4], [0.0, 9, 0.2]]), unit([[0.5, 9, 0.7], [0.1, 9, 0.1]])]
    curve = norm_law_stats.doses(prompts, checks, "secondary", config)
    assert [one["multiple"] for one in curve] == [0.0, 1.0]
    assert [one["score"]["mean"] for one in curve] == pytest.approx([0.1, 0.45])
    assert [one["loss_change"]["mean"] for one in curve] == [1, 0]
    assert norm_law_stats.doses(prompts, checks, "anchor", config) == []
    assert norm_law_stats.headline(prompts, [None, None]) is None
    assert norm_law_stats.causal(prompts, checks, "secondary", "lifetime", config)["mean"] == 0  # it does not move


def test_the_self_test_is_told() -> None:
    assert norm_law_words.self_test(None) == []
    assert "bit for bit" in norm_law_words.self_test(0.0)[0]
    assert "cannot be trusted" in norm_law_words.self_test(0.5)[0]


# -- real models ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=getattr(pytest.mark, name)) for name in ("smollm2", "gemma3")]
)
def test_real_models(name: str, request: pytest.FixtureRequest) -> None:
    """SmolLM2: the sinks that block 2 forms die without its MLP and live by its norm. Gemma: the anchor's own MLP."""
    model = request.getfixturevalue(name)
    text = interp.resources.data_path("texts", "code_c.txt").read_text("utf-8")
    ids = (model.tokenizer.bos_token_id, *model.tokenizer(text, add_special_tokens=False)["input_ids"][:159])
    one = as_prompt(tuple(ids))
    config = NormLawConfig(kinds=("secondary", "other", "anchor"), sweep=(0.0, 1.0), controls=1)
    findings = norm_law.find([one], [norm_law.measure(model, one, config)], config, model.facts())
    unit = norm_law.check(model, one, 0, findings, config)
    assert unit is not None and unit.facts["identity"] == 0.0
    anchor = unit.arrays["anchor.lifetime"]
    assert anchor[1, 0] >= 16 and anchor[0, 0] < anchor[1, 0]
    if name == "smollm2":
        assert {row["forming_layer"] for row in findings.records() if row["swept"] and row["group"] != "anchor"} == {2}
        assert unit.arrays["tokens.lifetime"][0].max() == 0 and unit.arrays["tokens.lifetime"][1].min() >= 5
        assert unit.facts["reverse"]["became"] == 1 and unit.facts["reverse"]["random_became"] == 0


def test_passes_agree_with_themselves() -> None:
    model = interp.load(plant("llama"), check=False)
    one = as_prompt(prompt(3))
    first, second = (norm_law_passes.look(model, one, 0, [4]) for _ in range(2))
    assert norm_law_passes.alike(first, second) == 0.0
    edited = norm_law_passes.look(model, one, 0, [4], norm_law_passes.rescale([(4, 18, 0.0)]))
    assert norm_law_passes.alike(first, edited) > 1
    assert float(edited.written[4][18]) == 0.0
