"""Sinks of two real models, against the plain implementation in `tests.plain_sinks`, and as regression tests.

What is asserted was measured there first: where the sinks are, from which block to which, how long and how alike
their states.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from interp.finders.sink_check import controls
from interp.finders.sink_config import SinksConfig
from interp.finders.sink_measure import cut_loss
from interp.finders.sinks import sinks
from interp.resources import data_path
from probes.base import Prompt
from tests import plain_sinks

CONFIG = SinksConfig()


def prompt(model: Any, name: str, tokens: int) -> Prompt:
    """A shipped text behind the model's BOS, as ``--bos add`` puts it there."""
    text = data_path("texts", f"{name}.txt").read_text(encoding="utf-8")
    ids = [model.tokenizer.bos_token_id, *model.tokenizer(text, add_special_tokens=False)["input_ids"]][:tokens]
    return Prompt(name, text, tuple(ids), tuple(model.tokenizer.decode([i]) for i in ids), truncated=True)


def blocks(model: Any) -> list[Any]:
    return [model.sites.block(layer) for layer in range(model.n_layers)]


def agree(model: Any, one: Prompt) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Finds the sinks of a prompt both ways, compares everything, and returns the rows and the norms [layer,
    position]."""
    alpha, states, loss = plain_sinks.observe(model.hf, blocks(model), one.ids)
    unit = sinks.measure(model, one, CONFIG)
    np.testing.assert_allclose(unit.arrays["received"], alpha.numpy(), atol=1e-5)
    np.testing.assert_allclose(unit.arrays["resid_norm"], states.norm(dim=-1).numpy(), rtol=1e-4)
    assert unit.facts["loss"] == pytest.approx(loss, abs=1e-4)
    expected = plain_sinks.find(alpha, states)
    rows = sinks.find([one], [unit], CONFIG, model.facts()).records()
    assert [list(map(row.get, ("position", "kind", "start_layer", "lifetime"))) for row in rows] == [
        list(map(row.get, ("position", "kind", "start_layer", "lifetime"))) for row in expected
    ]
    for row, other in zip(rows, expected, strict=True):
        assert row["token_id"] == one.ids[row["position"]] and row["token"] == one.tokens[row["position"]]
        for name in ("cosine", "norm", "received", "heads"):
            assert row[name] == pytest.approx(other[name], rel=1e-3), (row, name)
    return rows, unit.arrays["resid_norm"]


@pytest.mark.smollm2
@pytest.mark.parametrize(("name", "tokens"), [("essay_maps", 384), ("code_python", 200)])
def test_smollm2_agrees_with_plain(smollm2: Any, name: str, tokens: int) -> None:
    rows, norm = agree(smollm2, prompt(smollm2, name, tokens))
    anchor = [row for row in rows if row["position"] == 0]
    assert [(row["kind"], row["start_layer"], row["lifetime"]) for row in anchor][-1] == ("primary", 11, 18)
    assert anchor[-1]["received"] > 0.4 and anchor[-1]["heads"] > 0.7
    jumps = norm[1:, 0] / norm[:-1, 0]
    assert jumps.argmax() == 10 and jumps[10] > 100 and np.delete(jumps, 10).max() < 10  # block 11, and no other
    assert norm[11:28, 0].min() > 2.4e4 and norm[:11, 0].max() < 1e3
    first_wave = [row for row in rows if row["position"] > 0]
    assert len(first_wave) >= 2
    for row in first_wave:
        assert row["start_layer"] in (1, 2) and row["start_layer"] + row["lifetime"] <= 9
        assert row["cosine"] > 0.93 and 100 < row["norm"] < 1e3


@pytest.mark.smollm2
def test_smollm2_sink_matters_where_it_is_read_and_moves_when_cut_everywhere(smollm2: Any) -> None:
    one = prompt(smollm2, "essay_maps", 256)
    loss = sinks.measure(smollm2, one, CONFIG).facts["loss"]
    read = tuple(range(12, 30))
    cut = cut_loss(smollm2, one.ids, ((0, read),)) - loss
    other = [cut_loss(smollm2, one.ids, draw) - loss for draw in controls(((0, read),), range(1, 200), 2, (0,))]
    everywhere = cut_loss(smollm2, one.ids, ((0, tuple(range(30))),)) - loss
    assert cut > 0.3 and max(map(abs, other)) < 0.15
    assert abs(everywhere) < 0.15  # the second token, with nothing before it now, has become the sink


@pytest.mark.smollm2
def test_smollm2_without_bos_has_its_first_token_as_anchor(smollm2: Any) -> None:
    with_bos = prompt(smollm2, "prose_lighthouse", 161)
    rows, _ = agree(smollm2, Prompt("no bos", with_bos.text, with_bos.ids[1:], with_bos.tokens[1:]))
    assert (rows[0]["position"], rows[0]["kind"]) == (0, "primary")
    assert (11, 18) in [(row["start_layer"], row["lifetime"]) for row in rows if row["position"] == 0]


@pytest.mark.gemma3
@pytest.mark.parametrize(("name", "tokens"), [("licence", 512), ("code_c", 340)])
def test_gemma3_agrees_with_plain(gemma3: Any, name: str, tokens: int) -> None:
    rows, norm = agree(gemma3, prompt(gemma3, name, tokens))
    anchor, later = rows[0], [row for row in rows if row["kind"] == "secondary"]
    assert (anchor["position"], anchor["kind"], anchor["start_layer"], anchor["lifetime"]) == (0, "primary", 0, 17)
    assert later and all(row["start_layer"] >= 4 and row["cosine"] > 0.99 for row in later)
    strongest = max(later, key=lambda row: row["received"])
    assert strongest["start_layer"] in (4, 5) and strongest["start_layer"] + strongest["lifetime"] == 16
    assert 0.05 < strongest["received"] < anchor["received"]
    jump = norm[5, strongest["position"]] / norm[3, strongest["position"]]
    assert jump > 4 and norm[5, strongest["position"]] > 4 * np.median(norm[5])
