"""The questions: every answer stands in its passage and nowhere else, and a real model can do them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from interp.resources import data_path
from interp.retrieval.closed_book import KINDS, as_task, asked, examined, of_kind, shipped
from interp.retrieval.config import RetrievalConfig
from interp.retrieval.masks import mask_of
from interp.retrieval.rouge import exact
from tests.retrieval_tiny import model_of

if TYPE_CHECKING:
    from interp.models.model import Model


def test_enough_of_each_kind_and_no_name_twice() -> None:
    known = [one.known for one in shipped("questions")]
    assert known.count(True) >= 32 and known.count(False) >= 32
    names = [one.name for one in (*shipped("questions"), *shipped("shots"))]
    assert len(set(names)) == len(names)
    card = json.loads(data_path("closed_book", "card.json").read_text("utf-8"))
    assert (
        card["author"] == "written for interp"
        and card["licence"] == "MIT"
        and set(card["files"]) == {path.name for path in data_path("closed_book").glob("*.jsonl")}
    )


def test_passages_state_their_answer_and_questions_do_not() -> None:
    for one in (*shipped("questions"), *shipped("shots")):
        assert exact(one.passage, one.answers[0]), one
        assert not any(exact(one.question, answer) for answer in one.answers), one
    solved = {answer.lower() for one in shipped("shots") for answer in one.answers}
    assert not solved & {answer.lower() for one in shipped("questions") for answer in one.answers}


def test_kinds_differ_in_the_passage_alone() -> None:
    model, question = model_of("llama"), of_kind("closed-book", 1)[0]
    closed, opened = (as_task(model, question, kind) for kind in ("closed-book", "known with passage"))
    assert closed.prompt.text.endswith(asked(question, False)) and opened.prompt.text.endswith(asked(question, True))
    assert closed.span == (0, 0) and opened.span[0] < opened.span[1] <= len(opened.prompt)
    said = "".join(opened.prompt.tokens[opened.span[0] : opened.span[1]])
    assert "Question" not in said
    assert 0 < closed.tail < len(closed.prompt) and closed.max_new_tokens == opened.max_new_tokens
    for one in shipped("questions"):  # answers of a kind must not be longer than those of another
        assert len(one.answers[0].split()) == 1, one
    assert [one.known for one in of_kind("extraction", 40)] == [False] * 32


@pytest.mark.smollm2
def test_smollm2_answers_enough_of_them(smollm2: Model) -> None:
    """Untouched, two of each kind: most are right, so that there is something to lose."""
    for one in shipped("questions"):
        assert len(smollm2.encode(f" {one.answers[0]}", name="answer").ids) == 1, one
    mask = mask_of([[]], (smollm2.n_layers, smollm2.n_heads))
    found = examined(smollm2, mask, RetrievalConfig(closed_book=2))
    assert [one["kind"] for one in found] == [kind for kind in KINDS for _ in range(2)]
    assert sum(one["correct"][0] for one in found) >= 5
