"""The shipped texts: each has a card that tells the truth, and their content is right where it can be checked."""

from __future__ import annotations

import doctest
import hashlib
import json
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from interp.errors import UsageError
from interp.resources import data_path
from probes.text import shipped_texts

if TYPE_CHECKING:
    from interp.models.model import Model

TEXTS = dict(shipped_texts())
KINDS_WANTED = {"prose", "code", "arithmetic", "dialogue", "lists and tables", "legal"}
FIELDS = {
    "name": str,
    "title": str,
    "kind": str,
    "language": str,
    "author": str,
    "licence": str,
    "year": int,
    "sha256": str,
    "characters": int,
    "tokens": dict,
    "purpose": str,
}


def card(name: str) -> dict[str, Any]:
    return json.loads(data_path("texts", f"{name}.card.json").read_text("utf-8"))


def test_every_text_has_a_card_and_every_card_a_text() -> None:
    cards = {path.name.removesuffix(".card.json") for path in data_path("texts").glob("*.json")}
    assert cards == set(TEXTS)
    assert len(TEXTS) >= 8
    assert {card(name)["kind"] for name in TEXTS} >= KINDS_WANTED


@pytest.mark.parametrize("name", TEXTS)
def test_card(name: str) -> None:
    facts = card(name)
    assert {key: type(value) for key, value in facts.items()} == FIELDS
    raw = data_path("texts", f"{name}.txt").read_bytes()
    assert facts["name"] == name
    assert facts["sha256"] == hashlib.sha256(raw).hexdigest()
    assert facts["characters"] == len(raw.decode("utf-8"))
    assert facts["author"] == "written for interp" and facts["licence"] == "MIT"
    assert all(300 <= count <= 1500 for count in facts["tokens"].values()) and facts["tokens"]
    assert b"\r" not in raw and raw.endswith(b"\n") and not raw.endswith(b"\n\n")


def test_no_two_texts_share_a_paragraph() -> None:
    seen: dict[str, str] = {}
    for name, text in TEXTS.items():
        for paragraph in (part.strip() for part in text.split("\n\n")):
            if len(paragraph) > 80:
                assert paragraph not in seen, f"{name} and {seen[paragraph]}"
                seen[paragraph] = name


def test_arithmetic_is_right() -> None:
    equations = re.findall(r"([0-9(][0-9 +*/()-]*?) = (\d+)", TEXTS["arithmetic"])
    assert len(equations) >= 30
    for expression, result in equations:
        assert eval(expression, {"__builtins__": {}}) == int(result), f"{expression} = {result}"


def test_python_text_runs_and_its_doctests_pass(tmp_path: Path) -> None:
    module = ModuleType("intervals")
    sys.modules["intervals"] = module  # dataclasses look their module up
    try:
        exec(compile(TEXTS["code_python"], "intervals", "exec"), module.__dict__)
        result = doctest.testmod(module)
    finally:
        del sys.modules["intervals"]
    assert result.attempted >= 3 and result.failed == 0
    script = tmp_path / "intervals.py"
    script.write_text(TEXTS["code_python"], encoding="utf-8")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "has 11 pages" in done.stdout


def test_c_text_is_balanced_and_compiles_where_a_compiler_is(tmp_path: Path) -> None:
    text = TEXTS["code_c"]
    assert all(text.count(a) == text.count(b) for a, b in ("{}", "()", "[]"))
    compiler = shutil.which("cc")
    if compiler is not None:
        source, program = tmp_path / "ring.c", tmp_path / "ring"
        source.write_text(text, encoding="utf-8")
        subprocess.run(
            [compiler, "-Wall", "-Wextra", "-Werror", str(source), "-o", str(program)], check=True, timeout=60
        )
        done = subprocess.run([str(program)], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and "read 8 bytes: tiosinks" in done.stdout


def test_json_at_the_head_of_the_log() -> None:
    head, _, log = TEXTS["log_json"].partition("\n\n")
    assert [sensor["id"] for sensor in json.loads(head)["sensors"]] == ["t1", "p1", "w1", "r1"]
    stamps = [line[:19] for line in log.splitlines()]
    assert stamps == sorted(stamps) and len(stamps) > 15


def test_licence_clauses_are_numbered_in_order() -> None:
    numbers = re.findall(r"^(\d+)\.(\d+)\. ", TEXTS["licence"], re.MULTILINE)
    for (chapter, clause), (next_chapter, next_clause) in pairwise(numbers):
        follows = (int(chapter), int(clause) + 1), (int(chapter) + 1, 1)
        assert (int(next_chapter), int(next_clause)) in follows


def test_missing_data_is_a_clear_error() -> None:
    with pytest.raises(UsageError, match=r"no shipped data called 'texts/none\.txt'"):
        data_path("texts", "none.txt")


def counted(model: Model, alias: str) -> None:
    assert model.tokenizer is not None
    for name, text in TEXTS.items():
        ids = model.tokenizer(text, add_special_tokens=False)["input_ids"]
        assert card(name)["tokens"][alias] == len(ids), name


def test_cards_give_the_real_token_counts(smollm2: Model) -> None:
    counted(smollm2, "smollm2-135m")


def test_cards_give_the_real_token_counts_of_gemma(gemma3: Model) -> None:
    counted(gemma3, "gemma3-270m")
