"""Heads taken from a finished run: which, by class, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import interp
from interp.ablation.config import AblationConfig
from interp.ablation.finder import Ablation
from interp.ablation.origin import heads_from
from interp.errors import UsageError
from tests.sample_runs import save
from tests.tiny import tiny, tiny_tokenizer

SUMMARIES: dict[str, dict[str, Any]] = {
    "circuit": {"circuit": [[2, 1], [0, 3]], "classes": {"mover": [[2, 1]], "induction": []}},
    "ablation": {"selected_heads": [[1, 1]]},
    "retrieval-heads": {"retrieval": ["2.0", "1.3"]},
    "heads": {"sets": {"induction": [[1, 0], [0, 2]], "sink": []}},
    "sinks": {},
}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for finder, summary in SUMMARIES.items():
        save(tmp_path / finder, "tiny-llama", finder=finder, summary=summary)
    save(tmp_path / "empty", "tiny-llama", finder="circuit", summary={"circuit": [], "classes": {}})
    save(tmp_path / "with: colon", "tiny-llama", finder="ablation", summary=SUMMARIES["ablation"])
    return tmp_path


@pytest.mark.parametrize(
    ("run", "heads", "told"),
    [
        ("circuit", ("0.3", "2.1"), "circuit of run circuit (tiny-llama)"),
        ("circuit:mover", ("2.1",), "circuit of class mover of run circuit (tiny-llama)"),
        ("circuit: mover", ("2.1",), "circuit of class mover of run circuit (tiny-llama)"),
        ("ablation", ("1.1",), "ablated heads of run ablation (tiny-llama)"),
        ("with: colon", ("1.1",), "ablated heads of run with: colon (tiny-llama)"),
        ("retrieval-heads", ("1.3", "2.0"), "retrieval heads of run retrieval-heads (tiny-llama)"),
        ("heads:induction", ("0.2", "1.0"), "heads of class induction of run heads (tiny-llama)"),
    ],
)
def test_heads_of_a_run(runs: Path, run: str, heads: tuple[str, ...], told: str) -> None:
    origin = heads_from(runs / run)
    assert (origin.heads, origin.shape, origin.told) == (heads, (30, 3), told)
    assert origin.settings() == {"heads": list(heads), "origin": told, "origin_shape": [30, 3]}


@pytest.mark.parametrize(
    ("run", "told"),
    [
        ("nowhere", "no run in .*nowhere"),
        ("circuit:cook", r"from circuit: no class 'cook'; it has mover \(1\), induction \(0\)"),
        ("ablation:mover", "from ablation: no class 'mover'; it has no classes"),
        ("circuit:induction", "from circuit: this run of circuit found no heads of class induction"),
        ("empty", "from empty: this run of circuit found no heads"),
        ("heads", r"name a class, as in heads:induction; it has induction \(2\), sink \(0\)"),
        ("sinks", "from sinks: a run of sinks names no heads; runs of circuit, ablation, heads, retrieval-heads do"),
    ],
)
def test_runs_without_such_heads_are_refused(runs: Path, run: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        heads_from(runs / run)


def test_heads_of_a_model_of_another_shape_are_refused(runs: Path) -> None:
    model = interp.load(tiny("llama"), tokenizer=tiny_tokenizer(128), check=False)  # 3 layers of 4 heads
    config = AblationConfig(how="zero", **heads_from(runs / "circuit").settings())
    told = r"circuit of run circuit \(tiny-llama\) are those of a model of 30 layers of 3 heads; .* has 3 of 4"
    prompt = model.encode("the cat sat on the mat", name="p", max_length=20)
    with pytest.raises(UsageError, match=told):
        Ablation().measure(model, prompt, config)
    unit = Ablation().measure(model, prompt, replace(config, origin_shape=(3, 4)))
    assert unit.facts["candidates"] == [[[0, 3]], [[2, 1]]]


def test_heads_are_named_or_taken(runs: Path) -> None:
    with pytest.raises(UsageError, match="heads and from_run given together"):
        interp.ablate("no-such-model", "zero", heads="0.1", from_run=runs / "circuit")
