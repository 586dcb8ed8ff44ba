"""Ray: every unit a task on a cluster, with its memory and cores as resources; all write into one shared folder.

A task whose worker or machine died is submitted again here, not by Ray (``max_retries=0``), so that every attempt is
recorded. It goes on from the last whole unit in its run folder.
"""

from __future__ import annotations

import contextlib
import sys
from collections import deque
from collections.abc import Sequence
from typing import Any

from interp.errors import InterpError
from interp.sweeps.ledger import Ledger, Outcome
from interp.sweeps.sizing import Size
from interp.sweeps.work import Task

OBJECT_STORE = 100_000_000  # bytes; tasks and outcomes are a few kB, results go to files
POLL = 1.0  # seconds
STARTS = 3  # of a local cluster: Ray gives its own processes 30 seconds


class RayError(InterpError):
    """Ray is missing, or the cluster cannot be used."""


def require_ray() -> Any:
    """The package, imported now; `RayError` when it is missing."""
    try:
        import ray
    except ImportError as error:
        raise RayError(f"--engine ray needs Ray ({error}): pip install 'interp-workbench[scale]'") from error
    return ray


class RayEngine:
    """Runs tasks on a Ray cluster.

    Args:
        address: of a cluster that is there (``auto``, ``host:port``, ``ray://host:port``); None: the one this process
            is connected to, else one started here for the sweep.
        workers: units that run at once, at the most; None = as many as there is room for.
    """

    def __init__(self, size: Size, address: str | None, workers: int | None = None) -> None:
        self._size, self._address, self._workers = size, address, workers
        self._threads = size.threads
        self._ray = require_ray()

    def run(self, tasks: Sequence[Task], ledger: Ledger) -> None:
        """Run all tasks; ends when each has finished or failed. An interrupt cancels them and goes on upwards."""
        with contextlib.redirect_stdout(sys.stderr):  # where Ray prints what happens on its machines
            self._connected(tasks, ledger)

    def _connected(self, tasks: Sequence[Task], ledger: Ledger) -> None:
        ours = not self._ray.is_initialized()
        if ours:
            self._connect()
        try:
            self._threads = max(1, min([self._size.threads, *self._cores()]))
            self._run([task for task in tasks if self._has_room(task, ledger)], ledger)
        finally:
            if ours:
                self._ray.shutdown()

    def _connect(self) -> None:
        """Connect to the cluster, or start one; on a busy machine a start may need a second try."""
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        for left in reversed(range(STARTS if self._address is None else 1)):
            try:
                if self._address is not None:
                    self._ray.init(address=self._address, **quiet)
                else:
                    self._ray.init(
                        address="local",
                        num_cpus=self._size.workers * self._size.threads,
                        include_dashboard=False,
                        object_store_memory=OBJECT_STORE,
                        _memory=self._size.budget,
                        **quiet,
                    )
                return
            except Exception as error:  # Ray raises plain ones, too
                self._ray.shutdown()
                if not left:
                    where = f"the cluster at {self._address}" if self._address else "a local cluster"
                    raise RayError(f"cannot use {where}: {' '.join(str(error).split())[:400]}") from error

    def _cores(self) -> list[int]:
        """CPUs of every machine that has any: this one may have more than those that are to do the work."""
        alive = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        return [int(has["CPU"]) for has in alive if has.get("CPU", 0) >= 1]

    def _has_room(self, task: Task, ledger: Ledger) -> bool:
        """Whether any machine has room for it at all; a task that none has would wait for ever, so it fails at once."""
        wanted = self._resources(task)
        asked = {"memory": wanted.get("memory", 0), "CPU": wanted["num_cpus"], "GPU": wanted.get("num_gpus", 0)}
        for node in self._ray.nodes():
            if node["Alive"] and all(node["Resources"].get(name, 0) >= amount for name, amount in asked.items()):
                return True
        told = ", ".join(f"{name} {amount:,}" for name, amount in asked.items() if amount)
        ledger.refuse(task.unit, f"no machine of the cluster has room for it: it needs {told}")
        return False

    def _resources(self, task: Task) -> dict[str, Any]:
        wanted: dict[str, Any] = {"num_cpus": self._threads}
        if task.need.bytes is not None:
            wanted["memory"] = task.need.bytes
        if task.need.device == "cuda":
            wanted["num_gpus"] = 1
        return wanted

    def _run(self, tasks: Sequence[Task], ledger: Ledger) -> None:
        remote = self._ray.remote(max_retries=0)(work)
        pending: dict[Any, Task] = {}

        def submit(task: Task) -> None:
            ledger.started(task.unit, "submitted")
            told = remote.options(name=task.unit.folder, **self._resources(task))
            pending[told.remote(task.payload, self._threads)] = task

        waiting = deque(tasks)
        try:
            while waiting or pending:
                while waiting and (self._workers is None or len(pending) < self._workers):
                    submit(waiting.popleft())
                ledger.flush()
                done, _ = self._ray.wait(list(pending), num_returns=1, timeout=POLL)
                for reference in done:
                    task = pending.pop(reference)
                    if ledger.ended(task.unit, self._outcome(reference)):
                        waiting.appendleft(task)
            ledger.write()
        except BaseException:
            for reference in pending:
                with contextlib.suppress(Exception):  # it has ended meanwhile
                    self._ray.cancel(reference)
            with contextlib.suppress(Exception):
                self._ray.wait(list(pending), num_returns=len(pending), timeout=POLL * 5)
            raise

    def _outcome(self, reference: Any) -> Outcome:
        try:
            return Outcome(**self._ray.get(reference))
        except self._ray.exceptions.RayTaskError as error:  # raised before `Worker.run`: interp is not there, say
            return Outcome("failed", f"the task raised {' '.join(str(error.cause or error).split())[:400]}")
        except self._ray.exceptions.RayError as error:
            return Outcome("died", f"its worker died ({type(error).__name__}: {' '.join(str(error).split())[:200]})")


def work(payload: dict[str, Any], threads: int) -> dict[str, Any]:
    """The task: one unit, in a worker of the cluster."""
    from interp.sweeps.work import Worker, limit_threads

    limit_threads(threads)
    return Worker().run(payload).as_dict()
