"""Parts of the formation finder that need no model: who formed a sink, controls, components, intervals, sentences."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from interp.finders import (
    formation_check,
    formation_measure,
    formation_pca,
    formation_rows,
    formation_short,
    formation_words,
)
from interp.finders.base import Unit
from interp.finders.formation_config import COLUMNS, QUANTITIES, FormationConfig
from interp.finders.formation_former import former, is_mlp
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
    assert former(fact()) == "MLP 4"
    assert former(fact(mlp=0.15)) == "head 4.1"
    # no head writes more than the MLP, but all of attention does: the head that wrote most is named
    assert former(fact(mlp=0.25, attention=0.75, heads=[0.15, 0.2, 0.1, 0.15, 0.15])) == "head 4.1"
    assert former(fact(mlp=0.25, attention=0.75, heads=None)) == "attention 4"
    assert former(fact(mlp=None)) is None
    assert former(fact(carried=0.51)) is None
    assert former(fact(carried=0.51), 0.6) == "MLP 4"
    assert is_mlp("MLP 4") and not is_mlp("head 4.1") and not is_mlp(None)


@pytest.mark.parametrize(("mlp", "said"), [(0.25, "attention"), (0.75, "MLP"), (0.5, "MLP")])
def test_the_short_form_and_the_full_one_agree(mlp: float, said: str) -> None:
    one = fact(mlp=mlp, attention=1 - mlp, heads=[(1 - mlp) / 5] * 5)
    (short,) = formation_short.groups([one])
    assert short["formed_by"] == said and is_mlp(former(one)) == (said == "MLP")


def unit_of(rows: list[dict[str, Any]], sinks: float, controls: float) -> Unit:
    count, blocks = len(rows), sorted({row["start"] for row in rows})
    return Unit(
        {
            "cosines": np.full((count, len(QUANTITIES)), sinks, np.float32),
            "control_cosines": np.full((count, len(QUANTITIES)), controls, np.float32),
        },
        {"rows": rows, "lacks": [{} for _ in blocks], "blocks": blocks, "lent": []},
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


def test_ordinary_tokens_of_other_prompts_are_lent_in_the_same_block() -> None:
    prompts = [prompt("a", 1, 2, 3, 4, 5, 9), prompt("b", 1, 2, 9, 4, 5, 6)]
    lonely = fact(control="nearby token", controls=[4])
    units = [unit_of([lonely], 0.8, 0.5), unit_of([fact(position=1, control="nearby token")], 0.9, 0.3)]
    units[1].facts["lent"] = [[4, 9], [4, 3], [7, 2]]
    units[1].arrays["lent"] = np.array([[0.1] * len(QUANTITIES), [0.2] * len(QUANTITIES), [0.3] * len(QUANTITIES)])
    (cosines, kinds, counts), (_, others, _) = formation_rows.controls(prompts, units)
    assert (kinds, counts, others) == (["same token, another prompt"], [1], ["nearby token"])
    assert cosines[0, 0] == pytest.approx(0.1)
    assert formation_measure.lenders((9, 9, 5, 9, 4), (0, 1, 2, 4)) == {9: 1, 5: 2, 4: 4}


def test_claims_average_prompts_and_say_why_there_is_none() -> None:
    prompts = [prompt("a", *range(6)), prompt("b", *range(6))]
    rows = [
        [
            fact(formed_by="MLP 4"),
            fact(kind="secondary", mlp=0.9, formed_by="MLP 4"),
            fact(kind="secondary", mlp=499.0, carried=0.999, formed_by=None),
        ],
        [fact(mlp=0.5, formed_by="MLP 4")],
    ]
    units = [unit_of(rows[0], 0.9, 0.1), unit_of(rows[1], 0.5, 0.3)]
    for unit in units:
        unit.facts["lacks"] = [{"gate": "has no gate"}]
        unit.arrays["cosines"][:, QUANTITIES.index("gate")] = np.nan
    made = formation_rows.claims(rows, units, formation_rows.controls(prompts, units), CONFIG)
    assert made["mlp_share.primary"]["mean"] == pytest.approx(0.6) and made["mlp_share.primary"]["n"] == 2
    # the block that added next to nothing has a share of 499, which is nobody's
    assert made["mlp_share.secondary"] == {"mean": 0.9, "low": 0.9, "high": 0.9, "n": 1, "values": 1, "left_out": 1}
    assert made["mlp_share.primary"]["left_out"] == 0
    assert made["mlp_share.anchor"]["mean"] is None and "anchor" in made["mlp_share.anchor"]["why"]
    assert made["cosine.mlp_in.sinks"]["mean"] == pytest.approx(0.7)
    assert made["cosine.mlp_in.difference"]["mean"] == pytest.approx(0.5)
    assert made["cosine.mlp_in.difference"]["low"] == pytest.approx(0.2)
    assert made["cosine.gate.sinks"]["mean"] is None and made["cosine.gate.sinks"]["why"] == "has no gate"
    assert made["formed_by"] == {"counts": {"MLP 4": 3}, "n": 4, "unnamed": 1}


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
    return formation_pca.Inputs(3, "sinks", sinks, controls, ("",) * 10, 0, 2, np.eye(6)[1], np.eye(6)[2])


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
    flat = replace(one, sinks=one.sinks * np.eye(6)[0], controls=one.controls * 0)
    assert len(formation_pca.components(flat, 4)[0]) == 1
    assert len(formation_pca.components(replace(flat, sinks=flat.sinks * 0), 4)[0]) == 0


def test_inputs_are_pooled_without_the_anchor_where_others_are_enough() -> None:
    def unit(others: int, kind: str = "primary") -> Unit:
        rows = [fact(anchor=True, position=0), *(fact(position=1 + i, kind=kind) for i in range(others))]
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
    pure = formation_pca.pooled([unit(2, "secondary"), unit(3, "secondary")], labels, CONFIG)
    assert [(one.among, one.key, len(one.sinks), one.prompts) for one in pure] == [
        ("secondary sinks", "4.secondary", 5, 2)
    ]
    labels *= 2
    mixed = formation_pca.pooled([unit(2, "secondary"), unit(3), unit(2, "secondary"), unit(0)], labels, CONFIG)
    assert [(one.among, one.key, len(one.sinks), one.prompts) for one in mixed] == [
        ("sinks", "4", 7, 3),
        ("secondary sinks", "4.secondary", 4, 2),
    ]
    # too few of them without the anchor's own: nothing is said of secondary sinks
    assert [one.among for one in formation_pca.pooled([unit(1, "secondary")] * 3, labels[:3], CONFIG)] == ["sinks"]


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
    rows = [fact(), fact(mlp=0.9, attention=0.1), fact(start=9, mlp=0.2, attention=0.8)]
    rows.append(fact(start=9, carried=0.8, mlp=499.0))
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
    assert found[2]["mlp"] is None and found[2]["carried"] == 0.8  # a share of next to nothing
    assert formation_short.sheet(found).rows[0] == (4, "MLP", 2, pytest.approx(0.8), pytest.approx(0.2), 0.1)


def test_effects_are_told_in_words_with_their_intervals() -> None:
    check = Verification("verified", "x", "y", 8, 0.92, 0.87, 0.97, 0.004, -0.01, 0.02)
    said = formation_words.effect_sentence(check, "the sinks")
    assert (
        "takes 92% (87% to 97%) of the attention received there, at controls 0% (-1% to 2%)" in said
        and "verified (8 prompts" in said
    )
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
