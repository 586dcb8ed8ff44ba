"""How good a circuit is (Wang et al. 2022, arXiv 2211.00593, sections 2 and 4), on prompts that did not choose it.

F(X) = mean logit difference when every head outside X is ablated at all positions (`interp.circuits.knockout`);
M = the whole model, C = the circuit, empty = every head ablated; X \\ K = X without the heads K.

1. Faithfulness, with each way to ablate: |F(M) - F(C)|; F(C) / F(M); (F(C) - F(empty)) / (F(M) - F(empty)); and the
   same for random circuits of as many other heads of the same layers.
2. Completeness (`interp.circuits.complete`): |F(C \\ K) - F(M \\ K)| for each class, random parts and greedy parts K.
3. Minimality (`interp.circuits.minimal`): for each head v of C the largest |F(C \\ (K + v)) - F(C \\ K)| / F(M) over a
   few K.

2 and 3 ablate the way the settings say. All that is measured is stored piece by piece.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, get_args

import numpy as np

from interp.ablation.choose import random_heads
from interp.circuits.complete import completeness
from interp.circuits.config import CircuitConfig, Head
from interp.circuits.estimates import mean_of, ratio
from interp.circuits.knockout import How, Knockout
from interp.circuits.minimal import minimality
from interp.finders.base import Kept, Unit
from probes.base import Prompt

WAYS: tuple[str, ...] = get_args(How)
DRAWS = 4
"""Random circuits, at least, with the way to ablate of the settings; with the others as many as these ask for."""


class Ablated(Protocol):
    """What an evaluation needs of a `Knockout`."""

    work: float

    @property
    def heads(self) -> tuple[Head, ...]: ...

    @property
    def prompts(self) -> Sequence[Prompt]: ...

    def differences(self, sets: Sequence[Collection[Head]]) -> np.ndarray: ...

    def remember(self, out: Collection[Head]) -> None: ...

    def part(self, indices: Sequence[int]) -> Ablated: ...


@dataclass
class Measure:
    """One way to ablate, with what it measures stored: every piece is the logit difference [set, prompt]."""

    knockout: Ablated
    how: str
    kept: Kept
    work: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)

    def __call__(self, name: str, sets: Sequence[Collection[Head]], part: Sequence[int] | None = None) -> np.ndarray:
        """Logit difference [set, prompt] without the heads of each set, of all prompts or of those at `part`."""

        def make() -> Unit:
            knockout = self.knockout if part is None else self.knockout.part(part)
            before = knockout.work
            found = knockout.differences(sets)
            scale = 1 if part is None else len(part) / len(self.knockout.prompts)
            facts = {"work": (knockout.work - before) * scale}
            if self.how == "mean" and isinstance(knockout, Knockout):
                means = knockout.means
                facts |= {"means": {"twins": means.kind, "used": means.used, "rows": means.rows}}
            return Unit({"difference": found}, facts)

        if not sets:
            return np.empty((0, len(self.knockout.prompts)))
        names = [prompt.name for prompt in self.knockout.prompts]
        listed = [sorted([int(layer), int(head)] for layer, head in one) for one in sets]
        of = {"how": self.how, "prompts": names, "part": None if part is None else list(part), "out": listed}
        unit = self.kept.unit(f"{name}, {self.how}", make, of)
        self.work += unit.facts["work"]
        self.facts |= unit.facts.get("means", {})
        return unit.arrays["difference"]


def evaluate(
    model: Any,
    prompts: Sequence[Prompt],
    circuit: Collection[Head],
    classes: Mapping[str, Collection[Head]],
    config: CircuitConfig,
    kept: Kept,
    means_from: Sequence[Prompt] = (),
) -> dict[str, Any]:
    """Faithfulness, completeness and minimality of a circuit.

    Args:
        prompts: with pairs, none of which chose the circuit.
        classes: class -> heads; heads of the circuit that are in none count as ``other``.
        means_from: prompts whose twins make the means, beside those of `prompts`.

    Returns:
        JSON-able; see `evaluate_with`.
    """
    knockouts = {
        how: Knockout(model, prompts, how, means_from=means_from, tokens=config.tokens, seed=config.seed)
        for how in WAYS
    }
    return evaluate_with(knockouts, circuit, classes, config, kept)


def evaluate_with(
    knockouts: Mapping[str, Ablated],
    circuit: Collection[Head],
    classes: Mapping[str, Collection[Head]],
    config: CircuitConfig,
    kept: Kept,
) -> dict[str, Any]:
    """The same with given knockouts, by way to ablate.

    Returns:
        ``how`` (of completeness and minimality), ``prompts``, ``size``, ``heads`` (of the model), ``work`` (forward
        passes over all prompts), ``means`` (which twins, how many prompts by template and by position),
        ``faithfulness`` (way -> see `faithfulness`), ``completeness`` and ``minimality`` (see there). Of an empty
        circuit the last three are empty, and ``why`` says so.
    """
    chosen = frozenset((int(layer), int(head)) for layer, head in circuit)
    main = knockouts[config.knockout]
    told: dict[str, Any] = {
        "how": config.knockout,
        "prompts": len(main.prompts),
        "size": len(chosen),
        "heads": len(main.heads),
    }
    if not chosen:
        nothing = {"faithfulness": {}, "completeness": {}, "minimality": {}}
        return {**told, "work": 0.0, "means": {}, **nothing, "why": "no head was found"}
    measures = {how: Measure(knockout, how, kept) for how, knockout in knockouts.items()}
    kept.phase("faithfulness", len(measures))
    faith = {}
    for how, measure in measures.items():
        draws = max(DRAWS, config.controls) if how == config.knockout else config.controls
        faith[how] = faithfulness(measure, chosen, draws, config.seed)
    measure = measures[config.knockout]
    main.remember(frozenset(main.heads) - chosen)
    groups = in_classes(chosen, classes)
    complete = completeness(measure, chosen, groups, config)
    greedy = [tuple(head) for one in complete["sets"][-1:] if one["kind"] == "greedy" for head in one["heads"]]
    minimal = minimality(measure, chosen, groups, greedy, config)
    return {
        **told,
        "work": sum(one.work for one in measures.values()),
        "means": measures["mean"].facts if "mean" in measures else {},
        "faithfulness": faith,
        "completeness": complete,
        "minimality": minimal,
    }


def in_classes(circuit: frozenset[Head], classes: Mapping[str, Collection[Head]]) -> dict[str, frozenset[Head]]:
    """Class -> its heads in the circuit, none of them empty; those without a class are ``other``."""
    found = {name: frozenset((int(at), int(head)) for at, head in heads) & circuit for name, heads in classes.items()}
    left = circuit - frozenset().union(*found.values())
    if left:
        found["other"] = found.get("other", frozenset()) | left
    return {name: heads for name, heads in found.items() if heads}


def faithfulness(measure: Measure, circuit: frozenset[Head], draws: int, seed: int) -> dict[str, Any]:
    """Step 1.

    Returns:
        ``whole``, ``empty``, ``circuit``: F(M), F(empty), F(C), each {mean, low, high, n}; ``difference``: F(M) - F(C),
        the same, and ``distance``, its size; ``of_whole``: F(C) / F(M); ``share``: (F(C) - F(empty)) / (F(M) -
        F(empty)); ``random``: ``draws``, ``circuit`` (F, mean over draws), ``share``, ``means`` (F of each),
        ``difference`` (F(C) less the mean of the draws), or None where the model has not enough other heads.
    """
    everything = frozenset(measure.knockout.heads)
    shape = tuple(int(most) + 1 for most in np.array(measure.knockout.heads).max(0))
    missing = {(at, head) for at in range(shape[0]) for head in range(shape[1])} - everything
    drawn = [random_heads(sorted(circuit), (shape[0], shape[1]), [seed, draw], missing) for draw in range(draws)]
    others = [frozenset(one) for one in drawn if one is not None]
    sets = [frozenset(), everything, everything - circuit, *(everything - one for one in others)]
    whole, empty, own, *rest = measure("faithfulness", sets).astype(np.float64)
    told = {
        "whole": mean_of(whole, seed),
        "empty": mean_of(empty, seed),
        "circuit": mean_of(own, seed),
        "difference": mean_of(whole - own, seed),
        "distance": abs(float((whole - own).mean())),
        "of_whole": ratio(own, whole, seed),
        "share": ratio(own - empty, whole - empty, seed),
        "random": None,
    }
    if rest:
        mean = np.mean(rest, axis=0)
        told["random"] = {
            "draws": len(rest),
            "circuit": mean_of(mean, seed),
            "share": ratio(mean - empty, whole - empty, seed),
            "means": [float(one.mean()) for one in rest],
            "difference": mean_of(own - mean, seed),
        }
    return told
