"""House rules that a linter does not know: quick imports, short files, nothing tied to one machine."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAX_LINES = 350
LIGHT = ("interp", "interp.cli", "interp.errors", "interp.registry", "interp.models.catalog")
HEAVY = ("torch", "transformers", "transformer_lens", "pandas", "numba", "pyarrow", "plotly")
# A path below someone's home or scratch folder, not preceded by what would make it part of a URL or a relative path.
MACHINE_PATH = re.compile(r"(?<![\w.~*}:-])/(?:root|Users|home|work|workspace|mnt|scratch)/[\w.-]")


def tracked(*patterns: str) -> list[Path]:
    done = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=True)
    files = [ROOT / line for line in done.stdout.splitlines()]
    return [path for path in files if path.exists()]  # a deletion need not be committed yet


@pytest.mark.parametrize("module", LIGHT)
def test_import_is_quick(module: str) -> None:
    """None of the heavy libraries is loaded by what the command line needs to answer `--help`."""
    code = f"import sys, {module}; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_files_stay_short() -> None:
    lengths = {path: len(path.read_text("utf-8").splitlines()) for path in tracked("*.py")}
    assert lengths
    long = {str(path.relative_to(ROOT)): n for path, n in lengths.items() if n > MAX_LINES}
    assert not long, f"over {MAX_LINES} lines: {long}"


def test_nothing_names_a_path_of_one_machine() -> None:
    found = []
    for path in tracked():
        try:
            lines = path.read_text("utf-8").splitlines()
        except UnicodeDecodeError:
            continue  # an image
        where = path.relative_to(ROOT)
        found += [f"{where}:{i}: {line.strip()[:120]}" for i, line in enumerate(lines, 1) if names(line)]
    assert not found, "\n".join(found)


def names(line: str) -> bool:
    return bool(MACHINE_PATH.search(line))


def test_the_path_rule_itself() -> None:
    root, home = "/" + "root", "/" + "home"
    assert names(f'"{root}/.cache"') and names(f"in {home}/ann/models")
    assert not names(f"https://host{home}/page") and not names(f"docs{home}/x") and not names("a/b/c")
