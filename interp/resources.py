"""Where the shipped data lives: `data/` in a checkout, `interp/_data/` in an installed wheel."""

from __future__ import annotations

from pathlib import Path

from interp.errors import UsageError

_PACKAGE = Path(__file__).resolve().parent
_ROOTS = (_PACKAGE / "_data", _PACKAGE.parent / "data")


def data_path(*parts: str) -> Path:
    """Path of a shipped file or folder, e.g. ``data_path("texts", "licence.txt")``.

    Raises:
        UsageError: there is no such file; the message names where it was looked for.
    """
    for root in _ROOTS:
        path = root.joinpath(*parts)
        if path.exists():
            return path
    looked = " and ".join(str(root) for root in _ROOTS)
    name = "/".join(parts)
    raise UsageError(f"no shipped data called {name!r}: looked in {looked}; reinstall interp or run it from a checkout")
