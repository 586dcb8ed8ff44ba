"""What the formation finder claims of secondary sinks, blocks that lack something, directions, attention lost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from interp.finders import formation_check, formation_pca, formation_pictures, formation_rows, formation_words
from interp.finders.base import Unit
from interp.finders.formation_config import QUANTITIES
from interp.findings import Findings
from tests.unit.test_formation_parts import CONFIG, fact, prompt, unit_of


def test_secondary_sinks_are_compared_with_the_same_token_only() -> None:
    prompts = [prompt("a", *range(6)), prompt("b", *range(6))]
    rows = [
        [fact(kind="secondary", formed_by=None), fact(kind="secondary", control="nearby token", formed_by=None)],
        [fact(formed_by=None), fact(kind="secondary", control="nearby token", position=4, formed_by=None)],
    ]
    units = [unit_of(rows[0], 0.9, 0.1), unit_of(rows[1], 0.5, 0.3)]
    units[0].arrays["control_cosines"][1] = -1.0
    rows[0][1]["position"] = 3
    made = formation_rows.claims(rows, units, formation_rows.controls(prompts, units), CONFIG)
    same = made["cosine.mlp_out.difference_secondary"]
    assert same["mean"] == pytest.approx(0.8) and (same["n"], same["values"]) == (1, 1)
    assert made["cosine.mlp_out.difference"]["values"] == 4
    none = formation_rows.claims(rows[1:], units[1:], formation_rows.controls(prompts[1:], units[1:]), CONFIG)
    none = none["cosine.mlp_out.difference_secondary"]
    assert none["mean"] is None and "same token" in none["why"]


def test_what_one_block_lacks_is_not_missing_in_another() -> None:
    prompts = [prompt("a", *range(6))]
    rows = [[fact(formed_by=None), fact(start=6, position=4, formed_by=None)]]
    unit = unit_of(rows[0], 0.9, 0.1)
    unit.facts["lacks"] = [{}, {"gate": "experts have none"}]
    unit.arrays["cosines"][1, QUANTITIES.index("gate")] = np.nan
    made = formation_rows.claims(rows, [unit], formation_rows.controls(prompts, [unit]), CONFIG)
    assert made["cosine.gate.sinks"]["mean"] == pytest.approx(0.9) and made["cosine.gate.sinks"]["values"] == 1
    assert made["cosine.gate.secondary"]["why"] == "no secondary sink has a control"
    assert formation_rows.lacking([unit]) == {"gate": {"why": "experts have none", "blocks": [6], "of": 2}}
    unit.arrays["cosines"][0, QUANTITIES.index("gate")] = np.nan
    unit.facts["lacks"][0] = {"gate": "not recognised"}
    made = formation_rows.claims(rows, [unit], formation_rows.controls(prompts, [unit]), CONFIG)
    assert made["cosine.gate.sinks"]["why"] == "experts have none"


def component(block: int, number: int, sign: str, effective: bool, among: str = "secondary sinks") -> dict[str, Any]:
    return {"block": block, "among": among, "component": number, "sign": sign, "effective": effective}


def test_both_signs_of_a_component_are_one_direction() -> None:
    findings = Findings("sink-formation", pd.DataFrame(), (), "", {}, {"pca": []})
    none = formation_pca.directions(findings, [], CONFIG)
    assert none["blocks"] == 0 and none["directions"] is None and "secondary" in none["why"]
    findings.summary["pca"] = [
        {"block": block, "among": among, "prompts": prompts}
        for block, among, prompts in ((3, "sinks", 9), (4, "secondary sinks", 5), (6, "secondary sinks", 7))
    ]
    signed = [component(4, 1, "+", True), component(4, 1, "-", True), component(6, 2, "+", True)]
    signed += [component(3, number, "+", True, "sinks") for number in (1, 2, 3)]
    one = formation_pca.directions(findings, signed, CONFIG)
    assert one == {"blocks": 2, "directions": 1, "block": 6, "prompts": 7}
    assert "not several directions" in str(formation_words.component_sentence(signed, one, CONFIG))
    two = formation_pca.directions(findings, [*signed, component(4, 3, "-", True)], CONFIG)
    assert two == {"blocks": 2, "directions": 2, "block": 4, "prompts": 5}
    assert "more than one direction" in str(formation_words.component_sentence(signed, two, CONFIG))


def test_no_component_is_fed_to_no_model() -> None:
    findings = Findings("sink-formation", pd.DataFrame(), (), "", {}, {})
    findings.summary["pca"] = [{"block": 3, "key": "3", "among": "sinks", "prompts": 1, "explained": []}]
    findings.arrays["components.3"] = np.zeros((0, 6), np.float32)
    made = formation_pca.examine(None, findings, CONFIG)
    assert made.arrays == {} and formation_pca.signed(findings, made, CONFIG) == []
    formation_pictures.with_examined(findings, made, [], CONFIG)
    assert findings.charts == [] and findings.sheets == []


def test_the_check_compares_shares_of_attention_lost() -> None:
    def one(**changes: Any) -> dict[str, Any]:
        base = {"row": 0, "kind": "secondary", "anchor": False, "mlp": True, "before": 0.2, "after": 0.1}
        return base | {"control_before": 0.01, "control_after": 0.0} | changes

    told = {"prompts": [{"name": f"p{i}"} for i in range(8)]}
    findings = Findings("sink-formation", pd.DataFrame(), (), "", {}, told)
    # a control can lose no more than its 0.01, but that is all it has: the sink's half is less
    units = [Unit(facts={"rows": [one()]}) for _ in range(8)]
    found = formation_check.effects(findings, units, "all", CONFIG).verification()
    assert (found.effect, found.control, found.verdict) == (pytest.approx(0.5), pytest.approx(1.0), "failed")
    units = [Unit(facts={"rows": [one(control_after=0.01), one(mlp=False, after=0.2)]}) for _ in range(8)]
    found = formation_check.effects(findings, units, "secondary", CONFIG).verification()
    assert (found.effect, found.control, found.verdict) == (pytest.approx(0.25), pytest.approx(0.5), "failed")
    # formed by a head, the second says nothing of MLPs
    found = formation_check.effects(findings, units, "secondary_mlp", CONFIG).verification()
    assert (found.effect, found.control, found.verdict) == (pytest.approx(0.5), pytest.approx(0.0), "verified")
    units = [Unit(facts={"rows": [one(anchor=True), one(kind="primary")]}) for _ in range(8)]
    assert formation_check.effects(findings, units, "secondary_mlp", CONFIG).verdict() == "nothing to verify"


def test_what_gets_no_attention_has_no_share_to_lose() -> None:
    rows = [fact(formed_by="MLP 4", control_received=0.5 * formation_check.FLOOR)]
    findings = Findings("sink-formation", pd.DataFrame(), (), "", {}, {"prompts": [{"name": "a", "rows": rows}]})
    assert formation_check.check(None, prompt("a", *range(6)), 0, findings, CONFIG) is None
