"""Amounts of memory and disk, as people write them and as they are told."""

from __future__ import annotations

import re

from interp.errors import UsageError

_UNITS = {"": 1, "b": 1}
_UNITS |= {f"{letter}{end}": 1000**power for power, letter in enumerate("kmgt", 1) for end in ("", "b")}
_UNITS |= {f"{letter}i{end}": 1024**power for power, letter in enumerate("kmgt", 1) for end in ("", "b")}
_AMOUNT = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)\s*", re.IGNORECASE | re.ASCII)


def parse(given: str | int | None, option: str = "--memory") -> int | None:
    """Bytes of ``8GB``, ``0.5GiB``, ``800MB`` or plain bytes (text or int); None stays None.

    Raises:
        UsageError: not an amount of memory, or none at all.
    """
    if given is None:
        return None
    found = _AMOUNT.fullmatch(given if isinstance(given, str) else str(given)) if not isinstance(given, bool) else None
    unit = None if found is None else _UNITS.get(found[2].lower())
    count = 0 if found is None or unit is None or len(found[1]) > 20 else int(float(found[1]) * unit)
    if count < 1:
        raise UsageError(f"{option} {given}: expected an amount such as 8GB, 0.5GiB, 800MB or a number of bytes")
    return count


def told(count: float) -> str:
    """``1.20 GB``, ``34 MB``, ``61.4 kB``."""
    if count < 1e6:
        return f"{count / 1e3:.3g} kB"
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.3g} MB"
