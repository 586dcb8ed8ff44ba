"""Where runs go and are looked for when no folder is named."""

from __future__ import annotations

import os
from pathlib import Path


def runs_dir() -> Path:
    """The folder that holds run folders: the variable INTERP_RUNS, else ``./runs``."""
    return Path(os.environ.get("INTERP_RUNS") or "runs")
