"""How many workers fit: the estimated peak of every unit against memory and cores."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interp.errors import InterpError, UsageError
from interp.sweeps.units import SweepUnit

PROCESS_BYTES = 600_000_000  # a process that has imported torch, transformers and Numba, before it loads anything
SHARE = 0.85  # of the memory that is free now: the rest is for the system and for estimates that fall short
_UNITS = {"": 1, "b": 1}
_UNITS |= {f"{letter}{end}": 1000**i for i, letter in enumerate("kmgt", 1) for end in ("", "b")}
_UNITS |= {f"{letter}i{end}": 1024**i for i, letter in enumerate("kmgt", 1) for end in ("", "b")}


@dataclass(frozen=True)
class Need:
    """What a unit needs, as estimated.

    Attributes:
        bytes: main memory of its process at the peak; None = unknown, since its model is not on this machine yet.
        device: where it computes (``cpu``, ``cuda``, ...); empty = unknown.
        seconds: without loading; None = unknown.
        why: why it is unknown.
    """

    bytes: int | None
    device: str = ""
    seconds: float | None = None
    why: str = ""


@dataclass(frozen=True)
class Size:
    """A pool: so many workers of so many threads, their units together within `budget` bytes.

    A unit whose need is unknown counts `assumed` bytes. `gpus` are the CUDA devices that the workers take in turn;
    empty = they see them all.
    """

    workers: int
    threads: int
    budget: int
    assumed: int
    gpus: tuple[str, ...] = ()

    def bytes_of(self, need: Need) -> int:
        """What a unit counts for."""
        return self.assumed if need.bytes is None else need.bytes


def memory(text: str | int | None) -> int:
    """``16GB``, ``16GiB``, ``500M`` or bytes; None: `SHARE` of what is free now.

    Raises:
        UsageError: not an amount of memory.
    """
    if text is None:
        return int(SHARE * _free())
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", str(text))
    if not found or found[2].lower() not in _UNITS or not (size := int(float(found[1]) * _UNITS[found[2].lower()])):
        raise UsageError(f"--memory {text}: expected an amount such as 16GB, 16GiB or 500MB")
    return size


def _free() -> int:
    """Bytes that are free, where a container is allowed less: of that."""
    import psutil

    free = int(psutil.virtual_memory().available)
    group = Path("/sys/fs/cgroup")
    try:
        limit = int((group / "memory.max").read_text())
        used = int((group / "memory.current").read_text())
        cached = re.search(r"^inactive_file (\d+)$", (group / "memory.stat").read_text(), re.MULTILINE)
    except (OSError, ValueError):  # no such group, or "max"
        return free
    return max(0, min(free, limit - used + int(cached[1] if cached else 0)))


def cores() -> int:
    """Cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def need(unit: SweepUnit, **other: Any) -> Need:
    """Estimate one unit; `other` replaces options of loading.

    Raises:
        UsageError: the unit cannot be run as it is asked for; names it.
    """
    from interp.runs.estimate import estimate

    try:
        estimated = estimate(unit.name, **unit.arguments, **{**unit.load, **other})
    except UsageError as error:
        raise UsageError(f"{unit.told}: {error}") from error
    except InterpError as error:  # not here, or damaged: loading it will tell
        return Need(None, why=str(error))
    device = estimated.device.partition(":")[0]
    held = estimated.weights_bytes if device == "cuda" else estimated.peak_bytes  # there the weights only pass through
    return Need(held + PROCESS_BYTES, device, estimated.seconds)


def size(
    needs: Sequence[Need],
    budget: int,
    workers: int | None,
    gpus: Callable[[], tuple[str, ...]],
    available: int | None = None,
) -> Size:
    """The pool for these units.

    As many workers as there are cores, units, and GPUs where units want them, and as the largest units fit into
    `budget` together. A unit of unknown need has the machine for itself, or its share of it where `workers` are named.

    Args:
        workers: so many at the most, whatever the GPUs.
        gpus: names the CUDA devices; asked only where a unit computes there.
        available: cores; None = this machine's.
    """
    available = cores() if available is None else available
    assumed = budget if workers is None else budget // workers
    fit, total = 0, 0
    for one in sorted((assumed if one.bytes is None else one.bytes for one in needs), reverse=True):
        total += one
        fit += total <= budget
    devices = gpus() if any(one.device == "cuda" for one in needs) else ()
    wanted = (len(devices) or available) if workers is None else workers
    count = max(1, min(wanted, fit, len(needs)))
    given = os.environ.get("OMP_NUM_THREADS", "")
    most = int(given) if given.isdigit() and int(given) else available
    return Size(count, max(1, min(available // count, most)), budget, assumed, devices)


def cuda_devices() -> tuple[str, ...]:
    """What ``CUDA_VISIBLE_DEVICES`` calls each of the GPUs that torch sees."""
    import torch

    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    count = torch.cuda.device_count()
    return tuple(visible[:count]) if visible else tuple(str(i) for i in range(count))
