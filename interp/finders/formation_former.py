"""Who formed a sink, told from the shares of what its forming block added; for the short form and the full one."""

from __future__ import annotations

from typing import Any

CARRIED = 0.5
"""Where more of the state was there before its start block, that block is not said to have formed it."""


def former(row: dict[str, Any], carried: float = CARRIED) -> str | None:
    """``MLP 5`` where the MLP wrote at least as much of the gain as all of attention; else the head with the largest
    share (``head 5.2``), or ``attention 5`` where no split into heads is known.

    None where the block did not form the sink (it added nothing along the new state, or more than `carried` of that was
    there before), or nobody can say who did.
    """
    if row["mlp"] is None or row["carried"] is None or row["carried"] > carried:
        return None
    if row["mlp"] >= row["attention"]:
        return f"MLP {row['start']}"
    heads = row.get("heads")
    if heads is None:
        return f"attention {row['start']}"
    return f"head {row['start']}.{max(range(len(heads)), key=lambda head: heads[head])}"


def is_mlp(name: str | None) -> bool:
    """Whether a module that `former` named is an MLP."""
    return name is not None and name.startswith("MLP")
