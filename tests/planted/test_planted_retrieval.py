"""A planted retrieval head is the only one that copies, as the score says; scores counted here anew, step by step."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from interp.models.model import Model
from interp.retrieval.config import RetrievalConfig
from interp.retrieval.decode import Decoded, decode
from interp.retrieval.task import Task
from tests.planted.retrieval import broken
from tests.planted.retrieval_families import HOMES, REQUIRED
from tests.planted.retrieval_plan import HEADS, LAYERS, NEEDLES, SPECIAL, Copying, Kind, codes
from tests.planted.retrieval_tasks import ready, task

CONFIG = RetrievalConfig()
KINDS: tuple[Kind, ...] = get_args(Kind)
FURTHER = [arch for arch in HOMES if arch not in REQUIRED]
PLANTINGS = [("llama", "content", 10), *((arch, KINDS[seed % 2], seed) for seed, arch in enumerate(FURTHER, 11))]
"""The others of the required architectures have theirs in `test_planted_retrieval_finder`."""


def copied(decoded: Decoded, asked: Task) -> np.ndarray:
    """[layer, head] share of the span's positions a head copied."""
    ids = (*asked.prompt.ids, *decoded.ids)
    out = np.zeros((LAYERS, HEADS))
    for layer, head in np.ndindex(LAYERS, HEADS):
        keys = [int(key) for key in decoded.top_key[layer, head]]
        hits = {
            key for key, token in zip(keys, decoded.ids, strict=True) if key in range(*asked.span) and ids[key] == token
        }
        out[layer, head] = len(hits) / len(range(*asked.span))
    return out


def answered(model: Model, copying: Copying, seed: int, count: int = NEEDLES) -> list[tuple[Task, Decoded]]:
    """Each needle asked for once."""
    asked = [task(copying, number, seed) for number in range(count)]
    return [(one, decode(model, one, CONFIG)) for one in asked]


def words_of(model: Model, ids: tuple[int, ...]) -> list[str]:
    """What ids are shown as."""
    return list(model.decode_tokens(ids))


def mean_scores(told: list[tuple[Task, Decoded]]) -> np.ndarray:
    """[layer, head] mean over instances."""
    return np.mean([copied(decoded, asked) for asked, decoded in told], axis=0)


@pytest.mark.parametrize(("arch", "kind", "seed"), PLANTINGS)
def test_only_the_planted_head_copies(arch: str, kind: Kind, seed: int) -> None:
    """All others are below 0.1: what noise hits, it hits by chance, about once in 60 steps."""
    model, copying = ready(arch, kind, seed)
    told = answered(model, copying, seed)
    end = SPECIAL.index("</s>")
    assert [(decoded.text, decoded.ids[-1]) for _, decoded in told] == [(asked.answer, end) for asked, _ in told]
    scores = mean_scores(told)
    assert scores[copying.retrieval] >= 0.9
    assert all(scores[head] == 0 for head in copying.planted[1:])
    scores[copying.retrieval] = 0
    assert scores.max() < 0.1


@pytest.mark.parametrize("kind", get_args(Kind))
def test_what_tells_a_decoy_from_the_head(kind: Kind) -> None:
    """Mass in the needle does not: the head that attends to its own token has it too. The question's mass does."""
    model, copying = ready("llama", kind, 0)
    told = answered(model, copying, 0, 4)
    mass = np.mean([decoded.span_mass.mean(-1) for _, decoded in told], axis=0)
    asked = np.mean([decoded.query_mass - decoded.null_mass for _, decoded in told], axis=0)
    assert mass[copying.retrieval] > 0.7 and mass[copying.duplicate] > 0.25 and mass[copying.sink] < 0.01
    assert asked[copying.retrieval] > 0.3 > 0.2 > asked[copying.sink]


@pytest.mark.parametrize("seed", range(6))
def test_anywhere_in_the_model_and_the_text(seed: int) -> None:
    model, copying = ready("llama", KINDS[seed % 2], seed)
    told = answered(model, copying, seed, 3)
    assert mean_scores(told)[copying.retrieval] == 1
    assert all(decoded.text == asked.answer for asked, decoded in told)


def test_plantings_differ_in_everything_that_is_drawn() -> None:
    plantings = [ready("llama", "induction", seed)[1] for seed in range(8)]
    for drawn in ("retrieval", "previous", "duplicate", "sink", "needles"):
        assert len({getattr(copying, drawn) for copying in plantings}) > 3
    asked = [task(plantings[0], number, seed) for seed in range(3) for number in range(NEEDLES)]
    lengths, depths = [len(one.prompt) for one in asked], [one.depth_achieved for one in asked]
    assert min(lengths) < 80 and max(lengths) > 180 and min(depths) < 0.15 and max(depths) > 0.85
    assert len({one.span[1] - one.span[0] for one in asked}) > 2


@pytest.mark.parametrize("length", (30, 170))
def test_spans_hold_what_they_say(length: int) -> None:
    model, copying = ready("llama", "content", 0)
    for number in range(NEEDLES):
        asked = task(copying, number, 1, length)
        words = [f"w{word}" for word in copying.needles[number]]
        assert words_of(model, asked.prompt.ids[slice(*asked.span)]) == words[2:]
        assert words_of(model, asked.prompt.ids[slice(*asked.sentence)]) == [*words, "."]
        assert words_of(model, asked.prompt.ids[slice(*asked.query)]) == [words[0], "?"]
        assert asked.prompt.ids[asked.tail] == SPECIAL.index("\n") and asked.prompt.tokens[-1] == words[1]
        null = asked.prompt.ids[: asked.tail] + asked.null_tail
        assert words_of(model, null[slice(*asked.null_query)]) == ["N", "/", "A"]


def test_words_are_far_apart() -> None:
    cosines = (codes() @ codes().T).fill_diagonal_(0)
    assert float(cosines.max()) <= 0.4001 and float(codes().sum(-1).abs().max()) < 1e-5


@pytest.mark.parametrize("part", ("ov", "qk"))
@pytest.mark.parametrize("arch", REQUIRED)
def test_none_when_one_half_of_the_head_is_shuffled(arch: str, part: str) -> None:
    """Same numbers, no mechanism: the answer does not come back, and what is written no head has copied from it."""
    model, copying = ready(arch, "content", 1)
    broken(model.hf, arch, copying, "ov" if part == "ov" else "qk")
    told = answered(model, copying, 1, 2)
    said = [len(set(decoded.text.split()) & set(asked.answer.split())) for asked, decoded in told]
    assert max(said) <= 1 and mean_scores(told).max() < 0.1
