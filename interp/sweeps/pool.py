"""The pool: worker processes on this machine, each watched, so that one that dies costs nobody else anything.

`concurrent.futures` would end all workers with the one that died, and not say which unit it died of.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any

from interp.sweeps.ledger import Ledger, Outcome
from interp.sweeps.sizing import Need, Size, device_of
from interp.sweeps.work import THREAD_VARIABLES, Task

COMMAND = (
    sys.executable,
    "-c",
    "import sys; sys.path[:] = sys.argv[1:]; del sys.argv[1:]; from interp.sweeps.serve import main; main()",
)
"""A worker, to be followed by the folders it imports from: this process's, and not the one it happens to start in."""
PATIENCE = 10.0  # seconds that a worker gets to mark its run as interrupted


class _Process:
    """One worker: a process, a thread that reads what it says, and the task it is at."""

    def __init__(self, number: int, log: Path, environment: dict[str, str], inbox: queue.Queue[Any]) -> None:
        self.number, self.log = number, log
        self.task: Task | None = None
        self.model: str | None = None  # the one it holds
        self.need: Need | None = None  # of the task it had last, whose memory it may still hold
        self.device = ""
        self._begun, self._tells = False, False
        with log.open("ab") as stream:
            self._offset = stream.seek(0, os.SEEK_END)  # what stands before is of earlier workers
            self._process = subprocess.Popen(
                [*COMMAND, *map(os.path.abspath, sys.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                env={**os.environ, **environment},
                start_new_session=os.name == "posix",  # so that a terminal's Ctrl-C reaches only this process
                encoding="utf-8",
            )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._tasks: IO[str] = self._process.stdin
        self._listener = threading.Thread(target=self._listen, args=(self._process.stdout, inbox), daemon=True)
        self._listener.start()

    def _listen(self, said: IO[str], inbox: queue.Queue[Any]) -> None:
        with said, contextlib.suppress(ValueError):  # a line that is cut off by the end
            for line in said:
                told = json.loads(line)
                if "begun" in told:
                    self._begun = self._tells = True
                else:
                    inbox.put((self, Outcome(**told)))
        inbox.put((self, self._process.wait()))

    def give(self, task: Task) -> None:
        self.task, self.model, self.need, self.device = task, task.unit.loads, task.need, device_of(task.unit)
        self._begun = False
        with contextlib.suppress(OSError):  # it is dead, which its thread tells
            self._tasks.write(json.dumps(task.payload) + "\n")
            self._tasks.flush()

    @property
    def died_idle(self) -> bool:
        """Whether it never began the task that it was given last, though it tells when it does."""
        return self._tells and not self._begun

    def death(self, code: int) -> str:
        """Why it ended by itself, with the last line that it wrote."""
        return death(code, self.log, self._offset)

    @property
    def pid(self) -> int:
        return self._process.pid

    def interrupt(self) -> None:
        with contextlib.suppress(OSError):
            self._process.terminate()

    def wait(self, until: float) -> None:
        """Give it until then (`time.monotonic`) to end by itself."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, until - time.monotonic()))

    def end(self) -> None:
        """End it whatever it is at: its run goes on from its last whole unit."""
        self._process.kill()
        self._process.wait()
        self._listener.join()
        with contextlib.suppress(OSError):
            self._tasks.close()
        if self.log.is_file() and not self.log.stat().st_size:
            self.log.unlink()


class Pool:
    """Runs tasks on worker processes."""

    def __init__(self, size: Size, logs: Path) -> None:
        self._size, self._logs = size, logs
        self._workers: list[_Process] = []
        self._inbox: queue.Queue[tuple[_Process, Outcome | int]] = queue.Queue()
        self._free = deque(range(size.workers))  # numbers of workers that are not there (any more)

    def run(self, tasks: Sequence[Task], ledger: Ledger) -> None:
        """Run all tasks; ends when each has finished or failed. An interrupt ends the workers and goes on upwards."""
        waiting = deque(tasks)
        try:
            while waiting or any(worker.task for worker in self._workers):
                while (given := self._next(waiting)) is not None:
                    worker, task = given
                    waiting.remove(task)
                    self._make_room(worker, task)
                    ledger.started(task.unit, worker=worker.number, pid=worker.pid)
                    worker.give(task)
                worker, said = self._hear(ledger)
                if worker not in self._workers:  # it was let go
                    continue
                task, worker.task = worker.task, None
                if isinstance(said, int):
                    self._let_go(worker)
                    if task is not None and worker.died_idle:
                        ledger.withdraw(task.unit)
                        waiting.appendleft(task)
                        continue
                    said = Outcome("died", worker.death(said))
                if task is not None and ledger.ended(task.unit, said):
                    waiting.appendleft(task)
            ledger.write()
        except BaseException:
            for worker in self._workers:
                worker.interrupt()
            until = time.monotonic() + PATIENCE
            for worker in self._workers:
                worker.wait(until)
            raise
        finally:
            for worker in self._workers:
                worker.end()

    def _hear(self, ledger: Ledger) -> tuple[_Process, Outcome | int]:
        while True:
            ledger.flush()
            with contextlib.suppress(queue.Empty):
                return self._inbox.get(timeout=1.0)  # without a timeout Windows would not hear Ctrl-C

    def _next(self, waiting: Iterable[Task]) -> tuple[_Process, Task] | None:
        """Who does what next: best, another unit of the model a worker holds; else one of a model nobody holds."""
        fitting = [task for task in waiting if self._fits(task)]
        idle = [worker for worker in self._workers if worker.task is None]
        if not fitting or not (idle or self._free):
            return None
        for worker in idle:
            for task in fitting:
                if task.unit.loads == worker.model:
                    return worker, task
        held = {worker.model for worker in self._workers}
        task = next((task for task in fitting if task.unit.loads not in held), fitting[0])
        return (idle[0] if idle else self._start()), task

    def _fits(self, task: Task) -> bool:
        """Whether there is memory for it beside those that run now."""
        running = [worker.task for worker in self._workers if worker.task is not None]
        if self._size.apart and device_of(task.unit) in {device_of(other.unit) for other in running}:
            return False
        needs = [other.need for other in (task, *running)]
        return not running or sum(map(self._size.bytes_of, needs)) <= self._size.budget

    def _make_room(self, chosen: _Process, task: Task) -> None:
        """Let go of idle workers whose models stand in the way of a task."""
        others = [worker for worker in self._workers if worker is not chosen and worker.need is not None]
        held = sum(self._size.bytes_of(worker.need) for worker in others if worker.need is not None)
        held += self._size.bytes_of(task.need)
        for worker in [worker for worker in others if worker.task is None]:
            crowded = self._size.apart and worker.device == device_of(task.unit)
            if (held > self._size.budget or crowded) and worker.need is not None:
                held -= self._size.bytes_of(worker.need)
                self._let_go(worker)

    def _let_go(self, worker: _Process) -> None:
        self._workers.remove(worker)
        self._free.append(worker.number)
        worker.end()

    def _start(self) -> _Process:
        number = self._free.popleft()
        environment: dict[str, str] = dict.fromkeys(THREAD_VARIABLES, str(self._size.threads))
        if self._size.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self._size.gpus[number % len(self._size.gpus)]
        worker = _Process(number, self._logs / f"worker-{number}.log", environment, self._inbox)
        self._workers.append(worker)
        return worker


def death(code: int, log: Path, offset: int = 0) -> str:
    """Why a worker ended by itself, with the last line it wrote into its log, from `offset` bytes on."""
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        told = f"its worker was killed by {name}"
        if name == "SIGKILL":
            told += " (the system does so when memory runs out; fewer --workers or less --memory help then)"
    else:
        told = f"its worker ended with code {code}"
    with contextlib.suppress(OSError):
        lines = log.read_bytes()[offset:].decode("utf-8", "replace").strip().splitlines()
        told += "".join(f"; it wrote last: {line[:200]}" for line in lines[-1:])
    return told
