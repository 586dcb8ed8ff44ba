"""A worker process of the pool: tasks in, and that one was begun and how it ended out, as lines of JSON.

It is started as a fresh interpreter (what multiprocessing calls *spawn*: Numba's threads do not survive a fork), and
not through multiprocessing, which would run the caller's main script again in every worker.
"""

from __future__ import annotations

import faulthandler
import json
import os
import queue
import signal
import sys
import threading
from typing import Any

INTERRUPTED = 130


def main() -> None:
    """Run tasks until stdin ends. The caller's death ends stdin too, and then this process, whatever it is doing."""
    outcomes = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints must not get in between
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to all; the caller decides
    signal.signal(signal.SIGTERM, _interrupt)
    tasks: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(tasks,), daemon=True).start()

    try:
        from interp.sweeps.work import Worker, limit_threads

        worker = Worker()
        limit_threads(int(os.environ["OMP_NUM_THREADS"]))
        while True:
            task = tasks.get()
            print('{"begun": true}', file=outcomes, flush=True)  # so that a death is laid to this task, and none before
            outcome = worker.run(task)
            print(json.dumps(outcome.as_dict()), file=outcomes, flush=True)
    except KeyboardInterrupt:
        os._exit(INTERRUPTED)


def _read(tasks: queue.SimpleQueue[dict[str, Any]]) -> None:
    for line in sys.stdin:
        tasks.put(json.loads(line))
    os._exit(0)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
