"""Planted heads are told apart: previous-token, induction, retrieval, duplicate-token, sink."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from interp.heads.config import HeadsConfig
from interp.models.model import Model
from interp.registry import FINDERS
from probes.base import Prompt
from tests.planted.retrieval_plan import Copying, Kind
from tests.planted.retrieval_tasks import ready, task

CONFIG = HeadsConfig(length=24, retrieval=0.5)  # on two needles noise may copy one token in ten


def prompts_of(copying: Copying, seed: int, count: int) -> list[Prompt]:
    asked = [task(copying, number, seed) for number in range(count)]
    return [replace(one.prompt, extra=one.as_extra()) for one in asked]


def concluded(model: Model, prompts: list[Prompt], config: HeadsConfig = CONFIG) -> Any:
    finder = FINDERS.get("heads")
    units = [finder.measure(model, prompt, config) for prompt in prompts]
    findings = finder.find(prompts, units, config, model.facts())
    checks = [finder.check(model, prompt, index, findings, config) for index, prompt in enumerate(prompts)]
    return finder.conclude(findings, checks, config)


@pytest.mark.parametrize(
    ("arch", "kind", "seed", "count"),
    [("llama", "induction", 1, 8), ("gpt2", "induction", 2, 2), ("llama", "content", 3, 2)],
)
def test_every_planted_head_has_its_class_and_no_other_has_one(arch: str, kind: Kind, seed: int, count: int) -> None:
    model, copying = ready(arch, kind, seed)
    found = concluded(model, prompts_of(copying, seed, count))
    rows = {(row["layer"], row["head"]): row for row in found.records()}
    shown = {head: row["class"] for head, row in rows.items() if row["class"] not in ("none", "copy")}
    wanted = {copying.duplicate: "duplicate", copying.sink: "sink"}
    if copying.previous is not None:
        wanted |= {copying.previous: "previous", copying.retrieval: "retrieval + induction"}
    else:
        wanted[copying.retrieval] = "retrieval"
    assert shown == wanted
    for head, name in wanted.items():
        for score in name.split(" + "):  # the duplicate head looks at itself as much as at its one earlier copy
            assert rows[head][score] >= (0.45 if score == "duplicate" else 0.8), (head, score)
    check = found.verification
    if kind == "content":
        assert check.verdict == "nothing to verify"
        return
    assert rows[copying.retrieval]["copy"] > 0.9
    assert check.verdict == ("verified" if count == 8 else "too few to say") and check.prompts == count
    claims = found.summary["claims"]
    assert claims["loss.first"]["mean"] - claims["loss.second"]["mean"] > 1
    assert check.effect > 1 > abs(check.control)
    assert claims["induction_change.previous"]["mean"] < -0.5 < claims["induction_change_random.previous"]["mean"]
    assert abs(claims["change.duplicate"]["mean"]) < 0.5
