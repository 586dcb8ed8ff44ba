"""Which engine takes attention statistics: blocks of rows, or fused kernels (DESIGN decision 4)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from interp.errors import UsageError

ENGINES = ("auto", "blocked", "fused")
CHOSEN: ContextVar[str] = ContextVar("engine", default="auto")


def known(engine: str) -> str:
    """`engine`, if it is one.

    Raises:
        UsageError: it is none.
    """
    if engine not in ENGINES:
        raise UsageError(f"engine {engine!r}; there are {', '.join(ENGINES)}")
    return engine


@contextmanager
def using(engine: str) -> Iterator[None]:
    """Inside, traces that name no engine of their own take this one."""
    token = CHOSEN.set(known(engine))
    try:
        yield
    finally:
        CHOSEN.reset(token)
