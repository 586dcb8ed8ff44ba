"""`interp.ablate`: the ablation finder in one call."""

from __future__ import annotations

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
    select: int | None = None,
    config: dict[str, Any] | None = None,
    **scan_options: Any,
) -> ScanResult:
    """Edit heads and say what it does to held-out prompts (see `interp.ablation.finder`).

    Args:
        model: anything `interp.load` takes.
        how: act, remove-sinks, uniform, streaming, cut, zero or mean.
        heads: the heads: ``"9.1,9.6"``, ``["9.1", "4.*"]`` or (layer, head) pairs. None = chosen on half of the prompts
            by what the edit of each alone does there.
        select: choose at most so many.
        config: further settings of `interp.ablation.config.AblationConfig`.
        scan_options: prompts, folder and model options, as `interp.scan` takes them.

    Raises:
        UsageError: a setting given twice, heads that are no heads, and whatever `interp.scan` refuses.
    """
    from interp.runs.scan import scan

    given: dict[str, Any] = {"how": how}
    if heads is not None:
        given["heads"] = heads if isinstance(heads, str) else [as_label(one) for one in heads]
        if not given["heads"]:
            raise UsageError("heads is empty; name heads such as 9.1, or leave it out to have them selected")
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
