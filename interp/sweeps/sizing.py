"""How many workers fit: the estimated peak of every unit against memory and cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from interp.amounts import parse
from interp.errors import InterpError, UsageError
from interp.runs.memory import free
from interp.runs.memory_plan import MARGIN
from interp.sweeps.units import SweepUnit

PROCESS_BYTES = 700_000_000  # a process with all that a scan imports, before it loads anything: 0.6 GB as measured
ALL = frozenset({"all devices"})
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
    empty = they see them all. `apart`: units that name one and the same device run one after another.
    """

    workers: int
    threads: int
    budget: int
    assumed: int
    gpus: tuple[str, ...] = ()
    apart: bool = False

    def bytes_of(self, need: Need) -> int:
        """What a unit counts for."""
        return self.assumed if need.bytes is None else need.bytes

    def share(self, need: Need) -> int | None:
        """Bytes that the scan of a unit is to keep within: its worker's share, or what the unit was estimated to need
        where that is more. None where the scan does not count main memory (it computes elsewhere)."""
        return max(self.budget // self.workers, self.bytes_of(need)) if need.device == "cpu" else None


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


def need(unit: SweepUnit, sketched: Any = None, **other: Any) -> Need:
    """Estimate one unit; `other` replaces options of loading, or adds arguments of the scan.

    Args:
        sketched: its model without weights, where that was made already (`interp.runs.outline`).

    Raises:
        UsageError: the unit cannot be run as it is asked for; names it.
    """
    from interp.runs.estimate import estimate

    request = {**unit.load, **other}
    try:
        estimated = estimate(unit.name if sketched is None else sketched, **unit.arguments, **request)
    except UsageError as error:
        raise UsageError(f"{unit.told}: {error}") from error
    except InterpError as error:  # not here, or damaged: loading it will tell
        return Need(None, _device_type(request), why=str(error))
    device = estimated.device.partition(":")[0]
    own = estimated.peak_bytes - estimated.process_bytes  # this process may hold anything; a worker begins with nothing
    main = estimated.weights_bytes if device == "cuda" else own  # on their way to a GPU, weights pass through here
    return Need(round(MARGIN * (main + PROCESS_BYTES)), device, estimated.seconds)


def _device_type(load: Mapping[str, Any]) -> str:
    """``cpu``, ``cuda`` or ``mps``: where a model would be loaded; empty = it would not be."""
    from interp.models.device import placement

    try:
        return placement(**{name: load[name] for name in ("device", "device_map") if name in load})[2].type
    except InterpError:
        return ""


def size(
    needs: Sequence[Need],
    budget: int,
    workers: int | None,
    gpus: Callable[[], tuple[str, ...]],
    available: int | None = None,
    named: int = 0,
) -> Size:
    """The pool for these units.

    As many workers as there are cores, units, and GPUs where units want them, and as the largest units fit into
    `budget` together. A unit that needs more than all of `budget` does not count: it is refused. A unit of unknown need
    has the machine for itself, or its share of it where `workers` are named.

    Args:
        workers: so many at the most, whatever the GPUs.
        gpus: names the CUDA devices; asked only where a unit computes there.
        available: cores; None = this machine's.
        named: how many devices the units name themselves, which are then not dealt out (`named_devices`).
    """
    available = cores() if available is None else available
    assumed = budget if workers is None else budget // workers
    known = [one.bytes for one in needs if one.bytes is not None and one.bytes <= budget]
    unknown = [assumed for one in needs if one.bytes is None]
    fit, total = 0, 0
    for one in sorted(known if known and workers is None else known + unknown, reverse=True):
        total += one
        fit += total <= budget
    devices = () if named or not any(one.device == "cuda" for one in needs) else gpus()
    wanted = min(available, named or len(devices) or available) if workers is None else workers
    count = max(1, min(wanted, fit, len(known) + len(unknown)))
    given = os.environ.get("OMP_NUM_THREADS", "")
    most = int(given) if given.isdigit() and int(given) else available
    return Size(count, max(1, min(available // count, most)), budget, assumed, devices, bool(named) and workers is None)


def size_for(units: Sequence[SweepUnit], needs: Sequence[Need], budget: int, workers: int | None, engine: str) -> Size:
    """`size` for units on this machine, with the devices that they name or that there are.

    Ray gives every task a GPU of its own, however the unit calls it, but not all those of a machine.
    """
    named = named_devices(units)
    return size(needs, budget, workers, cuda_devices, named=0 if engine == "ray" and named != ALL else len(named))


def named_devices(units: Sequence[SweepUnit]) -> frozenset[str]:
    """The devices that the units compute on, where any names a GPU of its own (``cuda:1``); else empty.

    A ``device_map`` may want all of them, and then there is one: nothing else is to run meanwhile.
    """
    if any(unit.load.get("device_map") is not None for unit in units):
        return ALL
    devices = frozenset(device_of(unit) for unit in units)
    return devices if any(":" in str(unit.load.get("device")) for unit in units) else frozenset()


def device_of(unit: SweepUnit) -> str:
    """The device a unit names; ``cuda`` is the first one, and so is what torch would choose."""
    device = str(unit.load.get("device", "auto"))
    return "cuda:0" if device in ("auto", "cuda") else device


def cuda_devices() -> tuple[str, ...]:
    """What ``CUDA_VISIBLE_DEVICES`` calls each of the GPUs that torch sees."""
    import torch

    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    count = torch.cuda.device_count()
    return tuple(visible[:count]) if visible else tuple(str(i) for i in range(count))
