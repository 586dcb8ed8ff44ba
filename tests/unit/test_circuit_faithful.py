"""Faithfulness, completeness and minimality, on planted structure and through the model."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import interp
from interp.circuits.complete import parts
from interp.circuits.config import CircuitConfig, Head
from interp.circuits.estimates import ratio
from interp.circuits.faithful import evaluate, evaluate_with, in_classes
from interp.circuits.knockout import Knockout
from interp.finders.base import Unit
from probes.base import Prompt
from tests.tiny import tiny
from tests.unit.test_circuit_knockout import PROMPTS

N = 12
NAMES = [Prompt(f"p{i}", "", (1,), ("x",)) for i in range(N)]
HEADS = tuple((layer, head) for layer in range(4) for head in range(6))
MOVER, BACKUP, SECOND, IDLE = (3, 0), (3, 1), (2, 0), (1, 0)
CLASSES = {"mover": [MOVER], "inhibition": [SECOND], "induction": [IDLE]}


@dataclass
class Planted:
    """1 without any head; the mover adds 4, the second head 2; the backup adds 3 once the mover is gone; the idle head
    nothing. Every prompt has its own offset, which no head touches."""

    prompts: Sequence[Prompt] = tuple(NAMES)
    heads: tuple[Head, ...] = HEADS
    work: float = 0.0
    asked: list[frozenset[Head]] = field(default_factory=list)

    def differences(self, sets: Sequence[Collection[Head]]) -> np.ndarray:
        self.asked += [frozenset(one) for one in sets]
        self.work += len(sets)
        offset = np.linspace(-0.5, 0.5, len(self.prompts))
        return np.array([self.value(frozenset(one)) + offset for one in sets])

    def value(self, out: frozenset[Head]) -> float:
        mover = 4 * (MOVER not in out)
        return 1 + mover + 2 * (SECOND not in out) + (0 if mover else 3 * (BACKUP not in out))

    def remember(self, out: Collection[Head]) -> None:
        pass

    def part(self, indices: Sequence[int]) -> Planted:
        return Planted([self.prompts[i] for i in indices], self.heads)


@dataclass
class Stored:
    """Keeps pieces by name and what they hang on, as a run does."""

    pieces: dict[str, Unit] = field(default_factory=dict)
    made: int = 0

    def phase(self, label: str, pieces: int) -> None:
        assert pieces > 0

    def unit(self, name: str, make: Callable[[], Unit], of: Any = None) -> Unit:
        key = json.dumps([name, of])
        if key not in self.pieces:
            self.pieces[key] = make()
            self.made += 1
        return self.pieces[key]


def _evaluated(circuit: Collection[Head], kept: Any = None, **settings: Any) -> dict[str, Any]:
    knockouts = {how: Planted() for how in ("mean", "zero", "resample")}
    return evaluate_with(knockouts, circuit, CLASSES, CircuitConfig(**settings), kept or Stored())


def test_faithfulness_of_a_planted_circuit() -> None:
    told = _evaluated([MOVER, IDLE])["faithfulness"]["mean"]
    assert [told[name]["mean"] for name in ("whole", "empty", "circuit")] == pytest.approx([7, 1, 5])
    assert told["distance"] == pytest.approx(2)
    assert told["difference"] == pytest.approx({"mean": 2, "low": 2, "high": 2, "n": N})
    assert told["share"] == pytest.approx({"mean": 4 / 6, "low": 4 / 6, "high": 4 / 6, "n": N})
    assert told["of_whole"]["mean"] == pytest.approx(5 / 7)
    assert told["of_whole"]["low"] < 5 / 7 < told["of_whole"]["high"]
    assert told["whole"]["low"] < 7 < told["whole"]["high"]


def test_random_circuits_have_the_same_profile_and_none_of_its_heads() -> None:
    planted, circuit = Planted(), [MOVER, BACKUP, SECOND]
    told = evaluate_with({"mean": planted}, circuit, CLASSES, CircuitConfig(controls=6), Stored())
    drawn = [frozenset(HEADS) - one for one in planted.asked[3:9]]
    assert all(sorted(layer for layer, _ in one) == [2, 3, 3] and not one & set(circuit) for one in drawn)
    assert len(set(drawn)) > 1
    random = told["faithfulness"]["mean"]["random"]
    assert random["draws"] == 6 and random["means"] == pytest.approx([1] * 6)
    assert random["difference"]["mean"] == pytest.approx(6)


def test_a_circuit_of_most_heads_has_no_random_ones() -> None:
    assert _evaluated(HEADS[:-2])["faithfulness"]["zero"]["random"] is None


def test_a_backup_outside_the_circuit_is_seen_as_incompleteness() -> None:
    without = _evaluated([MOVER, SECOND, IDLE])["completeness"]
    by_name = {one["name"]: one for one in without["sets"]}
    assert by_name["mover"]["distance"] == pytest.approx(3) and by_name["mover"]["heads"] == [[3, 0]]
    assert (by_name["mover"]["circuit"], by_name["mover"]["model"]) == pytest.approx((3, 6))
    assert by_name["inhibition"]["distance"] == pytest.approx(0)
    assert without["distance"]["class"] == pytest.approx({"mean": 1, "max": 3})
    assert by_name["greedy 1"]["heads"] == [[3, 0]] and by_name["greedy 1"]["distance"] == pytest.approx(3)
    assert len(by_name["greedy 3"]["heads"]) == 3
    assert sum(one["kind"] == "random" for one in without["sets"]) == CircuitConfig().subsets
    whole = _evaluated([MOVER, SECOND, IDLE, BACKUP])["completeness"]
    assert max(one["distance"] for one in whole["sets"]) == pytest.approx(0)


def test_a_head_is_needed_where_something_changes_without_it() -> None:
    told = _evaluated([MOVER, SECOND, IDLE])["minimality"]
    by_head = {tuple(one["head"]): one for one in told["heads"]}
    assert told["threshold"] == 0.01 and told["share"] == pytest.approx(2 / 3)
    assert by_head[MOVER]["share"] == pytest.approx(4 / 7) and by_head[MOVER]["class"] == "mover"
    assert by_head[SECOND]["change"]["mean"] == pytest.approx(-2)
    assert not by_head[IDLE]["needed"] and by_head[IDLE]["share"] == pytest.approx(0)


def test_what_a_backup_hides_shows_without_the_rest_of_the_class() -> None:
    classes = {"mover": [MOVER, BACKUP], "other": [SECOND]}
    told = evaluate_with({"mean": Planted()}, [MOVER, BACKUP, SECOND], classes, CircuitConfig(), Stored())
    by_head = {tuple(one["head"]): one for one in told["minimality"]["heads"]}
    assert by_head[BACKUP]["needed"] and by_head[BACKUP]["without"] == "the rest of its class"
    assert by_head[BACKUP]["k"] == 1 and by_head[BACKUP]["share"] == pytest.approx(3 / 7)
    # in a class of its own it needs the greedy part, which holds the mover
    classes = {"mover": [MOVER], "other": [SECOND, BACKUP]}
    told = evaluate_with({"mean": Planted()}, [MOVER, BACKUP], classes, CircuitConfig(), Stored())
    by_head = {tuple(one["head"]): one for one in told["minimality"]["heads"]}
    assert by_head[BACKUP]["without"] == "greedy" and by_head[BACKUP]["needed"]


def test_classes_within_the_circuit() -> None:
    found = in_classes(frozenset([MOVER, IDLE, (0, 0)]), {**CLASSES, "none": [(0, 5)]})
    assert found == {"mover": {MOVER}, "induction": {IDLE}, "other": {(0, 0)}}


def test_random_parts() -> None:
    circuit = frozenset(HEADS[:9])
    found = parts(circuit, 40, 0)
    assert all(one and one <= circuit for one in found) and len(set(found)) > 30
    assert 3.5 < np.mean([len(one) for one in found]) < 5.5
    assert found == parts(circuit, 40, 0) != parts(circuit, 40, 1)
    assert parts(frozenset([MOVER]), 8, 0) == [frozenset([MOVER])] * 8


def test_ratio_of_means() -> None:
    over, under = np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, 2.0, 4.0, 4.0])
    told = ratio(over, under, 0)
    assert told["mean"] == pytest.approx(10 / 12) and told["low"] < 10 / 12 < told["high"]
    assert ratio(over, 2 * over, 0) == pytest.approx({"mean": 0.5, "low": 0.5, "high": 0.5, "n": 4})
    blurred = ratio(over, np.array([-1.0, 1.0, -2.0, 3.0]), 0)
    assert blurred["low"] is None and "includes 0" in blurred["why"]
    assert ratio(over, np.zeros(4), 0)["mean"] is None


def test_nothing_found() -> None:
    told = _evaluated([])
    assert told["size"] == 0 and told["why"] and told["faithfulness"] == {}


@pytest.fixture(scope="module")
def model() -> Any:
    return interp.load(tiny("llama"))


def test_through_the_model_and_from_what_was_stored(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    circuit, classes = [(1, 0), (2, 1), (2, 2)], {"mover": [(2, 1), (2, 2)]}
    kept, config = Stored(), CircuitConfig(subsets=2)
    told = evaluate(model, PROMPTS, circuit, classes, config, kept)
    assert json.loads(json.dumps(told)) == told
    assert told["prompts"] == len(PROMPTS) and told["means"]["twins"] == "corrupt" and told["work"] > 10
    everything = {(layer, head) for layer in range(3) for head in range(4)}
    for how in ("mean", "zero", "resample"):
        slow = Knockout(model, PROMPTS, how)
        faith = told["faithfulness"][how]
        for name, out in (("whole", set()), ("empty", everything), ("circuit", everything - set(circuit))):
            assert faith[name]["mean"] == pytest.approx(slow.difference(out).mean(), abs=1e-4)
        assert faith["random"]["draws"] == (4 if how == "mean" else 2)
    slow, outside = Knockout(model, PROMPTS), everything - set(circuit)
    for one in told["completeness"]["sets"]:
        gone = {tuple(head) for head in one["heads"]}
        own, whole = slow.differences([outside | gone, gone]).mean(1)
        assert one["distance"] == pytest.approx(abs(own - whole), abs=1e-4)
    for one in told["minimality"]["heads"]:
        rest = (
            {h for h in classes["mover"] if list(h) != one["head"]} if one["without"].startswith("the rest") else set()
        )
        if one["without"] != "greedy":
            before, after = slow.differences([outside | rest, outside | rest | {tuple(one["head"])}]).mean(1)
            assert one["change"]["mean"] == pytest.approx(after - before, abs=1e-4)

    made = kept.made
    monkeypatch.setattr(Knockout, "run", None)  # everything is there: the model is not run again
    assert evaluate(model, PROMPTS, circuit, classes, config, kept) == told and kept.made == made


def test_the_way_to_ablate_is_the_settings(model: Any) -> None:
    told = evaluate(model, PROMPTS, [(1, 0), (2, 1)], {}, CircuitConfig(subsets=0, knockout="zero"), Stored())
    assert told["how"] == "zero"
    first = told["completeness"]["sets"][0]
    assert first["name"] == "other"
    found = Knockout(model, PROMPTS, "zero").difference([(1, 0), (2, 1)]).mean()
    assert first["model"] == pytest.approx(found, abs=1e-4)
