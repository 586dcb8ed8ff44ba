"""Levels of many resamples: in portions or at once, and many spans described in one go."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interp.finders.sink_levels import TOLERANCE, describe, levels
from interp.scoring import level_heads as room
from interp.scoring.level_heads import level_heads


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    prompts=st.integers(1, 5),
    resamples=st.integers(0, 7),
    size=st.sampled_from([1, 3, 10**6]),
    cells=st.sampled_from([1, 12, 10**6]),
    seed=st.integers(0, 10**6),
)
def test_every_resample_is_clustered_as_its_spans_would_be(
    monkeypatch: pytest.MonkeyPatch, prompts: int, resamples: int, size: int, cells: int, seed: int
) -> None:
    monkeypatch.setattr(room, "CELLS", cells)
    rng = np.random.default_rng(seed)
    pairs = np.unique(rng.integers(1, 9, (rng.integers(1, 12), 2)), axis=0)
    counts = rng.integers(0, size + 1, (prompts, len(pairs)))
    counts[rng.random(counts.shape) < 0.3] = 0
    draws = rng.integers(0, prompts, (resamples, prompts))
    found = level_heads(pairs, counts, draws, TOLERANCE)
    assert found.shape == (resamples, len(pairs))
    for drawn, names in zip(draws, found, strict=True):
        held = counts[drawn].sum(0)
        assert [tuple(pair) for pair in pairs[names].tolist()] == named(pairs, held)


def named(pairs: np.ndarray, held: np.ndarray) -> list[tuple[int, int]]:
    """The pairs that name a level: the most frequent first, unless a level is near."""
    heads: list[tuple[int, int]] = []
    for at in sorted(np.flatnonzero(held), key=lambda at: (-held[at], at)):
        start, life = pairs[at].tolist()
        far = [max(abs(start - other), abs(start + life - other - long)) > TOLERANCE for other, long in heads]
        if all(far):
            heads.append((start, life))
    return sorted(heads)


def test_levels_are_described_from_their_own_spans_alone() -> None:
    rng = np.random.default_rng(0)
    pairs = [(int(start), 4) for start in rng.choice([2, 9, 20], 300, p=[0.6, 0.3, 0.1])]
    numbers, heads = levels(pairs)
    rows = [
        {"level": level, "token_id": level, "token": f"t{level}", "norm": 10.0 * level + i / 300, "kind": "secondary"}
        for i, level in enumerate(numbers)
    ]
    prompts = [i % 7 for i in range(300)]
    told = describe(rows, heads, prompts, 8)
    assert [one["start_layer"] for one in told] == [2, 9, 20]
    for level, one in enumerate(told):
        own = [i for i, number in enumerate(numbers) if number == level]
        assert one["sinks"] == one["tokens"][0]["sinks"] == one["kinds"]["secondary"] == len(own)
        assert one["norm"]["median"] == pytest.approx(np.median([rows[i]["norm"] for i in own]))
        assert one["share_of_prompts"] == len({prompts[i] for i in own}) / 8
