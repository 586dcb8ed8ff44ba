"""`interp compare` of circuit runs: what they share, against chance."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import interp
from interp.circuits.config import CLASSES
from interp.cli import run
from interp.comparison.overlap import chance, hypergeometric, overlap
from tests import sample_circuits

SHIFT = ((9, 1), (5, 5), (2, 2))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("circuits")
    return [
        sample_circuits.save(root / "a", task="ioi"),
        sample_circuits.save(root / "b", task="colored-objects", shift=SHIFT, seed=1),
    ]


def rows(findings: Any, name: str) -> list[dict[str, Any]]:
    (sheet,) = [sheet for sheet in findings.sheets if sheet.name == name]
    return [dict(zip((c.name for c in sheet.columns), row, strict=True)) for row in sheet.rows]


def test_chance_is_what_draws_say() -> None:
    heads, first, second = [4, 6, 3], {(0, 0), (1, 1), (1, 2), (2, 0)}, {(0, 1), (0, 2), (1, 1), (1, 5), (1, 3)}
    rng, counts = np.random.default_rng(0), []
    for _ in range(20_000):
        drawn = [
            {(layer, int(head)) for layer, n in enumerate(heads)
             for head in rng.choice(n, sum(at == layer for at, _ in circuit), replace=False)}
            for circuit in (first, second)
        ]  # fmt: skip
        counts.append(len(drawn[0] & drawn[1]))
    luck = chance(first, second, heads, 2)
    assert luck.mean == pytest.approx(1 * 2 / 4 + 2 * 3 / 6) == pytest.approx(np.mean(counts), abs=0.02)
    assert luck.p == pytest.approx(np.mean(np.array(counts) >= 2), abs=0.012)
    assert (luck.low, luck.high) == (np.quantile(counts, 0.025), np.quantile(counts, 0.975))
    assert chance(first, second, heads, 0).p == pytest.approx(1.0)


def test_hypergeometric_counts_subsets() -> None:
    found = [len({0, 1, 2} & set(drawn)) for drawn in itertools.combinations(range(6), 2)]
    assert hypergeometric(6, 3, 2) == pytest.approx(np.bincount(found) / len(found))
    assert hypergeometric(5, 5, 2) == pytest.approx([0, 0, 1]) and hypergeometric(4, 0, 2) == pytest.approx([1])


def test_overlap_of_two_sets() -> None:
    found = overlap([(0, 1), (1, 2), (1, 3)], [(1, 2), (1, 3), (1, 0), (0, 0)], [4, 4])
    assert found.both == ((1, 2), (1, 3)) and found.only_first == ((0, 1),) and found.only_second == ((0, 0), (1, 0))
    assert (found.jaccard, found.of_first, found.of_second, found.of_larger) == (2 / 5, 2 / 3, 2 / 4, 2 / 4)
    assert found.union == 5
    nothing = overlap([], [], [4, 4])
    assert nothing.jaccard is None and nothing.chance.p == 1.0 and nothing.chance.high == 0
    published = overlap([(0, head) for head in range(32)], [(0, head) for head in range(7, 39)], [60])
    assert published.of_larger == pytest.approx(0.78, abs=0.005)  # 25 of 32
    with pytest.raises(ValueError, match=r"heads \[\(2, 0\)\]: the model has 2 layers"):
        overlap([(2, 0)], [], [4, 4])


def test_circuits_of_two_tasks(folders: list[Path]) -> None:
    compared = interp.compare(folders)
    (one,) = rows(compared.findings, "overlap")
    assert (one["first"], one["second"]) == ("ioi", "colored-objects") == tuple(compared.table["run"])
    assert (one["heads_first"], one["heads_second"], one["shared"], one["union"]) == (9, 9, 6, 12)
    assert (one["shared_union"], one["of_larger"]) == (6 / 12, 6 / 9) and one["why"] is None
    binomial = [comb(9, k) * (1 / 9) ** k * (8 / 9) ** (9 - k) for k in range(10)]  # nine layers, one head of nine each
    assert one["random_shared"] == pytest.approx(1.0) and one["p"] == pytest.approx(sum(binomial[6:]))
    totals = [sample_circuits.effects(seed).ravel() for seed in (0, 1)]
    ranks = [np.argsort(np.argsort(values)) for values in totals]
    assert one["rank_correlation"] == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert compared.verdict.startswith(
        "The circuits of ioi (9 heads) and colored-objects (9) share 6 heads: 50% of the 12 in either, 67% of the "
        "larger; random circuits of the same layers share 1.0 (95 %: 0 to 3; p = 0.00012). 2 runs of 'circuit'"
    )
    heads = {row["head"]: row for row in rows(compared.findings, "shared_heads")}
    assert len(heads) == 12 and heads["8.6"]["where"] == "both" and heads["9.1"]["where"] == "ioi"
    assert heads["9.2"]["where"] == "colored-objects"
    assert (heads["9.2"]["class_first"], heads["9.2"]["class_second"]) == ("none", "mover")
    assert heads["9.2"]["total_second"] == pytest.approx(sample_circuits.effects(1)[9, 2])
    classes = {row["class"]: row for row in rows(compared.findings, "overlap_by_class")}
    assert set(classes) == set(sample_circuits.CLASSES)
    assert [classes["mover"][name] for name in ("heads_first", "heads_second", "shared")] == [2, 2, 1]
    assert [classes["inhibition"][name] for name in ("shared", "first_in_second", "second_in_first")] == [2, 2, 2]
    assert list(compared.table["circuit"]) == [9, 9] and list(compared.table["accuracy"]) == [0.9, 0.9]
    assert not any("attention received" in caveat or "same texts" in caveat for caveat in compared.findings.caveats)
    assert any("do not list the 32" in caveat for caveat in compared.findings.caveats)


def test_pictures_tell_whose_heads_they_are(folders: list[Path]) -> None:
    findings = interp.compare(folders).findings
    where, *totals = findings.heatmaps
    assert where.categories == ("neither", "in both", "only ioi", "only colored-objects")
    assert [where.values[head] for head in ((8, 6), (9, 1), (9, 2), (0, 0))] == [1, 2, 3, 0]
    assert [one.title for one in totals] == ["Total effect: ioi", "Total effect: colored-objects"]
    (drawn,) = findings.graphs
    kinds = {node.name: node.kind for node in drawn.nodes}
    assert kinds["8.6"] == "in both" and kinds["9.1"] == "only ioi" and kinds["9.2"] == "only colored-objects"
    assert kinds["logits"] == "ends" and len(kinds) == 13
    edges = {(edge.source, edge.target): edge for edge in drawn.edges}
    assert edges["8.6", "11.2"].label == "q@end, both" and edges["9.1", "logits"].label == "logits@end, ioi"
    chart = findings.charts[0]
    assert chart.name == "overlap" and chart.series[0].y == (6.0,) and chart.series[1].y == (pytest.approx(1.0),)
    (node,) = [node for node in drawn.nodes if node.name == "8.6"]
    assert "ioi: inhibition" in node.note and "colored-objects: inhibition" in node.note
    page = interp.compare(folders).html()
    assert "Both circuits: ioi, colored-objects" in page and "What the circuits share" in page


def test_every_pair_of_three(folders: list[Path], tmp_path: Path) -> None:
    third = sample_circuits.save(tmp_path / "c", task="ioi", shift=((9, 1),), seed=2)
    compared = interp.compare([*folders, third])
    made = rows(compared.findings, "overlap")
    assert [(row["first"], row["second"], row["shared"]) for row in made] == [
        ("ioi (a)", "colored-objects", 6), ("ioi (a)", "ioi (c)", 8), ("colored-objects", "ioi (c)", 7),
    ]  # fmt: skip
    assert compared.verdict.count("The circuits of") == 3 and len(compared.findings.graphs) == 3
    assert [one.name for one in compared.findings.heatmaps[:3]] == ["overlap", "overlap.1", "overlap.2"]


OTHERS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "shape": (lambda path: sample_circuits.save(path, shape=(13, 9)), "differ in shape: 12 layers x 9 heads and 13"),
    "model": (lambda path: sample_circuits.save(path, model="other"), "the models differ: tiny and other"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_models_are_not_compared(kind: str, folders: list[Path], tmp_path: Path) -> None:
    make, why = OTHERS[kind]
    compared = interp.compare([folders[0], make(tmp_path / "d")])
    (one,) = rows(compared.findings, "overlap")
    assert why in one["why"] and one["shared"] is None and one["heads_second"] == 9
    assert why in compared.verdict and any(why in caveat for caveat in compared.findings.caveats)
    assert compared.findings.graphs == [] and "overlap" not in {one.name for one in compared.findings.charts}
    assert "not compared" in compared.html()
    if kind == "model":
        assert list(compared.table["run"]) == ["ioi in tiny", "ioi in other"]


def test_empty_circuits_and_bare_summaries(folders: list[Path], tmp_path: Path) -> None:
    bare = sample_circuits.save(tmp_path / "bare", task="greater-than")
    record = json.loads((bare / "run.json").read_text())
    record["findings"]["summary"] = {"shape": [12, 9], "task": "greater-than", "circuit": []}
    (bare / "run.json").write_text(json.dumps(record))
    compared = interp.compare([folders[0], bare])
    assert "share nothing: no head was found for greater-than" in compared.verdict
    (one,) = rows(compared.findings, "overlap")
    assert one["shared"] == 0 and one["of_second"] is None and compared.html()
    record["findings"]["summary"] = {}
    (bare / "run.json").write_text(json.dumps(record))
    compared = interp.compare([folders[0], bare])
    assert "tiny (bare)" not in compared.verdict and "does not say how many layers" in compared.verdict
    assert compared.findings.heatmaps == [] and compared.html()


def test_json_of_the_command(folders: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", *map(str, folders), "--out", "page.html", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["sheets"]["overlap"][0]["shared"] == 6 and told["sheets"]["overlap"][0]["shared_union"] == 0.5
    assert {row["where"] for row in told["sheets"]["shared_heads"]} == {"both", "ioi", "colored-objects"}
    assert told["verdict"].startswith("The circuits of ioi") and len(CLASSES) == 9
