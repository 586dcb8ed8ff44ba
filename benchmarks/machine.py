"""What a measurement ran on, which code it measured, and peak memory of this process."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "transformers", "transformer-lens", "numba", "numpy", "pandas", "interp-workbench")


def machine() -> dict[str, Any]:
    """CPU model, cores this process may use, memory in GiB, operating system, versions."""
    return {
        "cpu": _field("/proc/cpuinfo", r"^model name\s*:\s*(.+)$") or platform.processor() or platform.machine(),
        "cores": _cores(),
        "threads": int((re.findall(r"^\d+", os.environ.get("OMP_NUM_THREADS", "")) or [_cores()])[0]),
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


def commit() -> str:
    """The short hash of the checkout, with a plus where files differ from it; empty outside one."""
    here = Path(__file__).parent
    try:
        asked = ("rev-parse", "--short", "HEAD"), ("status", "--porcelain", "--untracked-files=no")
        said = [subprocess.run(["git", *one], cwd=here, capture_output=True, text=True, check=True) for one in asked]
    except (OSError, subprocess.CalledProcessError):
        return ""
    return said[0].stdout.strip() + ("+" if said[1].stdout.strip() else "")


def private(folder: Path) -> Path:
    """The folder, made where it was not, with a `.gitignore` that keeps all in it out of commits."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".gitignore").write_text("*\n")
    return folder


def resident_mib() -> float:
    """Memory this process holds now."""
    return int(_field("/proc/self/status", r"^VmRSS:\s*(\d+)")) / 1024


def peak_mib() -> float:
    """The most memory this process held since the last `reset_peak`."""
    return int(_field("/proc/self/status", r"^VmHWM:\s*(\d+)")) / 1024


def reset_peak() -> None:
    """Let the kernel forget the high-water mark (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _field(file: str, pattern: str) -> str:
    path = Path(file)
    found = re.search(pattern, path.read_text(), re.MULTILINE) if path.exists() else None
    return found.group(1) if found else ""


def seconds(work: Callable[[], Any], least: float = 0.0) -> float:
    """Of one run. Short ones are repeated until `least` seconds are full, and the first is not counted: it wakes the
    threads of its library."""
    start = time.perf_counter()
    work()
    once = time.perf_counter() - start
    if once >= least:
        return once
    count = int(least / once) + 1
    start = time.perf_counter()
    for _ in range(count):
        work()
    return (time.perf_counter() - start) / count
