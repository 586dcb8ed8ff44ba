"""Settings, controls, pictures and sentences of the sinks finder."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from interp.finders import sink_pictures, sink_words
from interp.finders.sink_check import NEAREST, controls
from interp.finders.sink_config import COLUMNS, Sink, SinksConfig
from interp.finders.sink_measure import cosines, next_token_loss
from interp.finders.sinks import where_read
from interp.registry import FINDERS


def test_columns_are_the_stated_ones_in_order() -> None:
    stated = [
        "prompt",
        "position",
        "token_id",
        "token",
        "kind",
        "start_layer",
        "lifetime",
        "cosine",
        "norm",
        "received",
        "heads",
        "level",
    ]
    assert [column.name for column in COLUMNS] == stated
    assert FINDERS.get("sinks").config_type is SinksConfig


@pytest.mark.parametrize(
    ("setting", "value"), [("rule", "mine"), ("eps", 1.5), ("cosine", -0.1), ("least", 0), ("controls", 0), ("gap", -1)]
)
def test_settings_out_of_range_are_refused_by_name(setting: str, value: object) -> None:
    with pytest.raises(ValueError, match=setting):
        SinksConfig(**{setting: value})  # type: ignore[arg-type]


def test_controls_are_near_ordinary_and_in_the_same_layers() -> None:
    sinks = ((0, (3, 4, 5)), (200, (7,)), (201, (7, 8)))
    ordinary = [k for k in range(480) if k not in (0, 200, 201)]
    draws = controls(sinks, ordinary, 5, (0, 1))
    assert len(draws) == 5 and len(set(draws)) == 5
    for draw in draws:
        assert len({position for position, _ in draw}) == 3
        assert sorted(layers for _, layers in draw) == sorted(layers for _, layers in sinks)
        for position, layers in draw:
            sink = next(place for place, read in sinks if read == layers)
            assert abs(position - sink) <= NEAREST + 2 and position in ordinary
    assert draws == controls(sinks, ordinary, 5, (0, 1)) != controls(sinks, ordinary, 5, (1, 1))
    assert controls(sinks, [1, 2], 5, (0, 0)) == [] == controls((), ordinary, 5, (0, 0))


def test_cuts_go_where_sinks_are_read() -> None:
    found = [Sink(0, "primary", 1, 2, (1, 2)), Sink(0, "primary", 8, 2, (8, 9)), Sink(4, "secondary", 3, 1, (3,))]
    assert where_read(found, "all", 10) == [[0, [2, 3, 9]], [4, [4]]]
    assert where_read(found, "secondary", 10) == [[4, [4]]]
    assert where_read(found, "transient", 10) == []


def test_pooled_patterns_keep_their_rows_mass() -> None:
    pattern = np.tril(np.random.default_rng(0).random((1030, 1030), np.float32))
    pattern /= pattern.sum(axis=1, keepdims=True)
    size = sink_pictures.pool_size(1030)
    pooled = sink_pictures.pool(pattern, size)
    assert size == 3 and pooled.shape == (344, 344)
    assert pooled.sum(axis=1) == pytest.approx(1.0, abs=1e-5)
    assert pooled[5, 2] == pytest.approx(pattern[15:18, 6:9].sum() / 3)
    assert pooled[343, 0] == pytest.approx(pattern[1029, 0:3].sum())
    assert [sink_pictures.pool_size(n) for n in (1, 512, 513, 1024, 1025)] == [1, 1, 2, 2, 3]


def test_heads_drawn_alternate_between_anchor_and_secondary() -> None:
    anchor, secondary = np.zeros((3, 2)), np.zeros((3, 2))
    anchor[2, 1], anchor[1, 0], secondary[0, 1], secondary[2, 1] = 0.9, 0.8, 0.7, 0.6
    assert sink_pictures.heads_drawn(anchor, secondary, 3) == [(0, 1), (1, 0), (2, 1)]
    assert sink_pictures.heads_drawn(anchor, None, 2) == [(1, 0), (2, 1)]
    assert len(sink_pictures.heads_drawn(anchor, None, 99)) == 6
    assert sink_pictures.heads_drawn(None, None, 4) == []


def test_centred_cosine_sees_past_a_common_direction() -> None:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(50, 16, generator=generator)
    states[:, 0] += 40  # what all states share
    states[[3, 9], 1] += 300
    plain, centred = cosines(states, 3)
    assert (plain[centred < 0.5] < 0.3).all() and plain[9] > 0.98 and centred[9] > 0.98
    states[:, 0] += 5000
    plain, centred = cosines(states, 3)
    assert plain.min() > 0.9 and centred[9] > 0.98
    assert (np.delete(centred.numpy(), [3, 9]) < 0.9).all()


def test_next_token_loss_is_the_mean_of_minus_log_p() -> None:
    logits = torch.randn(1, 4, 7, generator=torch.Generator().manual_seed(0))
    ids = [1, 5, 0, 6]
    p = logits[0].double().softmax(-1)
    by_hand = -np.mean([float(p[i, ids[i + 1]].log()) for i in range(3)])
    assert next_token_loss(logits, ids) == pytest.approx(by_hand, rel=1e-6)


def test_words() -> None:
    assert sink_words.count(1, "prompt") == "1 prompt" and sink_words.count(2, "prompt") == "2 prompts"
    assert sink_words.lengths([7, 7]) == "T = 7 tokens" and sink_words.lengths([7, 9]) == "T = 7 to 9 tokens"


@pytest.mark.parametrize("arch", ["llama", "gpt2"])
def test_numbers_that_are_not_finite_stop_the_scan_by_name(arch: str) -> None:
    """NaN compares as "no sink"; it must not be reported as one."""
    from interp.errors import NumbersError
    from interp.finders.sink_measure import measure
    from interp.models.load import load
    from tests.tiny import tiny, tiny_tokenizer

    hf = tiny(arch)
    blocks = hf.model.layers if arch == "llama" else hf.transformer.h
    down = blocks[1].mlp.down_proj if arch == "llama" else blocks[1].mlp.c_proj
    with torch.no_grad():
        down.weight[0, 0] = float("nan")
    model = load(hf, tokenizer=tiny_tokenizer(128), check=False)
    prompt = model.encode("the cat sat on the mat and the dog ran", name="cats")
    with pytest.raises(NumbersError, match=r"'cats'.*from block 1 on in float32"):
        measure(model, prompt, SinksConfig())
