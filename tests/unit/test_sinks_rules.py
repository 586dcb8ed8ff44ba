"""The rules on arrays made by hand: what is marked, what is aligned, what kind a span is, which levels come out."""

from __future__ import annotations

import numpy as np
import pytest

from interp.finders import sink_rules, sink_wong2025
from interp.finders.sink_config import Measured, Sink, SinksConfig, reading_layers
from interp.finders.sink_levels import describe, levels

CONFIG = SinksConfig()
LAYERS, HEADS, TOKENS = 10, 2, 96
GIVEN = {0: (1, 8), 20: (4, 7), 30: (1, 8), 40: (1, 5), 50: (8, 9)}
"""Position -> blocks [start, stop) in whose outputs it is a sink."""


def uniform(tokens: int = TOKENS, layers: int = LAYERS) -> np.ndarray:
    """alpha [layer, head, key] when each query attends evenly to all it sees."""
    pattern = np.tril(np.ones((tokens, tokens))) / np.arange(1, tokens + 1)[:, None]
    alpha = pattern.sum(0) / np.arange(tokens, 0, -1)
    return np.tile(alpha, (layers, HEADS, 1)).astype(np.float32)


def made(sinks: dict[int, tuple[int, int]], anchor: int | None = 0) -> Measured:
    received, norm = uniform(), np.full((LAYERS, TOKENS), 10, np.float32)
    cosine = np.zeros((LAYERS, TOKENS), np.float32)
    for position, (start, stop) in sinks.items():
        received[start + 1 : stop + 1, :, position] = 0.3
        norm[start:stop, position] = 500
        cosine[start:stop, position] = 0.98
    if anchor is not None:
        cosine[:, anchor] = 1
    return Measured(received, norm, cosine, cosine.copy(), anchor, 0 if anchor is None else anchor)


def table(sinks: list[Sink]) -> list[tuple[int, str, int, int]]:
    return [(sink.position, sink.kind, sink.start, sink.lifetime) for sink in sinks]


def test_kinds_beside_the_anchor() -> None:
    assert table(sink_rules.find(made(GIVEN), CONFIG)) == [
        (0, "primary", 1, 7),
        (20, "secondary", 4, 3),
        (30, "primary", 1, 7),
        (40, "transient", 1, 4),
    ]  # 50 is one block long: not listed
    listed = table(sink_rules.find(made(GIVEN), SinksConfig(least=1)))
    assert listed[-1] == (50, "transient", 8, 1)


@pytest.mark.parametrize(
    ("span", "kind"),
    [
        ((3, 9), "primary"),
        ((4, 10), "primary"),
        ((2, 8), "primary"),
        ((5, 9), "secondary"),
        ((8, 12), "secondary"),
        ((9, 12), "transient"),
        ((4, 7), "transient"),
        ((1, 9), "transient"),
        ((12, 20), "primary"),
        ((14, 15), "secondary"),
    ],
)
def test_kind_of_a_span(span: tuple[int, int], kind: str) -> None:
    assert sink_rules.kind_of(*span, [(3, 9), (12, 20)]) == kind


def test_anchor_is_where_most_attention_went() -> None:
    one = made({5: (1, 8), 60: (1, 8)}, anchor=None)
    assert sink_rules.anchor(one.received, one.norm, CONFIG) == 5  # more queries see it
    one.received[:, :, 5] /= 4
    assert sink_rules.anchor(one.received, one.norm, CONFIG) == 60


def test_neither_attention_nor_length_alone_makes_a_sink() -> None:
    one = made(GIVEN)
    short = np.full_like(one.norm, 10)
    assert sink_rules.anchor(one.received, short, CONFIG) is None
    assert sink_rules.anchor(uniform(), one.norm, CONFIG) is None
    turned = Measured(one.received, one.norm, np.where(one.cosine == 1, 1, 0.5), one.centred, 0, 0)
    assert table(sink_rules.find(turned, CONFIG)) == [(0, "primary", 1, 7)]


def test_uniform_attention_marks_no_key_at_any_length() -> None:
    for tokens in (1, 2, 3, 4, 8, 16, 40, 100, 600):
        alpha = uniform(tokens, 3)
        assert not sink_rules.marks(alpha, np.ones((3, tokens), np.float32), SinksConfig(norm=0)).any(), tokens


def test_local_attention_marks_no_late_key() -> None:
    """Each query attends to itself and the key before: the last keys have large averages, and are ordinary."""
    tokens = 200
    pattern = 0.5 * np.eye(tokens) + 0.5 * np.eye(tokens, k=-1)
    pattern[0, 0] = 1
    alpha = np.tile(pattern.sum(0) / np.arange(tokens, 0, -1), (3, 1, 1)).astype(np.float32)
    assert alpha[0, 0, tokens - 33] > CONFIG.floor * 0.9 and alpha[0, 0, -1] == 0.5
    loose = SinksConfig(norm=0, floor=0.005)
    assert not sink_rules.marks(alpha, np.ones((3, tokens), np.float32), loose).any()


def test_last_keys_are_not_ranked() -> None:
    assert [sink_rules.ranked(tokens, CONFIG) for tokens in (1, 3, 4, 40, 128, 129, 512)] == [1, 3, 3, 30, 97, 98, 481]
    late = made({0: (1, 8), TOKENS - 10: (3, 7)})
    assert table(sink_rules.find(late, CONFIG)) == [(0, "primary", 1, 7)]


def test_gap_is_bridged_and_counted() -> None:
    one = made(GIVEN)
    one.received[4, :, 0] = 0.001  # read by block 4: the state after block 3
    found = sink_rules.find(one, CONFIG)
    assert table(found)[0] == (0, "primary", 1, 7) and found[0].bridged == 1
    one.received[5, :, 0] = 0.001
    assert table(sink_rules.find(one, CONFIG))[:2] == [(0, "primary", 1, 2), (0, "primary", 5, 3)]


def test_anisotropic_block_needs_the_centred_cosine() -> None:
    one = made(GIVEN)
    one.cosine[:] = np.maximum(one.cosine, 0.95)  # every state points the anchor's way
    one.centred[:, 20] = 0.2
    assert 20 not in [sink.position for sink in sink_rules.find(one, CONFIG)]
    one.centred[4:7, 20] = 0.97
    assert (20, "secondary", 4, 3) in table(sink_rules.find(one, CONFIG))


def test_single_block_has_no_sink() -> None:
    assert not sink_rules.marks(uniform(layers=1), np.ones((1, TOKENS), np.float32), CONFIG).any()
    assert reading_layers((3, 4, 9), 10) == [4, 5]


def released(layers: int, spans: dict[int, list[int]]) -> Measured:
    """Norms that jump at block 2 and fall at block layers - 3; positions aligned in the given layers."""
    norm = np.full((layers, 8), 10, np.float32)
    norm[2 : layers - 3, 0] = 900
    cosine = np.zeros((layers, 8), np.float32)
    cosine[:, 0] = 1
    for position, recorded in spans.items():
        cosine[recorded, position] = -0.95  # the released rule takes the absolute value
    return Measured(np.zeros((layers, 1, 8), np.float32), norm, cosine, cosine, 0, 0)


def test_released_rule_step_by_step() -> None:
    one = released(40, {3: [1, 5, 6, 8, 9, 11, 39], 4: list(range(2, 37)), 5: [7], 6: [0, 39]})
    assert sink_wong2025.window(one.norm[:, 0]) == (2, 37)
    assert table(sink_wong2025.find(one, CONFIG)) == [
        (0, "primary", 2, 35),
        (3, "secondary", 5, 5),
        (4, "primary", 2, 35),
        (5, "transient", 7, 1),
    ]


def test_released_rule_window_edges() -> None:
    assert sink_wong2025.window(np.array([1.0, 1, 50, 50, 50, 2])) == (2, 5)
    assert sink_wong2025.window(np.array([1.0, 1, 1, 50])) == (3, 4)
    assert sink_wong2025.window(np.array([1.0])) == (0, 0)
    assert [sink_wong2025.kind_of(n, 48) for n in (1, 4, 5, 32, 33)] == ["transient"] * 2 + ["secondary"] * 2 + [
        "primary"
    ]
    assert all(sink_wong2025.kind_of(n, 18) != "secondary" for n in range(1, 19))


def test_released_rule_looks_for_its_anchor_among_the_first() -> None:
    norm = np.ones((4, 6), np.float32)
    norm[:, 2], norm[2, 1], norm[:, 5] = 9, 3, 99
    nothing = np.zeros((4, 1, 6), np.float32)
    assert sink_wong2025.anchor(nothing, norm, CONFIG) == 1
    assert sink_wong2025.anchor(nothing, norm, CONFIG, chat=True) == 2


def test_levels_gather_round_the_frequent_pairs() -> None:
    pairs = [(22, 23)] * 5 + [(22, 22)] * 3 + [(22, 21)] + [(4, 12), (5, 11)] + [(22, 5)]
    numbers, heads = levels(pairs)
    assert heads == [(4, 12), (22, 5), (22, 21), (22, 23)]
    assert numbers == [3] * 8 + [2, 0, 0, 1]
    assert levels([]) == ([], [])


def test_levels_are_described() -> None:
    rows = [
        {"level": 0, "token_id": 7, "token": ".", "kind": "secondary", "norm": 10.0},
        {"level": 0, "token_id": 7, "token": ".", "kind": "secondary", "norm": 30.0},
        {"level": 1, "token_id": 1, "token": "the", "kind": "primary", "norm": 5.0},
    ]
    first, second = describe(rows, [(5, 11), (9, 2)], [0, 0, 2], 4)
    assert (first["sinks"], first["prompts"], first["share_of_prompts"]) == (2, 1, 0.25)
    assert first["tokens"] == [{"token_id": 7, "token": ".", "sinks": 2}] and first["norm"]["median"] == 20
    assert second["kinds"] == {"primary": 1} and second["start_layer"] == 9
