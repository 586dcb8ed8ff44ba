"""Formation against a plain transcription, against the models' own arithmetic, and on two real models."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from interp.errors import SiteError
from interp.finders import formation_measure
from interp.finders.formation_config import QUANTITIES, FormationConfig
from interp.finders.formation_measure import lenders, measure
from interp.finders.sink_config import Sink
from interp.finders.sink_formation import sink_formation
from interp.finders.sink_found import found_sinks
from interp.models import mlp, writes
from interp.models.load import load
from probes.base import Prompt
from tests import plain_formation
from tests.parity.site_cases import CASES, gap, seen
from tests.parity.test_sinks_real import prompt as text
from tests.tiny import tiny

LOOSE = FormationConfig(floor=0.0, multiple=1.0, norm=0.0, cosine=0.2, carried=1.0)
"""Settings under which random weights have sinks."""
TOKENS = tuple(torch.randint(3, 128, (60,), generator=torch.Generator().manual_seed(3)).tolist())
NOT_A_SUM = {"opt-norm-after", "opt-narrow", "bloom-residual-from-norm"}
MOE = {"mixtral": (0, 1, 2), "qwen3_moe": (1, 2), "gpt_oss": (0, 1, 2), "deepseek_v3": (1, 2)}


@pytest.mark.parametrize("case", CASES)
def test_parts_of_a_block_add_up_to_what_it_gained(case: str) -> None:
    _, sites, at, _ = seen(case)
    for layer in range(sites.n_layers):
        values = {name: at[f"blocks.{layer}.{name}"][0].detach() for name in writes.SITES}
        state = values["hook_resid_post"]
        wrote = writes.writing(sites, layer, values, state / state.norm(dim=-1, keepdim=True))
        if case in NOT_A_SUM:
            assert wrote.attention is wrote.mlp is wrote.heads is None and wrote.why and wrote.why_heads
            continue
        assert wrote.attention is not None and wrote.mlp is not None
        assert wrote.heads is not None and wrote.bias is not None, wrote.why_heads
        gain = wrote.after - wrote.before
        large = gain.abs() > 0.05 * wrote.after  # a share of nothing is no share
        total = wrote.heads.sum(dim=1) + wrote.bias + wrote.mlp
        assert large.sum() > 5
        assert ((total / gain)[large] - 1).abs().max() < 1e-4
        assert gap(wrote.heads.sum(dim=1) + wrote.bias, wrote.attention) < 1e-4


@pytest.mark.parametrize("case", CASES)
def test_feeding_an_mlp_its_own_input_gives_its_own_output(case: str) -> None:
    model, sites, at, _ = seen(case)
    for layer in range(sites.n_layers):
        returned, added = mlp.feed(model, layer, at[f"blocks.{layer}.mlp.hook_in"][0])
        assert gap(returned, at[f"blocks.{layer}.mlp.hook_out"][0]) < 1e-5
        assert gap(added, at[f"blocks.{layer}.hook_mlp_out"][0]) < 1e-5
        if f"blocks.{layer}.mlp.hook_post" in at:
            gate, up, post = (
                at.get(f"blocks.{layer}.mlp.{name}") for name in ("hook_pre", "hook_pre_linear", "hook_post")
            )
            assert gate is not None and post is not None
            found = mlp.activated(sites, layer, gate, up, post)
            assert gap(found if up is None else found * up, post) < 1e-5


def test_more_vectors_than_one_call_takes_are_fed_in_order() -> None:
    model, sites, _, _ = seen("llama")
    many = torch.randn(2 * mlp.AT_ONCE + 5, 32)
    returned, _ = mlp.feed(model, 1, many)
    assert gap(returned, sites.binding("blocks.1.mlp.hook_in").module(many[None])[0]) < 1e-5


@pytest.mark.parametrize("case", MOE)
def test_experts_add_up_and_are_the_routers_choice(case: str) -> None:
    _, sites, at, _ = seen(case)
    for layer in MOE[case]:
        inputs, whole = (at[f"blocks.{layer}.mlp.{name}"][0].detach() for name in ("hook_in", "hook_out"))
        found = mlp.fired(sites, layer, inputs)
        assert found.index.shape == found.weight.shape == (len(inputs), 2)
        assert gap(found.output.sum(dim=1) + found.rest, whole) < 1e-5
        assert (found.rest.abs().max() > 0) == (case == "deepseek_v3")  # its shared expert
        module: Any = sites.binding(f"blocks.{layer}.mlp.hook_in").module
        router = module.router if case == "gpt_oss" else module.gate
        _, weight, index = router(inputs)
        assert torch.equal(index, found.index) and torch.equal(weight, found.weight)
        if case == "gpt_oss":
            expected = plain_gpt_oss_expert(module.experts, int(index[3, 1]), inputs[3]) * weight[3, 1]
        else:
            expected = plain_expert(module.experts, int(index[3, 1]), inputs[3]) * weight[3, 1]
        assert gap(found.output[3, 1], expected) < 1e-5


def plain_expert(experts: Any, expert: int, value: torch.Tensor) -> torch.Tensor:
    gate, up = (experts.gate_up_proj[expert] @ value).chunk(2)
    return experts.down_proj[expert] @ (torch.nn.functional.silu(gate) * up)


def plain_gpt_oss_expert(experts: Any, expert: int, value: torch.Tensor) -> torch.Tensor:
    both = value @ experts.gate_up_proj[expert] + experts.gate_up_proj_bias[expert]
    gate, up = both[::2].clamp(max=7.0), both[1::2].clamp(-7.0, 7.0)
    hidden = (up + 1) * gate * torch.sigmoid(1.702 * gate)
    return hidden @ experts.down_proj[expert] + experts.down_proj_bias[expert]


def test_a_dense_mlp_has_no_experts() -> None:
    _, sites, at, _ = seen("llama")
    with pytest.raises(SiteError, match="LlamaMLP in block 1 has no experts"):
        mlp.fired(sites, 1, at["blocks.1.mlp.hook_in"][0])


@pytest.mark.parametrize("arch", ["llama", "gemma3", "gpt2"])
def test_cosines_and_shares_agree_with_plain(arch: str) -> None:
    hf = tiny(arch)
    one = Prompt("random", "", TOKENS, tuple(f"<{token}>" for token in TOKENS))
    unit = measure(load(hf, check=False), one, LOOSE)
    agree(hf, one, unit)
    lacking = {"llama": {"mlp_added"}, "gemma3": set(), "gpt2": {"up", "mlp_added"}}
    assert all(set(missing) == lacking[arch] for missing in unit.facts["lacks"])


def agree(hf: Any, one: Prompt, unit: Any) -> None:
    """Hold everything measured against `plain_formation`."""
    rows, anchor = unit.facts["rows"], unit.facts["anchor"]
    assert len(rows) > 1 and any(row["anchor"] for row in rows) and not all(row["anchor"] for row in rows)
    for block in unit.facts["blocks"]:
        plain = plain_formation.observe(hf, block, one.ids)
        number = unit.facts["blocks"].index(block)
        np.testing.assert_allclose(unit.arrays["anchor_out"][number], plain["mlp_out"][anchor], rtol=1e-3, atol=1e-2)
        for i, row in enumerate(rows):
            if row["start"] != block:
                continue
            at = row["position"]
            for q, name in enumerate(QUANTITIES):
                known = (name in plain or name == "direction") and name not in unit.facts["lacks"][number]
                if row["anchor"] or not known:
                    assert np.isnan(unit.arrays["cosines"][i, q])
                else:
                    expected = plain_formation.cosine(plain, name, at, anchor)
                    assert unit.arrays["cosines"][i, q] == pytest.approx(expected, abs=2e-4), (name, row)
                if row["controls"] and known:
                    mean = np.mean([plain_formation.cosine(plain, name, c, anchor) for c in row["controls"]])
                    assert unit.arrays["control_cosines"][i, q] == pytest.approx(mean, abs=2e-4)
            expected = plain_formation.shares(plain, at)
            assert row["carried"] == pytest.approx(expected["carried"], abs=1e-3)
            if row["why"] is None and row["gain"] > 0.05:
                for name in ("mlp", "attention", "heads"):
                    assert row[name] == pytest.approx(expected[name], abs=1e-3)
            if row["control"] == "same token":
                assert all(one.ids[c] == one.ids[at] for c in row["controls"])


@pytest.mark.parametrize("arch", ["mixtral", "gpt_oss", "qwen3_moe"])
def test_mixtures_of_experts_say_what_they_lack_and_which_experts_fired(arch: str) -> None:
    one = Prompt("random", "", TOKENS, tuple(f"<{token}>" for token in TOKENS))
    dense: dict[str, Any] = {"mlp_only_layers": []} if arch == "qwen3_moe" else {}
    unit = measure(load(tiny(arch, **dense), check=False), one, LOOSE)
    assert unit.facts["rows"]
    for row in unit.facts["rows"]:
        assert len(row["experts"]) == 2 and sum(share for _, _, share in row["experts"]) == pytest.approx(1, abs=1e-4)
    for missing in unit.facts["lacks"]:
        assert "experts" in missing["gate"] and "experts" in missing["product"]


def test_dense_blocks_keep_what_blocks_of_experts_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Prompt("random", "", TOKENS, tuple(f"<{token}>" for token in TOKENS))
    loaded = load(tiny("qwen3_moe"), check=False)  # its block 0 is dense
    found = found_sinks(loaded, one, LOOSE)
    spans = tuple(Sink(3 + start, "secondary", start, 1, (start,)) for start in range(3))
    at = {span.position for span in spans}
    chosen = replace(found, sinks=spans, ordinary=tuple(i for i in found.ordinary if i not in at))
    monkeypatch.setattr(formation_measure, "found_sinks", lambda *_: chosen)
    unit = measure(loaded, one, LOOSE)
    assert unit.facts["blocks"] == [0, 1, 2] and not any(row["anchor"] for row in unit.facts["rows"])
    assert ["gate" in missing for missing in unit.facts["lacks"]] == [False, True, True]
    for name in ("gate", "up", "activation", "product"):
        assert np.isfinite(unit.arrays["cosines"][:, QUANTITIES.index(name)]).tolist() == [True, False, False]
    assert [row["experts"] is None for row in unit.facts["rows"]] == [True, False, False]
    made = sink_formation.find([one], [unit], LOOSE, loaded.facts())
    assert made.summary["claims"]["cosine.gate.sinks"]["values"] == 1
    assert made.summary["lacks"]["gate"]["blocks"] == [1, 2]
    assert any("gate projection in 2 forming blocks of 3" in said for said in made.caveats)


class _Odd(torch.nn.Module):
    """Experts that answer a single choice a token with something else, or not at all."""

    def __init__(self, experts: Any, fails: bool) -> None:
        super().__init__()
        self.experts, self.fails = experts, fails

    def forward(self, tokens: Any, chosen: Any, weights: Any) -> Any:
        if chosen.shape[1] == 1 and self.fails:
            raise RuntimeError("needs two choices a token")
        return self.experts(tokens, chosen, weights) * (2.0 if chosen.shape[1] == 1 else 1.0)


@pytest.mark.parametrize(("fails", "why"), [(False, "do not add up"), (True, "needs two choices")])
def test_one_unusual_mixture_of_experts_does_not_end_the_scan(fails: bool, why: str) -> None:
    one = Prompt("random", "", TOKENS, tuple(f"<{token}>" for token in TOKENS))
    hf = tiny("qwen3_moe", mlp_only_layers=[])
    for layer in hf.model.layers:
        layer.mlp.experts = _Odd(layer.mlp.experts, fails)
    unit = measure(load(hf, check=False), one, LOOSE)
    assert unit.facts["rows"]
    for row in unit.facts["rows"]:
        assert row["experts"] is None and why in row["why_experts"] and row["mlp"] is not None


def test_an_unknown_activation_function_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Prompt("random", "", TOKENS, tuple(f"<{token}>" for token in TOKENS))
    loaded = load(tiny("llama"), check=False)
    monkeypatch.setattr(mlp, "_ACTIVATIONS", ())
    unit = measure(loaded, one, LOOSE)
    claims = sink_formation.find([one], [unit], LOOSE, loaded.facts()).summary["claims"]
    told = claims["cosine.activation.sinks"]
    assert told["mean"] is None and "was not recognised" in told["why"]
    assert claims["cosine.gate.sinks"]["mean"] is not None


def test_tokens_lent_to_other_prompts_are_ordinary_and_compared_with_the_anchor() -> None:
    hf = tiny("llama")
    ids = TOKENS + TOKENS[:20]
    one = Prompt("random", "", ids, tuple(f"<{token}>" for token in ids))
    unit = measure(load(hf, check=False), one, LOOSE)
    found = found_sinks(load(hf, check=False), one, LOOSE)
    assert found.anchor is not None and found.ordinary
    expected = [(b, t) for b in unit.facts["blocks"] for t in lenders(ids, found.ordinary)]
    assert [tuple(pair) for pair in unit.facts["lent"]] == expected and len(unit.arrays["lent"]) == len(expected)
    block, token = expected[-1]
    at = max(position for position in found.ordinary if ids[position] == token)
    plain = plain_formation.observe(hf, block, ids)
    for name in ("mlp_in", "mlp_out", "direction"):
        lent = unit.arrays["lent"][-1, QUANTITIES.index(name)]
        assert lent == pytest.approx(plain_formation.cosine(plain, name, at, found.anchor), abs=2e-4)


@pytest.mark.smollm2
def test_smollm2_mlps_map_unlike_inputs_onto_the_anchors_output(smollm2: Any) -> None:
    """What the paper says of larger models: inputs and gates of the first wave are hardly like the anchor's, the MLP's
    output is the anchor's but for its length; controls stay apart."""
    one = text(smollm2, "code_python", 128)
    unit = measure(smollm2, one, FormationConfig())
    agree(smollm2.hf, one, unit)
    others = [i for i, row in enumerate(unit.facts["rows"]) if not row["anchor"] and row["start"] == 2]
    cosine = dict(zip(QUANTITIES, unit.arrays["cosines"][others].T, strict=True))
    control = dict(zip(QUANTITIES, unit.arrays["control_cosines"][others].T, strict=True))
    assert others and cosine["mlp_in"].max() < 0.7 and cosine["mlp_out"].min() > 0.98
    assert control["mlp_out"].max() < 0.8
    findings = sink_formation.find([one], [unit], FormationConfig(), smollm2.facts())
    named = {(row["start_layer"], row["formed_by"]) for row in findings.records() if row["anchor"]}
    assert named == {(1, "MLP 1"), (11, "MLP 11")}
    assert all(row["mlp_share"] > 0.7 for row in findings.records())


@pytest.mark.gemma3
def test_gemma3_secondary_sinks_are_formed_by_an_mlp(gemma3: Any) -> None:
    one = text(gemma3, "licence", 384)
    unit = measure(gemma3, one, FormationConfig())
    agree(gemma3.hf, one, unit)
    rows = sink_formation.find([one], [unit], FormationConfig(), gemma3.facts()).records()
    assert [row["formed_by"] for row in rows if row["anchor"]] == ["MLP 0"]
    later = [row for row in rows if row["kind"] == "secondary"]
    assert later and all(row["start_layer"] in (4, 5) and row["mlp_share"] > 0.8 for row in later)
