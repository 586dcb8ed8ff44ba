"""Published heads: found by hub id, compared with scores, refused where the model cannot be the published one."""

from __future__ import annotations

import numpy as np
import pytest

from interp.retrieval import published
from interp.retrieval.config import RetrievalConfig
from interp.retrieval.instances import Instances
from interp.retrieval.table import scores
from tests.retrieval_units import facts, made

MISTRAL = "alpindale/Mistral-7B-v0.2-hf"


def found_of(known: published.Published, factor: float = 1.0, shift: int = 0) -> object:
    copies = np.zeros((1, 32, 32))
    for (layer, head), score in known.top:
        copies[0, layer, (head + shift) % 32] = factor * score
    return scores(Instances.of(*made(["a"], copies), RetrievalConfig()), RetrievalConfig())


@pytest.mark.parametrize("name", published.reference()["models"])
def test_every_published_list_is_whole(name: str) -> None:
    told = published.reference()["models"][name]
    by_score = [score for _, _, score in told["top"]]
    assert by_score == sorted(by_score, reverse=True) and len(told["top"]) == 40
    assert len({(layer, head) for layer, head, _ in told["top"]}) == 40
    assert 0 < told["at_least_0_1"] < told["heads"] and told["zero"] + told["at_least_0_1"] <= told["heads"]
    assert (by_score[-1] >= published.reference()["threshold"]) == (told["at_least_0_1"] >= 40)


def test_a_model_is_known_by_its_hub_id() -> None:
    known = published.published(facts((32, 32), MISTRAL.lower()))
    assert known is not None and known.hub_id == MISTRAL and known.top[0] == ((18, 0), 0.9427)
    assert published.published(facts((32, 32), None, name=MISTRAL)) is None
    assert published.published(facts((32, 32), "someone/else")) is None
    assert published.published(facts((16, 64), MISTRAL)) is None  # as many heads, in other layers
    assert published.published(facts((30, 9), MISTRAL)) is None


def test_its_own_scores_agree_and_others_do_not() -> None:
    known = published.published(facts((32, 32), MISTRAL))
    assert known is not None
    same = published.compared(known, found_of(known, 0.5))  # type: ignore[arg-type]
    assert same["rank_correlation"] == pytest.approx(1) and same["overlap"] == 1
    assert (same["listed"], same["top"], same["retrieval"], same["zero"]) == (40, 20, 43, 666)
    other = published.compared(known, found_of(known, shift=5))  # type: ignore[arg-type]
    assert other["overlap"] <= 0.1


def test_the_sheet_stands_head_by_head() -> None:
    known = published.published(facts((32, 32), MISTRAL))
    assert known is not None
    sheet = published.sheet(known, found_of(known, 0.5))  # type: ignore[arg-type]
    assert len(sheet.rows) == 40 and sheet.rows[0][0] == "18.0"
    assert sheet.rows[0][1:4] == pytest.approx((0.9427, 1.5 * 0.5 * 0.9427, 0.5 * 0.9427))
    assert [row[4] for row in sheet.rows] == [row[5] for row in sheet.rows] == list(range(1, 41))
