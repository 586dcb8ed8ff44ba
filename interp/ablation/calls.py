"""`interp.ablate`: the ablation finder in one call."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from interp.errors import UsageError

if TYPE_CHECKING:
    from interp.runs.result import ScanResult


def ablate(
    model: Any,
    how: str = "act",
    *,
    heads: str | Sequence[str | tuple[int, int]] | None = None,
    from_run: str | os.PathLike[str] | None = None,
    position: str | None = None,
    select: int | None = None,
    config: dict[str, Any] | None = None,
    **scan_options: Any,
) -> ScanResult:
    """Edit heads and say what it does to held-out prompts (see `interp.ablation.finder`).

    Args:
        model: anything `interp.load` takes.
        how: act, remove-sinks, uniform, streaming, cut, zero, mean, resample or ``knockout:FROM->TO``. resample takes
            the heads' outputs from the corrupted prompt of a pair; knockout cuts their attention from query positions
            FROM to key positions TO, which are names or roles of a pair (``knockout:end->answer``).
        heads: the heads: ``"9.1,9.6"``, ``["9.1", "4.*"]`` or (layer, head) pairs. None = chosen on half of the prompts
            by what the edit of each alone does there.
        from_run: the heads that a finished run found (`interp.ablation.origin`): its folder, or ``FOLDER:class``.
        position: zero, mean and resample act at this named position or role alone.
        select: choose at most so many.
        config: further settings of `interp.ablation.config.AblationConfig`.
        scan_options: prompts, folder and model options, as `interp.scan` takes them.

    Of pairs (``probe="ioi"``, ...) the metric is the logit difference, else the next-token loss.

    Raises:
        UsageError: a setting given twice, heads that are no heads, a run without any or of a model of another shape,
            a position that a prompt does not have, and whatever `interp.scan` refuses.
    """
    from interp.runs.scan import scan

    given: dict[str, Any] = {"how": how}
    if heads is not None:
        given["heads"] = heads if isinstance(heads, str) else [as_label(one) for one in heads]
        if not given["heads"]:
            raise UsageError("heads is empty; name heads such as 9.1, or leave it out to have them selected")
    if from_run is not None:
        from interp.ablation.origin import heads_from

        if heads is not None:
            raise UsageError("heads and from_run given together; name the heads, or take the run's")
        given |= heads_from(from_run).settings()
    if position is not None:
        given["position"] = position
    if select is not None:
        given["select"] = select
    twice = sorted(set(given) & set(config or {}))
    if twice:
        raise UsageError(f"{', '.join(twice)} given both as an argument and in config; give it once")
    return scan(model, "ablation", config={**(config or {}), **given}, **scan_options)


def as_label(head: str | tuple[int, int]) -> str:
    """``layer.head`` of a pair; a label as it is."""
    if isinstance(head, str):
        return head
    if len(head) != 2:
        raise UsageError(f"heads: expected layer.head labels or (layer, head) pairs, got {head!r}")
    return f"{int(head[0])}.{int(head[1])}"
