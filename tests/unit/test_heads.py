"""Head classes: the rule, intervals, what is judged by whom, and what is said."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import interp
from interp.errors import UsageError
from interp.finders.base import Unit
from interp.findings import Heatmap
from interp.heads import classes, words
from interp.heads.config import BOTH, COLUMNS, KINDS, SHOWN, HeadsConfig
from interp.heads.measure import seed_of, sinking
from interp.heads.random_scores import random_scores, random_segment
from interp.registry import FINDERS
from interp.report import scales
from interp.report.figures import figure
from interp.retrieval.task import Task
from probes.base import Prompt
from tests.tiny import ARCHS, tiny, tiny_tokenizer

CONFIG = HeadsConfig(length=8, induction=0.11, previous=0.15, duplicate=0.14, copy=0.2, sink=0.15)


@pytest.fixture(scope="module")
def model() -> interp.Model:
    return interp.load(tiny("llama"), tokenizer=tiny_tokenizer(128), check=False)


def prompt(name: str, *ids: int) -> Prompt:
    return Prompt(name, "", ids, tuple(map(str, ids)))


@pytest.mark.parametrize("arch", ARCHS)
def test_every_family_has_all_scores(arch: str) -> None:
    found = random_scores(interp.load(tiny(arch), check=False), 3, 8)
    for kind in ("previous", "duplicate", "induction", "copy"):
        assert found[kind].shape[1] == 4 and np.isfinite(found[kind]).all()
        assert found[kind].max() <= 1 and found[kind].min() >= (-1 if kind == "copy" else 0)


def test_one_seed_one_sequence(model: interp.Model) -> None:
    ids, start, length = random_segment(model, 7, 10)
    assert ids == random_segment(model, 7, 10)[0]
    assert ids != random_segment(model, 8, 10)[0] and ids != random_segment(model, 7, 10, "heads-check")[0]
    assert ids[0] == 1 and start == 1 and length == 10
    assert random_segment(model, 7, 500)[2] == (256 - 1) // 2  # the model has 256 positions
    with pytest.raises(UsageError, match="too short"):
        random_segment(interp.load(tiny("llama", max_position_embeddings=4), check=False), 0, 1)


def test_the_classes_of_a_head() -> None:
    shape = (1, 4)
    means = {
        "previous": [0.4, 0.39, 0.0, 0.0],
        "duplicate": [0.0] * 4,
        "induction": [0.0, 0.5, 0.5, 0.0],
        "copy": [0.0, 0.9, 0.9, 0.9],
        "sink": [0.0, 0.0, 0.0, 0.81],
        "retrieval": [0.0, 0.1, 0.09, np.nan],
    }
    found = {kind: classes.Score(np.array([row]), np.zeros(shape), np.zeros(shape), 1) for kind, row in means.items()}
    found["qr_score"] = found["copy"]
    sets = classes.members(found, HeadsConfig())
    assert sets["previous"] == [(0, 0)] and sets["duplicate"] == [] and sets["retrieval"] == [(0, 1)]
    rows = classes.table(found, sets)
    assert list(rows["class"]) == ["previous", BOTH, "induction", "sink"]
    assert list(rows["classes"]) == ["previous", "retrieval, induction, copy", "induction, copy", "sink, copy"]
    assert list(rows.columns) == [column.name for column in COLUMNS]


def test_needles_are_the_units_of_retrieval_and_sequences_those_of_the_others() -> None:
    """Equal prompts tell nothing new; unanswered ones have no retrieval score."""
    rng = np.random.default_rng(0)

    def task(name: str) -> dict[str, Any]:
        none: dict[str, Any] = {field: None for field in Task.__dataclass_fields__ if field != "prompt"}
        return {"needle": {**none, "needle": name}}

    prompts, units = [], []
    for index, (name, recall) in enumerate([("a", 1.0), ("a", 1.0), ("b", 0.9), ("c", 0.5), ("c", 0.1), ("a", 1.0)]):
        ids = (1, 2, 3) if index == 5 else (1, 2, 3 + index)
        prompts.append(Prompt(str(index), "", ids, ("",) * 3, extra=task(name)))
        arrays = {kind: rng.random((2, 3)).astype(np.float32) for kind in (*KINDS, "qr_score")}
        units.append(Unit(arrays, {"anchor": 0, "recall": recall}))
    found = classes.scores(prompts, units, HeadsConfig())
    assert {kind: found[kind].n for kind in KINDS} == {
        "previous": 5,
        "duplicate": 5,
        "induction": 5,
        "copy": 5,
        "sink": 3,
        "retrieval": 2,
    }
    np.testing.assert_allclose(found["retrieval"].mean, np.mean([u.arrays["retrieval"] for u in units[:3]], axis=0))
    np.testing.assert_allclose(found["copy"].mean, np.mean([u.arrays["copy"] for u in units[:5]], axis=0))
    assert (found["induction"].low < found["induction"].mean).all()
    assert np.isnan(classes.score([], [], (2, 3), 0).mean).all()


def test_the_anchor_is_the_key_that_receives_most(model: interp.Model) -> None:
    one = model.encode("the cat sat on the mat and the dog ran to it. " * 3)
    anchor, alpha = sinking(model, one)
    received = interp.received(model, list(one.ids))[:, 0].numpy()
    ranked = received.mean((0, 1))[: len(one) - len(one) // 4]
    assert anchor == ranked.argmax()
    np.testing.assert_array_equal(alpha, received[:, :, anchor])


def test_without_needles_retrieval_is_missing_and_said(model: interp.Model) -> None:
    finder = FINDERS.get("heads")
    prompts = [model.encode(text, name=text[:5]) for text in ("the cat sat on the mat", "a dog ran to it and was red")]
    units = [finder.measure(model, one, CONFIG) for one in prompts]
    found = finder.find(prompts, units, CONFIG, model.facts())
    assert found.table["retrieval"].isna().all() and len(found.table) == 12
    assert any("No prompt holds a needle" in caveat for caveat in found.caveats)
    assert "Retrieval was not measured" in found.verdict
    assert [heatmap.name for heatmap in found.heatmaps] == [
        "class",
        "previous",
        "duplicate",
        "induction",
        "copy",
        "sink",
    ]


def test_only_some_prompts_judge_and_on_other_sequences(model: interp.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    from interp.heads import check

    finder, config = FINDERS.get("heads"), HeadsConfig(**{**vars(CONFIG), "checked": 2})
    prompts = [prompt("a", 1, 5, 6, 7), prompt("b", 1, 5, 6, 7), prompt("c", 1, 8, 9, 4), prompt("d", 1, 9, 9, 4)]
    units = [finder.measure(model, one, config) for one in prompts]
    found = finder.find(prompts, units, config, model.facts())
    assert [one["checked"] for one in found.summary["prompts"]] == [True, False, True, False]
    fed = []
    whole = check.losses
    monkeypatch.setattr(check, "losses", lambda *args, **more: fed.append(args[1]) or whole(*args, **more))
    checks = [finder.check(model, one, index, found, config) for index, one in enumerate(prompts)]
    assert [one is None for one in checks] == [False, True, False, True]
    assert set(fed) == {random_segment(model, seed_of(prompts[i]), 8, check.PROBE)[0] for i in (0, 2)}
    assert not set(fed) & {random_segment(model, seed_of(one), 8)[0] for one in prompts}


def test_settings_are_checked() -> None:
    wrongs: tuple[dict[str, Any], ...] = ({"copy": 1.5}, {"length": 1}, {"controls": 0}, {"checked": -1})
    for wrong in wrongs:
        with pytest.raises(ValueError, match=next(iter(wrong))):
            HeadsConfig(**wrong)


def test_a_map_of_kinds_has_flat_colours_and_names() -> None:
    values = np.array([[0.0, 7.0], [3.0, np.nan]])
    heatmap = Heatmap("class", "t", values, "layer", "head", "class", "layer-head", categories=SHOWN)
    assert scales.scale(heatmap) == scales.Scale(False, -0.5, 7.5)
    steps = scales.steps(len(SHOWN))
    assert len({colour for _, colour in steps}) == len(SHOWN) and steps[0][0] == 0 and steps[-1][0] == 1
    assert [scales.letters(name) for name in ("retrieval + induction", "sink")] == ["RI", "S"]
    from tests.sample_findings import sample

    findings = sample()[0]
    findings.heatmaps.append(heatmap)
    drawn = figure(findings, "class").data[0]
    assert "retrieval + induction" in drawn.text[0][1] and list(drawn.colorbar.ticktext) == list(SHOWN)


@pytest.mark.parametrize(
    ("retrieval", "both", "sinks", "told"),
    [
        (1, [(2, 3)], 0, "The retrieval head is an induction head too (2.3)."),
        (1, [], 1, "The retrieval head is no induction head. It also reaches the threshold of sinking heads."),
        (4, [(2, 3)], 1, "1 of the 4 retrieval heads is an induction head too (2.3). 1 of them also reaches the"),
        (4, [(2, 3), (4, 5)], 2, "2 of the 4 retrieval heads are induction heads too (2.3, 4.5). 2 of them also reach"),
        (4, [], 0, "None of the 4 retrieval heads are induction heads too."),
    ],
)
def test_the_overlap_in_words(retrieval: int, both: list[tuple[int, int]], sinks: int, told: str) -> None:
    assert words.overlaps(retrieval, both, sinks).strip().startswith(told)


def test_nothing_is_claimed_of_a_class_that_random_heads_equal() -> None:
    def claim(low: float | None, n: int = 8) -> dict[str, Any]:
        return {"mean": None if low is None else low + 1, "low": low, "high": None if low is None else low + 2, "n": n}

    lows = {"previous": -0.1, "duplicate": 0.2, "induction": 3.0, "copy": 0.0, "sink": None, "retrieval": None}
    claims = {f"difference.{kind}": claim(low) for kind, low in lows.items()}
    claims |= {f"change.{kind}": claim(low) for kind, low in lows.items()}
    rest, apart = words.unproved(claims)
    assert "does not tell previous-token heads and copying heads from random heads" in rest
    assert "nothing is verified" in rest
    assert apart.startswith("Without duplicate-token heads the loss") and "does not prove" in apart
    claims["difference.duplicate"] = claim(0.2, n=7)  # too few sequences to say
    (rest,) = words.unproved(claims)
    assert "previous-token heads, duplicate-token heads and copying heads" in rest
