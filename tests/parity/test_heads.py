"""Head scores: against eager attention and loops, and against TransformerLens's head detector."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import interp
from interp.heads.random_scores import random_scores, random_segment
from interp.models.model import Model
from tests import plain_heads
from tests.tiny import tiny, tiny_tokenizer


@pytest.mark.parametrize("arch", sorted(plain_heads.PLACES))
@pytest.mark.parametrize("with_tokenizer", [True, False])
def test_scores_are_those_of_eager_attention_and_full_logits(arch: str, with_tokenizer: bool) -> None:
    hf = tiny(arch)
    model = interp.load(hf, tokenizer=tiny_tokenizer(128) if with_tokenizer else None, check=False)
    ids, start, length = random_segment(model, 5, 12)
    assert (start, length, len(ids)) == (int(with_tokenizer), 12, int(with_tokenizer) + 24)
    assert ids[start : start + 12] == ids[start + 12 :]
    found = random_scores(model, 5, 12)
    for kind, plainly in plain_heads.scores(hf, arch, ids, start, length).items():
        assert found[kind].dtype == np.float32
        np.testing.assert_allclose(found[kind], plainly, atol=2e-5, err_msg=kind)


@pytest.mark.smollm2
def test_transformer_lens_detects_the_same(smollm2: Model) -> None:
    """`detect_head` takes the share of all rows' mass; nothing is repeated in the first copy, so it is half of ours."""
    from transformer_lens.head_detector import detect_head

    ids, start, length = random_segment(smollm2, 1, 20)
    assert start == 0 and len(set(ids)) == length
    found = random_scores(smollm2, 1, 20)
    bridge: Any = smollm2.bridge()
    bridge.to_tokens = lambda *args, **kwargs: torch.tensor([list(ids)])
    with torch.no_grad():
        _, cache = bridge.run_with_cache(torch.tensor([list(ids)]), remove_batch_dim=True)
    for kind in ("duplicate", "induction"):
        name: Any = "duplicate_token_head" if kind == "duplicate" else "induction_head"
        told = detect_head(bridge, "", name, cache=cache)
        np.testing.assert_allclose(found[kind], told.numpy() * 2, atol=1e-4)
    rows = len(ids)
    told = detect_head(bridge, "", "previous_token_head", cache=cache).numpy() * rows
    first = np.stack([cache["pattern", layer][:, 1, 0].numpy() for layer in range(smollm2.n_layers)])
    np.testing.assert_allclose(found["previous"], (told - first) / (rows - 2), atol=1e-4)  # ours leaves query 1 out
