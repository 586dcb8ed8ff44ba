"""Whether the model does the task at all, before anyone asks how. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from interp.circuits.config import CircuitConfig
from interp.circuits.pairs import pair_of
from interp.errors import UsageError
from interp.finders.base import Unit
from interp.verify import over_prompts
from probes.base import Prompt
from probes.pair_base import GROUPS

FIGURES = ("accuracy", "top1", "difference", "p_answer", "corrupt_difference", "gap")
"""accuracy: share of prompts with the answer above every wrong token; top1: above every token; difference: logit
difference; p_answer: probability of the answer; corrupt_difference: the same difference after the corrupted twin; gap:
what corrupting the prompt takes off the logit difference."""


def behaviour(prompts: Sequence[Prompt], units: Sequence[Unit], config: CircuitConfig) -> dict[str, Any]:
    """What the model does on the prompts, from the units of `interp.circuits.evidence`.

    Returns JSON-able: ``prompts`` (their number); each of `FIGURES` as ``{mean, low, high, n}`` with the 95 % bootstrap
    interval over prompts; ``groups``: kind -> value -> the same figures, for kinds that part the prompts; ``chance``:
    the accuracy of one who guesses among the answer and the wrong tokens; ``can``: the interval of the logit difference
    lies above 0; ``partly``: that of the gap does, so what the twins differ in counts for the model, right as it may be
    or wrong in the end: there is something whose circuit can be looked for; ``why``: a sentence with the figures.

    Raises:
        UsageError: no prompts, or a prompt without a pair.
    """
    if not prompts:
        raise UsageError("no prompts: nothing can be said of what the model does")
    values = {name: np.array([_value(unit, name) for unit in units], dtype=np.float64) for name in FIGURES}
    told = _figures(values, np.arange(len(prompts)), config.seed)
    groups: dict[str, dict[str, Any]] = {}
    for kind, by_value in _groups(prompts).items():
        groups[kind] = {value: _figures(values, np.array(at), config.seed) for value, at in by_value.items()}
    chance = float(np.mean([1 / (1 + len(set(pair_of(prompt).wrong))) for prompt in prompts]))
    return {
        "prompts": len(prompts),
        **told,
        "chance": chance,
        "can": told["difference"]["low"] > 0,
        "partly": told["gap"]["low"] > 0,
        "why": _why(told, chance, len(prompts)),
        GROUPS: groups,
    }


def require(told: dict[str, Any], config: CircuitConfig, model_name: str) -> None:
    """Refuse a task that the model cannot do even in part, unless ``config.anyway``.

    Args:
        told: what `behaviour` returned.

    Raises:
        UsageError: with the figures, and how to go on.
    """
    if told["can"] or told["partly"] or config.anyway:
        return
    raise UsageError(
        f"{model_name} cannot do this task: {told['why']} There is no circuit to be found for it; take a model or a "
        "probe that goes together, or go on anyway with --set anyway=true"
    )


def _value(unit: Unit, name: str) -> float:
    if name == "gap":
        return float(unit.facts["difference"] - unit.facts["corrupt_difference"])
    of = {"accuracy": "choice", "top1": "rank"}.get(name, name)
    return float(unit.facts[of] == 0) if name == "top1" else float(unit.facts[of])


def _figures(values: dict[str, np.ndarray], at: np.ndarray, seed: int) -> dict[str, Any]:
    return {name: over_prompts(one[at], seed, "no prompts") for name, one in values.items()}


def _groups(prompts: Sequence[Prompt]) -> dict[str, dict[str, list[int]]]:
    """Kind -> value -> indices of its prompts; kinds with a single value tell nothing apart and are left out."""
    found: dict[str, dict[str, list[int]]] = {}
    for index, prompt in enumerate(prompts):
        for kind, value in (prompt.extra.get(GROUPS) or {}).items():
            found.setdefault(kind, {}).setdefault(str(value), []).append(index)
    return {kind: dict(sorted(by_value.items())) for kind, by_value in found.items() if len(by_value) > 1}


def _why(told: dict[str, Any], chance: float, n: int) -> str:
    difference, gap = told["difference"], told["gap"]
    return (
        f"over {n} {'prompt' if n == 1 else 'prompts'} the logit difference is {difference['mean']:.2f} (95 % interval "
        f"{difference['low']:.2f} to {difference['high']:.2f}), the answer is above every wrong token in "
        f"{told['accuracy']['mean']:.0%} (chance {chance:.0%}) and above all tokens in {told['top1']['mean']:.0%}; "
        f"corrupting the prompt takes {gap['mean']:.2f} ({gap['low']:.2f} to {gap['high']:.2f}) off the difference."
    )
