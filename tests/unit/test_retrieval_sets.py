"""Which heads are masked: top K, random sets beside them, and the K that judges."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from interp.ablation.choose import random_heads
from interp.retrieval.config import RetrievalConfig
from interp.retrieval.sets import arms_of, elsewhere, judged, mask_sets

SHAPE = (4, 5)
RANKED = [(layer, head) for head in range(5) for layer in (2, 3, 0, 1)]
CONFIG = RetrievalConfig(ks=(0, 1, 2, 5, 10, 20), draws=3)


def test_random_sets_have_as_many_heads_a_layer_and_none_that_retrieves() -> None:
    retrieval = RANKED[:6]
    found = mask_sets(RANKED, retrieval, SHAPE, CONFIG)
    assert found["0"] == {"retrieval": [], "random": []}
    for k in (1, 2, 5):
        best = [tuple(head) for head in found[str(k)]["retrieval"]]
        assert best == RANKED[:k] and len(found[str(k)]["random"]) == 3
        for drawn in found[str(k)]["random"]:
            heads = {tuple(head) for head in drawn}
            assert len(heads) == k and not heads & {*best, *retrieval}
            assert Counter(layer for layer, _ in heads) == Counter(layer for layer, _ in best)
        assert elsewhere(found, k) == 0


def test_a_k_without_enough_other_heads_is_left_out() -> None:
    found = mask_sets(RANKED, RANKED[:12], SHAPE, CONFIG)
    assert list(found) == ["0", "1", "2", "5"]  # 8 heads are left for random sets
    assert list(mask_sets(RANKED[:3], RANKED[:3], SHAPE, CONFIG)) == ["0", "1", "2"]


def test_a_layer_without_others_is_helped_out_by_the_nearest() -> None:
    whole = [(1, head) for head in range(5)]
    found = mask_sets(whole, whole, SHAPE, replace(CONFIG, ks=(5,)))
    assert all(layer in (0, 2) for drawn in found["5"]["random"] for layer, _ in drawn)
    assert elsewhere(found, 5) == 5


def test_sets_follow_the_seed_and_draws_differ() -> None:
    one, again = (mask_sets(RANKED, RANKED[:2], SHAPE, CONFIG) for _ in range(2))
    assert one == again
    assert mask_sets(RANKED, RANKED[:2], SHAPE, replace(CONFIG, seed=1)) != one
    assert len({str(drawn) for drawn in one["5"]["random"]}) > 1


def test_arms_begin_untouched_and_take_the_first_draws() -> None:
    sets = mask_sets(RANKED, RANKED[:2], SHAPE, replace(CONFIG, ks=(0, 1, 2)))
    arms = arms_of(sets)
    assert [(arm.k, arm.kind, arm.draw) for arm in arms] == [
        (0, "untouched", 0),
        *((k, kind, draw) for k in (1, 2) for kind, draw in (("retrieval", 0), *(("random", i) for i in range(3)))),
    ]
    assert arms[0].heads == () and arms[1].heads == (RANKED[0],)
    assert [arm.kind for arm in arms_of(sets, 1)] == ["untouched", *(["retrieval", "random"] * 2)]


def test_judged_is_the_largest_k_that_masks_retrieval_heads_only() -> None:
    sets = mask_sets(RANKED, RANKED[:4], SHAPE, CONFIG)
    assert judged(sets, 4) == 2 and judged(sets, 5) == 5
    assert judged({"5": sets["5"]}, 4) == 5  # all are above: the smallest there is
    assert judged(sets, 0) is None and judged({}, 4) is None and judged({"0": sets["0"]}, 4) is None


def test_random_heads_without_exclusions_are_what_they_were() -> None:
    found = RANKED[:3]
    assert random_heads(found, SHAPE, (0, 1)) == random_heads(found, SHAPE, (0, 1), ())
    assert random_heads(RANKED[:11], SHAPE, (0,)) is None
    assert random_heads(found, SHAPE, (0,), [head for head in RANKED if head[0] == 2]) is not None
