"""The search of a circuit, stage by stage: its logic on planted effects, its effects on small models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import interp
from interp.circuits import effects as effects_module
from interp.circuits import paths as paths_module
from interp.circuits import states as states_module
from interp.circuits.config import CircuitConfig, Head
from interp.circuits.effects import Effects, direct_effects
from interp.circuits.finder import circuit
from interp.circuits.pairs import Pair, batch_of, pair_of
from interp.circuits.paths import Receivers, path_effects
from interp.circuits.roles import as_extra
from interp.circuits.split import halves
from interp.circuits.stages import Stage, looked_at, search, spots
from interp.circuits.states import sides_of
from interp.errors import UsageError
from interp.finders.base import Unit
from probes.base import Prompt
from tests.tiny import tiny

NAMES = ("answer", "wrong", "first", "after_first", "repeat", "end", "aside")
SHAPE = (4, 5)
N = 16


class Store:
    """Keeps pieces as a run's folder does; may break off."""

    def __init__(self, most: int = 10**9):
        self.units: dict[str, Unit] = {}
        self.phases: list[tuple[str, int]] = []
        self.most = most

    def phase(self, label: str, pieces: int) -> None:
        self.phases.append((label, pieces))

    def unit(self, name: str, make: Callable[[], Unit], of: Any = None) -> Unit:
        key = f"{name}: {of}"
        if key not in self.units:
            if len(self.units) >= self.most:
                raise KeyboardInterrupt
            self.units[key] = make()
        return self.units[key]


def _prompts(n: int = N, *, differs: Sequence[str] = ("first", "after_first", "repeat")) -> list[Prompt]:
    """Of 9 or 10 tokens, answer at 1, first at 2, repeat at 5 to 7; the twins differ in the named places."""
    made = []
    rng = np.random.default_rng(0)
    for index in range(n):
        ids = rng.integers(10, 100, 9 + index % 2)
        at = {"answer": 1, "first": 2, "after_first": 3, "aside": 4, "repeat": 5 + index % 3, "end": len(ids) - 1}
        ids[at["repeat"]] = ids[at["first"]]
        twin = ids.copy()
        for name in differs:
            twin[at[name]] = 101 + at[name]
        bare = Prompt(f"p{index}", "", tuple(ids.tolist()), tuple("x" * len(ids)))
        pair = Pair(bare, tuple(twin.tolist()), 5, (6, 7), at, f"t{index % 3}")
        roles = {name: [name] for name in ("answer", "first", "after_first", "repeat")} | {"wrong": ["first", "repeat"]}
        made.append(Prompt(bare.name, "", bare.ids, bare.tokens, extra={**pair.as_extra(), **as_extra(**roles)}))
    return made


def _attention(looks: dict[Head, dict[tuple[str, str], float]], n: int = N) -> tuple[Sequence[str], np.ndarray]:
    """head -> (from, to) -> attention."""
    values = np.zeros((n, *SHAPE, len(NAMES), len(NAMES)), dtype=np.float32)
    for (layer, head), rows in looks.items():
        for (query, key), share in rows.items():
            values[:, layer, head, NAMES.index(query), NAMES.index(key)] = share
    return NAMES, values


class Planted:
    """Effects by stage side: head -> change of the logit difference, by prompt; what was asked is noted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, heads: Mapping[str, Mapping[Head, Any]]):
        self.heads, self.asked = heads, []
        self.model = SimpleNamespace(n_layers=SHAPE[0], n_heads=SHAPE[1], d_model=8, d_head=4)
        monkeypatch.setattr(states_module, "sides_of", self.sides)
        monkeypatch.setattr(effects_module, "direct_effects", self.direct)
        monkeypatch.setattr(paths_module, "path_effects", self.path)

    def sides(self, model: Any, batch: Any) -> Any:
        return SimpleNamespace(batch=batch, gap=torch.full((len(batch),), -2.0))

    def direct(self, model: Any, sides: Any, **how: Any) -> Effects:
        self.asked.append(("logits", (), None))
        return self.effects("logits", sides, SHAPE[0])

    def path(self, model: Any, sides: Any, receivers: Receivers, **how: Any) -> Effects:
        self.asked.append((receivers.side, receivers.heads, receivers.position))
        return self.effects(receivers.side, sides, max(layer for layer, _ in receivers.heads))

    def effects(self, side: str, sides: Any, below: int) -> Effects:
        prompts = [int(pair.prompt.name[1:]) for pair in sides.batch.pairs]
        heads = np.full((*SHAPE, len(prompts)), np.nan, dtype=np.float32)
        heads[:below] = 0
        for head, change in self.heads.get(side, {}).items():
            if head[0] < below:
                heads[head] = change[prompts] if isinstance(change, np.ndarray) else change
        return Effects(heads, heads[:, 0])

    def search(self, prompts: list[Prompt], attention: Any, kept: Any = None, **settings: Any) -> list[Stage]:
        config = CircuitConfig(**{"share": 0.1, "least": 1, **settings})
        return search(self.model, prompts, attention, config, kept or Store())


CHAIN = {
    "logits": {(3, 1): -1.0, (3, 2): 0.5, (2, 0): -0.1},
    "q": {(2, 4): -0.6, (2, 3): -0.2, (1, 0): 0.1},
    "v": {(1, 1): -0.4},
    "k": {(0, 2): -0.3},
}
LOOKS = {
    (2, 4): {("end", "repeat"): 0.5, ("end", "wrong"): 0.9, ("end", "end"): 0.8, ("repeat", "first"): 0.9},
    (2, 3): {("end", "first"): 0.6},
    (1, 1): {("repeat", "after_first"): 0.7, ("end", "first"): 0.9, ("repeat", "repeat"): 0.9},
}


def test_stages_follow_from_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    planted, kept = Planted(monkeypatch, CHAIN), Store()
    found = planted.search(_prompts(), _attention(LOOKS), kept)
    assert [(one.name, one.side, one.position) for one in found] == [
        ("logits@end", "logits", "end"),
        ("q@end", "q", "end"),
        ("v@auto", "v", "repeat"),
        ("k@auto", "k", "after_first"),
    ]
    assert [one.heads for one in found] == [((3, 1), (3, 2)), ((2, 4), (2, 3)), ((1, 1),), ((0, 2),)]
    assert [one.receivers for one in found] == [(), *(one.heads for one in found[:-1])]
    assert found[2].at == tuple(5 + index % 3 for index in range(N))
    # weighted by effect: 0.6 of 0.8 for the head that looks at `repeat`; `wrong` has two places, and `end` reads itself
    assert found[2].looked == pytest.approx({"first": 0.6 * 0.25, "repeat": 0.5 * 0.75})
    assert found[3].looked == pytest.approx({"after_first": 0.7})
    # the gap is -2: half as much, and what speaks for the answer is positive
    np.testing.assert_allclose(found[0].effects[3, 1], 0.5)
    np.testing.assert_allclose(found[0].effects[3, 2], -0.25)
    assert np.isnan(found[1].effects[3]).all() and not found[1].why
    asked = {(side, receivers, at) for side, receivers, at in planted.asked if side == "v"}
    assert {at for _, _, at in asked} == {tuple(5 + index % 3 for index in range(start, N, 2)) for start in (0, 1)}
    assert kept.phases == [(f"searching {name}", 2) for name in ("logits@end", "q@end", "v@auto", "k@auto")]


def test_a_stage_takes_its_share_of_the_heads_that_can_reach_it(monkeypatch: pytest.MonkeyPatch) -> None:
    many = {(layer, head): -1.0 - 10 * layer - head for layer in range(3) for head in range(5)}
    found = Planted(monkeypatch, {"logits": CHAIN["logits"], "q": many, "v": many}).search(
        _prompts(), _attention({}), stages=("logits@end", "q@end", "v@repeat"), share=0.21
    )
    assert [len(one.heads) for one in found] == [3, 4, 3]  # of 20 (of which 3 have an effect), 15 and 10, rounded up
    assert found[1].heads == ((2, 4), (2, 3), (2, 2), (2, 1))


def test_only_the_prompts_that_choose_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = _prompts()
    select, held_out = halves(prompts, CircuitConfig())
    only = np.zeros(N)
    only[held_out] = -9.0
    chosen = np.zeros(N)
    chosen[select] = -1.0
    planted = Planted(monkeypatch, {"logits": {(3, 0): only, (3, 1): chosen, (3, 2): -0.1}})
    [stage] = planted.search(prompts, _attention({}), stages=("logits@end",))
    assert stage.heads == ((3, 1), (3, 2))
    assert stage.effects[3, 0, held_out].mean() == pytest.approx(4.5)


def test_a_head_that_was_taken_before_receives_again(monkeypatch: pytest.MonkeyPatch) -> None:
    again = {"logits": {(3, 1): -1.0, (2, 4): -0.5}, "q": {(2, 4): -0.6, (1, 0): -0.2}, "v": {(0, 0): -1.0}}
    found = Planted(monkeypatch, again).search(_prompts(), _attention({}), stages=("logits@end", "q@end", "v@repeat"))
    assert found[1].heads == ((2, 4), (1, 0)) == found[2].receivers
    assert [stage.heads for stage in found] == [((3, 1), (2, 4)), ((2, 4), (1, 0)), ((0, 0),)]


def test_a_stage_that_cannot_be_measured_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def told(stages: tuple[str, ...], heads: Any = CHAIN, **more: Any) -> list[str]:
        planted = Planted(monkeypatch, heads)
        found = planted.search(_prompts(**more), _attention(LOOKS), stages=stages)
        assert all(not one.heads and not one.effects.size for one in found if one.why)
        return [one.why for one in found]

    _, _, missing, after = told(("logits@end", "q@end", "v@S9", "k@first"))
    assert "'S9'" in missing and after == "no heads were found in the stage before"
    assert "'wrong'" in told(("logits@end", "v@wrong"))[1]
    assert "layer 0" in told(("logits@end", "q@end"), {"logits": {(0, 3): -1.0}})[1]
    assert "same tokens up to 'first'" in told(("logits@end", "q@end", "v@first"), differs=("repeat",))[2]
    *_, chosen, nowhere = told(("logits@end", "q@end", "v@auto", "k@auto"), differs=("repeat",))
    assert chosen == "" and "'repeat'" in nowhere and "differ earlier" in nowhere


def test_a_stage_without_any_effect_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Planted(monkeypatch, {"logits": CHAIN["logits"]}).search(_prompts(), _attention(LOOKS))
    assert found[1].heads == () and found[1].effects.shape == (*SHAPE, N)
    assert found[1].why == "no head has an effect on them"


def test_auto_leaves_out_the_first_token_and_what_comes_later(monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = _prompts()
    for prompt in prompts:
        prompt.extra["pair"]["positions"]["aside"] = 0
        prompt.extra["pair"]["corrupt"][0] = 3
    stage = Stage(
        "v@repeat", "v", "repeat", spots(prompts, "repeat") or (), (), ((1, 1),), np.ones((*SHAPE, N)), np.ones(())
    )
    looks = {(1, 1): {("repeat", name): 0.1 for name in NAMES}}
    assert set(looked_at(prompts, stage, _attention(looks), range(N))) == {"answer", "first", "after_first"}
    prompts[3].extra["roles"]["first"] = []
    assert set(looked_at(prompts, stage, _attention(looks), range(N))) == {"answer", "after_first"}


def test_positions_by_role_and_by_name() -> None:
    prompts = _prompts(3)
    assert spots(prompts, "end") == (8, 9, 8)
    assert spots(prompts, "repeat") == (5, 6, 7)
    assert spots(prompts, "aside") == (4, 4, 4)
    assert spots(prompts, "wrong") is None and spots(prompts, "S9") is None
    del prompts[1].extra["pair"]["positions"]["aside"]
    assert spots(prompts, "aside") is None


def test_an_interrupted_search_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    planted, whole = Planted(monkeypatch, CHAIN), Store()
    expected = planted.search(_prompts(), _attention(LOOKS), whole)
    kept = Store(most=3)
    with pytest.raises(KeyboardInterrupt):
        planted.search(_prompts(), _attention(LOOKS), kept)
    before, kept.most = dict(kept.units), 10**9
    planted.asked.clear()
    found = planted.search(_prompts(), _attention(LOOKS), kept)
    assert len(planted.asked) == len(whole.units) - 3 and set(kept.units) == set(whole.units)
    assert all(kept.units[key] is unit for key, unit in before.items())
    assert [one.heads for one in found] == [one.heads for one in expected]


def test_pieces_hang_on_receivers_and_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Store()
    planted = Planted(monkeypatch, CHAIN)
    planted.search(_prompts(), _attention({}), kept, stages=("logits@end", "q@end", "v@repeat"))
    n = len(kept.units)
    planted.search(_prompts(), _attention({}), kept, stages=("logits@end", "q@end", "v@aside"))
    assert len(kept.units) == n + 2  # its last stage alone
    Planted(monkeypatch, {**CHAIN, "logits": {(3, 4): -1.0}})
    for key in [key for key in kept.units if key.startswith("stage 0")]:
        del kept.units[key]
    n = len(kept.units)
    planted.search(_prompts(), _attention({}), kept, stages=("logits@end", "q@end"))
    assert len(kept.units) == n + 4


def test_the_logits_are_read_at_the_end() -> None:
    with pytest.raises(ValueError, match="stages=logits@S2: expected logits@end first"):
        CircuitConfig(stages=("logits@S2",))


def test_a_position_that_a_prompt_has_not_is_refused_before_anything_is_measured() -> None:
    prompt = _prompts()[0]
    for good in ({"stages": ("logits@end", "q@end", "v@repeat", "k@auto")}, {"position": "repeat"}, {}):
        circuit.suits(prompt, CircuitConfig(**good))
    for bad in ({"stages": ("logits@end", "q@S9")}, {"position": "S9"}):
        with pytest.raises(UsageError, match=r"no position 'S9'; it has .*repeat"):
            circuit.suits(prompt, CircuitConfig(**bad))


def test_twins_without_a_difference_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    planted = Planted(monkeypatch, CHAIN)
    monkeypatch.setattr(
        states_module, "sides_of", lambda model, batch: SimpleNamespace(batch=batch, gap=torch.zeros(len(batch)))
    )
    with pytest.raises(UsageError, match="mean logit difference"):
        planted.search(_prompts(), _attention({}))


@pytest.mark.parametrize(("family", "freeze_mlps"), [("llama", False), ("gpt2", False), ("gpt2", True)])
def test_effects_are_those_of_direct_calls(family: str, freeze_mlps: bool) -> None:
    model = interp.load(tiny(family), check=False)
    prompts = _prompts(4)
    config = CircuitConfig(share=0.6, least=1, stages=("logits@end", "q@end", "v@repeat"), freeze_mlps=freeze_mlps)
    found = search(model, prompts, ((), np.zeros((4, 3, 4, 0, 0))), config, Store())
    assert [one.why for one in found] == ["", "", ""]
    select, _ = halves(prompts, config)
    sides = [sides_of(model, batch_of([pair_of(prompt)])) for prompt in prompts]
    gap = np.mean([float(sides[one].gap) for one in select])
    for stage in found:
        for index, one in enumerate(sides):
            if stage.side == "logits":
                direct = direct_effects(model, one, freeze_mlps=freeze_mlps)
            else:
                receivers = Receivers(stage.receivers, stage.side, stage.at[index])
                direct = path_effects(model, one, receivers, freeze_mlps=freeze_mlps)
            np.testing.assert_allclose(stage.effects[..., index] * gap, direct.heads[..., 0], atol=1e-5)
            np.testing.assert_allclose(stage.mlps[..., index] * gap, direct.mlps[..., 0], atol=1e-5)
        means = np.abs(stage.effects[..., select].mean(-1))
        assert len(stage.heads) == np.ceil(0.6 * np.isfinite(means).sum())
        weakest = min(means[head] for head in stage.heads)
        assert (means >= weakest).sum() == len(stage.heads) and weakest > 0
