"""Stability of levels over bootstrap resamples: the kernel against the plain clustering, and cases worked by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.finders import sink_levels
from interp.finders.sink_levels import TOLERANCE, levels, secondary_levels, sheet, stability
from interp.scoring.level_heads import level_heads


@given(
    spans=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5), st.integers(1, 6)), min_size=1, max_size=25),
    seed=st.integers(0, 10**6),
)
def test_kernel_agrees_with_the_plain_clustering(spans: list[tuple[int, int, int]], seed: int) -> None:
    pairs = sorted({(start, life) for _, start, life in spans})
    counts = np.zeros((5, len(pairs)), dtype=int)
    for prompt, start, life in spans:
        counts[prompt, pairs.index((start, life))] += 1
    draws = np.random.default_rng(seed).integers(0, 5, (6, 5))
    found = level_heads(np.array(pairs), counts, draws, TOLERANCE)
    for draw, names in zip(draws, found, strict=True):
        again = [(start, life) for chosen in draw for prompt, start, life in spans if prompt == chosen]
        assert [pair for pair, named in zip(pairs, names, strict=True) if named] == levels(again)[1]


def test_kernel_refuses_shapes_that_do_not_belong_together() -> None:
    with pytest.raises(ValueError, match=r"\[2, 2\], \[3, 1\]"):
        level_heads(np.zeros((2, 2)), np.zeros((3, 1)), np.zeros((1, 3)), 1)


def test_a_level_of_every_prompt_is_always_found_and_one_of_a_single_prompt_is_not() -> None:
    n = 10
    pairs = [(4, 8)] * n + [(11, 3)]
    prompts = [*range(n), 0]
    heads = levels(pairs)[1]
    shares, number = stability(pairs, prompts, n, heads, 0)
    assert shares[0] == 1.0
    assert shares[1] == pytest.approx(1 - (1 - 1 / n) ** n, abs=0.04)  # prompt 0 is drawn at least once
    assert (number["found"], number["low"], number["high"], number["n"]) == (2, 1.0, 2.0, n)
    assert number["mean"] == pytest.approx(sum(share or 0 for share in shares))
    assert (shares, number) == stability(pairs, prompts, n, heads, 0)


def test_a_level_named_after_a_neighbour_counts_as_found() -> None:
    pairs = [(4, 8), (4, 8), (4, 9)]  # without prompts 0 and 1 the level is named after (4, 9)
    shares, number = stability(pairs, [0, 1, 2], 3, levels(pairs)[1], 1)
    assert shares == [1.0] and number["low"] == number["high"] == 1.0


def test_one_prompt_and_no_sink_say_what_they_can() -> None:
    assert stability([(1, 2)], [0], 1, [(1, 2)], 0)[0] == [None]
    assert "single prompt" in stability([(1, 2)], [0], 1, [(1, 2)], 0)[1]["why"]
    assert stability([], [], 4, [], 0) == ([], {"found": 0, "mean": 0.0, "low": 0.0, "high": 0.0, "n": 4})


def rows(*spans: tuple[str, int, int]) -> list[dict[str, Any]]:
    return [
        {
            "kind": kind,
            "start_layer": start,
            "lifetime": life,
            "token_id": 7,
            "token": " .\n",
            "norm": 100.0,
            "level": 9,
        }
        for kind, start, life in spans
    ]


def test_secondary_sinks_are_clustered_alone() -> None:
    found = rows(("primary", 5, 10), ("secondary", 6, 9), ("secondary", 12, 3), ("secondary", 12, 4))
    told, number = secondary_levels(found, [0, 0, 1, 2], 3, 0)
    assert [(level["start_layer"], level["lifetime"], level["sinks"]) for level in told] == [(6, 9, 1), (12, 3, 2)]
    assert number["found"] == 2 and number["n"] == 3
    assert 0.5 < told[0]["stability"] < told[1]["stability"] < 1.0
    assert told[0]["kinds"] == {"secondary": 1}
    assert [row["level"] for row in found] == [9] * 4  # the table's own numbers stay
    assert secondary_levels(found[:1], [0], 3, 0)[0] == []


def test_levels_as_a_table() -> None:
    told, _ = secondary_levels(rows(("secondary", 6, 9), ("secondary", 6, 9)), [0, 1], 2, 0)
    made = sheet([], told)
    assert [column.name for column in made.columns] == [column.name for column in sink_levels.COLUMNS]
    assert made.rows == (("secondary sinks", 0, 6, 9, 2, 1.0, 1.0, "secondary 2", "' .\n' x2", 100.0, 100.0, 100.0),)
