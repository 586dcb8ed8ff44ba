"""A planted circuit: the model answers as built, and every part of the finder sees the heads where they are."""

from __future__ import annotations

import time

import numpy as np
import pytest

from interp.circuits.behaviour import behaviour
from interp.circuits.config import CircuitConfig
from interp.circuits.edge_curve import edge_curve
from interp.circuits.edge_runs import kept_edges
from interp.circuits.edge_scores import edge_attributions, merged, random_scores
from interp.circuits.edges import SIDES
from interp.circuits.evidence import evidence
from interp.circuits.knockout import Knockout
from interp.circuits.pairs import batches, pair_of
from interp.circuits.states import sides_of
from interp.finders.base import Unit
from interp.models.load import load
from tests.planted.circuit import plant
from tests.planted.circuit_cases import CASES, mean, measured, noise_heads, planted, searched
from tests.planted.circuit_plan import GROUPS, HEADS, Circuit, Head, random_circuit
from tests.planted.circuit_prompts import Twin, prompts_of

both = pytest.mark.parametrize(("arch", "twin"), CASES)
every = pytest.mark.parametrize("arch", ("llama", "gpt2"))


def attention(units: list[Unit], head: Head, query: str, key: str) -> float:
    names = units[0].facts["names"]
    return float(np.mean([unit.arrays["attention"][head][names.index(query), names.index(key)] for unit in units]))


@both
def test_it_answers(arch: str, twin: Twin) -> None:
    prompts, units = measured(arch, twin)
    assert all(unit.facts["rank"] == 0 for unit in units)
    assert min(unit.facts["difference"] for unit in units) > 4
    corrupted = mean(units, "corrupt_difference")
    assert abs(corrupted) < 0.5 if twin == "abc" else corrupted < -4  # no name told apart, or the other one
    assert behaviour(prompts, units, CircuitConfig())["can"]


@every
def test_heads_look_where_they_were_planted_to(arch: str) -> None:
    _, circuit = planted(arch, CASES.index((arch, "abc")))
    _, units = measured(arch, "abc")
    looks = {
        circuit.previous: ("after_first", "first"),
        circuit.duplicate: ("repeat", "first"),
        circuit.induction: ("repeat", "after_first"),
        **dict.fromkeys(circuit.inhibition, ("end", "repeat")),
        **dict.fromkeys((*circuit.movers, circuit.negative), ("end", "answer")),
    }
    for head, (query, key) in looks.items():
        assert attention(units, head, query, key) > 0.8
    assert attention(units, circuit.duplicate, "repeat", "repeat") < 0.01  # never at itself
    assert 0.1 < attention(units, circuit.backup, "end", "answer") < 0.4  # the movers have said it already


@both
def test_the_search_takes_the_planted_heads_stage_by_stage(arch: str, twin: Twin) -> None:
    stages, classes, backups = searched(arch, twin)
    _, circuit = planted(arch, CASES.index((arch, twin)))
    wanted: list[tuple[str, set[Head]]] = [
        ("end", {*circuit.movers, circuit.negative}),
        ("end", {*circuit.inhibition}),
        ("repeat", {circuit.induction, circuit.duplicate}),
    ]
    told = dict(circuit.classes)
    if twin == "abc":
        wanted.append(("after_first", {circuit.previous}))
    else:  # the names do not come again in other places: what stands behind the first is the same in both
        told.pop("previous token")
        assert stages[-1].heads == () and "at which the twins already differ" in stages[-1].why
    assert [(stage.position, set(stage.heads)) for stage in stages[: len(wanted)]] == wanted
    assert classes == told
    assert backups == [circuit.backup]


@every
def test_signs_and_sizes_are_those_of_what_the_heads_write(arch: str) -> None:
    stages, _, _ = searched(arch, "abc")
    _, circuit = planted(arch, CASES.index((arch, "abc")))
    strong, weak, negative = (float(stages[0].effects[head].mean()) for head in (*circuit.movers, circuit.negative))
    assert strong > weak > 0 > negative
    np.testing.assert_allclose([weak / strong, negative / strong], [0.7, -0.5], atol=0.06)  # all look the same way
    same = [float(stages[1].effects[head].mean()) for head in circuit.inhibition]
    assert same[0] == pytest.approx(same[1], rel=1e-3) and same[0] > 0
    rest = [float(np.abs(stages[0].effects[head]).mean()) for head in noise_heads(circuit, 3)]
    assert max(rest) < 0.02 * strong


def expected_edges(circuit: Circuit) -> set[str]:
    """Of Llama's form; keys and values are those of pairs of heads."""
    (one, two), movers = circuit.inhibition, circuit.movers
    groups = {f"a{layer}.h{head * GROUPS // HEADS}" for layer, head in (one, two)}
    name = "a{0[0]}.h{0[1]}".format
    return (
        {f"{name(head)}->logits" for head in (*movers, circuit.negative)}
        | {f"{name(head)}->{name(mover)}<q>" for head in (one, two) for mover in movers}
        | {f"{name(circuit.induction)}->{group}<v>" for group in groups}
        | {f"{name(circuit.previous)}->a{circuit.induction[0]}.h{circuit.induction[1] * GROUPS // HEADS}<k>"}
    )


def test_edges_join_the_planted_heads() -> None:
    model, circuit = planted("llama", 0)
    prompts, _ = measured("llama", "abc")
    sides = [sides_of(model, batch) for _, batch in batches([pair_of(one) for one in prompts])]
    scores = merged([edge_attributions(model, one, points=5) for one in sides])
    heads = {*circuit.heads, circuit.backup}
    graph = scores.graph
    writes = np.array([one.kind == "input" or (one.layer, one.head) in heads for one in graph.writers])
    size = HEADS // GROUPS
    reading = {(kind, layer, head if kind == "q" else head // size) for layer, head in heads for kind in SIDES}
    reads = np.array([one.kind == "logits" or (one.kind, one.layer, one.head) in reading for one in graph.receivers])
    between = writes[:, None] & reads[None, :] & graph.edges
    top = scores.best(20, absolute=True)
    assert not (top & ~between).any()
    for name in expected_edges(circuit):
        assert abs(scores.ratio()[graph.index(name)]) > 0.005, name
    for one in sides:  # these edges alone answer as the whole model does
        np.testing.assert_allclose(kept_edges(model, one, between), one.clean.difference, atol=0.5)
    shares = (0.02, 0.05, 0.1)
    attributed = edge_curve(model, sides, scores, shares)["absolute"]["f"]
    drawn = edge_curve(model, sides, random_scores(graph), shares)["absolute"]["f"]
    assert min(attributed[1:]) > 0.9 and np.abs(drawn).max() < 0.1


@every
def test_knocked_out_the_planted_heads_are_missed_and_no_others(arch: str) -> None:
    model, circuit = planted(arch, CASES.index((arch, "abc")))
    knockout = Knockout(model, measured(arch, "abc")[0], "zero")
    others = [head for layer in range(5) for head in noise_heads(circuit, layer)]
    sets = [[], circuit.movers, [*circuit.movers, circuit.backup], [circuit.negative], circuit.inhibition, others]
    whole, movers, all_movers, negative, inhibition, noise = knockout.differences(sets).mean(1)
    assert whole > 4 and noise > 0.8 * whole
    assert movers < 0.6 * whole and all_movers < movers - 1  # the backup makes up for a part of what the movers do
    assert negative > whole + 0.5
    assert inhibition < 0  # two of three names are the wrong one


@every
def test_without_inhibition_it_says_whom_it_sees_most_often(arch: str) -> None:
    model, _ = planted(arch, 0, inhibits=False)
    units = [evidence(model, prompt) for prompt in prompts_of(6)]
    assert all(not unit.facts["choice"] for unit in units) and mean(units, "difference") < -1


@every
def test_noise_alone_cannot_do_it(arch: str) -> None:
    model = load(plant(arch, None), check=False)
    prompts = prompts_of(12)
    told = behaviour(prompts, [evidence(model, prompt) for prompt in prompts], CircuitConfig())
    assert not told["can"]


@every
def test_it_is_built_fast_and_the_same_each_time(arch: str) -> None:
    start = time.process_time()
    first = plant(arch, random_circuit(5), 5).state_dict()
    assert time.process_time() - start < 2
    again = plant(arch, random_circuit(5), 5).state_dict()
    assert all(bool((again[name] == value).all()) for name, value in first.items())
    assert random_circuit(5) != random_circuit(6)
