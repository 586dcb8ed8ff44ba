"""`interp reproduce wu2024` end to end: needles of one's own on a tiny model that cannot answer, and on SmolLM2."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import interp
from interp.cli import run
from interp.papers import wu2024
from probes.needle import NeedleProbe
from tests.mass_finder import save_tiny

if TYPE_CHECKING:
    from interp.models.model import Model

OWN: list[dict[str, Any]] = [
    {
        "context": f"the dog sat on the mat. the {colour} cat ran to the dog. it was blue.",
        "answer": f"{colour} cat ran",
        "question": "the cat ran?",
        "max_new_tokens": 8,
    }
    for colour in ("red", "blue")
]


def test_own_needles_on_a_model_that_does_not_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = save_tiny(tmp_path / "tiny-llama")
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(one) + "\n" for one in OWN), encoding="utf-8")
    words = ["reproduce", "wu2024", "--model", model, "--prompts", str(tmp_path / "own.jsonl")]
    words += ["--out", str(tmp_path / "out"), "--quiet", "--json"]
    assert run(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["claim"] for row in told["claims"]] == [claim.name for claim in wu2024.paper.claims]
    universal = told["claims"][0]
    assert universal["verdict"] == "cannot be tested here" and "answers none" in universal["why"]
    assert {row["verdict"] for row in told["claims"]} == {"cannot be tested here"}
    assert told["checks"] and all(check["passed"] for check in told["checks"])
    inner = interp.open_run(tmp_path / "out/retrieval-heads")
    assert len(inner.prompts) == 2 and inner.provenance["effect"]["max_length"] == max(map(len, inner.prompts))
    assert run(words) == 0  # goes on where it was
    assert json.loads(capsys.readouterr().out) == told


def test_text_without_a_needle_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = save_tiny(tmp_path / "tiny-llama")
    out = tmp_path / "out"
    assert run(["reproduce", "wu2024", "--model", model, "--text", "the cat sat", "--out", str(out), "--quiet"]) == 2
    assert "holds no needle" in capsys.readouterr().err


@pytest.mark.smollm2
def test_a_real_model_few_needles(smollm2: Model, tmp_path: Path) -> None:
    grid = NeedleProbe(lengths=(256,), depths=(0.5,), needles=3, form="prefix", max_new_tokens=20)
    cheap = {"ks": (0, 5), "draws": 1, "closed_book": 0, "random_tokens": 0}
    result = interp.reproduce(
        "wu2024", smollm2, prompts=grid.prompts(smollm2), config=cheap, out=tmp_path, progress=False
    )
    rows = result.table.set_index("claim")
    assert rows.loc["universal", "verdict"] == "cannot be tested here"  # three needles are too few to say
    assert rows.loc["universal", "value"] > 0.02 and "too few to say: 3 needles" in rows.loc["universal", "why"]
    best = [f"{layer}.{head}" for layer, head in interp.open_run(tmp_path / "retrieval-heads").table.values[:10, :2]]
    assert "18.6" in best
    assert result.findings.summary["passed"], result.findings.summary["checks"]
