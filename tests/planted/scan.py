"""A finder's phases in the runner's order, without a runner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from interp.finders.base import examines
from interp.findings import Findings
from interp.models.load import load
from probes.base import Prompt


def as_prompt(ids: tuple[int, ...], name: str = "text") -> Prompt:
    """A prompt of token ids, which stand for themselves."""
    return Prompt(name, "", ids, tuple(f"<{token}>" for token in ids))


def scan(finder: Any, model: Any, texts: Sequence[tuple[int, ...]], config: Any) -> Findings:
    """Findings on prompts named "text 0", "text 1", ..."""
    loaded = load(model, check=False)
    prompts = [as_prompt(ids, f"text {i}") for i, ids in enumerate(texts)]
    units = [finder.measure(loaded, one, config) for one in prompts]
    findings = finder.find(prompts, units, config, loaded.facts())
    checks = [finder.check(loaded, one, i, findings, config) for i, one in enumerate(prompts)]
    more = (finder.examine(loaded, findings, config),) if examines(finder) else ()
    return finder.conclude(findings, checks, config, *more)
