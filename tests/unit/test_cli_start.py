"""How long the command line takes to say something."""

from __future__ import annotations

import os
import subprocess
import sys


def processor_time(*command: str) -> float:
    """Least of five, in seconds: a test machine need not be idle."""
    took = []
    for _ in range(5):
        before = os.times()
        subprocess.run([sys.executable, *command], capture_output=True, timeout=120, check=True)
        after = os.times()
        took.append(after.children_user + after.children_system - before.children_user - before.children_system)
    return min(took)


def test_help_is_quick() -> None:
    """Under half a second on an idle machine; on a slower one not much more than what typer takes for its own."""
    took = processor_time("-m", "interp", "--help")
    assert took <= max(0.5, 1.7 * processor_time("-c", "import typer, typer.rich_utils"))
