"""Progress on stderr: a bar with ETA on a terminal, a plain line now and then elsewhere, nothing when quiet."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, Protocol, TextIO

from interp.text import printable

PLAIN_INTERVAL = 10.0  # seconds between plain lines


class Progress(Protocol):
    """What the runner tells about a phase. Used as a context manager around the whole run."""

    def __enter__(self) -> Progress: ...
    def __exit__(self, *_: object) -> None: ...

    def start(self, phase: str, total: int, noun: str = "prompt") -> None:
        """A phase of `total` prompts, or of what `noun` says (a word whose plural has an s), begins."""
        ...

    def step(self, name: str, stored: bool) -> None:
        """One prompt is done; `stored` when it was on disk already and says nothing about speed."""
        ...

    def say(self, message: str) -> None:
        """One line worth reading."""
        ...


class Silent:
    """No output at all."""

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def start(self, phase: str, total: int, noun: str = "prompt") -> None: ...

    def step(self, name: str, stored: bool) -> None: ...

    def say(self, message: str) -> None: ...


class Plain:
    """A line at the start and the end of each phase, and every `interval` seconds between."""

    def __init__(
        self,
        stream: TextIO | None = None,
        interval: float = PLAIN_INTERVAL,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream, self._interval, self._clock = stream, interval, clock
        self._phase, self._total, self._done, self._stored, self._began, self._last = "", 0, 0, 0, 0.0, 0.0

    def __enter__(self) -> Plain:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def start(self, phase: str, total: int, noun: str = "prompt") -> None:
        self._phase, self._total, self._done, self._stored = phase, total, 0, 0
        self._began = self._last = self._clock()
        self.say(f"{phase}: {total} {noun}{'s' if total != 1 else ''}")

    def step(self, name: str, stored: bool) -> None:
        self._done += 1
        self._stored += stored
        now = self._clock()
        if self._done == self._total:
            kept = f", {self._stored} of them on disk already" if self._stored else ""
            self.say(f"{self._phase}: {self._done}/{self._total} done in {duration(now - self._began)}{kept}")
        elif now - self._last >= self._interval:
            self._last = now
            measured = self._done - self._stored
            left = (now - self._began) / measured * (self._total - self._done) if measured else None
            eta = f", {duration(left)} left" if left is not None else ""
            self.say(f"{self._phase}: {self._done}/{self._total}{eta}")

    def say(self, message: str) -> None:
        print(printable(message), file=self._stream or sys.stderr, flush=True)


class Bar:
    """A rich progress bar on stderr (or on another `rich.console.Console`)."""

    def __init__(self, console: Any = None) -> None:
        from rich import progress
        from rich.console import Console

        columns = (
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeRemainingColumn(),
            progress.TextColumn("{task.fields[prompt]}", markup=False),
        )
        self._bar = progress.Progress(*columns, console=console or Console(stderr=True), transient=True)
        self._task: Any = None

    def __enter__(self) -> Bar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def start(self, phase: str, total: int, noun: str = "prompt") -> None:
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(phase, total=total, prompt="")

    def step(self, name: str, stored: bool) -> None:
        self._bar.update(self._task, advance=1, prompt=printable(name, 40), refresh=True)

    def say(self, message: str) -> None:
        self._bar.console.print(printable(message), markup=False, highlight=False)


def choose(quiet: bool) -> Progress:
    """The reporter that fits where stderr goes."""
    if quiet:
        return Silent()
    return Bar() if sys.stderr.isatty() else Plain()


def duration(seconds: float) -> str:
    """``8 s``, ``3 min 05 s``, ``2 h 10 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
