"""Ablation of pairs: each edit against plain hooks on the model's own modules, means over twins, and what is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import interp
from interp.ablation.config import AblationConfig, edges_of
from interp.ablation.finder import Ablation
from interp.ablation.measure import Score, difference, loss, metric_for, score
from interp.ablation.outputs import TwinMeans, twin_outputs
from interp.ablation.places import names_of, places_of
from interp.circuits.pairs import pair_of
from interp.errors import UsageError
from interp.finders.base import ModelFacts, Unit
from interp.findings import Findings
from probes.base import Prompt
from probes.ioi import IOI
from tests.pair_words import model_of, tokenizer
from tests.plain_ablation import Plain
from tests.unit.test_ablation_verdicts import concluded

HEADS = [(0, 1), (1, 0), (1, 3), (2, 2)]


@pytest.fixture(scope="module", params=("llama", "gpt2", "gemma3"))
def model(request: pytest.FixtureRequest) -> interp.Model:
    return model_of(tokenizer(), request.param)


@pytest.fixture(scope="module")
def llama() -> interp.Model:
    return model_of(tokenizer())


def ioi(model: Any, limit: int = 4, **settings: Any) -> list[Prompt]:
    return IOI(**settings).prompts(model, limit=limit)


@pytest.mark.parametrize("position", ["all", "end", "S2", "wrong"])
@pytest.mark.parametrize("how", ["zero", "resample", "mean"])
def test_outputs_are_replaced_as_plain_hooks_replace_them(model: interp.Model, how: str, position: str) -> None:
    given, plain = ioi(model), Plain(model)
    prompt, pair = given[1], pair_of(given[1])
    config = AblationConfig(how=how, position=position, heads=("0.1",))
    means = TwinMeans(given)
    twin = plain.run(pair.corrupt, {})[1]
    mean = means.of(model, prompt)
    by_hand: Any = {
        "zero": lambda layer, head: 0.0,
        "resample": lambda layer, head: twin[layer][:, head],
        "mean": lambda layer, head: mean[layer, head],
    }[how]
    at = {"all": None, "end": [len(prompt) - 1], "S2": [pair.positions["S2"]]}.get(
        position, [pair.positions["S1"], pair.positions["S2"]]
    )
    outputs = {"zero": {}, "resample": twin_outputs(model, prompt), "mean": mean}[how]
    found = score(model, prompt, config, HEADS, outputs)
    expected = plain.difference(prompt, plain.set(HEADS, by_hand, at))
    assert found.value == pytest.approx(expected, abs=2e-4)
    assert abs(expected - plain.difference(prompt, {})) > 1e-3  # the case tests something


@pytest.mark.parametrize("renormalise", [True, False])
@pytest.mark.parametrize("how", ["knockout:end->answer", "knockout:S2,end->first,after_first"])
def test_attention_is_cut_as_plain_hooks_cut_it(model: interp.Model, how: str, renormalise: bool) -> None:
    prompt, plain = ioi(model)[2], Plain(model)
    at = pair_of(prompt).positions
    queries, keys = ([at["end"]], [at["IO"]]) if "answer" in how else ([at["S2"], at["end"]], [at["S1"], at["S1+1"]])
    config = AblationConfig(how=how, renormalise=renormalise, heads=("0.1",))
    assert places_of(prompt, config).queries == tuple(sorted(queries))
    expected = plain.difference(prompt, plain.knocked(prompt, HEADS, queries, keys, renormalise))
    assert score(model, prompt, config, HEADS).value == pytest.approx(expected, abs=2e-4)
    assert abs(expected - plain.difference(prompt, {})) > 1e-3


def test_the_logit_difference_and_the_choice_are_the_models_own(model: interp.Model) -> None:
    prompt = ioi(model, 1)[0]
    pair = pair_of(prompt)
    with torch.no_grad():
        logits = model.hf(torch.tensor([prompt.ids])).logits[0, -1].float()
    found = difference(model, prompt, AblationConfig())
    assert found.value == pytest.approx(float(logits[pair.answer] - logits[list(pair.wrong)].mean()), abs=1e-4)
    best, least = int(logits.argmax()), int(logits.argmin())
    for answer, wrong, right in ((best, (least, pair.answer), True), (pair.answer, (best, least), False)):
        told = replace(prompt, extra=replace(pair, answer=answer, wrong=wrong).as_extra())
        assert difference(model, told, AblationConfig()).right is right


def test_a_mean_is_that_of_the_twins_of_the_same_template(llama: interp.Model) -> None:
    given = ioi(llama, 12, templates=(0, 1, 2), order="ABBA")
    means, plain = TwinMeans(given), Plain(llama)
    assert means.abc and sorted(len(ids) for ids in means.groups.values()) == [4, 4, 4]
    same = [one for one in given if pair_of(one).template == pair_of(given[0]).template]
    z = [plain.run(one.extra["twins"]["abc"], {})[1] for one in same]
    for layer, head in HEADS:
        by_hand = torch.stack([one[layer][:, head] for one in z]).mean(0)
        torch.testing.assert_close(means.of(llama, given[0])[layer, head], by_hand, atol=1e-5, rtol=1e-4)
    assert "over the ABC twins" in means.told() and "(4 of them)" in means.told()
    bare = [replace(one, extra={"pair": one.extra["pair"]}) for one in given[:5]]
    assert not TwinMeans(bare).abc and "corrupted twins" in TwinMeans(bare).told()
    assert TwinMeans(bare).groups[pair_of(bare[0]).template, len(bare[0])][0] == pair_of(bare[0]).corrupt
    crooked = [replace(given[0], extra={**given[0].extra, "twins": {"abc": [1, 2]}})]
    with pytest.raises(UsageError, match="its abc twin has 2 tokens"):
        TwinMeans(crooked)


# the finder


def run(model: Any, how: str, out: Path, limit: int = 8, **given: Any) -> Any:
    return interp.ablate(model, how, probe="ioi", limit=limit, progress=False, out=out, **given)


def test_resampled_heads_are_judged_pair_by_pair(llama: interp.Model, tmp_path: Path) -> None:
    result = run(llama, "resample", tmp_path / "run", heads=[(1, 0), (2, 2)], position="end")
    checked, summary = result.findings.verification, result.findings.summary
    assert summary["metric"] == "difference" and summary["settings"]["metric"] == "auto" and not summary["helps"]
    plain, by_hand, alone = Plain(llama), [], []
    for prompt in result.prompts:
        twin, before = plain.run(pair_of(prompt).corrupt, {})[1], plain.difference(prompt, {})
        last = [len(prompt) - 1]
        by_hand.append(
            plain.difference(prompt, plain.set([(1, 0), (2, 2)], lambda at, head, z=twin: z[at][:, head], last))
            - before
        )
        alone.append(plain.difference(prompt, plain.set([(1, 0)], lambda at, h, z=twin: z[at][:, h], last)) - before)
    assert [one["effect"] for one in checked.per_prompt] == pytest.approx(by_hand, abs=3e-4)
    assert result.table.set_index("name").loc["1.0", "held_out"] == pytest.approx(np.mean(alone), abs=3e-4)
    assert result.table["size"].isna().all()
    claims = summary["claims"]
    assert claims["held_out_effect"]["mean"] == pytest.approx(np.mean(by_hand), abs=3e-4)
    assert claims["held_out_effect"]["low"] <= np.mean(by_hand) <= claims["held_out_effect"]["high"]
    assert {name: one["n"] for name, one in claims["accuracy"].items()} == {"untouched": 8, "edited": 8, "random": 8}
    assert "changes the logit difference (answer less the mean of the wrong tokens) by" in result.verdict
    assert "Taking the output at end from the corrupted prompt in 1.0, 2.2" in result.verdict
    assert "The answer's logit is above all wrong ones in" in result.verdict


def test_means_over_twins_reach_the_table_and_the_check(llama: interp.Model, tmp_path: Path) -> None:
    given: dict[str, Any] = {"heads": "1.0,2.2", "probe_set": {"templates": (0,), "order": "ABBA"}}
    result = run(llama, "mean", tmp_path / "run", **given)
    means = TwinMeans(result.prompts)
    config = AblationConfig(how="mean", heads=("1.0",))

    def change(prompt: Prompt, heads: list[tuple[int, int]]) -> float:
        return score(llama, prompt, config, heads, means.of(llama, prompt)).value - score(llama, prompt, config).value

    together = [change(prompt, [(1, 0), (2, 2)]) for prompt in result.prompts]
    assert [one["effect"] for one in result.findings.verification.per_prompt] == pytest.approx(together, abs=1e-5)
    alone = np.mean([change(prompt, [(2, 2)]) for prompt in result.prompts])
    assert result.table.set_index("name").loc["2.2", "held_out"] == pytest.approx(alone, abs=1e-5)
    assert any("over the ABC twins (other names) of all prompts" in told for told in result.findings.caveats)
    assert len(Ablation()._means) == 0
    again = run(llama, "mean", tmp_path / "run", **given)
    assert again.provenance["units"]["measured"] == {}


def made_up(changes: np.ndarray, **settings: Any) -> tuple[Findings, AblationConfig]:
    """Findings of pairs from the change of the logit difference, [prompt, candidate]."""
    config = AblationConfig(**settings)
    given = []
    for index in range(len(changes)):
        ids, twin = (1, 5 + index, 9), (1, 6 + index, 9)
        pair = {"corrupt": list(twin), "answer": 3, "wrong": [4], "positions": {}, "template": ""}
        given.append(Prompt(f"p{index}", "", ids, ("a", "b", "c"), extra={"pair": pair}))
    tried = [[[0, index]] for index in range(changes.shape[1])]
    facts = {"metric": "difference", "untouched": 3.0, "right": True, "candidates": tried}
    units = [Unit({"edited": 3.0 + row, "size": np.ones(len(row))}, facts) for row in changes]
    return Ablation().find(given, units, config, ModelFacts("tiny", "llama", "L", 4, 4, 32, False, "bos")), config


@pytest.mark.parametrize(("aim", "chosen"), [("auto", "0.1"), ("hurt", "0.1"), ("help", "0.2")])
def test_hurting_lowers_a_logit_difference(aim: str, chosen: str) -> None:
    changes = np.tile([0.0, -1.0, 1.0], (16, 1)) + np.random.default_rng(0).normal(0, 0.1, (16, 3))
    findings, config = made_up(changes, how="zero", aim=aim)
    assert findings.summary["selected"][:1] == [chosen] and len(findings.summary["selected"]) <= 2
    side = -1 if chosen == "0.1" else 1
    assert ("lowers the logit difference" if side < 0 else "raises the logit difference") in findings.verdict
    for effect, verdict in ((side, "verified"), (-side, "failed")):
        done = concluded(findings, config, lambda i, effect=effect: effect + 0.01 * i, lambda i: 0.0)
        assert done.verification is not None and done.verification.verdict == verdict
        assert "logits" in done.verdict and "nats" not in done.verdict


def test_a_loss_can_be_asked_of_pairs_and_is_that_of_plain_prompts(llama: interp.Model) -> None:
    prompt = ioi(llama, 1)[0]
    plain = replace(prompt, extra={})
    asked, auto = AblationConfig(how="zero", metric="loss"), AblationConfig(how="zero")
    assert [metric_for(one, auto) for one in (prompt, plain)] == ["difference", "loss"]
    assert score(llama, prompt, asked, HEADS) == Score(loss(llama, plain, auto, HEADS), None)
    assert score(llama, plain, auto, HEADS) == score(llama, prompt, asked, HEADS)


# names and what is refused


def test_names_are_roles_first_and_then_positions(llama: interp.Model) -> None:
    prompt = ioi(llama, 1)[0]
    at, names = pair_of(prompt).positions, names_of(prompt)
    assert names["answer"] == (at["IO"],) and names["S1+1"] == (at["S1"] + 1,) and names["end"] == (len(prompt) - 1,)
    assert set(names["wrong"]) == {at["S1"], at["S2"]}
    assert names_of(replace(prompt, extra={})) == {"end": (len(prompt) - 1,)}
    assert edges_of("knockout: end , S2->answer") == (("end", "S2"), ("answer",))


REFUSED = [
    ({"how": "zero", "position": "X9"}, True, r"position=X9: prompt 'ioi-0' has no position 'X9'; it has .*S2.*answer"),
    ({"how": "zero", "position": "S2"}, False, r"has no position 'S2'; it has end \(only pairs have names"),
    ({"how": "knockout:end->nowhere", "heads": ("0.1",)}, True, "how=knockout:end->nowhere: .* no position 'nowhere'"),
    ({"how": "knockout:end->answer", "heads": ("0.1",)}, False, "no position 'answer'"),
    ({"how": "resample", "heads": ("0.1",)}, False, "has no corrupted twin"),
    ({"how": "zero", "metric": "difference"}, False, "has no corrupted twin"),
]


@pytest.mark.parametrize(("settings", "pair", "told"), REFUSED, ids=[str(case[0]) for case in REFUSED])
def test_prompts_that_do_not_suit_are_refused_before_anything_runs(
    llama: interp.Model, settings: dict[str, Any], pair: bool, told: str
) -> None:
    prompt = ioi(llama, 1)[0]
    with pytest.raises(UsageError, match=told):
        Ablation().suits(prompt if pair else replace(prompt, extra={}), AblationConfig(**settings))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"how": "knockout"}, "expected one of act, .*or knockout:FROM->TO"),
        ({"how": "knockout:end"}, "expected one of act"),
        ({"how": "knockout:->S2"}, "expected one of act"),
        ({"how": "knockout:end->a,,b"}, "expected one of act"),
        ({"how": "explode"}, "how='explode': expected one of act"),
        ({"how": "cut", "position": "end"}, "position=end: how=cut takes none, only zero, mean, resample do"),
        ({"how": "knockout:end->S2", "position": "end"}, "takes none"),
        ({"how": "zero", "position": " "}, "position is empty"),
        ({"how": "resample"}, r"how=resample: name the heads, or take a run's \(from\), or try them all"),
        ({"how": "knockout:end->S2"}, "name the heads"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        AblationConfig(**settings)


def test_every_head_can_be_tried_by_resampling(llama: interp.Model) -> None:
    config = AblationConfig(how="resample", candidates=0)
    unit = Ablation().measure(llama, ioi(llama, 1)[0], config)
    assert unit.arrays["edited"].shape == (12,) and np.isfinite(unit.arrays["edited"]).all()


def test_pairs_and_plain_prompts_do_not_mix(llama: interp.Model) -> None:
    pair = ioi(llama, 1)[0]
    given, config = [pair, replace(pair, name="bare", extra={})], AblationConfig(how="zero", heads=("0.1",))
    units = [Ablation().measure(llama, one, config) for one in given]
    with pytest.raises(UsageError, match="metric=auto: it is the difference of prompt 'ioi-0' and the loss of 'bare'"):
        Ablation().find(given, units, config, llama.facts())
    mean = AblationConfig(how="mean", metric="loss", heads=("0.1",))
    with pytest.raises(UsageError, match="how=mean: pairs have means over their twins"):
        Ablation().explore(llama, given, units, mean, None)  # type: ignore[arg-type]
