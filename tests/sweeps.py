"""What the tests of sweeps share: two tiny model folders, and the process that is at a unit."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from tests.mass_finder import save_tiny

TEXT = "the cat {i} sat on the mat and a dog ran to it, red and blue. " * 3
LOOSE = {"floor": 0, "multiple": 1, "norm": 0, "cosine": 0.3, "draw": 1}
"""Settings under which random weights have sinks to check."""


def save_models(place: Path) -> list[str]:
    """Two tiny models of different families."""
    return [
        save_tiny(place / name, arch, seed) for seed, (name, arch) in enumerate({"one": "llama", "two": "gpt2"}.items())
    ]


def save_prompts(path: Path, count: int) -> str:
    """A file of prompts, none equal to another."""
    lines = [json.dumps({"text": TEXT.format(i=" ".join(str(i)))}) for i in range(count)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch as workers of one thread have it: the same last digits, and no waiting of threads in tiny models."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def stored(run: Path) -> dict[str, tuple[int, int]]:
    """What lies in a run folder: name -> (inode, time of last change); both change when it is written again."""
    stats = {path.name: path.stat() for path in run.glob("units/*.safetensors")}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in stats.items()}


def worker_of(run: Path) -> int:
    """The process that holds a run folder."""
    return int(json.loads((run / ".lock").read_text())["pid"])


class Killer(threading.Thread):
    """Kills the worker (SIGKILL) of the first run of a sweep that has `after` pieces on disk.

    `run` is that run's folder, `before` what lay in it then, `pid` the process; None as long as there was none.
    """

    def __init__(self, sweep: Path, after: int) -> None:
        super().__init__(daemon=True)
        self._sweep, self._after = sweep, after
        self.run_folder: Path | None = None
        self.before: dict[str, Any] = {}
        self.pid: int | None = None

    def run(self) -> None:
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline:
            for folder in self._sweep.glob("runs/*"):
                if len(list(folder.glob("units/*.safetensors"))) >= self._after:
                    self.pid = worker_of(folder)
                    os.kill(self.pid, signal.SIGSTOP)  # so that what lies there is what it leaves
                    self.run_folder, self.before = folder, stored(folder)
                    os.kill(self.pid, signal.SIGKILL)
                    return
            time.sleep(0.002)
