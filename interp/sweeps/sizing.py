"""How many workers fit: the estimated peak of every unit against memory and cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from interp.errors import InterpError, UsageError
from interp.runs.memory import free, parse
from interp.sweeps.units import SweepUnit

PROCESS_BYTES = 600_000_000  # a process that has imported torch, transformers and Numba, before it loads anything
SHARE = 0.85  # of the memory that is free now: the rest is for the system and for estimates that fall short


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


def memory(given: str | int | None) -> int:
    """``16GB``, ``16GiB``, ``500MB`` or bytes; None: `SHARE` of the main memory that is free now.

    Raises:
        UsageError: not an amount of memory.
    """
    asked = parse(given)
    if asked is not None:
        return asked
    import torch

    return int(SHARE * free(torch.device("cpu")))


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
    own = estimated.peak_bytes - estimated.process_bytes  # this process may hold anything; a worker begins with nothing
    main = estimated.weights_bytes if device == "cuda" else own  # on their way to a GPU, weights pass through here
    return Need(main + PROCESS_BYTES, device, estimated.seconds)


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
