"""The memory plan around a run: refused beforehand, kept to inside, told on stderr and in run.json."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from interp.finders.base import prepare, release
from interp.runs.memory_plan import foreseen, settle
from interp.runs.memory_retry import Retry
from interp.runs.progress import Progress
from interp.tracing.budget import within
from interp.tracing.engines import using


def refuse_too_little(planned: Any, model: Any) -> None:
    """Before any weights are loaded, where `planned.memory` was given; a model that is loaded already is scanned in the
    smallest pieces instead, for its memory is taken.

    Raises:
        UsageError: the smallest pieces do not fit into it (`interp.runs.memory_plan.foreseen`).
    """
    if planned.memory is not None and isinstance(model, str | os.PathLike):
        foreseen(planned, model)


@contextmanager
def sized(planned: Any, request: Any, told: Progress, record: dict[str, Any]) -> Iterator[Retry]:
    """Inside, traces keep to the memory plan and take the engine that was asked for; `record` and stderr tell.

    Yields:
        What units are to be made by (`interp.runs.run.execute`).
    """
    sizes = settle(planned, request.model, request.prompts)
    if said := sizes.sentence():
        told.say(said)
    record["provenance"]["effect"]["memory"] = sizes.as_dict()

    def forget() -> None:
        release(request.finder, request.model)
        prepare(request.finder, request.model)

    with using(planned.engine), within(sizes.budget):
        yield Retry(sizes, told.say, forget)
