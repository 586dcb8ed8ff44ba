"""One unit, run in the process that was given it: the scan, into its run folder, with what it found told in brief."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from interp.errors import InterpError, UsageError
from interp.runs.lock import FolderInUse
from interp.sweeps.ledger import Outcome
from interp.sweeps.sizing import Need
from interp.sweeps.units import SweepUnit, file_hash

BUSY = 2.0  # seconds before a folder that another process holds is tried again


@dataclass(frozen=True)
class Task:
    """A unit to run: into which folder, under which command line, and what it needs."""

    unit: SweepUnit
    folder: Path
    command: str
    need: Need
    memory: int | None = None  # bytes that its scan is to keep within

    @property
    def payload(self) -> dict[str, Any]:
        """What a worker is handed, JSON-able."""
        return {
            "unit": asdict(self.unit),
            "folder": str(self.folder),
            "command": self.command,
            "memory": self.memory,
        }


class Worker:
    """Runs units one after another and keeps the last model, so that units of one model load it once."""

    def __init__(self) -> None:
        self._held: tuple[str, Any] | None = None

    def run(self, task: dict[str, Any]) -> Outcome:
        """Run what `Task.payload` gave. What goes wrong comes back as an outcome, except an interrupt."""
        started = time.monotonic()
        where = {"pid": os.getpid(), "host": platform.node()}
        unit = SweepUnit(**task["unit"])
        try:
            facts = self._scan(unit, task["folder"], task["command"], task.get("memory"))
        except (
            FolderInUse
        ) as error:  # the worker that had it before may still be dying; another attempt may find it free
            time.sleep(BUSY)
            return Outcome("died", str(error), where=where, seconds=time.monotonic() - started)
        except InterpError as error:
            return Outcome("failed", str(error), where=where, seconds=time.monotonic() - started)
        except Exception as error:
            told = f"unexpected {type(error).__name__}: {' '.join(str(error).split())[:400]}"
            return Outcome("failed", told, where=where, seconds=time.monotonic() - started)
        return Outcome("finished", "", facts, where, time.monotonic() - started)

    def drop(self) -> None:
        """Let go of the model."""
        self._held = None

    def _scan(self, unit: SweepUnit, folder: str, command: str, memory: int | None) -> dict[str, Any]:
        from interp.runs.scan import scan

        arguments = {name: value for name, value in unit.arguments.items() if name != "find"}
        refuse_changed(unit)
        model = self._model(unit)
        refuse_changed(unit)  # once more: loading may take minutes, and only then is the file read
        result = scan(model, unit.finder, out=folder, progress=False, command=command, memory=memory, **arguments)
        return facts_of(result)

    def _model(self, unit: SweepUnit) -> Any:
        from interp.models.load import load

        if self._held is None or self._held[0] != unit.loads:
            self._held = None  # before the next one is read: two models need not fit
            self._held = (unit.loads, load(unit.name, **unit.load, check=False, progress=_silent))
        return self._held[1]


def refuse_changed(unit: SweepUnit) -> None:
    """`UsageError` where the unit's file of prompts is not what it was when the unit was made from it."""
    if unit.prompts_hash is None:
        return
    path = unit.arguments["prompts"]
    try:
        same = file_hash(path) == unit.prompts_hash
    except OSError as error:
        raise UsageError(f"{path}: cannot be read any more ({error.strerror or error})") from error
    if not same:
        raise UsageError(
            f"{path} has changed since the sweep began; run the sweep again, for the prompts as they are now"
        )


def facts_of(result: Any) -> dict[str, Any]:
    """What sweep.json keeps of a finished scan."""
    checked = result.findings.verification
    return {
        "rows": len(result.table),
        "check": "not run" if checked is None else checked.verdict,
        "verdict": result.verdict,
    }


def limit_threads(threads: int) -> None:
    """Hold this process to so many threads, before torch and Numba are imported or after."""
    os.environ |= {name: str(threads) for name in THREAD_VARIABLES}
    import torch

    torch.set_num_threads(threads)


THREAD_VARIABLES: tuple[str, ...] = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def _silent(_: str) -> None:
    return None
