"""Compile times are told, not suffered: who runs something long says where to tell them.

Numba keeps what it compiled beside the source (or in its own cache folder where that cannot be written), so it is once
for each machine and version.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from typing import Any

_TELL: ContextVar[Callable[[str], None] | None] = ContextVar("tell", default=None)


@contextmanager
def telling(tell: Callable[[str], None]) -> Iterator[None]:
    """While this is open, `tell` gets a line before a kernel is compiled."""
    token = _TELL.set(tell)
    try:
        yield
    finally:
        _TELL.reset(token)


def announced(kernel: Any) -> Callable[..., Any]:
    """A Numba kernel that tells when its first call has to compile it."""

    @wraps(kernel.py_func)
    def call(*args: Any) -> Any:
        tell = _TELL.get()
        if tell is not None and not kernel.signatures and not stored(kernel):
            tell(f"compiling {kernel.py_func.__name__.strip('_').replace('_', ' ')} for this machine (once)")
        return kernel(*args)

    return call


def stored(kernel: Any) -> bool:
    """Whether compiled code of this kernel lies on disk."""
    code = kernel.py_func.__code__
    return any(Path(kernel.stats.cache_path).glob(f"*.{code.co_name}-{code.co_firstlineno}.*.nbi"))
