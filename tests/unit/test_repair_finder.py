"""The repair finder from end to end on a small model: planted heads, held-out figures, resume, words."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import interp
from interp.errors import UsageError
from interp.finders.base import Unit
from interp.registry import FINDERS
from interp.repairs import calls
from interp.repairs.config import COLUMNS, EDITS, RepairConfig
from interp.repairs.explore import Training
from interp.repairs.plan import Plan
from interp.repairs.table import judged
from interp.verify import MIN_PROMPTS
from probes.base import Prompt
from tests.tiny import tiny, tiny_tokenizer
from tests.unit.test_repair import made

N = 24


@pytest.fixture(scope="module")
def model() -> interp.Model:
    return interp.load(tiny("llama"), tokenizer=tiny_tokenizer(128), check=False)


@pytest.fixture(scope="module")
def prompts() -> list[Prompt]:
    return [made(index, index % 3) for index in range(N)]


SMALL: dict[str, Any] = {"candidates": 2, "most": 2, "metric": "choice", "factors": (0.0, 2.0), "controls": 1}


@pytest.fixture(scope="module")
def result(model: interp.Model, prompts: list[Prompt], tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("repair") / "run"
    return interp.repair(model, prompts=prompts, out=out, config=SMALL, progress=False)


HEADS = [(1, 0), (2, 3)]


@pytest.fixture(scope="module")
def named(model: interp.Model, prompts: list[Prompt], tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("repair") / "named"
    return interp.repair(model, heads=HEADS, prompts=prompts, out=out, config=SMALL, progress=False)


def test_heads_are_chosen_as_long_as_they_help_and_it_is_said_which_edits_need_the_label(result: Any) -> None:
    table, summary = result.table, result.findings.summary
    assert list(table.columns) == [column.name for column in COLUMNS]
    assert set(summary["undefined"]) == {"donor"}  # this tokenizer has no names for IOI prompts
    together = table[table["part"] == "all"].set_index("edit")
    assert len(together) >= 1 and set(together.index) <= set(EDITS)
    for edit, told in summary["edits"].items():
        if not told["heads"]:
            continue
        rights = [right for right, _ in told["path"]]
        assert rights == sorted(set(rights)) and rights[0] > summary_untouched(summary)  # each head adds something
        assert told["choice"] == pytest.approx(rights[-1])
        assert together.loc[edit, "repaired"] >= 0
    judged_edit = summary["judged"]
    assert judged_edit != "oracle" and judged_edit in together.index
    assert result.findings.verification.prompts == N // 2
    assert "not told the answer" in result.verdict and "held-out prompts" in result.verdict
    assert any("told which candidates are wrong" in caveat for caveat in result.findings.caveats)
    assert any("donor was not tried" in caveat for caveat in result.findings.caveats)


def summary_untouched(summary: Any) -> float:
    """Share right on the training prompts without an edit (the first head has to beat it)."""
    return summary["train_untouched"]["right"]


def test_held_out_figures_are_those_of_the_held_out_prompts(
    named: Any, model: interp.Model, prompts: list[Prompt]
) -> None:
    result = named
    summary, arrays = result.findings.summary, result.findings.arrays
    assert result.table["edit"].tolist() == [edit for edit in EDITS if edit != "donor" for _ in range(3)]
    assert result.table["label_free"].tolist() == [edit != "oracle" for edit in result.table["edit"]]
    assert result.table["heads"].tolist()[:3] == ["1.0, 2.3", "1.0", "2.3"]
    assert result.table["part"].tolist()[:3] == ["all", "one", "one"]
    assert summary["judged"] != "oracle" and "upper bound and no fix" in result.verdict
    assert any("named, not chosen" in caveat for caveat in result.findings.caveats)
    assert not set(summary["train"]) & set(summary["test"]) and len(summary["test"]) == N // 2
    held = [prompt for prompt in prompts if prompt.name in summary["test"]]
    plan = Plan(tuple(map(tuple, summary["pointers"])), summary["spare"], arrays.get("masses"))
    training = Training(model, held, RepairConfig(**SMALL))
    before = training.outcomes(plan, None, [()], 1.0, True)
    for _, row in result.table.iterrows():
        heads = tuple(tuple(map(int, label.split("."))) for label in row["heads"].split(", "))
        factor = 1.0 if row["edit"] != "scale" else float(row["factor"])
        after = training.outcomes(plan, row["edit"], [heads], factor, True)
        for name in ("choice", "top1", "difference"):
            np.testing.assert_allclose(row[f"{name}_before"], before[name].mean(), atol=1e-5)
            np.testing.assert_allclose(row[name], after[name].mean(), atol=1e-5)
        assert row["repaired"] == (~before["choice"] & after["choice"]).sum()
        assert row["broken"] == (before["choice"] & ~after["choice"]).sum()
        if row["part"] == "all":
            claim = summary["claims"][row["edit"]]
            assert claim["change"]["mean"] == pytest.approx((row["repaired"] - row["broken"]) / len(held))
            assert (row["choice_low"], row["choice_high"]) == (claim["choice"]["low"], claim["choice"]["high"])
    scale = result.table[(result.table["edit"] == "scale") & (result.table["part"] == "all")]
    assert scale["text_loss"].notna().all()
    assert result.table[result.table["edit"] != "scale"]["text_loss"].isna().all()


def test_a_second_call_measures_nothing(result: Any, model: interp.Model, prompts: list[Prompt]) -> None:
    again = interp.repair(model, prompts=prompts, out=result.folder, config=SMALL, progress=False)
    assert again.provenance["units"]["measured"] == {}
    assert again.verdict == result.verdict
    opened = interp.open_run(result.folder)
    assert opened.verdict == result.verdict and len(opened.table) == len(result.table)
    assert "told which candidates are wrong" in result.html()


def test_the_edit_judged_is_the_best_label_free_one_in_training() -> None:
    def told(right: float, heads: int) -> dict[str, Any]:
        return {"heads": [[0, i] for i in range(heads)], "path": [[right, 0.0]] if heads else []}

    assert judged({"oracle": told(1.0, 1), "inhibit": told(0.6, 2), "point": told(0.7, 1)}) == "point"
    assert judged({"oracle": told(1.0, 1), "inhibit": told(0.6, 2), "point": told(0.6, 1)}) == "point"
    assert judged({"oracle": told(1.0, 1), "inhibit": told(0.6, 0)}) is None  # the oracle never stands in for a fix
    assert judged({"oracle": told(1.0, 1)}) == "oracle"
    assert judged({}) is None


def test_a_model_that_does_the_task_and_too_few_prompts_are_said(
    model: interp.Model, prompts: list[Prompt], tmp_path: Path
) -> None:
    finder, config = FINDERS.get("repair"), RepairConfig(edit="scale", controls=1)
    units = [Unit(facts={"difference": 1.0, "choice": True, "top1": True}) for _ in prompts]
    explored = Unit(
        facts={
            "edits": {"scale": {"heads": [], "factor": None, "path": [], "top1": None}},
            "pointers": [[0, 0]], "movers": [[0, 0]], "spare": True, "agree": None, "undefined": {},
            "untouched": {"right": 1.0, "difference": 1.0},
        }
    )  # fmt: skip
    findings = finder.find(prompts, units, config, model.facts(), explored)
    assert any("little to repair" in caveat for caveat in findings.caveats)
    done = finder.conclude(findings, [None] * N, config, None)
    assert done.verification.verdict == "nothing to verify" and "there is none to judge" in done.verdict
    few = interp.repair(
        model, "oracle", heads="1.0", prompts=prompts[: MIN_PROMPTS - 1], out=tmp_path / "few", progress=False,
        config={"controls": 1},
    )  # fmt: skip
    assert few.findings.verification.verdict == "too few to say" and few.findings.summary["judged"] == "oracle"
    assert "told the right answer" in few.verdict and "not told" not in few.verdict


def test_what_is_refused(model: interp.Model, prompts: list[Prompt], tmp_path: Path) -> None:
    out = {"prompts": prompts, "out": tmp_path / "run", "progress": False}
    for told, given in {
        "no head 9.0: the model has layers": {"heads": "9.0"},
        "heads is empty": {"heads": []},
        "heads and circuit given together": {"heads": "1.0", "circuit": "somewhere"},
        "given both as an argument and in config": {"heads": "1.0", "config": {"heads": "1.1"}},
        "expected layer.head, such as 9.1": {"heads": "1.*"},
        "numbers other than 1": {"config": {"factors": (1.0,)}},
    }.items():
        with pytest.raises(UsageError, match=told):
            interp.repair(model, **given, **out)
    with pytest.raises(UsageError, match="no corrupted twin"):
        interp.repair(model, texts="the cat sat on the mat", out=tmp_path / "text", progress=False)


def test_heads_come_from_the_classes_of_a_circuit_run(monkeypatch: pytest.MonkeyPatch) -> None:
    class Run:
        provenance: ClassVar[dict[str, Any]] = {"model": {"name": "m", "layers": 7, "heads": 3}}

        class findings:
            finder = "circuit"
            summary: ClassVar[dict[str, Any]] = {
                "classes": {
                    "inhibition": [[3, 1]],
                    "negative mover": [[5, 0]],
                    "mover": [[6, 2]],
                    "induction": [[1, 1]],
                }
            }

    monkeypatch.setattr("interp.runs.result.open_run", lambda path: Run)
    assert calls.settings_from("run") == {
        "heads": ["3.1", "5.0"],
        "pointers": ["1.1"],
        "movers": ["6.2"],
        "origin": "circuit of run run (m)",
        "origin_shape": [7, 3],
    }
    Run.findings.summary = {"classes": {"mover": [[6, 2]]}}
    with pytest.raises(UsageError, match="no inhibition heads and no negative movers"):
        calls.settings_from("run")
    Run.findings.finder = "sinks"
    with pytest.raises(UsageError, match="is a run of sinks; expected one of --find circuit"):
        calls.settings_from("run")
