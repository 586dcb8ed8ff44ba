"""What the retrieval findings say, on made-up scores: every sentence is made of numbers of the findings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from interp.findings import Findings, Verification
from interp.report.sections import first_sentence
from interp.retrieval import published, words
from interp.retrieval.config import RetrievalConfig
from interp.retrieval.finder import retrieval_heads
from interp.retrieval.instances import Instances
from tests.retrieval_units import chance, facts, made

CONFIG = RetrievalConfig(ks=(0, 1), draws=1)
EIGHT = [name for name in "abcdefgh" for _ in range(2)]


def found(needles: list[str], copies: np.ndarray, recalls: list[float] | None = None, **model: Any) -> Findings:
    return retrieval_heads.find(*made(needles, copies, recalls), CONFIG, facts(copies.shape[1:], **model))


def test_the_verdict_leads_with_the_heads() -> None:
    told = found(EIGHT, chance(16), [1.0] * 15 + [0.3])
    best = told.table.iloc[0]
    assert (best["layer"], best["head"]) == (0, 1)
    head, rest = first_sentence(told.verdict)
    assert head == f"2 of 12 heads of made-up retrieve (score >= 0.1), led by 0.1 ({best['score']:.2f})."
    assert rest.startswith("Of 16 instances 15 counted (recall above 0.5); mean recall 0.96 (")
    assert "No token was ever copied by 9 heads (75 %)." in rest
    assert f"{told.summary['claims']['split_half']['mean']:.2f}, and they share" in rest
    assert "Of the retrieval heads 100 % copy in more than 90 % of the counted instances, 0 % in at most half" in rest


@pytest.mark.parametrize(
    ("scores", "told"),
    [
        ([[0.3, 0.0]], "1 of 2 heads of made-up retrieves (score >= 0.1), led by 0.0 (0.30)."),
        ([[0.0, 0.05]], "None of 2 heads of made-up retrieves (score >= 0.1); the best is 0.1 (0.05)."),
        ([[0.0, 0.0]], "None of 2 heads of made-up retrieves (score >= 0.1): none copied a single token of an answer."),
    ],
)
def test_one_or_none(scores: list[list[float]], told: str) -> None:
    assert first_sentence(found(["a", "b"], np.array([scores, scores])).verdict)[0] == told


def test_a_model_that_cannot_do_the_task_is_told_what_to_try() -> None:
    told = found(["a", "b", "b"], chance(3), [0.1, 0.5, 0.0])
    assert told.verdict.startswith(
        "No head of made-up can be scored: the model did not bring back the answer in any of 3 instances. Its mean "
        "recall is 0.20, the best 0.50, and an instance counts above 0.5; try shorter prompts (--max-length), the "
        "answer's beginning behind the question (--probe-set form=prefix), the model's chat template, if it has one "
        "(--probe-set form=chat --chat), or a larger model."
    )
    assert "No needle was answered, so no head is masked." in told.caveats
    assert told.charts == [] and told.summary["masks"] == {} and told.summary["shown"] is None
    assert told.table["score"].isna().all() and len(told.table) == 12
    assert [one.name for one in told.heatmaps] == ["induction", "recall"]


def test_caveats_name_what_is_thin() -> None:
    copies = chance(4)
    copies[:, 2, 3] = 0.0, 0.4, 0.0, 0.4
    told = " ".join(found(["a", "b", "c", "d"], copies, [1.0, 1.0, 1.0, 0.2]).caveats)
    assert "Intervals of the scores are over 3 needles: at least 8 are needed" in told
    assert "1 head called retrieval by its mean might score less than 0.1 on other needles" in told
    assert "No instance counted of 1 needle, which neither chooses heads nor judges them: d." in told
    assert "Asked with the question alone." in told
    assert "chosen on 1 needle and judged on 2 others, of the 3 of 4 that were answered; the table" in told
    assert "truncated" not in told
    (one,) = [text for text in found(["a"], chance(1)).caveats if "One needle alone" in text]
    assert "none is masked" in one
    told = found(["a", "b"], chance(2), [1.0, 0.0])
    assert any("Of 2 needles only one was answered, which cannot both choose" in text for text in told.caveats)
    assert told.summary["masks"] == {}


@pytest.mark.parametrize(
    ("form", "text", "ways"),
    [
        ("prefix", "Answer: The key is", "the model's chat template, if it has one (--probe-set form=chat --chat), "),
        ("chat", "", "the answer's beginning behind the question (--probe-set form=prefix, without --chat), "),
        ("own", "Question: where?\nAnswer:", 'a "prefix" in each line of the file, which begins the answer, '),
        ("own", "Question: where?\nAnswer: The key is", ""),
    ],
)
def test_nothing_is_suggested_that_was_tried(form: str, text: str, ways: str) -> None:
    prompts, units = made(["a"], chance(1), [0.0])
    prompts[0].extra["needle"]["form"] = form
    told = retrieval_heads.find([replace(prompts[0], text=text)], units, CONFIG, facts())
    assert told.verdict.endswith(f"; try shorter prompts (--max-length), {ways}or a larger model.")


def test_the_form_says_how_it_was_chosen() -> None:
    prompts, units = made(["a", "b"], chance(2))
    tried = [{"form": "bare", "brought_back": 1, "of": 4, "recall": 0.3}]
    for prompt in prompts:
        prompt.extra["needle_forms"] = {"chosen": "bare", "why": "asked", "tried": tried}
    told = retrieval_heads.find(prompts, units, CONFIG, facts())
    assert (
        "Asked with the question alone; on short trial texts the form bare brought 1 of 4 answers back." in told.caveats
    )
    assert told.summary["forms"] == tried


def test_published_heads_come_up_where_there_are_any() -> None:
    copies = np.zeros((2, 32, 32))
    for layer, head, score in published.reference()["models"]["alpindale/Mistral-7B-v0.2-hf"]["top"]:
        copies[:, layer, head] = score
    told = found(["a", "b"], copies, hub_id="alpindale/Mistral-7B-v0.2-hf")
    assert "Of the 20 best published heads of this model 100 % are among the 20 best here" in told.verdict
    assert "over the 40 listed ones: 1.00." in told.verdict
    assert told.sheets[0].name == "published"
    assert found(["a", "b"], copies).summary["published"] is None


def test_a_name_cannot_break_the_heading() -> None:
    told = found(["a", "b"], chance(2), name="x\n" * 60)
    assert "\n" not in told.verdict and len(first_sentence(told.verdict)[0]) < 140


def test_percent() -> None:
    assert (words.percent(0.425), words.percent(1.0)) == ("42 %", "100 %")


def test_the_heading_tells_no_loss_where_there_is_no_verdict_on_it() -> None:
    told = found(EIGHT, chance(16), [1.0] * 16)
    figures = {"mask.untouched": {"mean": 0.9, "n": 8}}
    figures |= {f"mask.{kind}.1": {"mean": change, "n": 8} for kind, change in (("retrieval", -0.8), ("random", 0.0))}
    summary = {**told.summary, "claims": {**told.summary["claims"], **figures}, "broken": ""}
    proved = Verification("verified", "recall", "how", prompts=8, effect=-0.8, control=0.0)
    said = words.recall_lost(replace(told, summary=summary, verification=proved))
    assert said.startswith("; masking the best") and "from 0.90 to 0.10" in said
    nothing = Verification("nothing to verify", "recall", "how")  # not answered untouched
    assert words.recall_lost(replace(told, summary=summary, verification=nothing)) == ""
    summary["broken"] = "The masks did not take effect in layer 3, so nothing holds."
    assert words.recall_lost(replace(told, summary=summary, verification=proved)) == ""


@pytest.mark.parametrize(
    ("form", "tried", "hints"),
    [
        ("bare", [], ["form=prefix", "form=chat"]),
        ("prefix", [], ["form=chat"]),
        ("chat", [], ["form=prefix"]),
        ("bare", ["bare", "prefix", "chat"], []),
        ("bare", ["bare", "prefix"], ["form=chat"]),
    ],
)
def test_what_was_tried_is_not_recommended(form: str, tried: list[str], hints: list[str]) -> None:
    prompts, units = made(["a"], chance(1), [0.0])
    instances = Instances.of(prompts, units, CONFIG)
    facts_of = {"needle_forms": {"tried": [{"form": one, "brought_back": 0, "of": 4} for one in tried]}}
    task = instances.tasks[0]
    asked = replace(task, form=form, prompt=replace(task.prompt, extra={**task.prompt.extra, **facts_of}))
    said = words.ways_out(replace(instances, tasks=(asked,)))
    assert [hint for hint in ("form=prefix", "form=chat") if hint in said] == hints
