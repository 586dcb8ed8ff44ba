"""Classes of heads, from looks made up for the purpose."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from interp.circuits.classes import BACKUP, Found, backups, classify, lost_by
from interp.circuits.config import CLASSES, CircuitConfig
from interp.circuits.looks import LOOKS
from interp.circuits.roles import ROLES, RoleFacts

IOI = RoleFacts({"answer": 1, "wrong": 2, "first": 1, "repeat": 1}, {"answer": 1, "wrong": 1}, repeat_wrong=1.0)
"""S1 and S2 are the wrong token."""
COLOURS = RoleFacts({"answer": 1, "wrong": 2, "first": 1, "repeat": 1}, {"answer": 1, "wrong": 2})
INDUCTION = RoleFacts({"answer": 1, "wrong": 1}, {"answer": 1, "wrong": 1}, repeat_end=1.0, answer_follows=1.0)
YEARS = RoleFacts({}, {}, repeat_end=1.0)
NAMES = (*ROLES, "object")
HEAD = (1, 2)


def told(
    side: str,
    looks_from: str,
    effect: float,
    looks: dict[str, float],
    roles: RoleFacts = IOI,
    dla: float = np.nan,
    copying: float = np.nan,
    **more: Any,
) -> dict[str, Any]:
    """What is said of one head that looks so from where it was read."""
    attention = np.full((2, 4, len(NAMES), len(NAMES)), np.nan)
    for name, value in looks.items():
        attention[1, 2, NAMES.index(looks_from), NAMES.index(name)] = value
    signs = [np.full((2, 4), value) for value in (dla, copying)]
    stages = [Found(HEAD, side, looks_from, effect), *more.pop("stages", [])]
    found = classify(stages, attention, NAMES, *signs, more.pop("gained", None), CircuitConfig(), roles=roles, **more)
    assert json.loads(json.dumps(found[HEAD])) == found[HEAD]
    return found[HEAD]


def class_of(*args: Any, **options: Any) -> str:
    return told(*args, **options)["class"]


AT_ANSWER = {"answer": 0.4, "wrong": 0.2}


def test_a_mover_looks_at_the_answer_and_raises_it() -> None:
    assert class_of("logits", "end", 0.2, AT_ANSWER, dla=1.0, copying=0.9) == "mover"
    assert class_of("logits", "end", 0.2, AT_ANSWER) == "mover"  # signs that are not known speak against nothing


@pytest.mark.parametrize(
    "change",
    [
        {"effect": -0.1},
        {"dla": -1.0},
        {"copying": -0.2},
        {"looks": {"answer": 0.2, "wrong": 0.3}},
        {"looks": {"answer": 0.9 * LOOKS}},
        {"side": "q"},
    ],
    ids=str,
)
def test_what_is_no_mover(change: dict[str, Any]) -> None:
    given = {"side": "logits", "looks_from": "end", "effect": 0.2, "looks": AT_ANSWER, "dla": 1.0, "copying": 0.9}
    assert class_of(**(given | change)) == "other"


def test_wrong_tokens_are_counted_one_by_one() -> None:
    """Two other colours share what one other name gets alone."""
    looks = {"answer": 0.3, "wrong": 0.4}
    assert class_of("logits", "end", 0.2, looks, COLOURS) == "mover"
    assert class_of("logits", "end", 0.2, looks, IOI) == "other"


def test_a_negative_mover_lowers_what_it_looks_at() -> None:
    assert class_of("logits", "end", -0.2, AT_ANSWER, dla=-1.0, copying=-0.9) == "negative mover"
    for change in ({"dla": 1.0}, {"copying": 0.9}):
        assert class_of("logits", "end", -0.2, AT_ANSWER, **({"dla": -1.0, "copying": -0.9} | change)) == "other"


def with_gain(gain: float, looks: dict[str, float], copying: float = 1.0) -> str:
    """Class of a head that gains so much when a mover of another place loses 2 logits."""
    attention = np.full((2, 4, len(NAMES), len(NAMES)), np.nan)
    end = NAMES.index("end")
    for name, value in looks.items():
        attention[1, 2, end, NAMES.index(name)] = value
    attention[0, 0, end, 0] = 0.5
    gained = np.zeros((2, 4))
    gained[0, 0], gained[1, 2] = -2.0, gain
    stages = [Found((0, 0), "logits", "end", 0.5), Found(HEAD, "logits", "end", -0.05)]
    signs = np.ones((2, 4))
    signs[1, 2] = copying
    found = classify(stages, attention, NAMES, np.ones((2, 4)), signs, gained, CircuitConfig(), roles=IOI)
    assert found[0, 0]["class"] == "mover" and found[0, 0]["gained"] == -2.0
    listed = backups(attention, NAMES, gained, [(0, 0)], roles=IOI, copying=signs)
    assert (HEAD in listed) == (found[HEAD]["class"] == "backup mover")
    return found[HEAD]["class"]


def test_a_backup_takes_over_when_the_movers_are_gone() -> None:
    looks = {"answer": 0.2, "wrong": 0.3}
    assert with_gain(2.1 * BACKUP, looks) == "backup mover"
    assert with_gain(1.9 * BACKUP, looks) != "backup mover"
    assert with_gain(2.1 * BACKUP, {"answer": 0.9 * LOOKS}) != "backup mover"
    assert with_gain(2.1 * BACKUP, looks, copying=-1.0) != "backup mover"
    assert lost_by([], np.ones((1, 1))) == lost_by([(0, 0)], None) == 0  # without movers nothing is backed up
    assert class_of("logits", "end", -0.1, looks, gained=np.ones((2, 4))) == "other"


def test_inhibition_looks_at_a_wrong_token_and_supports_the_answer() -> None:
    looks = {"answer": 0.1, "wrong": 0.4, "repeat": 0.35, "first": 0.05}
    seen = told("q", "end", 0.3, looks)
    assert (seen["class"], seen["looks_at"], seen["attention"]) == ("inhibition", "repeat", 0.35)
    assert class_of("q", "end", -0.3, looks) == "other"
    assert class_of("v", "end", 0.3, looks) == "other"
    assert class_of("q", "end", 0.3, {**looks, "answer": 0.5}) == "other"
    assert class_of("q", "end", 0.3, {"wrong": 0.9 * LOOKS}) == "other"


def test_a_head_may_lower_the_wrong_token_itself() -> None:
    looks = {"answer": 0.1, "wrong": 0.4, "repeat": 0.35}
    assert class_of("logits", "end", 0.7, looks, dla=3.6, copying=-1.0) == "inhibition"
    for effect, dla, copying in ((-0.7, 3.6, -1.0), (0.7, -3.6, -1.0), (0.7, 3.6, 1.0), (0.7, 3.6, np.nan)):
        assert class_of("logits", "end", effect, looks, dla=dla, copying=copying) == "other"


def test_what_is_asked_is_gathered_where_it_is_no_wrong_token() -> None:
    """The object asked for is no colour: a head that looks there does not keep the movers off it."""
    looks = {"answer": 0.05, "wrong": 0.1, "repeat": 0.3}
    assert class_of("q", "end", 0.3, looks, COLOURS) == "content gatherer"
    assert class_of("q", "end", -0.3, looks, COLOURS) == "other"
    assert class_of("q", "end", 0.3, {"wrong": 0.7, "repeat": 0.3}, COLOURS) == "inhibition"
    assert class_of("q", "end", 0.3, {"wrong": 0.5, "repeat": 0.3}, COLOURS) == "content gatherer"


def test_content_is_other_named_tokens_and_those_without_a_name() -> None:
    seen = told("q", "end", 0.3, {"object": 0.3, "wrong": 0.1})
    assert (seen["class"], seen["looks_at"]) == ("content gatherer", "object")
    elsewhere = np.full((2, 4), 0.25)
    seen = told("q", "end", 0.3, {"wrong": 0.1}, elsewhere=elsewhere)
    assert (seen["class"], seen["looks_at"], seen["attention"]) == ("content gatherer", "elsewhere", 0.25)
    assert class_of("q", "end", 0.3, {"wrong": 0.3}, elsewhere=elsewhere) == "inhibition"
    assert class_of("q", "end", 0.3, {"wrong": 0.2}, elsewhere=np.full((2, 4), np.nan)) == "inhibition"


@pytest.mark.parametrize("side", ["q", "k", "v"])
def test_heads_read_where_something_comes_again(side: str) -> None:
    back = {"first": 0.1, "after_first": 0.4, "repeat": 0.9, "wrong": 1.0}  # S1 and S2 are the wrong places
    assert class_of(side, "repeat", 0.1, back) == "induction"
    assert class_of(side, "repeat", -0.1, {**back, "first": 0.5}) == "duplicate token"
    assert class_of(side, "after_first", 0.1, {"first": 0.6, "after_first": 0.3, "wrong": 0.6}) == "previous token"
    assert class_of(side, "after_first", 0.1, {"first": 0.9 * LOOKS}) == "other"
    assert class_of(side, "repeat", 0.1, {"after_first": 0.4, "object": 0.5}) == "other"
    assert class_of(side, "first", 0.1, {"after_first": 0.4}) == "other"


def test_where_induction_answers_no_head_is_a_mover() -> None:
    looks = {"answer": 0.6, "after_first": 0.6, "wrong": 0.1}
    assert class_of("logits", "end", 0.2, looks, INDUCTION, dla=1.0, copying=1.0) == "induction"
    assert class_of("logits", "end", -0.2, looks, INDUCTION, dla=-1.0, copying=-1.0) == "negative mover"
    assert class_of("logits", "end", 0.2, {"after_first": 0.6}, YEARS) == "induction"
    assert class_of("logits", "end", 0.2, {"first": 0.6}, YEARS) == "duplicate token"
    assert class_of("logits", "end", 0.2, {"after_first": 0.6}, IOI) == "other"


def test_the_first_class_that_applies_in_any_stage() -> None:
    both = {**AT_ANSWER, "wrong": 0.3}
    attention = np.zeros((2, 4, len(NAMES), len(NAMES)))
    for name, value in both.items():
        attention[1, 2, NAMES.index("end"), NAMES.index(name)] = value
    attention[1, 2, NAMES.index("repeat"), NAMES.index("after_first")] = 0.7
    stages = [Found(HEAD, "v", "repeat", 0.3), Found(HEAD, "logits", "end", 0.1)]
    ones = np.ones((2, 4))
    one = classify(stages, attention, NAMES, ones, ones, None, CircuitConfig(), roles=IOI)[HEAD]
    assert (one["class"], one["side"], one["looks_from"]) == ("mover", "logits", "end")
    two = classify(stages[:1], attention, NAMES, ones, ones, None, CircuitConfig(), roles=IOI)[HEAD]
    assert (two["class"], two["side"], two["looks_at"]) == ("induction", "v", "after_first")


def test_a_stage_may_name_a_position_that_has_a_role() -> None:
    attention = np.zeros((2, 4, len(NAMES), len(NAMES)))
    attention[1, 2, NAMES.index("repeat"), NAMES.index("after_first")] = 0.7
    ones, roles = np.ones((2, 4)), RoleFacts(names={"S2": "repeat"})
    stages = [Found(HEAD, "v", "S2", 0.3)]
    found = classify(stages, attention, NAMES, ones, ones, None, CircuitConfig(), roles=roles)[HEAD]
    assert (found["class"], found["looks_from"]) == ("induction", "repeat")


def test_evidence_in_words() -> None:
    seen = told("logits", "end", 0.2, AT_ANSWER, dla=1.25, copying=0.9)
    assert seen["sentence"] == (
        "found by its effect on the logits (+20.0% of the gap); from the last token, 40% of its attention goes to "
        "the answer; it raises what it looks at most (copying +0.90); it adds +1.25 logits to the difference"
    )
    nothing = told("k", "object", np.nan, {})
    assert (nothing["class"], nothing["looks_at"], nothing["attention"]) == ("other", None, None)
    assert nothing["sentence"] == "found by its effect on keys"


def test_every_class_is_reached_or_is_other() -> None:
    from interp.circuits.classes import RULES

    assert (*RULES, "other") == CLASSES
