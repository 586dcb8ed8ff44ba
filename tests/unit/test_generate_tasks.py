"""``--generate`` is refused where the prompts carry a task: an answer behind the question would spoil it."""

from __future__ import annotations

import pytest

from interp import UsageError
from interp.cli import run
from interp.runs.generate import refuse_tasks
from probes.base import Prompt


@pytest.mark.parametrize(
    "command",
    [
        ["scan", "--model", "no-such-model", "--find", "retrieval-heads"],
        ["reproduce", "wu2024", "--model", "no-such-model"],
    ],
)
def test_a_finder_of_tasks_refuses_before_anything_is_loaded(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*command, "--generate", "4"]) != 0
    told = capsys.readouterr().err
    assert "--generate 4" in told and "retrieval-heads" in told and "no-such-model" not in told


def test_needle_prompts_are_refused_whatever_the_finder() -> None:
    plain = Prompt("plain", "a b", (1, 2), ("a", " b"))
    asking = Prompt("asking", "a b", (1, 2), ("a", " b"), extra={"needle": {}})
    refuse_tasks([plain], 4)
    with pytest.raises(UsageError, match=r"--generate 4: prompt 'asking' asks for a needle"):
        refuse_tasks([plain, asking], 4)
