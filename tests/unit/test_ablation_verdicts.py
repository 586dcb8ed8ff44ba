"""What the ablation finder may and may not conclude, on made-up measurements; and that what is compared ran on one
path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

import interp
from interp.ablation import choose
from interp.ablation.config import AblationConfig, Head
from interp.ablation.finder import Ablation
from interp.ablation.measure import calibration_ids, candidates, loss, measure
from interp.ablation.ways import sizes
from interp.errors import UsageError
from interp.finders import massive_check, sink_measure
from interp.finders.base import ModelFacts, Unit
from interp.finders.sink_config import SinksConfig
from interp.findings import Findings
from interp.tracing.calls import next_token_loss
from interp.verify import paired
from probes.base import Prompt
from tests.tiny import tiny, tiny_tokenizer

FACTS = ModelFacts("tiny", "llama", "Llama", 4, 4, 32, False, "bos")


def prompts(count: int, same: Sequence[tuple[int, int]] = ()) -> list[Prompt]:
    """Short prompts; (a, b) in `same` has b hold a's tokens."""
    ids = [(1, 5 + index, 9) for index in range(count)]
    for first, second in same:
        ids[second] = ids[first]
    return [Prompt(f"p{index}", "", one, ("a", "b", "c")) for index, one in enumerate(ids)]


def found(
    given: Sequence[Prompt], changes: np.ndarray, tried: Sequence[Head] | None = None, **settings: Any
) -> tuple[Findings, AblationConfig]:
    """Findings from the change in loss under each candidate, [prompt, candidate]."""
    config = AblationConfig(**settings)
    tried = [(0, index) for index in range(changes.shape[1])] if tried is None else tried
    units = [
        Unit(
            {"edited": 3.0 + row, "size": np.ones(len(row))},
            {"metric": "loss", "untouched": 3.0, "right": None, "candidates": [[list(head)] for head in tried]},
        )
        for row in changes
    ]
    return Ablation().find(given, units, config, FACTS), config


def concluded(findings: Findings, config: AblationConfig, effect: Any, control: Any) -> Findings:
    """After checks with these changes, by index of the prompt."""
    checks = [
        Unit(facts={"untouched": 3.0, "edited": 3.0 + effect(index), "control": 3.0 + control(index), "right": None})
        if told["held_out"]
        else None
        for index, told in enumerate(findings.summary["prompts"])
    ]
    return Ablation().conclude(findings, checks, config)


def test_less_harm_than_random_heads_is_no_help() -> None:
    """+0.02 against +0.2: the difference lies below 0, the change does not."""
    names = [f"p{index}" for index in range(10)]
    noise = np.random.default_rng(0).normal(0, 0.001, 10)
    settings: dict[str, Any] = {"metric": "loss", "how": "", "expected": "lower"}
    assert paired(names, list(0.02 + noise), [0.2] * 10, **settings).verdict() == "verified"
    assert paired(names, list(0.02 + noise), [0.2] * 10, **settings, also_alone=True).verdict() == "failed"
    assert paired(names, list(noise - 0.02), [0.2] * 10, **settings, also_alone=True).verdict() == "verified"
    findings, config = found(prompts(10), np.full((10, 1), 0.02), tried=[(0, 1)])
    findings.summary["selected"], findings.summary["selected_heads"] = ["0.1"], [(0, 1)]
    for told in findings.summary["prompts"]:
        told["held_out"] = True
    worse = concluded(findings, config, lambda i: 0.02 + noise[i], lambda i: 0.2)
    assert worse.verification is not None and worse.verification.verdict == "failed"
    assert "It differs from the random heads', but is not below 0 itself." in worse.verdict
    assert "Verified means that the change is below 0, and below that in the random heads" in worse.verification.how
    better = concluded(findings, config, lambda i: noise[i] - 0.02, lambda i: 0.2)
    assert better.verification is not None and better.verification.verdict == "verified"


@pytest.mark.parametrize("seed", range(6))
def test_the_same_tokens_are_never_on_both_sides_and_count_once(seed: int) -> None:
    given = prompts(20, same=[(0, 1), (0, 2), (3, 4), (5, 6)])
    findings, config = found(given, np.random.default_rng(seed).normal(-1, 0.01, (20, 1)), seed=seed)
    hashes = {prompt.name: prompt.hash for prompt in given}
    train, test = ([hashes[name] for name in findings.summary[half]] for half in ("train", "test"))
    assert len(train) + len(test) == 20 and not set(train) & set(test)
    assert findings.summary["trained_on"] == len(set(train)) == 8 == len(set(test))
    assert "20 prompts are 16 different token sequences; each of these counts once." in findings.caveats
    done = concluded(findings, config, lambda i: -1.0 - i, lambda i: 0.0)
    assert done.verification is not None and done.verification.prompts == 8
    by_hand: dict[str, list[float]] = {}
    for index, told in enumerate(findings.summary["prompts"]):
        if told["held_out"]:
            by_hand.setdefault(hashes[told["name"]], []).append(-1.0 - index)
    assert [one["effect"] for one in done.verification.per_prompt] == pytest.approx(
        [np.mean(values) for values in by_hand.values()]
    )
    assert done.summary["claims"]["held_out_effect"]["n"] == done.summary["claims"]["untouched"]["n"] == 8


def test_copies_of_few_prompts_make_no_verdict() -> None:
    findings, config = found(prompts(12, same=[(0, index) for index in range(1, 10)]), np.full((12, 1), -0.1))
    assert findings.summary["trained_on"] == 1 and findings.summary["selected"] == []
    named, config = found(
        prompts(12, same=[(0, index) for index in range(1, 10)]), np.full((12, 1), -0.1), heads=("0.0",)
    )
    done = concluded(named, config, lambda i: -0.1, lambda i: 0.0)
    assert done.verification is not None
    assert (done.verification.verdict, done.verification.prompts) == ("too few to say", 3)


@pytest.mark.parametrize("n", [3, 4, 8])
def test_null_heads_are_chosen_as_often_as_said(n: int) -> None:
    """And a percentile bootstrap of three prompts would choose several times as many."""
    config, rng = AblationConfig(), np.random.default_rng(n)
    picked = np.mean([choose.trial(rng.normal(size=n), config).counts for _ in range(2000)])
    assert abs(picked - choose.CHANCE) < 0.011
    table = {1: 12.7062, 2: 4.3027, 3: 3.1824, 7: 2.3646, 30: 2.0423, 1000: 1.9623}  # any table of Student's t
    assert {df: choose.t_quantile(df) for df in table} == pytest.approx(table, abs=2e-4)


def test_the_verdict_names_the_picks_of_chance() -> None:
    findings, _ = found(
        prompts(16), np.random.default_rng(1).normal(0, 1, (16, 16)), tried=[(i // 4, i % 4) for i in range(16)]
    )
    assert findings.summary["chance_picks"] == pytest.approx(0.4)
    assert "where chance alone would choose about 0.4" in findings.verdict


@pytest.mark.parametrize(
    ("heads", "layers", "told"),
    [
        ([(1, 0), (2, 3)], (2, 0), "in as many random heads of the same layers by"),
        ([(1, head) for head in range(4)], (0, 4), "random heads of other layers, the nearest ones"),
        (
            [(1, 0), (1, 1), (1, 2), (3, 0)],
            (2, 2),
            "random heads, 2 of the same layers and 2 of the nearest other ones",
        ),
    ],
)
def test_controls_are_said_to_be_where_they_are(heads: list[Head], layers: tuple[int, int], told: str) -> None:
    assert choose.control_layers(heads, (4, 4)) == layers
    for seed in range(20):
        drawn = choose.random_heads(heads, (4, 4), (seed,))
        assert drawn is not None and not set(drawn) & set(heads) and len(set(drawn)) == len(heads)
        own = {layer for layer, _ in heads}
        assert sum(layer in own for layer, _ in drawn) == layers[0]
    named = [f"{layer}.{head}" for layer, head in heads]
    findings, config = found(prompts(9), np.zeros((9, len(heads))), tried=heads, heads=tuple(named))
    done = concluded(findings, config, lambda i: -0.1, lambda i: 0.0)
    assert told in done.verdict and done.verification is not None
    assert told.removeprefix("in as many ").removesuffix(" by") in done.verification.how
    assert all(told.removeprefix("in as many ").removesuffix(" by") in chart.caption for chart in done.charts[-1:])


def test_candidates_must_agree() -> None:
    units = [
        Unit({"edited": np.zeros(1), "size": np.ones(1)}, {"metric": "loss", "candidates": [[[0, i]]]})
        for i in (0, 0, 1)
    ]
    with pytest.raises(UsageError, match="'p0' and 'p2' were measured with different candidates"):
        Ablation().find(prompts(3), units, AblationConfig(), FACTS)


# with a model


@pytest.fixture(scope="module")
def model() -> interp.Model:
    return interp.load(tiny("llama", max_position_embeddings=2048), tokenizer=tiny_tokenizer(128))


def test_no_candidate_is_said(model: interp.Model) -> None:
    config = AblationConfig(how="act", threshold=1.0)
    given = prompts(4)
    findings = Ablation().find(given, [measure(model, one, config) for one in given], config, FACTS)
    assert findings.verdict.startswith("ACT (beta 0.4) changes no head of tiny on a calibration text")
    done = Ablation().conclude(findings, [None] * 4, config)
    assert done.verification is not None and done.verification.verdict == "nothing to verify"


@pytest.mark.parametrize("settings", [{"how": "streaming", "recent": 300}, {"how": "cut", "keys": (400,)}])
def test_the_calibration_text_is_long_enough_for_the_edit(model: interp.Model, settings: dict[str, Any]) -> None:
    config = AblationConfig(**settings)
    size, _ = sizes(model, calibration_ids(model, config), config)
    assert len(candidates(config, size)) == min(12, config.candidates)


def test_the_calibration_text_is_no_prompt(model: interp.Model) -> None:
    from interp.registry import PROBES
    from probes.text import from_texts, shipped_texts

    ids = calibration_ids(model, AblationConfig())
    others = [prompt.ids for prompt in from_texts(model, shipped_texts(), 256)]
    for probe in ("problems", "random"):
        others += [prompt.ids for prompt in PROBES.get(probe).prompts(model, max_length=256)]
    assert len(ids) == 256 and ids not in others
    bare = interp.load(tiny("llama"), check=False)
    assert calibration_ids(bare, AblationConfig()) not in [
        prompt.ids for prompt in PROBES.get("random").prompts(bare, max_length=256)
    ]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_an_edit_that_does_nothing_changes_nothing_in_half_precision(dtype: torch.dtype) -> None:
    """Fast attention rounds otherwise than float32 rows: an untouched run on it would differ by the path alone."""
    hf: Any = tiny("llama")
    made = interp.load(hf.to(dtype), tokenizer=tiny_tokenizer(128), check=False)
    ids = tuple(torch.randint(3, 120, (48,), generator=torch.Generator().manual_seed(1)).tolist())
    prompt = Prompt("p", "", ids, ("x",) * 48)
    with torch.no_grad():
        fast = float(next_token_loss(made.hf(torch.tensor([ids])).logits, ids).mean())
    for settings in (
        {"how": "act", "threshold": 1.0},
        {"how": "streaming", "recent": 64},
        {"how": "cut", "keys": (47,)},
    ):
        config = AblationConfig(**settings)
        untouched = loss(made, prompt, config)
        assert abs(untouched - fast) > 1e-5  # the paths differ, so the case tests something
        assert loss(made, prompt, config, [(1, 2), (2, 0)]) == pytest.approx(untouched, abs=1e-6)
    unit = sink_measure.measure(made, prompt, SinksConfig())
    assert sink_measure.cut_loss(made, ids, ((47, (1,)),)) == pytest.approx(unit.facts["loss"], abs=1e-6)
    assert massive_check.edited_loss(made, prompt, [], "zero") == pytest.approx(unit.facts["loss"], abs=1e-6)
