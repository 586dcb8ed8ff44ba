"""What is on this machine already: packaged models in our cache, models in the Hugging Face hub cache.

Reads names, sizes and indices only; imports neither torch nor huggingface_hub.
"""

from __future__ import annotations

import os
from pathlib import Path

from interp.errors import LoadError
from interp.models.catalog import Entry
from interp.models.checkpoint import weight_files
from interp.models.packages import PACKAGED, is_present


def hub_cache_dir() -> Path:
    """The hub cache, as huggingface_hub documents it: HF_HUB_CACHE, HF_HOME/hub, XDG_CACHE_HOME/huggingface/hub."""
    if chosen := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(chosen).expanduser()
    if home := os.environ.get("HF_HOME"):
        return Path(home).expanduser() / "hub"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".cache") / "huggingface" / "hub"


def in_hub_cache(hub_id: str) -> bool:
    """Whether a snapshot of ``owner/name`` with a config and every weight file lies in the hub cache."""
    snapshots = hub_cache_dir() / f"models--{hub_id.replace('/', '--')}" / "snapshots"
    return any(complete(snapshot) for snapshot in (snapshots.iterdir() if snapshots.is_dir() else ()))


def complete(snapshot: Path) -> bool:
    """Whether a folder has a config and every weight file; whether those are whole is checked when loading."""
    try:
        weight_files(snapshot)
    except LoadError:
        return False
    return (snapshot / "config.json").is_file()


def on_this_machine(entry: Entry) -> bool:
    """Whether loading ``entry`` by its alias would need no network."""
    return is_present(entry.alias) if entry.packaged else in_hub_cache(entry.hub_id)


def available_offline() -> tuple[str, ...]:
    """Names that load without a network, packaged models first."""
    cache = hub_cache_dir()
    folders = sorted(cache.glob("models--*--*")) if cache.is_dir() else []
    hub_ids = [folder.name.removeprefix("models--").replace("--", "/", 1) for folder in folders]
    return (*(name for name in PACKAGED if is_present(name)), *(hub_id for hub_id in hub_ids if in_hub_cache(hub_id)))


def offline_summary() -> str:
    """One clause for error messages."""
    names = available_offline()
    if not names:
        return "No model is on this machine yet; a local folder or .gguf file always works"
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return f"On this machine already: {shown}; a local folder or .gguf file works too"
