"""Roles of positions: as probes state them, and as the tokens of own pairs tell them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from interp.circuits.pairs import Pair, pair_of
from interp.circuits.roles import KEY, ROLES, as_extra, role_facts, roles_of, stand_ins
from interp.errors import UsageError
from probes import pairs_file
from probes.base import Prompt
from probes.colored_objects import ColoredObjects
from probes.greater_than import GreaterThan
from probes.induction import Induction
from probes.ioi import IOI
from tests.pair_words import Make, model_of, tokenizer

if TYPE_CHECKING:
    from interp.models.model import Model

MAKES: tuple[tuple[Make, bool], ...] = (("bytes", False), ("bytes", True), ("sentencepiece", True))


@pytest.fixture(scope="module", params=MAKES, ids=lambda made: f"{made[0]}-{'bos' if made[1] else 'plain'}")
def model(request: pytest.FixtureRequest) -> Model:
    make, bos = request.param
    return model_of(tokenizer(make, bos))


def said(prompt: Prompt, role: str) -> list[str]:
    return [prompt.tokens[at].strip() for at in roles_of(prompt)[role]]


def own(ids: list[int], corrupt: list[int], answer: int, wrong: tuple[int, ...], **extra: Any) -> Prompt:
    """A pair of plain ids; `positions` among `extra` are the pair's."""
    prompt = Prompt("own", "", tuple(ids), tuple("x" * len(ids)))
    pair = Pair(prompt, tuple(corrupt), answer, wrong, extra.pop("positions", {}))
    return replace(prompt, extra={**pair.as_extra(), **extra})


def test_ioi(model: Model) -> None:
    prompts = IOI().prompts(model, limit=12)
    for prompt in prompts:
        io, subject = prompt.extra["ioi"]["io"], prompt.extra["ioi"]["s"]
        assert [said(prompt, role) for role in ("answer", "wrong", "first", "repeat")] == [
            [io],
            [subject, subject],
            [subject],
            [subject],
        ]
        roles = roles_of(prompt)
        assert tuple(roles) == ROLES
        assert roles["after_first"][0] == roles["first"][0] + 1 and roles["first"] < roles["repeat"] < roles["end"]
        assert stand_ins(prompt) == prompt.ids
    facts = role_facts(prompts)
    assert (facts.positions["wrong"], facts.tokens["wrong"], facts.repeat_wrong) == (2, 1, 1)
    assert (facts.repeat_end, facts.answer_follows) == (0, 0)
    assert facts.names == {"IO": "answer", "S1": "first", "S1+1": "after_first", "S2": "repeat", "end": "end"}


@pytest.mark.parametrize("corrupt", ["flip", "abc"])
def test_the_tokens_of_ioi_tell_its_roles(model: Model, corrupt: Any) -> None:
    told = 0
    for prompt in IOI(corrupt=corrupt).prompts(model, limit=12):
        bare = replace(prompt, extra={name: value for name, value in prompt.extra.items() if name != KEY})
        expected = roles_of(prompt)
        # a name that begins a text without anything before it is another token than behind a space
        at_start = 0 in (*expected["answer"], *expected["first"])
        if not at_start:
            told += 1
            assert {name: sorted(at) for name, at in roles_of(bare).items()} == {
                name: sorted(at) for name, at in expected.items()
            }
    assert told >= 6


def test_colored_objects(model: Model) -> None:
    prompts = ColoredObjects().prompts(model, limit=12)
    for prompt in prompts:
        task = prompt.extra["colored_objects"]
        asked = task["asked"]
        thing, colour = task["objects"][asked], task["colours"][asked]
        others = [one for one in task["colours"] if one != colour]
        assert [said(prompt, role) for role in ("answer", "wrong", "first", "repeat")] == [
            [colour],
            others,
            [thing],
            [thing],
        ]
        pair, roles, stands = pair_of(prompt), roles_of(prompt), stand_ins(prompt)
        assert [stands[at] for at in (*roles["answer"], *roles["wrong"])] == [pair.answer, *pair.wrong]
        assert sum(a != b for a, b in zip(stands, prompt.ids, strict=True)) == 3
    facts = role_facts(prompts)
    assert (facts.positions["wrong"], facts.tokens["wrong"], facts.repeat_wrong) == (2, 2, 0)
    assert facts.names == {"object+1": "after_first", "asked": "repeat", "end": "end"}  # colours change their roles


@pytest.mark.parametrize("digits", [1, 2])
def test_greater_than(digits: int) -> None:
    prompts = GreaterThan().prompts(model_of(tokenizer("bytes", True, digits)), limit=8)
    for prompt in prompts:
        roles = roles_of(prompt)
        year = prompt.extra["greater_than"]["year"]
        assert (roles["answer"], roles["wrong"]) == ((), ()) and roles["repeat"] == roles["end"]
        assert said(prompt, "first") == said(prompt, "repeat") == [year[1] if digits == 1 else year[:2]]
        assert said(prompt, "after_first") == [year[2:][:digits]]
        assert roles["after_first"][0] == roles["first"][0] + 1
    facts = role_facts(prompts)
    assert (facts.repeat_end, facts.answer_follows) == (1, 0) and "answer" not in facts.positions


def test_induction(model: Model) -> None:
    prompts = Induction().prompts(model, limit=4)
    for prompt in prompts:
        pair, roles = pair_of(prompt), roles_of(prompt)
        assert [prompt.ids[at] for at in roles["answer"]] == [pair.answer] and roles["answer"] == roles["after_first"]
        assert tuple(prompt.ids[at] for at in roles["wrong"]) == pair.wrong
        assert roles["repeat"] == roles["end"] and prompt.ids[roles["first"][0]] == prompt.ids[-1]
        bare = replace(prompt, extra={name: value for name, value in prompt.extra.items() if name != KEY})
        assert roles_of(bare) == roles
    assert (role_facts(prompts).repeat_end, role_facts(prompts).answer_follows) == (1, 1)


def test_own_pairs_from_a_file(model: Model) -> None:
    line = {"clean": "When the box and", "corrupt": "When the box to", "answer": " the", "wrong": " box"}
    (prompt,) = pairs_file.prompts(model, [line])
    assert [said(prompt, role) for role in ROLES] == [["the"], ["box"], [], [], [], ["and"]]
    stated = {**line, "positions": {"thing": " box"}, "roles": {"repeat": ["thing"]}}
    (prompt,) = pairs_file.prompts(model, [stated])
    assert [said(prompt, role) for role in ROLES] == [[], [], [], [], ["box"], ["and"]]


def test_the_last_differing_token_that_came_before_is_the_repeat() -> None:
    roles = roles_of(own([1, 7, 8, 9, 7, 5], [1, 6, 8, 9, 4, 5], 8, (7,)))
    assert roles == {"answer": (2,), "wrong": (1, 4), "first": (1,), "after_first": (2,), "repeat": (4,), "end": (5,)}
    alike = roles_of(own([1, 7, 8, 9, 7, 5], [1, 7, 8, 6, 7, 5], 8, (3,)))  # 7 comes again, in both prompts
    assert (alike["first"], alike["repeat"], alike["wrong"]) == ((), (), ())


def test_a_position_named_like_a_role_has_it() -> None:
    roles = roles_of(own([1, 7, 8, 9, 5], [1, 6, 8, 9, 5], 20, (21,), positions={"answer": 2, "first": 1, "end": 1}))
    assert (roles["answer"], roles["first"], roles["repeat"], roles["end"]) == ((2,), (1,), (), (4,))


@pytest.mark.parametrize(
    ("roles", "told"),
    [
        ({"subject": ["S"]}, "'subject' is none; there are answer, wrong"),
        ({"first": "S"}, "'first' is 'S'; expected a list"),
        ({"first": ["S", "T"]}, r"'first' names \['T'\]; the pair's positions are \['S'\]"),
        (["first"], r"are \['first'\]; expected role"),
    ],
)
def test_what_names_nothing_is_refused(roles: Any, told: str) -> None:
    with pytest.raises(UsageError, match=f"prompt 'own': roles.*{told}"):
        roles_of(own([1, 7, 8], [1, 6, 8], 20, (21,), positions={"S": 1}, roles=roles))


def test_stated_roles_are_taken_alone() -> None:
    prompt = own([1, 7, 8, 7, 5], [1, 7, 8, 4, 5], 8, (7,), positions={"S": 3}, **as_extra(repeat=["S"]))
    assert roles_of(prompt) == {**dict.fromkeys(ROLES, ()), "repeat": (3,), "end": (4,)}
