"""nnsight in an environment of its own, with the torch and transformers of this one.

Made once under `benchmarks/.peers/nnsight` (about a minute and 1 GB, on Linux and macOS); `ensure` gives its Python.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path

import machine

HERE = Path(__file__).resolve().parents[1]
FOLDER = HERE / ".peers" / "nnsight"
NNSIGHT = "0.8.1"


def requirements() -> list[str]:
    """What the environment holds."""
    same = [f"{name}=={version(name).partition('+')[0]}" for name in ("torch", "transformers", "numpy", "safetensors")]
    return [f"nnsight=={NNSIGHT}", *same, f"accelerate=={version('accelerate')}"]


def ensure() -> Path:
    """The environment's Python, made where it was not or where versions have changed.

    Raises:
        subprocess.CalledProcessError: it could not be made; what pip said is on stderr.
    """
    python, stamp, wanted = FOLDER / "bin" / "python", FOLDER / "holds.txt", "\n".join(requirements())
    if stamp.exists() and stamp.read_text("utf-8") == wanted:
        return python
    machine.private(FOLDER.parent)
    print(f"making {FOLDER} with {', '.join(requirements())}", file=sys.stderr)
    venv.create(FOLDER, clear=True, with_pip=False)
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--disable-pip-version-check"]
    constraints = ["-c", str(HERE.parent / "constraints.txt")]
    subprocess.run([*pip, *constraints, *requirements()], check=True, stdout=sys.stderr)
    stamp.write_text(wanted, "utf-8")
    return python
