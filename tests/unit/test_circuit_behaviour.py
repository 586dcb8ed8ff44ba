"""Whether a model does a task: figures of planted evidence."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from interp.circuits.behaviour import FIGURES, behaviour, require
from interp.circuits.config import CircuitConfig
from interp.circuits.pairs import Pair
from interp.errors import UsageError
from interp.finders.base import Unit
from interp.verify import bootstrap_mean
from probes.base import Prompt
from probes.pair_base import GROUPS


def _case(n: int, mean: float, wrong: int = 2) -> tuple[list[Prompt], list[Unit]]:
    rng = np.random.default_rng(0)
    prompts, units = [], []
    for index in range(n):
        bare = Prompt(f"p{index}", "", (10 + index, 5), ("x", "x"))
        pair = Pair(bare, (10 + index, 6), 1, tuple(range(2, 2 + wrong)), {}, "t")
        groups = {"slot": str(index % 3), "template": "t"}
        prompts.append(Prompt(bare.name, "", bare.ids, bare.tokens, extra={**pair.as_extra(), GROUPS: groups}))
        difference = mean + float(rng.normal())
        facts: dict[str, Any] = {
            "difference": difference,
            "corrupt_difference": -difference,
            "p_answer": 0.25,
            "rank": 0 if index % 4 == 0 else 3,
            "top": 1,
            "choice": index % 2 == 0,
        }
        units.append(Unit(facts=facts))
    return prompts, units


def test_figures_and_groups() -> None:
    prompts, units = _case(24, 3.0)
    told = behaviour(prompts, units, CircuitConfig())
    differences = [unit.facts["difference"] for unit in units]
    whole = bootstrap_mean(differences)
    assert told["difference"] == {"mean": whole.mean, "low": whole.low, "high": whole.high, "n": 24}
    assert told["corrupt_difference"]["mean"] == pytest.approx(-whole.mean)
    assert told["accuracy"]["mean"] == 0.5 and told["top1"]["mean"] == 0.25 and told["p_answer"]["mean"] == 0.25
    assert told["accuracy"]["low"] < 0.5 < told["accuracy"]["high"]
    assert told["chance"] == pytest.approx(1 / 3) and told["prompts"] == 24
    assert list(told[GROUPS]) == ["slot"]  # one template parts nothing
    assert list(told[GROUPS]["slot"]) == ["0", "1", "2"]
    for slot, one in told[GROUPS]["slot"].items():
        assert set(one) == set(FIGURES)
        assert one["difference"]["n"] == 8
        assert one["difference"]["mean"] == pytest.approx(np.mean(differences[int(slot) :: 3]))
    assert json.loads(json.dumps(told)) == told


def test_a_task_that_is_done_passes() -> None:
    prompts, units = _case(24, 3.0)
    told = behaviour(prompts, units, CircuitConfig())
    assert told["can"] is True
    assert "50% (chance 33%)" in told["why"] and f"{told['difference']['low']:.2f}" in told["why"]
    require(told, CircuitConfig(), "tiny")


@pytest.mark.parametrize("mean", [0.1, -2.0])
def test_a_task_that_is_not_done_is_refused(mean: float) -> None:
    prompts, units = _case(24, mean)
    told = behaviour(prompts, units, CircuitConfig())
    assert told["can"] is False
    with pytest.raises(UsageError, match=r"^tiny cannot do this task: over 24 prompts .*--set anyway=true") as caught:
        require(told, CircuitConfig(), "tiny")
    assert f"{told['difference']['mean']:.2f}" in str(caught.value)
    require(told, CircuitConfig(anyway=True), "tiny")


def test_wrong_tokens_repeated_count_once_towards_chance() -> None:
    prompts, units = _case(8, 3.0, wrong=1)
    prompts[0].extra["pair"]["wrong"] = [2, 2]
    assert behaviour(prompts, units, CircuitConfig())["chance"] == 0.5


def test_no_prompts() -> None:
    with pytest.raises(UsageError, match="no prompts"):
        behaviour([], [], CircuitConfig())


def test_what_the_twins_differ_in_counts_though_the_answer_is_wrong() -> None:
    """Colored Objects on a small model: it follows the question a little way, and is right by chance."""
    prompts, units = _case(24, -0.2)
    for unit in units:
        unit.facts["corrupt_difference"] = unit.facts["difference"] - 1.0
    told = behaviour(prompts, units, CircuitConfig())
    assert told["can"] is False and told["partly"] is True and told["gap"]["mean"] == pytest.approx(1.0)
    require(told, CircuitConfig(), "tiny")
