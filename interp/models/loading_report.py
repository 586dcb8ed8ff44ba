"""What transformers reports about a load, in one line."""

from __future__ import annotations

from typing import Any

from interp.errors import LoadError

# Entries some checkpoints carry that are recomputed from the config and not parameters.
_RECOMPUTED = ("rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias")


def one_line(error: BaseException, limit: int = 300) -> str:
    """The first telling line of an exception."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= limit else text[: limit - 3] + "..."


def check_complete(info: Any, where: str) -> None:
    """Every parameter must have come from the file, and everything in the file must have found its place."""
    missing = sorted(map(str, info.get("missing_keys") or ()))
    unexpected = sorted(key for key in map(str, info.get("unexpected_keys") or ()) if not key.endswith(_RECOMPUTED))
    mismatched = sorted(
        f"{name} ({list(stored)}, should be {list(wanted)})"
        for name, stored, wanted in info.get("mismatched_keys") or ()
    )
    problems = [
        f"{len(keys)} {what}, e.g. {keys[0]}"
        for keys, what in (
            (missing, "parameters are not in the weight files"),
            (unexpected, "tensors in the weight files are not in the model"),
            (mismatched, "tensors have another shape than the config says"),
        )
        if keys
    ]
    if problems:
        raise LoadError(f"{where}: the weights do not match config.json ({'; '.join(problems)})")
