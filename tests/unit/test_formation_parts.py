"""Parts of the formation finder that need no model: who formed a sink, controls, components, intervals, sentences."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from interp.finders import formation_check, formation_pca, formation_rows, formation_short, formation_words
from interp.finders.base import Unit
from interp.finders.formation_config import COLUMNS, QUANTITIES, FormationConfig
from interp.finders.formation_plan import cases
from interp.finders.sink_config import Measured, Sink, SinksConfig
from interp.finders.sink_found import Found
from interp.findings import Verification
from probes.base import Prompt

CONFIG = FormationConfig()


def fact(**changes: Any) -> dict[str, Any]:
    """One row of facts, as `measure` makes them."""
    base = {
        "position": 5,
        "kind": "primary",
        "anchor": False,
        "start": 4,
        "reading": [5],
        "control": "same token",
        "controls": [3],
        "received": 0.2,
        "control_received": 0.01,
        "carried": 0.1,
        "gain": 0.9,
        "mlp": 0.7,
        "attention": 0.3,
        "heads": [0.1, 0.2],
        "bias": 0.0,
        "why": None,
        "why_heads": None,
        "experts": None,
        "why_experts": None,
    }
    return base | changes


def test_the_largest_share_names_the_module() -> None:
    assert formation_rows.former(fact(), CONFIG) == "MLP 4"
    assert formation_rows.former(fact(mlp=0.15), CONFIG) == "head 4.1"
    # all of attention is more than the MLP, but no head of it is
    assert formation_rows.former(fact(mlp=0.25, attention=0.75, heads=[0.2] * 3 + [0.15]), CONFIG) == "MLP 4"
    assert formation_rows.former(fact(mlp=0.25, attention=0.75, heads=None), CONFIG) == "attention 4"
    assert formation_rows.former(fact(mlp=None), CONFIG) is None
    assert formation_rows.former(fact(carried=0.51), CONFIG) is None
    assert formation_rows.former(fact(carried=0.51), FormationConfig(carried=0.6)) == "MLP 4"


def unit_of(rows: list[dict[str, Any]], sinks: float, controls: float) -> Unit:
    count = len(rows)
    return Unit(
        {
            "cosines": np.full((count, len(QUANTITIES)), sinks, np.float32),
            "control_cosines": np.full((count, len(QUANTITIES)), controls, np.float32),
        },
        {"rows": rows, "lacks": {}, "blocks": sorted({row["start"] for row in rows})},
    )


def prompt(name: str, *ids: int) -> Prompt:
    return Prompt(name, "", ids, tuple(f"<{token}>" for token in ids))


def test_a_sink_without_its_token_elsewhere_borrows_controls_from_other_prompts() -> None:
    prompts = [prompt("a", 1, 2, 3, 9, 5, 9), prompt("b", 1, 2, 3, 4, 5, 9), prompt("c", 1, 2, 3, 4, 5, 8)]
    lonely = fact(control="nearby token", controls=[4])
    units = [unit_of([fact()], 0.9, 0.2), unit_of([lonely], 0.8, 0.5), unit_of([lonely], 0.7, 0.4)]
    found = formation_rows.controls(prompts, units)
    assert [kinds for _, kinds, _ in found] == [["same token"], ["same token, another prompt"], ["nearby token"]]
    assert [float(cosines[0, 0]) for cosines, _, _ in found] == pytest.approx([0.2, 0.2, 0.4])
    # of another block it says nothing
    units[0].facts["rows"][0]["start"] = 3
    assert formation_rows.controls(prompts, units)[1][1] == ["nearby token"]


def test_claims_average_prompts_and_say_why_there_is_none() -> None:
    prompts = [prompt("a", *range(6)), prompt("b", *range(6))]
    rows = [
        [fact(formed_by="MLP 4"), fact(kind="secondary", mlp=0.9, formed_by=None)],
        [fact(mlp=0.5, formed_by="MLP 4")],
    ]
    units = [unit_of(rows[0], 0.9, 0.1), unit_of(rows[1], 0.5, 0.3)]
    units[1].facts["lacks"] = {"gate": "has no gate"}
    for unit in units:
        unit.arrays["cosines"][:, QUANTITIES.index("gate")] = np.nan
    made = formation_rows.claims(rows, units, formation_rows.controls(prompts, units), CONFIG)
    assert made["mlp_share.primary"]["mean"] == pytest.approx(0.6) and made["mlp_share.primary"]["n"] == 2
    assert made["mlp_share.secondary"] == {"mean": 0.9, "low": 0.9, "high": 0.9, "n": 1, "values": 1}
    assert made["mlp_share.anchor"]["mean"] is None and "anchor" in made["mlp_share.anchor"]["why"]
    assert made["cosine.mlp_in.sinks"]["mean"] == pytest.approx(0.7)
    assert made["cosine.mlp_in.difference"]["mean"] == pytest.approx(0.5)
    assert made["cosine.mlp_in.difference"]["low"] == pytest.approx(0.2)
    assert made["cosine.gate.sinks"]["mean"] is None and made["cosine.gate.sinks"]["why"] == "has no gate"
    assert made["formed_by"] == {"counts": {"MLP 4": 2}, "n": 3, "unnamed": 1}


def test_experts_are_counted_by_block() -> None:
    rows = [
        [fact(experts=[[2, 0.75, 0.9], [0, 0.25, 0.1]]), fact(experts=[[2, 0.5, 1.1], [-1, 1.0, -0.1]])],
        [fact(start=6, experts=[[1, 1.0, 1.0]]), fact()],
    ]
    made = formation_rows.expert_rows(rows)
    assert [(e["block"], e["expert"], e["fired"], e["sinks"]) for e in made] == [
        (4, -1, 1, 2),
        (4, 0, 1, 2),
        (4, 2, 2, 2),
        (6, 1, 1, 1),
    ]
    assert made[2]["weight"] == pytest.approx(0.625) and made[2]["share"] == pytest.approx(1.0)


def test_controls_are_the_same_token_nearby_and_no_sink() -> None:
    ids = (7, 7, 1, 7, 2, 7, 7, 3)
    flat = np.zeros((4, len(ids)), np.float32)
    one = Measured(np.zeros((4, 1, len(ids)), np.float32), flat, flat, flat, 0, 0)
    spans = (Sink(0, "primary", 1, 2, (1, 2)), Sink(5, "primary", 1, 3, (1, 2, 3)), Sink(7, "primary", 1, 2, (1, 2)))
    found = Found(Unit(facts={}), one, spans, (1, 2, 3, 4, 6))
    anchor, alike, lonely = cases(Prompt("p", "", ids, ("",) * 8), found, FormationConfig(matches=2))
    assert (anchor.anchor, anchor.controls, anchor.reading) == (True, (1, 3), (2, 3))
    assert (alike.anchor, alike.control, alike.controls, alike.reading) == (False, "same token", (6, 3), (2, 3))
    assert (lonely.control, lonely.controls) == ("nearby token", (4,))  # 6 was given to another sink of the block


def inputs(seed: int = 0) -> formation_pca.Inputs:
    """Ten sinks far out along the first axis, ten controls, noise."""
    rng = np.random.default_rng(seed)
    noise = 0.1 * rng.standard_normal((20, 6))
    sinks, controls = noise[:10] + 5.0 * np.eye(6)[0], noise[10:]
    return formation_pca.Inputs(3, sinks, controls, ("",) * 10, 0, np.eye(6)[1], np.eye(6)[2])


def test_components_are_those_of_the_covariance_and_point_to_the_sinks() -> None:
    one = inputs()
    axes, shares, scores = formation_pca.components(one, 3)
    values, vectors = np.linalg.eigh(np.cov(np.concatenate([one.sinks, one.controls]).T))
    np.testing.assert_allclose(shares, values[::-1][:3] / values.sum(), rtol=1e-5)
    np.testing.assert_allclose(np.abs(axes @ vectors[:, ::-1][:, :3]), np.eye(3), atol=1e-4)
    assert axes[0, 0] > 0.99 and scores[:10, 0].min() > 1 and scores[10:, 0].max() < -1
    assert len(formation_pca.components(one, 50)[0]) <= 6


def test_a_component_that_is_rounding_is_none() -> None:
    one = inputs()
    flat = formation_pca.Inputs(
        3, one.sinks * np.eye(6)[0], one.controls * 0, ("",) * 10, 0, one.anchor_out, one.direction
    )
    assert len(formation_pca.components(flat, 4)[0]) == 1


def test_inputs_are_pooled_without_the_anchor_where_others_are_enough() -> None:
    def unit(others: int) -> Unit:
        rows = [fact(anchor=True, position=0), *(fact(position=1 + i) for i in range(others))]
        count = len(rows)
        made = unit_of(rows, 0.9, 0.1)
        made.arrays |= {
            "mlp_in": np.arange(4.0 * count).reshape(count, 4),
            "control_in": np.ones((count, 4)),
            "anchor_out": np.array([[0.0, 2.0, 0.0, 0.0]]),
            "anchor_state": np.array([[3.0, 0.0, 0.0, 0.0]]),
        }
        return made

    labels = [[f"{i}" for i in range(4)]] * 2
    many = formation_pca.pooled([unit(2), unit(3)], labels, CONFIG)
    assert [(one.block, len(one.sinks), one.anchors) for one in many] == [(4, 5, 0)]
    assert many[0].labels == ("1", "2", "1", "2", "3")
    np.testing.assert_allclose(many[0].anchor_out, [0, 1, 0, 0])
    few = formation_pca.pooled([unit(1), unit(1)], labels, CONFIG)
    assert [(len(one.sinks), one.anchors) for one in few] == [(4, 2)]
    assert formation_pca.pooled([unit(1)], labels[:1], CONFIG) == []


def test_silencing_touches_the_named_module_at_the_named_positions() -> None:
    mlp, head = sorted(
        formation_check.silence([("MLP 5", 3), ("MLP 5", 7), ("head 2.1", 4)]), key=lambda edit: edit.head is not None
    )
    assert (mlp.sites, mlp.positions, mlp.head) == (("blocks.5.hook_mlp_out",), (3, 7), None)
    assert (head.sites, head.positions, head.head) == (("blocks.2.attn.hook_z",), (4,), 1)
    value = torch.ones(1, 9, 2, 3)
    out = head.apply(value, head.sites[0], 2)
    assert out.sum() == value.sum() - 3 and out[0, 4, 1].abs().max() == 0 and value.min() == 1
    out = mlp.apply(torch.ones(1, 9, 4), mlp.sites[0], 5)
    assert out.sum(dim=-1).tolist() == [[4.0 * (at not in (3, 7)) for at in range(9)]]


def test_short_form_names_mlp_or_attention_and_counts() -> None:
    rows = [fact(), fact(mlp=0.9, attention=0.1), fact(start=9, mlp=0.2, attention=0.8), fact(start=9, carried=0.8)]
    found = formation_short.groups(rows)
    assert [(g["block"], g["formed_by"], g["sinks"]) for g in found] == [
        (4, "MLP", 2),
        (9, "attention", 1),
        (9, None, 1),
    ]
    said = formation_short.sentence(found)
    assert "the MLP of block 4 formed 2 (80 %)" in said and "the attention of block 9 formed 1 (80 %)" in said
    assert "Of 4 spans" in said and "for 1 no block can be named" in said
    assert formation_short.sentence([]) == ""
    assert formation_short.sheet(found).rows[0] == (4, "MLP", 2, pytest.approx(0.8), pytest.approx(0.2), 0.1)


def test_effects_are_told_in_words_with_their_intervals() -> None:
    check = Verification("verified", "x", "y", 8, -0.12, -0.17, -0.07, -0.004, -0.01, 0.0)
    said = formation_words.effect_sentence(check, "the sinks")
    assert "-0.120 (-0.170 to -0.070)" in said and "verified (8 prompts" in said
    assert "nothing to verify" in formation_words.effect_sentence(
        Verification("nothing to verify", "x", "y"), "the sinks"
    )


@pytest.mark.parametrize("wrong", [{"matches": 0}, {"enough": 1}, {"components": 0}, {"sweep": 1}, {"effective": 2.0}])
def test_settings_out_of_range_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        FormationConfig(**wrong)


def test_the_page_lists_every_setting_with_its_default_and_every_quantity() -> None:
    page = (Path(__file__).parents[2] / "docs" / "formation.md").read_text("utf-8")
    quantities, settings = page.split("## Settings")
    own = {field.name for field in fields(FormationConfig)} - {field.name for field in fields(SinksConfig)}
    defaults = dict(re.findall(r"^\| `(\w+)` \| `(\S+)` \|", settings, re.MULTILINE))
    assert defaults == {name: str(getattr(CONFIG, name)) for name in own}
    assert tuple(re.findall(r"^\| `(\w+)` \| (?:`[a-z_.]+`)? ?\|", quantities, re.MULTILINE)) == QUANTITIES


def test_every_quantity_has_a_column() -> None:
    assert {f"cosine_{name}" for name in QUANTITIES} <= {column.name for column in COLUMNS}
