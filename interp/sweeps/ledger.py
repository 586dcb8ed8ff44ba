"""How every unit of a sweep stands: told to people line by line, and kept in sweep.json, which is never far behind."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from interp.runs.progress import duration
from interp.runs.provenance import now
from interp.runs.store import plain
from interp.sweeps.folder import SweepFolder
from interp.sweeps.units import SweepUnit
from interp.text import printable

APART = 1.0  # seconds between two writes of sweep.json at the least; it is written once more when the sweep ends


@dataclass(frozen=True)
class Outcome:
    """How an attempt at a unit ended.

    Attributes:
        kind: ``finished``; ``failed``: the scan refused or raised, and would do so again; ``died``: its process did.
        message: what went wrong; empty when finished.
        facts: of a finished scan: ``rows``, ``check``, ``verdict``, ``model_name``.
        where: process id and machine, as far as they are known.
        seconds: how long it took, where that is known.
    """

    kind: Literal["finished", "failed", "died"]
    message: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    where: dict[str, Any] = field(default_factory=dict)
    seconds: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return plain(vars(self))


class Ledger:
    """The record of a sweep while it runs.

    Args:
        before: units of an earlier sweep.json by id, whose attempts are kept.
        again: how many further attempts a unit gets whose process died.
    """

    def __init__(
        self,
        folder: SweepFolder,
        units: Sequence[SweepUnit],
        head: dict[str, Any],
        before: Mapping[str, dict[str, Any]],
        again: int,
        say: Callable[[str], None],
    ) -> None:
        self._folder, self._head, self._again, self._say = folder, head, again, say
        self.units = tuple(units)
        self._state = {unit.id: _state(unit, before.get(unit.id)) for unit in units}
        self._deaths = dict.fromkeys(self._state, 0)
        self._began: dict[str, float] = {}
        self._written = float("-inf")  # when sweep.json was, by `time.monotonic`
        self._stale = False
        self._over = 0  # units that have ended, for the count in the lines

    def __getitem__(self, unit: SweepUnit) -> dict[str, Any]:
        return self._state[unit.id]

    def record(self, status: str, **more: Any) -> dict[str, Any]:
        """What sweep.json holds."""
        return {**self._head, **more, "status": status, "units": list(self._state.values())}

    def write(self, status: str = "running", **more: Any) -> None:
        self._folder.write(self.record(status, **more))
        self._written, self._stale = time.monotonic(), False

    def flush(self) -> None:
        """Write what has changed, unless something was written a moment ago: whoever waits calls this meanwhile."""
        if self._stale and time.monotonic() - self._written >= APART:
            self.write()

    def _changed(self) -> None:
        self._stale = True
        self.flush()

    def there(self, unit: SweepUnit, facts: Mapping[str, Any]) -> None:
        """It was finished already; not told line by line, nor written at once."""
        self[unit].update(status="finished", error=None, **facts)
        self._over += 1

    def started(self, unit: SweepUnit, verb: str = "started", **where: Any) -> None:
        """An attempt begins; `where` says what is known of its process."""
        self._began[unit.id] = time.monotonic()
        self[unit].update(status="running", error=None)
        self[unit]["attempts"].append({"started": now(), "finished": None, "outcome": None, **where})
        self._changed()
        self._say(f"{verb}: {unit.told}")

    def ended(self, unit: SweepUnit, outcome: Outcome) -> bool:
        """An attempt is over; True when the unit is to be tried once more."""
        state = self[unit]
        state["attempts"][-1].update(
            {"finished": now(), "outcome": outcome.kind, "error": outcome.message or None, **outcome.where}
        )
        took = time.monotonic() - self._began[unit.id] if outcome.seconds is None else outcome.seconds
        self._deaths[unit.id] += outcome.kind == "died"
        retry = outcome.kind == "died" and self._deaths[unit.id] <= self._again
        if outcome.kind == "finished":
            state.update(status="finished", error=None, seconds=round(took, 3), **outcome.facts)
            rows = outcome.facts.get("rows")
            told = f"{rows} row{'s' * (rows != 1)} in {duration(took)}, causal check: {outcome.facts.get('check')}"
        elif retry:
            state.update(status="waiting", error=outcome.message)
            told = f"{outcome.message}; once more, from where it was ({self._deaths[unit.id]} of {self._again})"
        else:
            state.update(status="failed", error=outcome.message)
            told = f"FAILED: {outcome.message}"
        if not retry:
            self._over += 1
        self._changed()
        self._say(f"{self._over}/{len(self.units)} {unit.told}: {printable(told)}")
        return retry

    def withdraw(self, unit: SweepUnit) -> None:
        """The attempt that was begun last never was one: its worker had died before."""
        self[unit].update(status="waiting", error=None)
        self[unit]["attempts"].pop()
        self._changed()

    def refuse(self, unit: SweepUnit, message: str) -> None:
        """It fails without an attempt."""
        self[unit].update(status="failed", error=message)
        self._over += 1
        self._changed()
        self._say(f"{self._over}/{len(self.units)} {unit.told}: FAILED: {message}")

    def stop(self) -> None:
        """Units that were under way wait again, for the same command to go on with."""
        for state in self._state.values():
            if state["status"] == "running":
                state["status"] = "waiting"
                state["attempts"][-1].update(finished=now(), outcome="interrupted")

    def having(self, status: str) -> list[SweepUnit]:
        """The units of one status, in the sweep's order."""
        return [unit for unit in self.units if self[unit]["status"] == status]


def _state(unit: SweepUnit, before: Mapping[str, Any] | None) -> dict[str, Any]:
    """A unit as sweep.json keeps it, with the attempts of earlier sweeps; one of them may have been cut off."""
    attempts = [dict(attempt) for attempt in (before or {}).get("attempts") or []]
    for attempt in attempts:
        if attempt.get("outcome") is None:
            attempt["outcome"] = "lost"  # the sweep itself was killed
    return {
        "id": unit.id,
        "folder": unit.folder,
        "model": unit.model,
        "name": unit.name,
        "load": plain(unit.load),
        "finder": unit.finder,
        "source": unit.source,
        "arguments": unit.arguments,
        "effect": unit.effect,
        "status": "waiting",
        "error": None,
        "seconds": (before or {}).get("seconds"),
        "attempts": attempts,
    }
