"""Knockouts of heads, equal to a slow loop over TransformerLens's hooks, and the means that stand for heads."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

import interp
from interp.circuits.knockout import Knockout, places, plan
from interp.circuits.means import EACH, Means, by_form, exchanged, keys
from interp.circuits.pairs import Pair, pair_of
from interp.circuits.roles import as_extra
from interp.errors import UsageError
from probes.base import Prompt
from tests.contracts.conftest import fingerprint
from tests.plain_circuits import Slow
from tests.tiny import tiny

FAMILIES = ("llama", "gpt2", "gemma3", "qwen3")
TOLERANCE = {"atol": 1e-4, "rtol": 1e-4}
LENGTHS = (12, 12, 12, 9, 9)
TEMPLATES = ("a", "a", "a", "b", "b")
SLOTS = (3, 5, 7)


def made(index: int, length: int, template: str, *, abc: bool = False, slots: tuple[int, ...] = SLOTS) -> Prompt:
    """A prompt of its template's tokens with random ones in the slots; IO, S1 and S2 stand there."""
    rng = np.random.default_rng(100 + index)
    words = np.random.default_rng(ord(template[0])).integers(3, 40, length)
    io, s, *new = rng.permutation(np.arange(50, 100))[:5].tolist()

    def told(*names: int) -> tuple[int, ...]:
        ids = words.tolist()
        for at, name in zip(slots, names, strict=True):
            ids[at] = name
        return tuple(ids)

    clean, flip = told(io, s, s), told(io, s, io)
    positions = {**dict(zip(("IO", "S1", "S2"), slots, strict=True)), "end": length - 1}
    prompt = Prompt(f"p{index}", "", clean, tuple("x" * length))
    extra = Pair(prompt, flip, io, (s,) if index else (s, new[0]), positions, template).as_extra()
    extra |= as_extra(answer=["IO"], wrong=["S1", "S2"], repeat=["S2"])
    if abc:
        extra["twins"] = {"flip": list(flip), "abc": list(told(*new))}
    return Prompt(f"p{index}", "", clean, tuple("x" * length), extra=extra)


PROMPTS = [made(i, n, t) for i, (n, t) in enumerate(zip(LENGTHS, TEMPLATES, strict=True))]
ORDER = [3, 0, 4, 1, 2]  # lengths mixed
SETS = [set(), {(0, 1), (2, 3)}, {(1, 0)}, {(2, 0), (2, 1)}, {(1, 0)}, {(i, j) for i in range(3) for j in range(4)}]


class Twins(Slow):
    """`Slow` of one prompt, with the outputs of its own twin and the means of its template's."""

    def __init__(self, bridge: Any, pair: Pair, alike: list[Pair]):
        answer, wrong = torch.tensor([pair.answer]), torch.tensor([pair.wrong])
        super().__init__(bridge, torch.tensor([pair.prompt.ids]), torch.tensor([pair.corrupt]), answer, wrong)
        each = [self.cached(torch.tensor([one.corrupt]))[0] for one in alike]
        self.new = {
            "resample": self.corrupt,
            "mean": {name: torch.cat([one[name] for one in each]).mean(0, keepdim=True) for name in each[0]},
            "zero": {name: torch.zeros_like(value) for name, value in self.corrupt.items()},
        }
        self.positions = pair.positions

    def without(self, how: str, out: set, where: str | None) -> float:
        """Logit difference."""
        at = slice(None) if where is None else self.positions[where]

        def change(name: str, heads: list[int]) -> Any:
            def changed(value: torch.Tensor) -> torch.Tensor:
                value[:, at, heads] = self.new[how][name][:, at, heads]
                return value

            return changed

        layers = {layer: [head for one, head in out if one == layer] for layer, _ in out}
        return self.run(
            {name: change(name, h) for at, h in layers.items() for name in [f"blocks.{at}.attn.hook_z"]}
        ).item()


@cache
def slow_of(family: str) -> dict[str, Twins]:
    """By name of prompt."""
    bridge, pairs = loaded(family).bridge(), [pair_of(prompt) for prompt in PROMPTS]
    return {p.prompt.name: Twins(bridge, p, [one for one in pairs if one.template == p.template]) for p in pairs}


def slowly(family: str, prompts: list[Prompt], how: str, out: set, where: str | None = None) -> np.ndarray:
    """Logit difference of each prompt alone, `PROMPTS` making the means."""
    return np.array([slow_of(family)[prompt.name].without(how, out, where) for prompt in prompts])


@cache
def loaded(family: str) -> Any:
    """The model of a family."""
    return interp.load(tiny(family))


@pytest.mark.parametrize("how", ["mean", "zero", "resample"])
@pytest.mark.parametrize("family", FAMILIES)
def test_equals_the_slow_loop(family: str, how: str) -> None:
    model = loaded(family)
    prompts = [PROMPTS[i] for i in ORDER]
    before = fingerprint(model.hf)
    knockout = Knockout(model, prompts, how)
    found = knockout.differences(SETS)
    assert fingerprint(model.hf) == before
    assert found.shape == (len(SETS), len(prompts))
    for row, out in enumerate(SETS):
        np.testing.assert_allclose(found[row], slowly(family, prompts, how, out), **TOLERANCE)
    assert np.abs(found[1:] - found[0]).max(1).min() > 1e-2
    np.testing.assert_array_equal(found[2], found[4])


@pytest.mark.parametrize("family", FAMILIES)
def test_small_passes_and_remembered_runs_change_nothing(family: str) -> None:
    model = loaded(family)
    outside = {(0, 0), (1, 1), (2, 2)}
    sets = [*SETS, outside, outside | {(1, 3)}, outside | {(2, 3)}, outside - {(2, 2)}]
    plain = Knockout(model, PROMPTS, "mean").differences(sets)
    small = Knockout(model, PROMPTS, "mean", tokens=40)
    small.remember(outside)
    np.testing.assert_allclose(small.differences(sets), plain, atol=1e-5)
    small.remember({(0, 1)})  # also after the first call
    np.testing.assert_allclose(
        small.difference({(0, 1), (2, 0)}), Knockout(model, PROMPTS).difference({(0, 1), (2, 0)}), atol=1e-5
    )


@pytest.mark.parametrize("how", ["mean", "zero", "resample"])
def test_at_a_named_position(how: str) -> None:
    model = loaded("llama")
    out = {(0, 1), (1, 2)}
    found = {at: Knockout(model, PROMPTS, how, at=at).difference(out) for at in ("S2", "repeat", "end", "wrong")}
    for at in ("S2", "end"):
        np.testing.assert_allclose(found[at], slowly("llama", PROMPTS, how, out, at), **TOLERANCE)
    np.testing.assert_array_equal(found["repeat"], found["S2"])
    if how != "resample":  # a role of two positions; the twin's S1 is as it was
        assert np.abs(found["wrong"] - found["S2"]).max() > 1e-4
    assert places(PROMPTS[0], "wrong") == (5, 7)


def test_what_is_asked_has_to_be_there() -> None:
    model = loaded("llama")
    with pytest.raises(UsageError, match=r"how='median'.*mean, zero, resample"):
        Knockout(model, PROMPTS, "median")
    with pytest.raises(UsageError, match="no prompts"):
        Knockout(model, [])
    with pytest.raises(UsageError, match=r"p0.*'S9'.*IO, S1, S2"):
        Knockout(model, PROMPTS, at="S9")
    with pytest.raises(UsageError, match=r"\[\(3, 0\)\].*\(0, 0\) to \(2, 3\)"):
        Knockout(model, PROMPTS).difference({(3, 0)})


def test_work_counts_blocks_run() -> None:
    model = loaded("llama")
    knockout = Knockout(model, PROMPTS, "zero")
    knockout.difference(set())
    assert knockout.work == pytest.approx(1)
    knockout.difference({(2, 0)})
    assert knockout.work == pytest.approx(1 + 1 / 3)
    knockout.difference(set())
    assert knockout.work == pytest.approx(1 + 1 / 3)


def test_sets_share_a_pass_where_they_begin_together() -> None:
    assert plan([], 10, 100) == []
    assert plan([(0, 1)] * 3, 400, 1000) == [slice(0, 2), slice(2, 3)]
    assert plan([(0, 1), (0, 2)], 100, 1000) == [slice(0, 2)]  # few tokens: one pass for both
    assert plan([(0, 1), (0, 2), (0, 2)], 200, 1000) == [slice(0, 1), slice(1, 3)]
    assert plan([(0, 1), (1, 1)], 10, 1000) == [slice(0, 1), slice(1, 2)]
    assert plan([(0, 1)], 2000, 1000) == [slice(0, 1)]


def test_twins_exchange_their_names() -> None:
    clean, twin = (1, 50, 2, 51, 51), (1, 60, 2, 61, 62)
    assert exchanged(clean, twin, (70, 3, 71, 71), (80, 3, 81, 82)) == (1, 80, 2, 81, 82)
    assert exchanged(clean, twin, (70, 3, 71, 71), (80, 3, 81, 81)) is None  # two names, not three
    assert exchanged(clean, twin, (70, 3), (80, 3)) is None
    assert exchanged(clean, twin, (70, 3, 71, 71), (80, 3, 51, 82)) is None  # the subject would come back


def test_templates_get_enough_twins() -> None:
    prompts = [made(i, 12, "ab"[i % 2], abc=True) for i in range(12)]
    forms = by_form(prompts, [("a", 12)])
    assert list(forms) == [("a", 12)] and len(forms["a", 12]) == EACH
    words = np.array(prompts[0].ids)
    for twin in forms["a", 12]:
        differs = np.flatnonzero(np.array(twin) != words)
        assert set(differs) == set(SLOTS) and len({twin[at] for at in SLOTS}) == 3
    own = {tuple(prompt.extra["twins"]["abc"]) for prompt in prompts[::2]}
    assert own < forms["a", 12]
    assert len(by_form(PROMPTS, [("a", 12)])["a", 12]) == 3  # corrupted twins are taken as they are


def test_means_take_abc_twins_where_every_prompt_has_one() -> None:
    model = loaded("gpt2")
    prompts = [made(i, 12, "a", abc=True) for i in range(9)]
    means = Means(model, prompts, (), 1 << 14)
    assert means.kind == "abc" and means.rows == 9 and means.used == {"template": 9, "by position": 0}
    slow = Slow(
        model.bridge(),
        torch.tensor([prompts[0].ids]),
        torch.tensor([prompts[0].ids]),
        torch.tensor([1]),
        torch.tensor([[2]]),
    )
    each = [slow.cached(torch.tensor([prompt.extra["twins"]["abc"]]))[0] for prompt in prompts]
    for layer in range(3):
        name = f"blocks.{layer}.attn.hook_z"
        torch.testing.assert_close(
            means.of(prompts[3])[layer], torch.cat([one[name] for one in each]).mean(0), **TOLERANCE
        )
    assert Means(model, [*prompts, made(20, 12, "a")], (), 1 << 14).kind == "corrupt"


def test_means_of_other_prompts_count() -> None:
    model = loaded("llama")
    found = Means(model, PROMPTS[:1], PROMPTS[1:3], 1 << 14)
    assert found.used == {"template": 1, "by position": 0} and found.rows == 3
    out = {(0, 1), (2, 3)}
    value = Knockout(model, PROMPTS[:1], "mean", means_from=PROMPTS).difference(out)
    np.testing.assert_allclose(value, slowly("llama", PROMPTS[:1], "mean", out), **TOLERANCE)


def test_a_template_alone_falls_back_on_names_and_length() -> None:
    model = loaded("llama")
    prompts = [made(0, 12, "a"), made(1, 12, "b", slots=(2, 5, 8)), made(2, 10, "c", slots=(1, 2, 3))]
    means = Means(model, prompts, (), 1 << 14)
    assert means.used == {"template": 0, "by position": 3}
    slow = Slow(
        model.bridge(),
        torch.tensor([prompts[0].ids]),
        torch.tensor([prompts[0].ids]),
        torch.tensor([1]),
        torch.tensor([[2]]),
    )
    z = [slow.cached(torch.tensor([pair_of(one).corrupt]))[0]["blocks.1.attn.hook_z"][0] for one in prompts]
    found = means.of(prompts[0])[1]
    torch.testing.assert_close(found[3], (z[0][3] + z[1][2] + z[2][1]) / 3, **TOLERANCE)  # IO of each
    torch.testing.assert_close(found[0], (z[0][0] + z[1][0] + z[2][0]) / 3, **TOLERANCE)
    torch.testing.assert_close(found[4], (z[0][4] + z[1][4]) / 2, **TOLERANCE)  # two of this length
    bare = [
        one[at]
        for one, prompt in zip(z, prompts, strict=True)
        for at, key in enumerate(keys(prompt))
        if key == ("other",)
    ]
    torch.testing.assert_close(means.of(prompts[2])[1][5], torch.stack(bare).mean(0), **TOLERANCE)
