"""What a circuit's report draws, from a table and a summary made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from interp.circuits import pictures
from interp.circuits.config import CLASSES, NONE
from interp.circuits.sheets import sheets
from interp.report.build import build_report
from interp.report.scales import kind_colour
from tests import sample_circuits


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    return sample_circuits.summary()


def test_maps_hold_every_head(told: dict[str, Any]) -> None:
    maps = {one.name: one for one in pictures.heatmaps(sample_circuits.table(told), told["shape"])}
    assert list(maps) == ["total", "direct", "attribution_ig", "classes"]
    np.testing.assert_allclose(maps["total"].values, sample_circuits.effects())
    assert all(one.kind == "layer-head" for one in maps.values()) and maps["total"].diverging
    kinds, values = maps["classes"].categories, maps["classes"].values
    assert kinds[0] == NONE and kinds[int(values[9, 1])] == "mover" and kinds[int(values[2, 2])] == "previous token"
    assert (values == 0).sum() == 12 * 9 - len(sample_circuits.CIRCUIT)
    assert len({kind_colour(i) for i in range(len(kinds))}) == len(kinds)  # no two classes of one colour
    few = sample_circuits.table(told).drop(columns=["direct", "attribution_ig", "class"]).head(4)
    (total,) = pictures.heatmaps(few, (2, 9))
    assert np.isfinite(total.values).sum() == 4
    assert pictures.heatmaps(few.head(0)) == []


def test_graph_joins_senders_to_the_receivers_they_reach(told: dict[str, Any]) -> None:
    drawn = pictures.graph(told)
    assert drawn is not None
    nodes = {node.name: node for node in drawn.nodes}
    assert set(nodes) == {"logits", *(f"{layer}.{head}" for layer, head in sample_circuits.CIRCUIT)}
    assert nodes["logits"].layer == 12 and nodes["8.6"].layer == 8 and nodes["8.6"].kind == "inhibition"
    edges = {(edge.source, edge.target): edge for edge in drawn.edges}
    assert edges["10.7", "logits"].weight == pytest.approx(-0.15) and edges["9.1", "logits"].label == "logits@end"
    assert edges["8.6", "9.1"].label == "q@end" and edges["8.6", "9.1"].weight == pytest.approx(0.15)
    assert ("4.1", "5.5") in edges and ("4.1", "3.0") not in edges  # k@after_first: 3.0 comes before 4.1
    assert len(edges) == 3 + 2 * 3 + 2 * 2 + 3
    assert "stage 1, q@end: +0.150" in nodes["8.6"].note
    assert drawn.kinds == ("ends", *CLASSES)  # the colours of the class map
    assert pictures.graph({}) is None and pictures.graph({"circuit": []}) is None
    bare = pictures.graph({"circuit": [[3, 1]]})
    assert bare is not None and [(n.name, n.layer, n.kind) for n in bare.nodes] == [
        ("3.1", 3, "other"), ("logits", 4, "ends"),
    ]  # fmt: skip


def test_charts_show_what_was_measured(told: dict[str, Any]) -> None:
    drawn = {one.name: one for one in pictures.charts(told)}
    assert list(drawn) == [
        "behaviour", "logit_difference", "faithfulness", "head_curves_signed", "head_curves_absolute", "completeness",
    ]  # fmt: skip
    behaviour = drawn["behaviour"]
    assert behaviour.x_names == ("all prompts", "template ABBA 1", "template BABA 1") and behaviour.equal == 0.5
    assert behaviour.series[0].y == pytest.approx((0.9, 1.0, 0.8)) and behaviour.series[0].low[2] == pytest.approx(0.7)
    faithful = drawn["faithfulness"]
    assert faithful.x_names == ("mean", "zero", "resample")
    assert [one.y for one in faithful.series] == [(3.5,) * 3, (1.0, 2.0, 3.0), (0.3,) * 3, (0.1,) * 3]
    assert [one.role for one in faithful.series] == [None, "found", "control", None]
    signed, absolute = drawn["head_curves_signed"], drawn["head_curves_absolute"]
    assert signed.series[0].name == "total effect (CPR 0.95)" and absolute.series[0].name == "total effect (CMD 0.12)"
    assert signed.log_x and signed.equal == 1.0 and signed.series[1].role == "control" and signed.series[0].y[7] == 1.1
    complete = {one.name: one for one in drawn["completeness"].series}
    assert complete["a class of heads"].x == (2.5,) and complete["a class of heads"].y == (1.0,)
    diagonal = complete["circuit and model the same"]
    assert diagonal.x == diagonal.y == (1.0, 2.5)
    assert pictures.charts({}) == []
    told = {"evaluation": {"faithfulness": {"mean": {"whole": sample_circuits.about(1.0), "random": None}}}}
    assert [len(one.series) for one in pictures.charts(told)] == [1]


def test_edge_curves_of_any_ranking(told: dict[str, Any]) -> None:
    heads = told["evaluation"]["curves"]
    edges = {name: {**one, "shares": heads["shares"]} for name, one in heads["curves"].items()}
    drawn = pictures.charts({"evaluation": {"edge_curves": edges}})
    assert [one.name for one in drawn] == ["edge_curves_signed", "edge_curves_absolute"]
    assert drawn[0].x_label == "share of edges kept" and len(drawn[0].series) == 2


def test_tables(told: dict[str, Any]) -> None:
    rows = sample_circuits.table(told)
    made = {one.name: one for one in sheets({**told, "evidence": {"9.1": {"sentence": "It looks at IO."}}}, rows)}
    assert list(made) == ["stages", "evidence", "faithfulness", "minimality"]
    assert made["stages"].rows[1][2:5] == ("q@end", "9.1, 10.7, 11.2", "7.3 (+0.300), 8.6 (+0.150)")
    evidence = {row[1]: dict(zip((c.name for c in made["evidence"].columns), row, strict=True))
                for row in made["evidence"].rows}  # fmt: skip
    assert set(evidence) == {f"{layer}.{head}" for layer, head in sample_circuits.CIRCUIT}
    assert evidence["9.1"]["evidence"] == "It looks at IO." and evidence["8.6"]["class"] == "inhibition"
    assert (evidence["8.6"]["looks_at"], evidence["8.6"]["attention"], evidence["8.6"]["stage"]) == ("S2", 0.5, None)
    assert made["faithfulness"].rows[0][:3] == ("resample", 3.5, 3.0) and made["minimality"].rows[0][-1] is True
    assert sheets({}) == []
    assert [one.name for one in sheets({"stages": told["stages"], "circuit": told["circuit"]})] == ["stages"]


def test_the_page_holds_it_all() -> None:
    page = build_report(sample_circuits.findings(), {}, [])
    for said in ("The circuit", "What each head does", "What the circuit does alone", "Stages of the search"):
        assert said in page
