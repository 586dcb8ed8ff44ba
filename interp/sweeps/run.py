"""`sweep`: many scans, in worker processes or on a cluster, into one folder, table and page."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from interp.amounts import parse
from interp.amounts import told as amount
from interp.errors import UsageError
from interp.registry import unknown
from interp.runs import progress as reporting
from interp.runs import provenance
from interp.runs.lock import locked
from interp.runs.places import runs_dir
from interp.runs.store import RunFolderError, digest
from interp.sweeps import sizing
from interp.sweeps.estimates import estimated
from interp.sweeps.folder import SCHEMA, SweepFolder
from interp.sweeps.ledger import Ledger
from interp.sweeps.result import SweepResult, finish
from interp.sweeps.spec import read
from interp.sweeps.units import SweepUnit, expand
from interp.sweeps.work import Task, Worker, facts_of
from interp.sweeps.yaml_file import read_yaml

Engine = Literal["pool", "ray", "serial"]
RETRIES = 2


def sweep(
    spec: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    memory: str | int | None = None,
    retries: int = RETRIES,
    engine: Engine = "pool",
    address: str | None = None,
    fresh: bool = False,
    progress: bool = True,
    command: str | None = None,
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
    **keys: Any,
) -> SweepResult:
    """Scan many models for many things: models x finders x probes x settings.

    The same call again runs only what has not finished, each unit from where it was.

    Args:
        spec: a YAML file or a dict of the same keys; or the keys as keywords, for example
            ``models=["smollm2-135m"], finders=["sinks", "heads"], limit=2``. See docs/sweeps.md.
        out: the sweep's folder. Default ``sweep-<key>`` in the folder that the variable INTERP_RUNS names, else in
            ``./runs``. A sweep may be given more units later: name its folder.
        workers: processes at the most. Default: as many as cores, GPUs and memory allow.
        memory: for all workers together, for example ``16GB``; default: most of what is free.
        retries: further attempts at a unit whose process died.
        engine: ``pool`` (processes on this machine), ``ray`` (a cluster), ``serial`` (in this process, one by one).
        address: of a Ray cluster; None: a local one, for this sweep.
        fresh: discard what earlier sweeps found of these units.
        progress: a line a unit on stderr.
        command: what to record as the command line; default: this process's own.
        allow_pickle, trust_remote_code: as `interp.load`, for all models.

    Returns:
        The table, with a row for every finding of every model, the page, and how every unit ended: a unit that failed
        is told there and raises nothing.

    Raises:
        UsageError: anything that can be seen to be wrong before the first unit runs.
        RunFolderError: the folder cannot be used, or another process works in it.
    """
    units = units_of(spec, {"allow_pickle": allow_pickle, "trust_remote_code": trust_remote_code}, **keys)
    check_how(workers, retries, engine, address)
    asked = parse(memory)
    if engine == "ray":
        from interp.sweeps.ray_engine import require_ray

        require_ray()
    folder = SweepFolder(default_folder(units) if out is None else out)
    folder.path = Path(os.path.abspath(folder.path))  # workers on other machines start elsewhere
    folder.prepare()
    told = provenance.command_line() if command is None else command
    with reporting.choose(quiet=not progress) as shown, locked(folder.path):
        folder.clear_partial()
        ledger = _ledger(folder, units, told, retries, shown.say)
        if fresh:
            for unit in units:
                if folder.run(unit).path.is_dir():
                    folder.run(unit).discard()
        find_finished(ledger, folder)
        ledger.write()
        shown.say(f"sweep folder: {folder.path}")
        waiting = ledger.having("waiting")
        if there := len(units) - len(waiting):
            shown.say(f"{there} of {len(units)} units have finished before")
        try:
            if waiting:
                _run(waiting, ledger, folder, told, shown.say, engine, workers, asked, address)
        except BaseException:
            ledger.stop()
            ledger.write("interrupted")
            raise
        shown.say("writing the table and the page")
        return finish(folder, ledger)


def units_of(spec: Any, runs_code: Mapping[str, bool], **keys: Any) -> tuple[SweepUnit, ...]:
    """The units of a sweep as `sweep` is given it, all checked.

    Raises:
        UsageError: whatever is wrong with it.
    """
    if spec is not None and keys:
        raise UsageError(f"a sweep is given as a file or dict, or as keywords; got both ({', '.join(keys)})")
    if spec is None:
        return expand(read(keys), runs_code)
    if isinstance(spec, str | os.PathLike):
        path = Path(spec)
        return expand(read(read_yaml(path), str(path)), runs_code)
    if not isinstance(spec, Mapping):
        raise UsageError(f"a sweep is a YAML file or a dict, not {type(spec).__name__}")
    return expand(read(spec), runs_code)


def check_how(workers: int | None, retries: int, engine: str, address: str | None) -> None:
    """Refuse what says how to run and cannot be."""
    if workers is not None and workers < 1:
        raise UsageError(f"--workers {workers}: at least 1 is needed")
    if retries < 0:
        raise UsageError(f"--retries {retries}: 0 or more")
    if engine not in get_args(Engine):
        raise UsageError(unknown("engine", engine, list(get_args(Engine))))
    if address is not None and engine != "ray":
        raise UsageError(f"--address {address} goes with --engine ray")


def default_folder(units: Sequence[SweepUnit]) -> Path:
    """``<runs_dir>/sweep-<short key>``: the same units, the same folder."""
    return runs_dir() / f"sweep-{digest(sorted(unit.id for unit in units))[:8]}"


def _ledger(
    folder: SweepFolder, units: Sequence[SweepUnit], command: str, retries: int, say: Callable[[str], None]
) -> Ledger:
    """The record, with the attempts an earlier sweep made; refuses to leave out what one finished."""
    before = folder.read() or {"units": []}
    ours = {unit.id for unit in units}
    lost = [unit for unit in before["units"] if unit.get("id") not in ours and unit.get("status") == "finished"]
    if lost:
        raise UsageError(
            f"{folder.path} holds a sweep with {len(lost)} finished units that this one does not have (such as "
            f"{lost[0]['folder']}); name another --out, or a sweep that has them too"
        )
    head = {
        "schema": SCHEMA,
        "provenance": {
            "command": command,
            "versions": provenance.versions(),
            **provenance.checkout(),
            "started": (before.get("provenance") or {}).get("started") or provenance.now(),
            "finished": None,
        },
    }
    return Ledger(folder, units, head, {unit["id"]: unit for unit in before["units"] if "id" in unit}, retries, say)


def find_finished(ledger: Ledger, folder: SweepFolder) -> None:
    """Mark the units whose run folder holds a whole, finished run."""
    from interp.runs.result import open_run

    for unit in ledger.units:
        run = folder.run(unit)
        if run.path.is_dir():
            try:
                ledger.there(unit, facts_of(open_run(run.path)))
            except RunFolderError:  # unfinished or damaged: it is run again, from what is whole there
                continue


def _run(
    units: Sequence[SweepUnit],
    ledger: Ledger,
    folder: SweepFolder,
    command: str,
    say: Callable[[str], None],
    engine: str,
    workers: int | None,
    asked: int | None,
    address: str | None,
) -> None:
    """Run these units with the engine that was asked for."""
    if engine == "serial":
        _one_by_one([Task(unit, folder.run(unit).path, command, sizing.Need(None), asked) for unit in units], ledger)
        return
    say(f"estimating the memory of {len(units)} units")
    budget = sizing.memory(asked)
    needs = estimated(units, engine, budget, workers)
    size = sizing.size_for(units, needs, budget, workers, engine)
    tasks = []
    for unit, need in zip(units, needs, strict=True):
        if engine == "pool" and need.bytes is not None and need.bytes > budget:
            ledger.refuse(
                unit, f"it needs about {amount(need.bytes)}, and there are {amount(budget)}: give more --memory"
            )
        else:
            share = None if address is not None and asked is None else size.share(need)
            tasks.append(Task(unit, folder.run(unit).path, command, need, share))
    if not tasks:
        return
    count = f"{size.workers} worker{'s' * (size.workers != 1)} of {size.threads} thread{'s' * (size.threads != 1)}"
    if engine == "ray":
        from interp.sweeps.ray_engine import RayEngine

        say(f"Ray, {address or f'a local cluster: {count}, {amount(budget)}'}")
        RayEngine(size, address, workers).run(tasks, ledger)
    else:
        from interp.sweeps.pool import Pool

        say(f"{count}, {amount(budget)} for all")
        Pool(size, folder.path / "logs").run(tasks, ledger)


def _one_by_one(tasks: Sequence[Task], ledger: Ledger) -> None:
    worker = Worker()
    for task in tasks:
        again = True
        while again:
            ledger.started(task.unit, pid=os.getpid())
            ledger.write()
            again = ledger.ended(task.unit, worker.run(task.payload))
