"""The circuit finder from end to end on small random models: every head a row, who chooses, resume, refusals, page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import interp
from interp.circuits.config import CLASSES, COLUMNS, NONE
from interp.circuits.effects import direct_effects, total_effects
from interp.circuits.pairs import Pair, batch_of, pair_of
from interp.circuits.states import sides_of
from interp.errors import UsageError
from interp.runs.run import Pieces
from interp.runs.store import canonical, plain
from probes.base import Prompt
from tests.able_pairs import AGAIN, able_pairs
from tests.tiny import tiny, tiny_tokenizer

SMALL: dict[str, Any] = {"share": 0.2, "least": 1, "resamples": 5, "subsets": 1, "points": 1, "controls": 1}
N = 8


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def model(request: pytest.FixtureRequest) -> interp.Model:
    return interp.load(tiny(request.param), tokenizer=tiny_tokenizer(128), check=False)


@pytest.fixture(scope="module")
def llama() -> interp.Model:
    return interp.load(tiny("llama"), tokenizer=tiny_tokenizer(128), check=False)


def scan(model: Any, prompts: Any, out: Path, **config: Any) -> Any:
    return interp.scan(model, find="circuit", prompts=prompts, out=out, config={**SMALL, **config}, progress=False)


@pytest.fixture(scope="module")
def prompts(model: interp.Model) -> list[Prompt]:
    return able_pairs(model, N, lengths=(10, 12))


@pytest.fixture(scope="module")
def result(model: interp.Model, prompts: list[Prompt], tmp_path_factory: pytest.TempPathFactory) -> Any:
    return scan(model, prompts, tmp_path_factory.mktemp("circuit") / "run")


def by_head(found: Any) -> pd.DataFrame:
    """The table in order of layer and head."""
    return found.table.sort_values(["layer", "head"]).reset_index(drop=True)


def test_every_head_is_a_row_and_the_summary_says_how_it_came_about(result: Any, prompts: list[Prompt]) -> None:
    table, told = by_head(result), result.findings.summary
    assert list(table.columns) == [column.name for column in COLUMNS]
    assert result.table["stage"].notna().tolist() == sorted(table["stage"].notna(), reverse=True)  # the circuit first
    assert {name: str(kind) for name, kind in table.dtypes.items()} == {
        column.name: str(pd.api.types.pandas_dtype(column.dtype)) for column in COLUMNS
    }
    assert sorted(zip(table["layer"], table["head"], strict=True)) == list(np.ndindex(3, 4))
    in_circuit = [[int(row.layer), int(row.head)] for row in table.itertuples() if row.stage is not pd.NA]
    assert in_circuit == told["circuit"] and 0 < len(in_circuit) < 12
    outside = [row for _, row in table.iterrows() if [int(row["layer"]), int(row["head"])] not in told["circuit"]]
    assert {row["class"] for row in outside} <= {NONE, "backup mover"}
    assert sorted(head for heads in told["classes"].values() for head in heads) == told["circuit"]
    assert set(told["classes"]) <= set(CLASSES)
    names = {prompt.name for prompt in prompts}
    assert {*told["select"]} | {*told["held_out"]} == names and not {*told["select"]} & {*told["held_out"]}
    assert told["shape"] == [3, 4] and told["task"] == "able" and told["settings"]["share"] == 0.2
    assert [stage["name"] for stage in told["stages"]] == told["settings"]["stages"] or told["stages"][-1]["why"]
    assert {"name", "side", "position", "receivers", "heads", "found_again"} <= told["stages"][0].keys()
    assert told["behaviour"]["can"] and told["behaviour"]["accuracy"]["mean"] == 1
    assert {"faithfulness", "completeness", "minimality", "curves"} <= told["evaluation"].keys()
    claims = told["claims"]
    assert {"accuracy", "difference", "knocked_out", "knocked_out_random", "knocked_out_difference"} <= claims.keys()
    assert result.findings.verification.prompts == len(told["held_out"]) == claims["knocked_out"]["n"]
    assert result.findings.verification.effect == claims["knocked_out"]["mean"]
    assert json.loads(canonical(plain(told))) == plain(told)


def test_effects_are_shares_of_the_gap_over_the_prompts_that_choose(
    result: Any, model: interp.Model, prompts: list[Prompt]
) -> None:
    by_name = {prompt.name: pair_of(prompt) for prompt in prompts}
    for part, suffix in (("select", ""), ("held_out", "_held_out")):
        found: dict[str, list[np.ndarray]] = {"total": [], "direct": [], "gap": []}
        for name in result.findings.summary[part]:
            sides = sides_of(model, batch_of([by_name[name]]))
            found["total"].append(total_effects(model, sides).heads[..., 0])
            found["direct"].append(direct_effects(model, sides).heads[..., 0])
            found["gap"].append(sides.gap.numpy())
        for kind in ("total", "direct"):
            expected = np.mean(found[kind], 0) / np.mean(found["gap"])
            got = by_head(result)[f"{kind}{suffix}"].to_numpy().reshape(3, 4)
            np.testing.assert_allclose(got, expected, atol=2e-5)
            assert np.abs(expected).max() > 0.05
    first = result.findings.summary["stages"][0]["heads"]
    direct = result.table.set_index(["layer", "head"])["direct"]
    assert [head for *_, head in first] == pytest.approx([direct[layer, head] for layer, head, _ in first], abs=2e-5)
    assert {tuple(head[:2]) for head in first} == set(direct.abs().nlargest(len(first)).index)


def test_held_out_prompts_do_not_choose(
    result: Any, model: interp.Model, prompts: list[Prompt], tmp_path: Path
) -> None:
    told = result.findings.summary
    fresh = {len(one): [] for one in prompts}
    for one in able_pairs(model, N, lengths=(10, 12), seed=9):
        fresh[len(one)].append(one)
    swapped = [
        replace(fresh[len(one)].pop(), name=one.name) if one.name in told["held_out"] else one for one in prompts
    ]
    other = scan(model, swapped, tmp_path / "run")
    assert other.findings.summary["held_out"] == told["held_out"]
    for key in ("circuit", "classes", "select"):
        assert other.findings.summary[key] == told[key]
    judged = [column.name for column in COLUMNS if "held_out" in column.name]
    pd.testing.assert_frame_equal(
        by_head(other).drop(columns=judged), by_head(result).drop(columns=judged), rtol=1e-3, atol=1e-5
    )
    assert not np.allclose(by_head(other)["total_held_out"], by_head(result)["total_held_out"], atol=1e-3)
    assert other.findings.verification.effect != result.findings.verification.effect


def test_a_killed_run_goes_on_and_ends_in_the_same(
    result: Any, model: interp.Model, prompts: list[Prompt], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, after = result.provenance["units"]["measured"]["explore"], 6
    assert whole > after
    unit, done = Pieces.unit, []

    def broken_off(self: Any, name: str, make: Any, of: Any = None) -> Any:
        if len(done) == after:
            raise KeyboardInterrupt
        done.append(name)
        return unit(self, name, make, of)

    monkeypatch.setattr(Pieces, "unit", broken_off)
    with pytest.raises(KeyboardInterrupt):
        scan(model, prompts, tmp_path / "run")
    monkeypatch.undo()
    again = scan(model, prompts, tmp_path / "run")
    units = again.provenance["units"]
    assert units["on_disk"] == {"measure": N, "explore": after}
    assert units["measured"] == {"explore": whole - after, "check": N}
    pd.testing.assert_frame_equal(again.table, result.table, check_exact=True)
    assert canonical(plain(again.findings.summary)) == canonical(plain(result.findings.summary))
    assert again.verdict == result.verdict and again.findings.verification == result.findings.verification


def test_the_page_holds_the_graph(result: Any) -> None:
    (graph,) = result.findings.graphs
    heads = {label for layer, head in result.findings.summary["circuit"] for label in (f"{layer}.{head}",)}
    assert heads <= {node.label for node in graph.nodes}
    page = (result.folder / "report.html").read_text("utf-8")
    assert 'id="graphs"' in page and page == result.html()


def test_total_effects_at_a_named_position(llama: interp.Model, tmp_path: Path) -> None:
    pairs = able_pairs(llama, 3)
    found = {at: scan(llama, pairs, tmp_path / at, position=at) for at in ("end", "again")}
    for at, place in (("end", -1), ("again", AGAIN)):
        (name,) = found[at].findings.summary["select"]
        pair = next(pair_of(prompt) for prompt in pairs if prompt.name == name)
        sides = sides_of(llama, batch_of([pair]))
        alone = total_effects(llama, sides, positions=[place % len(pair.prompt)]).heads[..., 0] / sides.gap.numpy()
        np.testing.assert_allclose(by_head(found[at])["total"].to_numpy().reshape(3, 4), alone, atol=2e-5)
    assert any("total effects at end" in caveat for caveat in found["end"].findings.caveats)
    with pytest.raises(UsageError, match=r"has no position 'S2'; it has .*again.*end"):
        scan(llama, pairs, tmp_path / "no", position="S2")


@pytest.fixture(scope="module")
def unable(llama: interp.Model) -> Iterator[list[Prompt]]:
    """Answer and wrong token changed over."""
    yield [other_way(prompt) for prompt in able_pairs(llama, 5)]


def other_way(prompt: Prompt) -> Prompt:
    pair = pair_of(prompt)
    turned = Pair(prompt, pair.corrupt, pair.wrong[0], (pair.answer,), pair.positions, pair.template)
    return replace(prompt, extra={**prompt.extra, **turned.as_extra()})


def test_a_task_the_model_cannot_do_is_refused_unless_told(
    llama: interp.Model, unable: list[Prompt], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"LlamaForCausalLM cannot do this task: .*--set anyway=true"):
        scan(llama, unable, tmp_path / "run")
    found = scan(llama, unable, tmp_path / "anyway", anyway=True)
    assert "does not do able" in found.verdict and len(found.table) == 12
    assert any("not shown to prefer the answer" in caveat for caveat in found.findings.caveats)


def test_equal_prompts_count_once(llama: interp.Model, tmp_path: Path) -> None:
    pairs = able_pairs(llama, 6)
    twice = [*pairs, *(replace(prompt, name=f"{prompt.name}-again") for prompt in pairs)]
    found = scan(llama, twice, tmp_path / "run")
    told = found.findings.summary
    assert len(found.table) == 12
    distinct = {name.removesuffix("-again") for name in told["held_out"]}
    assert len(told["held_out"]) == 2 * len(distinct)  # both copies are on one side
    assert found.findings.verification.prompts == told["claims"]["knocked_out"]["n"] == len(distinct)
    chosen = [name for name in told["select"] if not name.endswith("-again")]
    sides = sides_of(llama, batch_of([pair_of(prompt) for prompt in pairs if prompt.name in chosen]))
    expected = total_effects(llama, sides).heads.mean(-1) / float(sides.gap.mean())
    np.testing.assert_allclose(by_head(found)["total"].to_numpy().reshape(3, 4), expected, atol=2e-5)
    assert found.table["total_p"].min() >= 2 * 0.5 ** len(chosen)


def test_a_single_pair_chooses_and_nothing_judges(llama: interp.Model, tmp_path: Path) -> None:
    found = scan(llama, able_pairs(llama, 1, again=False), tmp_path / "run")
    assert found.findings.verification.verdict == "nothing to verify"
    assert found.findings.summary["held_out"] == [] and found.table["total_held_out"].isna().all()
    assert any("Only 0 prompts could be held out" in caveat for caveat in found.findings.caveats)
    assert found.findings.summary["claims"]["knocked_out"]["mean"] is None
    assert (found.table["total_low"] == found.table["total_high"]).all()


def test_own_pairs_without_roles_or_positions(llama: interp.Model, tmp_path: Path) -> None:
    bare = []
    for index, prompt in enumerate(able_pairs(llama, 6, lengths=(9, 10, 11), again=False)):
        pair = pair_of(prompt)
        extra = Pair(prompt, pair.corrupt, pair.answer, pair.wrong).as_extra()
        bare.append(replace(prompt, name=f"{'xyz'[index % 3]}{index}", extra=extra))
    found = scan(llama, bare, tmp_path / "run")
    told = found.findings.summary
    assert told["task"] == "own pairs" and told["circuit"] and len(found.table) == 12
    assert found.findings.verification.prompts == len(told["held_out"]) == 3
    assert 'id="graphs"' in found.html()
