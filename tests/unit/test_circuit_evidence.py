"""Evidence of one pair: equal to the model's own attention and to a plain forward; copying and backups by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import interp
from interp.circuits.backup import gained
from interp.circuits.config import CircuitConfig
from interp.circuits.dla import direct_logit_attribution
from interp.circuits.evidence import evidence, places_of
from interp.circuits.pairs import Pair, batch_of, pair_of
from interp.circuits.roles import ROLES, as_extra
from interp.circuits.states import sides_of
from interp.errors import UsageError
from probes.base import Prompt
from tests.contracts.conftest import fingerprint
from tests.tiny import tiny

FAMILIES = ("gpt2", "llama", "gemma2", "gemma3", "gpt_oss", "gpt_neox", "bloom")
LENGTH, POSITIONS = 20, {"A": 3, "S1": 5, "S1+1": 6, "T": 9, "S2": 15, "end": 19}


def pairs(count: int = 3, **extra: Any) -> list[Prompt]:
    """Random prompts in which S comes twice; the twins have another token at S2."""
    generator = torch.Generator().manual_seed(3)
    made = []
    for index in range(count):
        ids = (torch.randperm(120, generator=generator)[:LENGTH] + 4).tolist()
        ids[15] = ids[5]
        corrupt = [*ids[:15], ids[3], *ids[16:]]
        prompt = Prompt(f"p{index}", "", tuple(ids), tuple("x" * LENGTH))
        pair = Pair(prompt, tuple(corrupt), ids[3], (ids[5],), POSITIONS, "t")
        roles = as_extra(answer=["A"], wrong=["S1", "S2"], first=["S1"], after_first=["S1+1"], repeat=["S2"])
        made.append(replace(prompt, extra={**pair.as_extra(), **roles, **extra}))
    return made


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest) -> interp.Model:
    return interp.load(tiny(request.param))


def plain(model: Any, ids: tuple[int, ...]) -> tuple[np.ndarray, torch.Tensor]:
    """(attention [layer, head, query, key], logits at the end) of transformers' own eager forward."""
    own = tiny(model.hf.config.model_type.removesuffix("_text"))
    own.set_attn_implementation("eager")
    with torch.no_grad():
        out = own(torch.tensor([ids]), output_attentions=True)
    return torch.stack(out.attentions)[:, 0].numpy(), out.logits[0, -1]


def test_attention_and_answer_are_the_models_own(model: interp.Model) -> None:
    before = fingerprint(model.hf)
    prompt = pairs(1)[0]
    unit = evidence(model, prompt)
    assert fingerprint(model.hf) == before
    rows, logits = plain(model, prompt.ids)
    names = unit.facts["names"]
    assert names == [*ROLES, "T"]
    found = dict(zip(names, np.moveaxis(unit.arrays["attention"], 2, 0), strict=True))
    for query, at in (("end", 19), ("repeat", 15), ("after_first", 6), ("T", 9)):
        whole = found[query]
        for key, spots in (("answer", [3]), ("wrong", [5, 15]), ("first", [5]), ("T", [9]), ("end", [19])):
            expected = rows[:, :, at][..., spots].sum(-1)
            np.testing.assert_allclose(whole[..., names.index(key)], expected, atol=1e-5)
    halves = (found["first"] + found["repeat"]) / 2
    np.testing.assert_allclose(found["wrong"], halves, atol=1e-6)  # mean of the rows of S1 and S2
    np.testing.assert_allclose(unit.arrays["elsewhere"], rows[:, :, 19, 16:19].sum(-1), atol=1e-5)

    pair = pair_of(prompt)
    assert unit.facts["p_answer"] == pytest.approx(float(logits.softmax(0)[pair.answer]), rel=1e-4)
    assert unit.facts["rank"] == int((logits > logits[pair.answer]).sum())
    assert unit.facts["top"] == int(logits.argmax())
    assert unit.facts["difference"] == pytest.approx(float(logits[pair.answer] - logits[pair.wrong[0]]), abs=1e-4)
    assert unit.facts["choice"] == bool(logits[pair.answer] > logits[pair.wrong[0]])
    _, other = plain(model, pair.corrupt)
    expected = float(other[pair.answer] - other[pair.wrong[0]])
    assert unit.facts["corrupt_difference"] == pytest.approx(expected, abs=1e-4)


def test_direct_logit_attribution_is_that_of_the_pair(model: interp.Model) -> None:
    prompt = pairs(1)[0]
    expected = direct_logit_attribution(model, sides_of(model, batch_of([pair_of(prompt)]))).heads[..., 0]
    np.testing.assert_allclose(evidence(model, prompt).arrays["dla"], expected, atol=1e-5)


def test_copying_ranks_the_token_looked_at_most(model: interp.Model) -> None:
    prompt = pairs(1)[0]
    unit = evidence(model, prompt)
    rows, _ = plain(model, prompt.ids)
    assert (unit.arrays["top_key"] == rows[:, :, 19, 1:].argmax(-1) + 1).all()
    if model.hf.config.model_type == "bloom":  # it may add to a normalised copy of the residual: then nothing is told
        return
    copying = unit.arrays["copying"]
    assert np.isfinite(copying).all() and (np.abs(copying) <= 1).all() and copying.std() > 0.1
    if model.hf.config.model_type != "gpt2":
        return
    tokens = sorted(set(prompt.ids[1:]))
    z = sides_of(model, batch_of([pair_of(prompt)])).clean.z
    for layer in range(model.n_layers):
        weight, _ = model.sites.output_weight(layer)
        for head in range(model.n_heads):
            written = z[layer][0, -1, head] @ weight[head]
            final = model.hf.transformer.ln_f.weight
            logits = (((written - written.mean()) * final) @ model.hf.transformer.wte.weight.T)[tokens]
            own = logits[tokens.index(prompt.ids[unit.arrays["top_key"][layer, head]])]
            share = float((logits < own).sum()) / (len(tokens) - 1)
            assert copying[layer, head] == pytest.approx(2 * share - 1, abs=1e-5)


def test_a_role_that_a_prompt_lacks_is_missing() -> None:
    model = interp.load(tiny("llama"))
    bare = pairs(1)[0]
    prompt = replace(bare, extra={**bare.extra, **as_extra(repeat=["S2"])})
    unit = evidence(model, prompt)
    names, attention = unit.facts["names"], unit.arrays["attention"]
    assert names == [*ROLES, "A", "S1", "S1+1", "T"]
    missing = [names.index(role) for role in ("answer", "wrong", "first", "after_first")]
    there = [at for at in range(len(names)) if at not in missing]
    assert np.isnan(attention[:, :, missing]).all() and np.isnan(attention[:, :, :, missing]).all()
    assert np.isfinite(attention[:, :, there][:, :, :, there]).all()


def test_other_tokens_may_stand_for_the_answers() -> None:
    """The answer is not written where it stands before: the token ranked is the one said, not the one written."""
    model = interp.load(tiny("llama"))
    prompt = pairs(1)[0]
    top = evidence(model, prompt).arrays["top_key"]
    at = next(int(one) for one in top.flat if one not in (3, 5, 15))
    said = next(token for token in range(4, 100) if token not in prompt.ids)

    def with_answer(token: int) -> np.ndarray:
        pair = replace(pair_of(prompt), answer=token, positions={**POSITIONS, "A": at})
        return evidence(model, replace(prompt, extra={**prompt.extra, **pair.as_extra()})).arrays["copying"]

    one, two = with_answer(prompt.ids[at]), with_answer(said)
    assert (np.abs(one - two) > 0.1)[top == at].any()


def test_choices_and_several_right_answers() -> None:
    model = interp.load(tiny("llama"))
    unit = evidence(model, pairs(1, choices=[40, 41, 42], right=[50, 51])[0])
    logits = plain(model, pairs(1)[0].ids)[1]
    assert unit.facts["choice_of"] == 40 + int(logits[40:43].argmax())
    assert unit.facts["p_right"] == pytest.approx(float(logits.softmax(0)[50:52].sum()), rel=1e-4)
    assert not {"choice_of", "p_right"} & set(evidence(model, pairs(1)[0]).facts)


def test_places_come_roles_first() -> None:
    (prompt,) = pairs(1)
    assert places_of(prompt) == {
        "answer": (3,),
        "wrong": (5, 15),
        "first": (5,),
        "after_first": (6,),
        "repeat": (15,),
        "end": (19,),
        "T": (9,),
    }


@pytest.mark.parametrize("family", ["gpt2", "gemma2", "llama"])
@pytest.mark.parametrize("how", ["mean", "zero", "resample"])
def test_backups_gain_what_a_run_without_the_movers_adds(family: str, how: Any) -> None:
    model, prompts, movers = interp.load(tiny(family)), pairs(), [(1, 2), (0, 1)]
    found = gained(model, prompts, movers, CircuitConfig(knockout=how))
    sides = sides_of(model, batch_of([pair_of(prompt) for prompt in prompts]))
    stand_in = {}
    for layer, head in movers:
        own = sides.clean.z[layer][:, -1, head]
        stand_in[layer] = {
            "mean": own.mean(0).expand_as(own),
            "zero": torch.zeros_like(own),
            "resample": sides.corrupt.z[layer][:, -1, head],
        }[how]

    # block by block with plain hooks: the movers' outputs at the last position are overwritten
    handles, seen = [], {}
    for layer in range(model.n_layers):
        projection = model.sites.binding(f"blocks.{layer}.attn.hook_z").module

        def overwrite(module: Any, args: Any, layer: int = layer) -> Any:
            z = args[0].clone()
            by_head = z.view(*z.shape[:-1], model.n_heads, -1)
            for one, head in movers:
                if one == layer:
                    by_head[:, -1, head] = stand_in[layer]
            seen[layer] = by_head.clone()
            return (z, *args[1:])

        handles.append(projection.register_forward_pre_hook(overwrite))
    with torch.no_grad():
        model.hf(sides.batch.clean)
    for handle in handles:
        handle.remove()
    assert np.isfinite(found).all() and np.abs(found[2]).max() > 1e-4
    if family == "gemma2":  # its norms behind attention rescale what is left of a layer
        return
    # by hand: what each head writes then and before, under the final norm at the scale of the untouched run
    final, norm = sides.clean.final[:, -1], model.sites.binding("ln_final.hook_normalized").module
    centred = final - final.mean(-1, keepdim=True) if family == "gpt2" else final
    unembed = model.hf.get_output_embeddings().weight
    direction = (unembed[sides.batch.answer] - unembed[sides.batch.wrong[:, 0]]) * norm.weight
    direction = direction / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    for layer in range(model.n_layers):
        weight, _ = model.sites.output_weight(layer)
        change = seen[layer][:, -1] - sides.clean.z[layer][:, -1]
        written = torch.einsum("phd,hdm->hpm", change, weight)
        if family == "gpt2":
            written = written - written.mean(-1, keepdim=True)
        np.testing.assert_allclose(found[layer], (written * direction).sum(-1).detach(), atol=2e-5)
    assert np.abs(found[0, [0, 2, 3]]).max() < 1e-5 < np.abs(found[0, 1]).max()  # in the first layer, the mover alone


def test_movers_that_the_model_has_not_are_refused() -> None:
    model = interp.load(tiny("llama"))
    for movers, told in (([], "no movers"), ([(1, 4)], "mover 1.4.*heads 0..3"), ([(3, 0)], "mover 3.0.*3 layers")):
        with pytest.raises(UsageError, match=told):
            gained(model, pairs(), movers, CircuitConfig())
