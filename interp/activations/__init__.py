"""Activations on disk: captured site by site into sharded safetensors files, read as memory maps, and probed.

`capture` writes a store, `open_store` reads one, `probe` fits linear probes over it; each is loaded on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interp.activations.run import capture
    from interp.activations.store import Store, open_store
    from interp.probing.over_store import probe

_WHERE = {
    "capture": "interp.activations.run",
    "Store": "interp.activations.store",
    "open_store": "interp.activations.store",
    "probe": "interp.probing.over_store",
}

__all__ = ["Store", "capture", "open_store", "probe"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'interp.activations' has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)
