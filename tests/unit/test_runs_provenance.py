"""Provenance: what is recorded, and what must not be."""

from __future__ import annotations

import re
import subprocess
from datetime import datetime, timezone
from pathlib import Path

import pytest

from interp.runs import provenance
from probes.base import Prompt


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["/usr/bin/interp", "scan", "--text", "it's $HOME"], "interp scan --text 'it'\"'\"'s $HOME'"),
        (["interp", "--api-key", "abc", "x"], "interp --api-key '***' x"),
        (["interp", "--hf-token=abc"], "interp '--***'"),
        (["interp", "hf_abcdefghijklmnopqrstuvwx"], "interp '***'"),
        (["interp", "--model", "https://me:pass@hub.example/x"], "interp --model https://hub.example/x"),
        (["interp", "--max-length", "12"], "interp --max-length 12"),
    ],
)
def test_the_command_line_can_be_run_again_and_holds_no_secret(argv: list[str], told: str) -> None:
    assert provenance.command_line(argv) == told


def test_the_checkout_is_named_with_its_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "interp" / "runs" / "provenance.py"
    module.parent.mkdir(parents=True)
    module.write_text("")
    monkeypatch.setattr(provenance, "__file__", str(module))
    assert provenance.checkout() == {"commit": None, "dirty": None}
    for command in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=x", "-c", "user.email=x@example.org", "commit", "-q", "-m", "x"],
    ):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    found = provenance.checkout()
    assert re.fullmatch("[0-9a-f]{40}", str(found["commit"]))
    assert found["dirty"] is False
    (tmp_path / "new").write_text("")
    assert provenance.checkout() == {"commit": found["commit"], "dirty": True}


def test_versions_and_time() -> None:
    versions = provenance.versions()
    assert versions["torch"] and versions["interp"]
    assert abs((datetime.now(timezone.utc) - datetime.fromisoformat(provenance.now())).total_seconds()) < 5


def test_a_prompt_is_known_by_its_ids_and_what_its_probe_added() -> None:
    plain = Prompt("a", "x", (1, 2), ("x", "y"))
    renamed = Prompt("b", "other text", (1, 2), ("p", "q"))
    spanned = Prompt("a", "x", (1, 2), ("x", "y"), extra={"span": [0, 1]})
    moved = Prompt("a", "x", (1, 2), ("x", "y"), extra={"span": [1, 2]})
    assert provenance.prompt_key(plain) == provenance.prompt_key(renamed)
    assert len({provenance.prompt_key(prompt) for prompt in (plain, spanned, moved)}) == 3
