"""Errors a user is meant to read: one clear line that names the input, its value, and what would have worked.

The CLI prints the message of an `InterpError` and exits with its `exit_code`; anything else is a bug and keeps its
traceback.
"""

from __future__ import annotations


class InterpError(Exception):
    """Something the user can act on."""

    exit_code = 1


class UsageError(InterpError):
    """The request itself is malformed: unknown option, unknown name, a value out of range."""

    exit_code = 2


class LoadError(InterpError):
    """A model or tokenizer could not be loaded."""


class SiteError(InterpError):
    """A site this model does not have."""


class TraceError(InterpError):
    """The tracer met something it will not silently get wrong."""


class NumbersError(InterpError):
    """A model produced NaN or infinity, so nothing can be said about it."""


class SelfCheckError(InterpError):
    """The load-time self-check failed, so no number from this model can be trusted."""

    exit_code = 3
