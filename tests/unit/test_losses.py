"""Next-token losses, taken piece by piece."""

from __future__ import annotations

import pytest
import torch

from interp.tracing.calls import next_token_loss
from tests.tiny import tiny

IDS = torch.arange(3, 19)[None]


def test_next_token_loss_is_cross_entropy() -> None:
    hf = tiny("llama")
    with torch.no_grad():
        out = hf(IDS, labels=IDS)
    torch.testing.assert_close(next_token_loss(out.logits, IDS).mean(), out.loss)


@pytest.mark.parametrize("tokens", [1, 3, 100])
def test_losses_are_taken_piece_by_piece(tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ids, logits = (
        torch.arange(40).view(2, 20) % 7,
        3 * torch.randn(2, 20, 50, generator=torch.Generator().manual_seed(1)),
    )
    monkeypatch.setattr("interp.tracing.budget.LOSS_PIECE", 50 * tokens)
    expected = -torch.log_softmax(logits.double(), -1)[:, :-1].gather(-1, ids[:, 1:, None])[..., 0]
    torch.testing.assert_close(next_token_loss(logits, ids), expected.float())
    half = next_token_loss(logits.bfloat16(), ids)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, next_token_loss(logits.bfloat16().float(), ids))
    assert next_token_loss(logits[:1, :1], ids[:1, :1]).shape == (1, 0)
