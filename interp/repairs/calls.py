"""`interp.repair`: the repair finder in one call."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.ablation.calls import as_label
from interp.errors import UsageError

if TYPE_CHECKING:
    from interp.runs.result import ScanResult

SOURCES = {
    "heads": ("inhibition", "negative mover"),
    "pointers": ("induction", "duplicate token"),
    "movers": ("mover",),
}
"""Setting -> classes of a circuit run that fill it."""


def repair(
    model: Any,
    edit: str = "all",
    *,
    heads: str | Sequence[str | tuple[int, int]] | None = None,
    circuit: str | os.PathLike[str] | None = None,
    config: dict[str, Any] | None = None,
    **scan_options: Any,
) -> ScanResult:
    """Edit what the last token attends to in a few heads, and say whether a task comes right (`interp.repairs.finder`).

    Args:
        model: anything `interp.load` takes.
        edit: oracle (published; told the answer), inhibit, point, donor, scale, or all.
        heads: the heads: ``"13.3,11.3"``, labels, or (layer, head) pairs. None = chosen on half of the prompts.
        circuit: folder of a circuit run, whose inhibition heads and negative movers are edited; its induction and
            duplicate-token heads point, its movers are watched.
        config: further settings of `interp.repairs.config.RepairConfig`.
        scan_options: prompts, folder and model options, as `interp.scan` takes them. Without prompts: the probe
            colored-objects.

    Raises:
        UsageError: a setting given twice, heads that are no heads, a run without such heads, and whatever
            `interp.scan` refuses.
    """
    from interp.runs.scan import scan

    given: dict[str, Any] = {"edit": edit}
    if heads is not None and circuit is not None:
        raise UsageError("heads and circuit given together: name the heads, or take them from a run")
    if circuit is not None:
        given |= settings_from(circuit)
    if heads is not None:
        given["heads"] = heads if isinstance(heads, str) else [as_label(one) for one in heads]
        if not given["heads"]:
            raise UsageError("heads is empty; name heads such as 13.3, or leave it out to have them chosen")
    twice = sorted(set(given) & set(config or {}))
    if twice:
        raise UsageError(f"{', '.join(twice)} given both as an argument and in config; give it once")
    return scan(model, "repair", config={**(config or {}), **given}, **scan_options)


def settings_from(run: str | os.PathLike[str]) -> dict[str, Any]:
    """``heads``, ``pointers`` and ``movers`` as the classes of a circuit run give them, and where they are from
    (``origin``, ``origin_shape``).

    Raises:
        UsageError: a run of another finder, or one that has neither inhibition heads nor negative movers.
    """
    from interp.runs.result import open_run

    opened = open_run(run)
    findings, model = opened.findings, opened.provenance["model"]
    classes = findings.summary.get("classes")
    if findings.finder != "circuit" or not isinstance(classes, dict):
        raise UsageError(f"{os.fspath(run)} is a run of {findings.finder}; expected one of --find circuit")
    found = {
        setting: [f"{layer}.{head}" for kind in kinds for layer, head in classes.get(kind, [])]
        for setting, kinds in SOURCES.items()
    }
    if not found["heads"]:
        raise UsageError(
            f"{os.fspath(run)} has no inhibition heads and no negative movers; name heads with --heads, or leave both "
            "out to have them chosen"
        )
    return {
        **{setting: labels for setting, labels in found.items() if labels},
        "origin": f"circuit of run {Path(run).resolve().name} ({model['name']})",
        "origin_shape": [int(model["layers"]), int(model["heads"])],
    }
