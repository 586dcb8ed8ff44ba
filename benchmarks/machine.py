"""What a measurement ran on, and peak memory of this process."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "transformers", "transformer-lens", "numpy", "interp-workbench")


def machine() -> dict[str, Any]:
    """CPU model, cores this process may use, memory in GiB, operating system, versions."""
    return {
        "cpu": _field("/proc/cpuinfo", r"^model name\s*:\s*(.+)$") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(int(_field("/proc/meminfo", r"^MemTotal:\s*(\d+)") or 0) / 2**20, 1),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
    }


def sentence(facts: dict[str, Any]) -> str:
    """The machine in one line, for the foot of a table."""
    versions = facts["versions"]
    return (
        f"{facts['cpu']}, {facts['cores']} cores, {facts['memory_gib']} GiB; Python {facts['python']}, "
        f"torch {versions['torch']}, transformers {versions['transformers']}, "
        f"TransformerLens {versions['transformer-lens']}; float32, batch 1"
    )


def resident_mib() -> float:
    """Memory this process holds now."""
    return int(_field("/proc/self/status", r"^VmRSS:\s*(\d+)")) / 1024


def peak_mib() -> float:
    """The most memory this process held since the last `reset_peak`."""
    return int(_field("/proc/self/status", r"^VmHWM:\s*(\d+)")) / 1024


def reset_peak() -> None:
    """Let the kernel forget the high-water mark (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


def _field(file: str, pattern: str) -> str:
    path = Path(file)
    found = re.search(pattern, path.read_text(), re.MULTILINE) if path.exists() else None
    return found.group(1) if found else ""
