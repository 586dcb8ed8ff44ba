"""Workers in environments of their own that take turns, so that a ratio compares neighbours in time.

The worker's side (`serve`) and the side that asks (`Worker`). Requests and answers are lines of JSON; a worker's own
prints go to stderr. Only the standard library and `benchmarks/machine.py`, for a peer's environment has little else.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import machine

Work = Callable[[], Any]


def serve(ways: Mapping[str, Work], save: Callable[[Any, str], None]) -> None:
    """Answer requests until there are no more.

    `{"way": name}` is run and answered with its seconds; with `"save": file`, what it returned goes to `save`, and the
    answer has the peak memory beyond what was held before, in MiB.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints is no answer
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        work, answer = ways[asked["way"]], {}
        gc.collect()
        held = machine.resident_mib()
        machine.reset_peak()
        start = time.perf_counter()
        found = work()
        answer["seconds"] = time.perf_counter() - start
        answer["extra_mib"] = machine.peak_mib() - held
        if "save" in asked:
            save(found, asked["save"])
        del found
        print(json.dumps(answer), file=answers, flush=True)


class Worker:
    """A process that serves; ends with the block it is opened in. `path` is its PYTHONPATH."""

    def __init__(self, command: Sequence[str], path: str):
        self.command, self.environment = list(command), os.environ | {"PYTHONPATH": path}

    def __enter__(self) -> Worker:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(self.command, **pipes, text=True, env=self.environment)
        try:
            self._answer()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def ask(self, way: str, **more: Any) -> dict[str, Any]:
        """Its answer.

        Raises:
            RuntimeError: it ended instead.
        """
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # `_answer` says how it ended
            print(json.dumps({"way": way, **more}), file=self.process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{Path(self.command[-3]).name} ended with code {self.process.wait()}")
        return json.loads(line)
