"""Which prompts choose a circuit and which judge it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from interp.circuits.config import CircuitConfig
from interp.circuits.pairs import Pair
from interp.circuits.split import halves
from interp.errors import UsageError
from interp.verify import MIN_PROMPTS
from probes.base import Prompt


def _prompts(templates: Sequence[str], ids: Sequence[int] | None = None) -> list[Prompt]:
    made = []
    for index, template in enumerate(templates):
        first = 10 + index if ids is None else ids[index]
        bare = Prompt(f"p{index}", "", (first, 5), ("x", "x"))
        pair = Pair(bare, (first, 6), 1, (2,), {}, template)
        made.append(Prompt(bare.name, "", bare.ids, bare.tokens, extra=pair.as_extra()))
    return made


def _both(prompts: list[Prompt], **settings: object) -> tuple[list[int], list[int]]:
    select, held_out = halves(prompts, CircuitConfig(**settings))  # pyright: ignore[reportArgumentType]
    assert sorted(select + held_out) == list(range(len(prompts)))
    assert select == sorted(select) and held_out == sorted(held_out)
    return select, held_out


@pytest.mark.parametrize("seed", range(5))
def test_whole_templates_are_held_out(seed: int) -> None:
    templates = [f"t{index % 10}" for index in range(60)]
    select, held_out = _both(_prompts(templates), seed=seed)
    assert not {templates[index] for index in select} & {templates[index] for index in held_out}
    assert len(held_out) == 30


def test_the_seed_and_the_share_decide() -> None:
    prompts = _prompts([f"t{index % 20}" for index in range(60)])
    assert len({tuple(_both(prompts, seed=seed)[1]) for seed in range(5)}) > 1
    assert _both(prompts, seed=3) == _both(prompts, seed=3)
    assert len(_both(prompts, select=0.8)[0]) == 48


def test_with_few_templates_prompts_are_held_out() -> None:
    templates = ["a", "b", "c"] * 10
    select, held_out = _both(_prompts(templates))
    assert len(select) == len(held_out) == 15
    assert {templates[index] for index in held_out} == {"a", "b", "c"}


@pytest.mark.parametrize("seed", range(5))
def test_one_large_template_is_parted(seed: int) -> None:
    select, held_out = _both(_prompts(["large"] * 37 + ["b", "c", "d"]), seed=seed)
    assert len(select) == len(held_out) == 20


@pytest.mark.parametrize("templates", [["t"] * 24, [f"t{index % 6}" for index in range(24)]])
@pytest.mark.parametrize("seed", range(3))
def test_prompts_of_the_same_tokens_stay_together(templates: list[str], seed: int) -> None:
    ids = [index // 2 + 3 for index in range(24)]  # pairs of equal prompts, across templates
    prompts = _prompts(templates, ids)
    select, held_out = _both(prompts, seed=seed)
    assert len(held_out) >= MIN_PROMPTS and len(select) >= 8
    assert not {ids[index] for index in select} & {ids[index] for index in held_out}


@pytest.mark.parametrize(("n", "held"), [(1, 0), (2, 1), (4, 2), (10, 5), (11, 8), (12, 8), (16, 8), (40, 20)])
def test_enough_to_judge_where_there_are_enough(n: int, held: int) -> None:
    select, held_out = _both(_prompts(["t"] * n))
    assert len(held_out) == held and len(select) >= 1


def test_equal_prompts_only_choose() -> None:
    assert _both(_prompts(["t"] * 9, [7] * 9)) == (list(range(9)), [])


def test_prompts_without_a_pair_are_refused() -> None:
    with pytest.raises(UsageError, match="no corrupted twin"):
        halves([Prompt("bare", "", (1, 2), ("a", "b"))], CircuitConfig())
