"""Shape annotations, enforced while the tests run.

`install` hooks the import of every project module that writes jaxtyping shapes, so that a call with a tensor of the
wrong rank, dtype or axis size fails at the call. Only shapes are checked: all other annotations are left to pyright.
Modules that compile their functions with Numba are left alone, because Numba needs the plain function.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("interp", "probes")

_SHAPED = re.compile(r"\b(Bool|Int|UInt|Integer|Float|BFloat|Inexact|Num|Real|Shaped|Key|Complex)[0-9a-z]*\[")
_NUMBA = re.compile(r"^\s*(import|from) numba\b", re.MULTILINE)
_JAXTYPING = re.compile(r"^\s*(import|from) jaxtyping\b", re.MULTILINE)


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """The type checker given to jaxtyping: beartype on the annotations that state a shape, nothing else."""
    kept = {name: hint for name, hint in function.__annotations__.items() if _mentions_shape(hint)}
    unresolved = [name for name, hint in kept.items() if isinstance(hint, str)]
    if unresolved:
        raise NameError(
            f"{function.__module__}.{function.__qualname__}: the shape annotation of {', '.join(unresolved)} cannot be "
            "resolved; import the names it uses at run time, not under TYPE_CHECKING"
        )
    function.__annotations__ = kept
    return beartype(conf=BeartypeConf(is_pep484_tower=True))(function)


def _mentions_shape(hint: Any) -> bool:
    return bool(_SHAPED.search(hint if isinstance(hint, str) else repr(hint)))


def shaped_modules() -> list[str]:
    """Dotted names of the project's modules that state shapes and can be checked."""
    found = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            source = path.read_text(encoding="utf-8")
            if path.name != "__init__.py" and _JAXTYPING.search(source) and not _NUMBA.search(source):
                found.append(".".join(path.relative_to(ROOT).with_suffix("").parts))
    return found


def install() -> None:
    """Hook the imports; call before any of the modules is imported."""
    jaxtyping.install_import_hook(shaped_modules(), "tests.shapes.checked")
