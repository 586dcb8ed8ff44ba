"""The runner: a finder's four phases over prompts, every unit stored as it finishes, no stored unit measured again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from interp.errors import UsageError
from interp.finders.base import Unit, examines, explores, prepare, release
from interp.findings import Findings
from interp.runs.progress import Progress
from interp.runs.provenance import identity, prompt_key
from interp.runs.store import RunFolder, digest, plain
from probes.base import Prompt

Attempt = Callable[[Callable[[], Any]], Any]
"""Makes a unit, given what makes it."""


@dataclass(frozen=True)
class Request:
    """One scan, with everything resolved: what to run on what, under which settings."""

    model: Any
    finder: Any
    config: Any
    prompts: tuple[Prompt, ...]
    generate: int | None = None  # tokens the model continues each prompt by, once the run's folder is known

    @property
    def identity(self) -> dict[str, Any]:
        return identity(self.model, self.finder, dataclasses.asdict(self.config))

    @property
    def parts(self) -> dict[str, Any]:
        """What the run's key is made of, so that a clash can be explained."""
        longer = {} if self.generate is None else {"generate": self.generate}
        return {**self.identity, **longer, "prompts": [prompt_key(prompt) for prompt in self.prompts]}

    @property
    def key(self) -> str:
        return digest(self.parts)


@dataclass
class Tally:
    """How many units of each phase were measured now and how many were on disk already."""

    measured: dict[str, int] = field(default_factory=dict)
    stored: dict[str, int] = field(default_factory=dict)

    def count(self, phase: str, there: bool) -> None:
        counts = self.stored if there else self.measured
        counts[phase] = counts.get(phase, 0) + 1


def claim(folder: RunFolder, request: Request, fresh: bool) -> None:
    """Take `folder` for this request: clear half-written files; refuse another run's unless `fresh` discards it."""
    folder.sweep()
    if fresh:
        folder.discard()
        return
    record = folder.read_json()
    if record is None or record.get("key") == request.key:
        return
    mine, theirs = plain(request.parts), record.get("key_parts") or {}
    differing = [name for name in {**theirs, **mine} if mine.get(name) != theirs.get(name)]
    what = ", ".join(_difference(name, theirs.get(name), mine.get(name)) for name in differing) or "its key"
    raise UsageError(
        f"{folder.path} holds another run ({what}); name another --out, or --fresh to discard what is there"
    )


def _difference(name: str, theirs: Any, mine: Any) -> str:
    if name == "prompts":
        if theirs and len(theirs) == len(mine):
            differ = sum(there != here for there, here in zip(theirs, mine, strict=True))
            return f"other prompts: {differ} of {len(mine)} differ"
        return f"other prompts: {len(theirs or [])} there, {len(mine)} here"
    if name == "config":
        keys = sorted(key for key in {*mine, *(theirs or {})} if mine.get(key) != (theirs or {}).get(key))
        return "other settings: " + ", ".join(f"{k}={(theirs or {}).get(k)} there, {mine.get(k)} here" for k in keys)
    shown = [str(value)[:16] for value in (theirs, mine)]
    return f"other {name}: {shown[0]} there, {shown[1]} here"


def execute(
    request: Request, folder: RunFolder, progress: Progress, tally: Tally, attempt: Attempt | None = None
) -> Findings:
    """Phases 1 to 4. Interrupted anywhere, a second call goes on after the last whole unit.

    `attempt` is handed what makes a unit, and gives what that made (`interp.runs.memory_retry`).
    """
    try:
        prepare(request.finder, request.model)
        return _phases(request, Store(folder, attempt), progress, tally)
    finally:
        release(request.finder, request.model)


@dataclass(frozen=True)
class Store:
    """Where units are, and how those are made that are not there."""

    folder: RunFolder
    attempt: Attempt | None = None

    def fetch(self, key: str, make: Callable[[], Unit | None]) -> tuple[bool, Unit | None]:
        """See `RunFolder.fetch`."""
        attempt = self.attempt
        return self.folder.fetch(key, make if attempt is None else lambda: attempt(make))


def _phases(request: Request, folder: Store, progress: Progress, tally: Tally) -> Findings:
    base = request.identity
    finder, model, config, prompts = request.finder, request.model, request.config, request.prompts

    def unit_key(phase: str, prompt: Prompt, more: Any = None) -> str:
        return digest({**base, "phase": phase, "prompt": prompt_key(prompt), "of": more})

    units: list[Unit] = []
    progress.start("measuring", len(prompts))
    for prompt in prompts:
        there, unit = folder.fetch(
            unit_key("measure", prompt), lambda prompt=prompt: finder.measure(model, prompt, config)
        )
        units.append(unit if unit is not None else Unit())
        tally.count("measure", there)
        progress.step(prompt.name, there)

    explored: list[Unit] = []
    if explores(finder):
        of = digest({**base, "phase": "explore", "prompts": [prompt_key(prompt) for prompt in prompts]})
        explored.append(finder.explore(model, prompts, units, config, Pieces(of, folder, progress, tally)))

    findings = finder.find(prompts, units, config, model.facts(), *explored)
    _conform(findings)

    found = state_of(findings)
    checks: list[Unit | None] = []
    progress.start("checking", len(prompts))
    for index, prompt in enumerate(prompts):
        key = unit_key("check", prompt, [found, index])  # a finder may draw its controls by index
        there, check = folder.fetch(
            key, lambda index=index, prompt=prompt: finder.check(model, prompt, index, findings, config)
        )
        checks.append(check)
        tally.count("check", there)
        progress.step(prompt.name, there)

    more: list[Unit | None] = []
    if examines(finder):
        progress.start("examining", 1)
        key = digest({**base, "phase": "examine", "of": found})
        there, unit = folder.fetch(key, lambda: finder.examine(model, findings, config))
        more.append(unit)
        tally.count("examine", there)
        progress.step(model.name, there)

    findings = finder.conclude(findings, checks, config, *more)
    _conform(findings)
    return findings


@dataclass
class Pieces:
    """What `explore` measures, stored piece by piece (`interp.finders.base.Kept`).

    `base` = digest of all that it hangs on.
    """

    base: str
    folder: RunFolder | Store
    progress: Progress
    tally: Tally

    def phase(self, label: str, pieces: int) -> None:
        """See `Kept`."""
        self.progress.start(label, pieces, "piece")

    def unit(self, name: str, make: Callable[[], Unit], of: Any = None) -> Unit:
        """See `Kept`."""
        there, unit = self.folder.fetch(digest({"base": self.base, "piece": name, "of": plain(of)}), make)
        self.tally.count("explore", there)
        self.progress.step(name, there)
        return unit if unit is not None else Unit()


def state_of(findings: Findings) -> str:
    """Hash of all that `find` handed over and `check` may look at, so that a check of other findings is not reused."""
    table = findings.table
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return digest(plain({"rows": rows, "summary": findings.summary}))


def _conform(findings: Findings) -> None:
    """Hold the table to its declared schema: same columns, same order, same types."""
    names = [column.name for column in findings.columns]
    if list(findings.table.columns) != names:
        raise TypeError(
            f"finder {findings.finder} declares columns {names} but its table has {list(findings.table.columns)}"
        )
    findings.table = findings.table.astype({column.name: column.dtype for column in findings.columns}).reset_index(
        drop=True
    )


def distinct_names(prompts: Sequence[Prompt]) -> tuple[Prompt, ...]:
    """Prompts with a number added to a name that occurs again, so that rows stay tellable apart."""
    seen: set[str] = set()
    renamed = []
    for prompt in prompts:
        name, number = prompt.name, 1
        while name in seen:
            number += 1
            name = f"{prompt.name} ({number})"
        seen.add(name)
        renamed.append(prompt if name == prompt.name else dataclasses.replace(prompt, name=name))
    return tuple(renamed)
