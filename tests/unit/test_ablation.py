"""Choosing heads by measured effect: the parts, a planted case, and verdicts that stay honest."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import interp
from interp.ablation import choose
from interp.ablation.config import AblationConfig, heads_named, label_of
from interp.ablation.finder import Ablation
from interp.ablation.measure import calibration_ids, loss, measure, target_range
from interp.ablation.ways import sizes
from interp.errors import UsageError
from interp.finders.base import Unit
from interp.interventions.calibrate import ACT
from interp.tracing.statistics import Rows
from interp.tracing.tracer import trace
from probes.base import Prompt
from tests import plain_calibration
from tests.tiny import tiny, tiny_tokenizer

# choosing


@pytest.mark.parametrize(("n", "train"), [(1, 0), (2, 1), (3, 1), (10, 5), (11, 3), (12, 4), (16, 8), (40, 20)])
def test_the_split_is_seeded_exact_and_keeps_enough_to_judge(n: int, train: int) -> None:
    config = AblationConfig(seed=3)
    first, held_out = choose.split(range(n), config)
    assert (first, held_out) == choose.split(range(n), config)
    assert sorted(first + held_out) == list(range(n))
    assert len(first) == train
    assert choose.split(range(n), AblationConfig(heads=("0.1",))) == ([], list(range(n)))
    if n >= 16:
        assert choose.split(range(n), AblationConfig(seed=4)) != (first, held_out)


@pytest.mark.parametrize("helps", [True, False])
def test_sign_flip_counts_all_flips(helps: bool) -> None:
    effects = np.array([-0.3, -0.1, 0.2, -0.4, -0.05])
    toward = -effects if helps else effects
    means = [np.mean(np.array(signs) * toward) for signs in product((1, -1), repeat=5)]
    assert choose.sign_flip(effects, helps, 0) == np.mean([mean >= toward.mean() - 1e-12 for mean in means])
    many = np.random.default_rng(0).normal(-0.1, 1, 40)
    p = choose.sign_flip(many, True, 0)
    z = -many.mean() / (np.sqrt((many**2).sum()) / 40)  # under sign flips the mean has this spread
    assert abs(p - 0.5 * (1 - torch.erf(torch.tensor(z / 2**0.5)).item())) < 0.02


def test_corrections_by_hand() -> None:
    p = [0.01, 0.04, 0.03, 0.005]
    np.testing.assert_allclose(choose.corrected(p, "holm"), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(choose.corrected(p, "bh"), [0.02, 0.04, 0.04, 0.02])
    assert choose.corrected([0.9, 0.8], "holm").max() == 1.0


def test_random_heads_match_by_layer_and_leave_the_found_out() -> None:
    found = [(0, 1), (0, 2), (2, 0), (2, 1), (2, 3)]
    drawn = [choose.random_heads(found, (4, 4), (0, index)) for index in range(30)]
    for heads in drawn:
        assert heads is not None and len(set(heads)) == 5 and not set(heads) & set(found)
        layers = [layer for layer, _ in heads]
        assert layers.count(0) == 2 and layers.count(2) == 1  # layer 2 has one left; the others come from beside it
        assert layers.count(1) + layers.count(3) == 2
    assert len({tuple(heads or ()) for heads in drawn}) > 1
    assert choose.random_heads([(0, 0), (0, 1), (1, 0)], (2, 2), (0,)) is None


def test_named_heads() -> None:
    assert heads_named("1.3", 2, 4) == ((1, 3),)
    assert heads_named(" 0.* ", 2, 2) == ((0, 0), (0, 1))
    assert [label_of(heads_named(label, 2, 2)) for label in ("1.0", "1.*")] == ["1.0", "1.*"]
    for label in ("2.0", "0.4", "2.*"):
        with pytest.raises(UsageError, match=rf"no head {label[:2]}.*layers 0..1, heads 0..3"):
            heads_named(label, 2, 4)


# measuring


@pytest.fixture(scope="module")
def model() -> interp.Model:
    return interp.load(tiny("llama"), tokenizer=tiny_tokenizer(128))


def prompts(model: interp.Model, count: int, length: int = 24, period: int = 0) -> list[Prompt]:
    ids = torch.randint(3, 120, (count, length), generator=torch.Generator().manual_seed(1)).tolist()
    extra = {"period": period} if period else {}
    return [Prompt(f"p{i}", "", tuple(one), model.decode_tokens(one), extra=extra) for i, one in enumerate(ids)]


def test_sizes_are_the_mass_the_edit_moves(model: interp.Model) -> None:
    ids = calibration_ids(model, AblationConfig())
    size, _ = sizes(model, ids, AblationConfig(how="act", threshold=0.05))
    with trace(model, stats=[Rows()]) as t:
        t.run(list(ids))
    for (layer, head), rows in t.stats["rows"].items():
        before = rows.double().numpy()
        after = plain_calibration.act(before, np.ones(len(ids)), 0.4, 0.05)
        assert size[layer, head] == pytest.approx(np.abs(after - before).sum() / 2 / len(ids), abs=1e-5)
    assert size.max() > 0.01


@pytest.mark.parametrize("how", ["zero", "mean"])
def test_sizes_of_output_edits(model: interp.Model, how: Any) -> None:
    ids = calibration_ids(model, AblationConfig())
    size, means = sizes(model, ids, AblationConfig(how=how))
    with trace(model, read=["blocks.1.attn.hook_z"]) as t:
        t.run(list(ids))
    z = t["blocks.1.attn.hook_z"][0, :, 2]
    goal = z[1:].mean(0) if how == "mean" else 0 * z[0]
    assert size[1, 2] == pytest.approx(float((z - goal).norm(dim=-1).mean()), rel=1e-5)
    assert set(means) == ({(a, b) for a in range(3) for b in range(4)} if how == "mean" else set())


def test_the_loss_is_transformers_own(model: interp.Model) -> None:
    prompt = prompts(model, 1)[0]
    ids = torch.tensor([prompt.ids])
    with torch.no_grad():
        own = float(model.hf(ids, labels=ids).loss)
    assert loss(model, prompt, AblationConfig()) == pytest.approx(own, abs=1e-5)


def test_candidates_are_those_the_edit_changes_most(model: interp.Model) -> None:
    prompt, config = prompts(model, 1)[0], AblationConfig(how="zero", candidates=5)
    size, _ = sizes(model, calibration_ids(model, AblationConfig()), config)
    unit = measure(model, prompt, config)
    tried = [tuple(group[0]) for group in unit.facts["candidates"]]
    assert tried == sorted(tried) and len(tried) == 5
    assert min(size[head] for head in tried) >= sorted(size.ravel())[-5]
    alone = loss(model, prompt, config, [tried[2]])
    assert unit.arrays["edited"][2] == alone != unit.facts["untouched"]
    by_layer = measure(model, prompt, AblationConfig(how="zero", by="layer", candidates=0))
    assert [group[0][0] for group in by_layer.facts["candidates"]] == [0, 1, 2]
    assert all(len(group) == 4 for group in by_layer.facts["candidates"])


def test_target_tokens(model: interp.Model) -> None:
    plain, repeated = prompts(model, 1)[0], prompts(model, 1, period=10)[0]
    config = AblationConfig(metric="targets")
    assert target_range(repeated, config) == (14, 24)
    marked = Prompt("m", "", plain.ids, plain.tokens, extra={"targets": [3, 5]})
    assert target_range(marked, config) == (3, 5)
    with torch.no_grad():
        scores = model.hf(torch.tensor([plain.ids])).logits[0].log_softmax(-1)
    by_hand = -(scores[2, plain.ids[3]] + scores[3, plain.ids[4]]) / 2
    assert loss(model, marked, config) == pytest.approx(float(by_hand), abs=1e-5)
    with pytest.raises(UsageError, match="marks no target tokens"):
        target_range(plain, config)
    with pytest.raises(UsageError, match="do not lie in"):
        target_range(Prompt("m", "", plain.ids, plain.tokens, extra={"targets": [3, 99]}), config)


# a planted case: one head whose edit must lower the loss

HEAD = (1, 2)


@pytest.fixture(scope="module")
def damaged() -> tuple[interp.Model, list[Prompt]]:
    """A model that wrote the prompts greedily, and whose head 1.2, of no use till then, was made to write noise.

    Zeroing the head gives back the very model that thought each token the likeliest.
    """
    hf: Any = tiny("llama")
    width = hf.config.hidden_size // hf.config.num_attention_heads
    columns = slice(HEAD[1] * width, (HEAD[1] + 1) * width)
    output = hf.model.layers[HEAD[0]].self_attn.o_proj.weight
    with torch.no_grad():
        output[:, columns] = 0
        ids = torch.randint(3, 120, (16, 6), generator=torch.Generator().manual_seed(5))
        for _ in range(24):
            ids = torch.cat([ids, hf(ids).logits[:, -1].argmax(-1, keepdim=True)], 1)
        output[:, columns] = 3 * torch.randn(output.shape[0], width, generator=torch.Generator().manual_seed(6))
    made = interp.load(hf, tokenizer=tiny_tokenizer(128))
    return made, [Prompt(f"w{i}", "", tuple(one), made.decode_tokens(one)) for i, one in enumerate(ids.tolist())]


@pytest.fixture(scope="module")
def zeroed(damaged: tuple[interp.Model, list[Prompt]], tmp_path_factory: pytest.TempPathFactory) -> Any:
    made, written = damaged
    options: dict[str, Any] = {"prompts": written, "progress": False, "out": tmp_path_factory.mktemp("zero") / "run"}
    return interp.ablate(made, "zero", config={"aim": "help", "candidates": 0}, **options)


def test_the_damaged_head_is_chosen_and_the_gain_holds_elsewhere(
    damaged: tuple[interp.Model, list[Prompt]], zeroed: Any
) -> None:
    (made, written), result = damaged, zeroed
    table = result.table.set_index("name")
    assert len(table) == 12
    assert table["effect"].idxmin() == "1.2" and bool(table.loc["1.2", "selected"])
    assert table.loc["1.2", "p_corrected"] <= 0.05
    checked = result.findings.verification
    assert checked is not None and checked.verdict == "verified" and checked.prompts == 8
    assert checked.difference_high is not None and checked.difference_high < 0
    summary = result.findings.summary
    assert not set(summary["train"]) & set(summary["test"]) and len(summary["test"]) == 8
    assert [one["name"] for one in checked.per_prompt] == summary["test"]  # the figure is the held-out half's
    claim = summary["claims"]["held_out_effect"]
    assert claim["mean"] == pytest.approx(np.mean([one["effect"] for one in checked.per_prompt]))
    by_hand = [
        loss(made, prompt, AblationConfig(how="zero"), [tuple(head) for head in summary["selected_heads"]])
        - loss(made, prompt, AblationConfig())
        for prompt in written
        if prompt.name in summary["test"]
    ]
    assert claim["mean"] == pytest.approx(np.mean(by_hand), abs=1e-6)
    assert f"{claim['mean']:+.4f} nats" in result.findings.verdict


def test_select_takes_the_best_one(damaged: tuple[interp.Model, list[Prompt]], zeroed: Any) -> None:
    """On what the run above measured, by its own changes."""
    (made, written), config = damaged, AblationConfig(how="zero", aim="help", candidates=0, select=1)
    changes = zeroed.findings.arrays["changes"]
    tried = [[[layer, head]] for layer in range(3) for head in range(4)]
    units = [
        Unit(
            {"edited": told["untouched"] + row, "size": np.ones(12)},
            {"metric": "loss", "untouched": told["untouched"], "right": None, "candidates": tried},
        )
        for row, told in zip(changes, zeroed.findings.summary["prompts"], strict=True)
    ]
    findings = Ablation().find(written, units, config, made.facts())
    assert findings.summary["selected"] == ["1.2"]
    checks = [Ablation().check(made, prompt, index, findings, config) for index, prompt in enumerate(written)]
    assert Ablation().conclude(findings, checks, config).verification.verdict == "verified"  # type: ignore[union-attr]


def test_act_is_chosen_where_the_text_was_written_under_it(tmp_path: Path) -> None:
    """Greedy text of a model in which ACT held one loud head back: only calibrating that head makes it likely again."""
    hf: Any = tiny("llama")
    settings: dict[str, Any] = {"threshold": 0.05, "beta": 0.0}
    with torch.no_grad():
        hf.model.layers[HEAD[0]].self_attn.o_proj.weight[:, HEAD[1] * 8 : (HEAD[1] + 1) * 8] *= 4
    ids = torch.randint(3, 120, (16, 6), generator=torch.Generator().manual_seed(7))
    with trace(hf, edit=[ACT([HEAD], **settings)]) as t:
        for _ in range(18):  # each time from the start: sinks are those of the whole text so far
            ids = torch.cat([ids, t.run(ids).logits[:, -1].argmax(-1, keepdim=True)], 1)
    made = interp.load(hf, tokenizer=tiny_tokenizer(128))
    written = [Prompt(f"w{i}", "", tuple(one), made.decode_tokens(one)) for i, one in enumerate(ids.tolist())]
    result = interp.ablate(made, "act", config=settings, prompts=written, progress=False, out=tmp_path / "run")
    table = result.table.set_index("name")
    assert table["effect"].idxmin() == "1.2" and bool(table.loc["1.2", "selected"])
    checked = result.findings.verification
    assert checked is not None and checked.verdict == "verified"
    assert checked.effect_high is not None and checked.effect_high < 0


def test_the_model_is_as_before_and_act_acts(model: interp.Model) -> None:
    prompt, heads = prompts(model, 1)[0], [(0, 1), (2, 3)]
    config = AblationConfig(how="act", threshold=0.08, beta=0.1)
    before = loss(model, prompt, config)
    edited = loss(model, prompt, config, heads)
    with trace(model, edit=[ACT(heads, 0.08, beta=0.1)]) as t:
        logits = t.run(list(prompt.ids)).logits[0].log_softmax(-1)
    by_hand = -logits[:-1].gather(1, torch.tensor(prompt.ids[1:])[:, None]).mean()
    assert edited == pytest.approx(float(by_hand), abs=1e-5) != before
    assert loss(model, prompt, config) == before


def test_a_choice_that_does_not_generalise_fails(model: interp.Model, tmp_path: Path) -> None:
    """Random text, a random model: heads that seem to help by chance alone must not pass."""
    result = interp.ablate(
        model, "zero", select=2, config={"aim": "help"}, prompts=prompts(model, 16), progress=False, out=tmp_path / "r"
    )
    checked = result.findings.verification
    assert checked is not None and checked.verdict == "failed"
    assert ": failed" in result.findings.verdict
    assert result.findings.summary["train_effect_of_chosen"] < 0  # it did look like help


def test_nothing_that_helps_is_said(damaged: tuple[interp.Model, list[Prompt]], tmp_path: Path) -> None:
    """An edit that changes nothing leaves nothing to choose and nothing to verify."""
    made, written = damaged
    result = interp.ablate(made, "act", config={"beta": 1.0}, prompts=written, progress=False, out=tmp_path / "run")
    assert result.findings.summary["selected"] == []
    assert result.findings.verification.verdict == "nothing to verify"  # type: ignore[union-attr]
    assert "There was nothing to test" in result.findings.verdict
    assert result.findings.summary["claims"]["held_out_effect"] is None


def test_named_heads_use_every_prompt(damaged: tuple[interp.Model, list[Prompt]], tmp_path: Path) -> None:
    made, written = damaged
    options: dict[str, Any] = {"prompts": written[:9], "progress": False, "out": tmp_path / "run"}
    result = interp.ablate(made, "zero", heads="1.2,0.1", **options)
    assert result.findings.summary["train"] == []
    assert result.findings.verification.prompts == 9  # type: ignore[union-attr]
    assert list(result.table["selected"]) == [True, True]
    again = interp.ablate(made, "zero", heads=[(1, 2), (0, 1)], **options)  # the same request: nothing to measure
    assert again.provenance["units"]["measured"] == {}


def test_too_few_prompts_choose_nothing(model: interp.Model, tmp_path: Path) -> None:
    result = interp.ablate(model, "zero", prompts=prompts(model, 2), progress=False, out=tmp_path / "run")
    assert "1 training prompt cannot choose" in result.findings.verdict


def test_the_calibration_text_is_read_once_a_run(model: interp.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Any] = []
    monkeypatch.setattr("interp.ablation.measure.sizes", lambda *given: read.append(given[2]) or sizes(*given))
    finder, config, given = Ablation(), AblationConfig(how="zero", candidates=1), prompts(model, 3, length=8)
    finder.prepare(model)
    units = [finder.measure(model, prompt, config) for prompt in given]
    finder.measure(model, given[0], AblationConfig(how="mean", candidates=1))
    assert [one.how for one in read] == ["zero", "mean"]  # once for each setting
    finder.release(model)
    assert finder.measure(model, given[0], config).arrays["size"] == units[0].arrays["size"]
    assert len(read) == 3  # outside a run the weights may have changed


@pytest.mark.parametrize("how", ["act", "remove-sinks", "uniform", "streaming", "cut", "zero", "mean"])
def test_every_way_runs_and_is_drawn(model: interp.Model, tmp_path: Path, how: str) -> None:
    config = {"candidates": 3, "recent": 4, "threshold": 0.03}
    result = interp.ablate(
        model, how, select=1, config=config, prompts=prompts(model, 6), progress=False, out=tmp_path / "run"
    )
    assert len(result.table) == 3
    assert result.findings.charts[0].name == "candidates"
    assert [map.name for map in result.findings.heatmaps] == ["effect"]
    assert "candidate" in (tmp_path / "run/report.html").read_text("utf-8")
