"""One prompt under every mask, and what `examine` makes of plain text: shapes, sums and refusals on tiny models."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
import torch

from interp.findings import Findings
from interp.interventions.ablate import ZeroHeads
from interp.retrieval import plain_text
from interp.retrieval.causal import masked
from interp.retrieval.config import RetrievalConfig
from interp.retrieval.decode import Ends, decode
from interp.retrieval.examine import examined
from interp.retrieval.masks import mask_of
from interp.retrieval.sets import mask_sets
from interp.tracing.calls import next_token_loss
from interp.tracing.tracer import trace
from probes import text
from tests.retrieval_tiny import model_of, task_for

RANKED = [(layer, head) for head in range(4) for layer in range(3)]
CONFIG = RetrievalConfig(ks=(0, 1, 3, 50), draws=2, at_once=3, closed_book=1, texts=2)
SETS = mask_sets(RANKED, RANKED[:3], (3, 4), CONFIG)


def findings(masks: dict[str, Any]) -> Findings:
    return Findings("retrieval-heads", pd.DataFrame(), (), "", summary={"masks": masks, "retrieval": ["a", "b", "c"]})


def test_every_arm_of_a_prompt() -> None:
    model = model_of("llama")
    task = task_for(model)
    facts = masked(model, task.prompt, 5, SETS, CONFIG).facts["masked"]
    assert facts["needle"] == "needle" and facts["index"] == 5 and facts["proof"]["failed"] == []
    assert [(arm["k"], arm["kind"], arm["draw"]) for arm in facts["arms"]] == [
        (0, "untouched", 0),
        *((k, kind, draw) for k in (1, 3) for kind, draw in (("retrieval", 0), ("random", 0), ("random", 1))),
    ]
    plain = decode(model, task, CONFIG).ids
    assert facts["arms"][0]["text"] == Ends(model, CONFIG, task).text(plain)
    assert facts["arms"][0]["tokens"] == len(plain)


def test_without_masks_there_is_the_untouched_answer_alone() -> None:
    model = model_of("llama")
    facts = masked(model, task_for(model).prompt, 0, {}, CONFIG).facts["masked"]
    assert len(facts["arms"]) == 1 and facts["proof"] is None
    told = examined(model, findings({}), CONFIG).facts["examined"]
    assert told["losses"] == [] and told["questions"] == []
    assert told["losses_why"] == told["questions_why"] == "no head was masked"


def test_losses_are_those_of_one_mask_at_a_time() -> None:
    model, sets = model_of("gemma3"), [[], [(0, 1), (2, 2)], [(1, 0)]]
    found = plain_text.losses(model, mask_of(sets, (3, 4)), replace(CONFIG, at_once=2, texts=3))
    prompts = text.probe.prompts(model, limit=3, max_length=plain_text.LENGTH)
    assert [one["name"] for one in found] == [prompt.name for prompt in prompts] and len(found) == 3
    for one, prompt in zip(found[:2], prompts, strict=False):
        for heads, loss in zip(sets, one["loss"], strict=True):
            with trace(model, edit=[ZeroHeads(heads)] if heads else []) as t:
                own = next_token_loss(t.run(list(prompt.ids)).logits, list(prompt.ids)).mean()
            torch.testing.assert_close(torch.tensor(loss).float(), own, atol=1e-5, rtol=1e-5)


def test_blocking_has_no_meaning_on_plain_text() -> None:
    model = model_of("llama")
    assert plain_text.why_not(model, RetrievalConfig(how="block")) == plain_text.BLOCKED
    assert plain_text.why_not(model, RetrievalConfig()) is None
    assert plain_text.why_not(model, RetrievalConfig(texts=0)) == plain_text.NO_TEXTS


def test_questions_that_do_not_fit_are_not_asked() -> None:
    """The tiny tokenizer makes a token of every character or word, so that the examples alone pass 256."""
    told = examined(model_of("gpt2"), findings(dict(list(SETS.items())[:1])), CONFIG).facts["examined"]
    assert told["questions_why"] == "no head was masked"
    told = examined(model_of("gpt2"), findings({"1": SETS["1"]}), CONFIG).facts["examined"]
    assert told["questions"] == [] and "the model takes 256" in told["questions_why"]
    assert len(told["losses"]) == 2 and len(told["losses"][0]["loss"]) == len(told["arms"]) == 4


@pytest.mark.parametrize("when", ["prefill", "both"])
def test_a_prompt_read_under_masks(when: Any) -> None:
    model = model_of("llama")
    task = task_for(model)
    facts = masked(model, task.prompt, 0, SETS, replace(CONFIG, when=when)).facts["masked"]
    assert facts["proof"]["failed"] == [] and len(facts["arms"]) == 7
