"""Edits of the last token's attention: equal to attention written out, no answer in those that claim none."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import interp
from interp.circuits.pairs import Pair, batch_of, pair_of
from interp.circuits.roles import as_extra
from interp.repairs import choose
from interp.repairs.choose import Score
from interp.repairs.config import EDITS, ORACLE, RepairConfig
from interp.repairs.ends import Ends
from interp.repairs.explore import Training, looked, spares, undefined
from interp.repairs.layout import GROUPS, Meant, answer_slot, donor_masses, donor_row, even, layout_of, meant, pointed
from interp.repairs.plan import Look, Plan
from probes.base import Prompt
from tests.plain_repair import last_logits
from tests.tiny import tiny

FAMILIES = ("llama", "gpt2", "gemma3")
LENGTH = 14
PLAN = Plan(((0, 1), (1, 2)), True, np.full((3, 4, len(GROUPS)), 0.1, dtype=np.float32))
TOLERANCE = {"atol": 2e-5, "rtol": 1e-4}


def made(index: int, right: int = 0, length: int = LENGTH) -> Prompt:
    """c1 o1 . c2 o2 . c3 o3 . asked ... end: candidates at 1, 4 and 7, the question at `length` - 3."""
    ids = torch.randint(60, 120, (length,), generator=torch.Generator().manual_seed(index)).tolist()
    ids[1], ids[4], ids[7] = 10, 11, 12
    objects = [20, 21, 22]
    ids[2], ids[5], ids[8] = objects
    ids[length - 3] = objects[right]
    corrupt = list(ids)
    corrupt[length - 3] = objects[(right + 1) % 3]
    positions = {"c0": 1, "c1": 4, "c2": 7, "o": (2, 5, 8)[right], "o+1": (3, 6, 9)[right], "asked": length - 3}
    prompt = Prompt(f"p{index}", "", tuple(ids), ("x",) * length)
    wrong = [slot for slot in range(3) if slot != right]
    pair = Pair(prompt, tuple(corrupt), 30 + right, tuple(30 + slot for slot in wrong), positions)
    roles = as_extra(
        answer=[f"c{right}"], wrong=[f"c{slot}" for slot in wrong], first=["o"], after_first=["o+1"], repeat=["asked"]
    )
    return replace(prompt, extra={**pair.as_extra(), **roles})


def relabelled(prompt: Prompt, right: int) -> Prompt:
    """The same prompt with another answer said to be right."""
    extra = copy.deepcopy(prompt.extra)
    wrong = [slot for slot in range(3) if slot != right]
    extra["pair"] |= {"answer": 30 + right, "wrong": [30 + slot for slot in wrong]}
    extra["roles"] |= {"answer": [f"c{right}"], "wrong": [f"c{slot}" for slot in reversed(wrong)]}
    extra["roles"] |= {"first": ["c0"], "after_first": ["c1"]}
    return replace(prompt, extra=extra)


@pytest.fixture(scope="module", params=FAMILIES)
def case(request: pytest.FixtureRequest) -> tuple[str, Any, Any, list[Prompt], Ends]:
    arch = request.param
    model = interp.load(tiny(arch))
    eager = tiny(arch, attn_implementation="eager")
    prompts = [made(index, index % 3) for index in range(3)]
    batch = batch_of([pair_of(prompt) for prompt in prompts])
    return arch, model, eager, prompts, Ends(model, batch, [layout_of(prompt).repeat for prompt in prompts])


def expected(arch: str, eager: Any, prompt: Prompt, rows: Any, patch: Any) -> tuple[float, bool, bool, np.ndarray]:
    logits, seen = last_logits(eager, arch, list(prompt.ids), rows, patch)
    pair = pair_of(prompt)
    wrong = logits[list(pair.wrong)]
    return (
        float(logits[pair.answer] - wrong.mean()),
        bool(logits[pair.answer] > wrong.max()),
        int(logits.argmax()) == pair.answer,
        seen,
    )


def test_every_edit_is_that_of_attention_written_out(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    arch, model, eager, prompts, ends = case
    sets = [((1, 0),), ((2, 1), (1, 3)), ((0, 0), (0, 1), (2, 2))]
    cells, slow = [(0, {}), (2, {})], []
    for pair, prompt in enumerate(prompts):
        look = Look.of(ends, pair, model.n_layers)
        for edit in EDITS:
            for heads in sets:
                cells.append((pair, PLAN.rows(edit, heads, look, -0.5, prompt if edit == ORACLE else None)))
    out = ends.run(cells, rows=7, see=[1, 2])
    assert out.top1 is not None
    for number, (pair, rows) in enumerate(cells):
        slow.append(expected(arch, eager, prompts[pair], rows, monkeypatch))
        for layer in (1, 2):
            np.testing.assert_allclose(out.seen[layer][number], slow[-1][3][layer], **TOLERANCE)
    np.testing.assert_allclose(out.difference, [one[0] for one in slow], **TOLERANCE)
    assert out.choice.tolist() == [one[1] for one in slow]
    assert out.top1.tolist() == [one[2] for one in slow]
    assert np.ptp(out.difference[2:]) > 0.01  # the edits do something
    few = ends.run(cells, rows=50, top1=False)
    np.testing.assert_allclose(few.difference, out.difference, **TOLERANCE)
    assert few.choice.tolist() == out.choice.tolist() and few.top1 is None


def test_the_rows_seen_are_those_of_the_untouched_model(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    arch, model, eager, prompts, ends = case
    for pair, prompt in enumerate(prompts):
        look = Look.of(ends, pair, model.n_layers)
        np.testing.assert_allclose(look.end, expected(arch, eager, prompt, {}, monkeypatch)[3], **TOLERANCE)
        before = replace(prompt, ids=prompt.ids[: LENGTH - 2])
        _, seen = last_logits(eager, arch, list(before.ids), {}, monkeypatch)
        np.testing.assert_allclose(look.repeat[..., : LENGTH - 2], seen, **TOLERANCE)
        assert (look.repeat[..., LENGTH - 2 :] == 0).all()


def test_a_window_shorter_than_the_prompt_is_run_whole() -> None:
    prompts = [made(0)]
    for arch, cached in (("gemma3", False), ("llama", True)):
        ends = Ends(interp.load(tiny(arch)), batch_of([pair_of(one) for one in prompts]), [LENGTH - 3])
        assert (ends.context is not None) == cached


# what an edit is


def look_of(prompt: Prompt, seed: int = 0) -> Look:
    rng = np.random.default_rng(seed)
    end, repeat = rng.dirichlet(np.ones(len(prompt)), (2, 3, 4)).astype(np.float32)
    return Look(layout_of(prompt), end, repeat)


@pytest.mark.parametrize("edit", [edit for edit in EDITS if edit != ORACLE])
@pytest.mark.parametrize("told", [1, 2])
def test_no_answer_leaks_into_an_edit_that_claims_none(edit: str, told: int) -> None:
    prompt = made(4, right=0)
    heads = ((0, 2), (2, 3))
    mine = PLAN.rows(edit, heads, look_of(prompt), 2.0, None)
    theirs = PLAN.rows(edit, heads, look_of(relabelled(prompt, told)), 2.0, None)
    assert layout_of(prompt) == layout_of(relabelled(prompt, told))
    for head in heads:
        np.testing.assert_array_equal(mine[head], theirs[head])


def test_the_oracle_is_half_on_each_wrong_candidate_and_needs_the_label() -> None:
    prompt = made(4, right=0)
    row = PLAN.rows(ORACLE, [(1, 1)], look_of(prompt), 1.0, prompt)[1, 1]
    assert {at: value for at, value in enumerate(row.tolist()) if value} == {4: 0.5, 7: 0.5}
    other = PLAN.rows(ORACLE, [(1, 1)], look_of(prompt), 1.0, relabelled(prompt, 1))[1, 1]
    assert np.flatnonzero(other).tolist() == [1, 7]
    with pytest.raises(AssertionError, match="told the answer"):
        PLAN.rows(ORACLE, [(1, 1)], look_of(prompt), 1.0, None)


def test_pointing_follows_the_attention_to_a_candidates_span() -> None:
    layout = layout_of(made(0))
    assert layout.slots == ((1,), (4,), (7,)) and layout.repeat == LENGTH - 3
    assert layout.spans == ((1, 4), (4, 7), (7, 10))
    rows = np.zeros((2, LENGTH), dtype=np.float32)
    rows[:, 0], rows[0, 5], rows[1, 6], rows[1, 10] = 0.4, 0.2, 0.1, 0.3  # the first token and 10 are in no span
    assert pointed(layout, rows) == 1
    assert meant(layout, 1, True) == Meant((4,), (1, 7))
    assert meant(layout, 1, False) == Meant((1, 7), (4,))
    look = look_of(made(0))
    look.repeat[:] = 0
    look.repeat[0, 1, 8] = 1
    plan = Plan(((0, 1),), True)
    assert np.flatnonzero(plan.rows("inhibit", [(2, 0)], look, 1, None)[2, 0]).tolist() == [1, 4]
    assert np.flatnonzero(plan.rows("point", [(2, 0)], look, 1, None)[2, 0]).tolist() == [7]
    other = Plan(((0, 1),), False)
    assert np.flatnonzero(other.rows("inhibit", [(2, 0)], look, 1, None)[2, 0]).tolist() == [7]


def test_candidates_of_one_token_are_one_slot_and_what_follows_the_question_is_no_span() -> None:
    ids = (1, 40, 50, 41, 51, 41, 52)  # IO, S1, then S2 at 5
    prompt = Prompt("ioi", "", ids, ("x",) * 7)
    pair = Pair(prompt, (1, 40, 50, 41, 51, 40, 52), 40, (41,), {"IO": 1, "S1": 3, "S2": 5, "S1+1": 4})
    roles = as_extra(answer=["IO"], wrong=["S1", "S2"], first=["S1"], after_first=["S1+1"], repeat=["S2"])
    prompt = replace(prompt, extra={**pair.as_extra(), **roles, "ioi": {}})
    layout = layout_of(prompt)
    assert layout.slots == ((1,), (3, 5)) and layout.spans == ((1, 3), (3, 5)) and answer_slot(prompt) == 0
    rows = np.random.default_rng(0).dirichlet(np.ones(7), (2, 3))
    np.testing.assert_allclose(donor_masses(rows, prompt), rows[..., [1, 3, 5, 6, 0]])
    assert "IOI prompts themselves" in str(undefined("donor", [prompt]))
    assert undefined("inhibit", [prompt]) is None


def test_a_donor_row_has_the_donors_masses_and_the_rest_as_the_head_had_it() -> None:
    layout = layout_of(made(0))
    own = np.random.default_rng(1).dirichlet(np.ones(LENGTH)).astype(np.float32)
    row = donor_row(layout, Meant((4,), (1, 7)), own, np.array([0.1, 0.2, 0.15, 0.05, 0.3]))
    np.testing.assert_allclose(row[[4, 1, 7, LENGTH - 3, LENGTH - 1, 0]], [0.1, 0.1, 0.1, 0.15, 0.05, 0.3], rtol=1e-5)
    others = [at for at in range(LENGTH) if at not in (4, 1, 7, LENGTH - 3, LENGTH - 1, 0)]
    np.testing.assert_allclose(row[others] / row[others].sum(), own[others] / own[others].sum(), rtol=1e-4)
    np.testing.assert_allclose(row.sum(), 1, rtol=1e-5)


def test_what_cannot_be_edited_says_why() -> None:
    plain = replace(made(0), extra={"pair": made(0).extra["pair"]})  # roles by tokens: no answer stands before
    assert "no wrong answer" in str(undefined(ORACLE, [plain]))
    assert "candidates; at least 2" in str(undefined("inhibit", [plain]))
    assert undefined("scale", [plain]) is None
    extra = copy.deepcopy(made(0).extra)
    extra["roles"]["repeat"] = []
    assert "role repeat" in str(undefined("point", [replace(made(0), extra=extra)]))
    np.testing.assert_allclose(even(4, [1, 3]), [0, 0.5, 0, 0.5])


# choosing


def test_the_split_takes_equal_prompts_once_and_keeps_enough_to_judge() -> None:
    prompts = [made(index) for index in range(20)]
    train, test = choose.split([*prompts, *prompts[:5]], RepairConfig(seed=1))
    assert sorted(train + test) == list(range(20)) and len(test) == 10
    assert choose.split(prompts, RepairConfig(seed=1)) == (train, test)
    assert choose.split(prompts, RepairConfig(seed=2)) != choose.split(prompts, RepairConfig(seed=1))
    assert [len(part) for part in choose.split(prompts[:11], RepairConfig())] == [3, 8]


def test_greedy_stops_where_no_more_prompts_come_right() -> None:
    worth = {(0, 0): 0.1, (0, 1): 0.3, (1, 0): 0.2, (1, 1): -0.1}

    def score(sets: Any) -> list[Score]:
        return [Score(min(0.65, 0.2 + sum(worth[head] for head in heads)), len(heads)) for heads in sets]

    heads, path = choose.greedy(list(worth), Score(0.2, 0), score, 4)
    assert heads == ((0, 1), (1, 0)) and [one.right for one in path] == pytest.approx([0.5, 0.65])
    assert choose.greedy(list(worth), Score(0.2, 0), score, 1)[0] == ((0, 1),)
    assert choose.greedy(list(worth), Score(0.9, 0), score, 4) == ((), [])
    right = np.array([[0.5, 0.7], [0.7, 0.1]])
    assert choose.ranked(right, np.array([[9, 1], [2, 9]]), 3) == [(1, 0), (0, 1), (0, 0)]
    assert choose.best(np.array([[0.5, np.nan], [0.7, 0.1]]), 2) == [(1, 0), (0, 0)]


def test_pointers_are_found_by_where_the_question_looks() -> None:
    model = interp.load(tiny("llama"))
    prompts = [made(index, index % 3) for index in range(6)]
    training = Training(model, prompts, RepairConfig())
    looks, found = training.looks(), looked(training).arrays
    first = {0: (2, 3), 1: (5, 6), 2: (8, 9)}
    by_hand = np.mean([looks[i].repeat[..., list(first[i % 3])].sum(-1) for i in range(6)], 0)
    np.testing.assert_allclose(found["found"], by_hand, rtol=1e-5)
    np.testing.assert_allclose(found["moved"], np.mean([looks[i].end[..., 1 + 3 * (i % 3)] for i in range(6)], 0), 1e-5)
    for i, look in enumerate(looks):
        look.repeat[0, 0] = 0
        look.repeat[0, 0, 1 + 3 * (i % 3)] = 1
    assert spares(looks, prompts, [(0, 0)]) == (True, 1.0)
    assert looked(training).arrays["right"][0, 0] == 1
    for i, look in enumerate(looks):
        look.repeat[0, 0] = np.roll(look.repeat[0, 0], 3 if i % 3 < 2 else -6)
    assert spares(looks, prompts, [(0, 0)]) == (False, 0.0)
