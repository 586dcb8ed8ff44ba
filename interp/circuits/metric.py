"""The logit difference of a batch of pairs, with no more of the unembedding computed than it needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from interp.circuits.pairs import Batch
from interp.errors import NumbersError
from interp.tracing.partial import only_logits


@dataclass(frozen=True)
class Metric:
    """logit(answer) - mean logit(wrong) at the last position; columns are the batch's own tokens.

    Attributes:
        tokens: the tokens whose logits are computed [column].
        answer: [pair] their columns; wrong: [pair, wrong]; weight: [pair, wrong].
    """

    tokens: Tensor
    answer: Tensor
    wrong: Tensor
    weight: Tensor

    @contextmanager
    def on(self, model: Any) -> Iterator[None]:
        """Inside, the model's logits have this metric's columns."""
        with only_logits(model, self.tokens):
            yield

    def of(self, output: Any, rows: Tensor) -> Tensor:
        """float32 [row]: logit difference at the last position; row r belongs to pair `rows[r]`.

        Raises:
            NumbersError: a logit that is not finite.
        """
        logits = output.logits[:, -1].float().cpu()
        if not torch.isfinite(logits).all():
            raise NumbersError("the model's logits are not finite; try --dtype float32, or check the weights")
        wrong = (logits.gather(1, self.wrong[rows]) * self.weight[rows]).sum(1)
        return logits.gather(1, self.answer[rows][:, None])[:, 0] - wrong


def metric_of(batch: Batch) -> Metric:
    """The metric of a batch."""
    tokens, where = torch.cat([batch.answer[:, None], batch.wrong], 1).unique(return_inverse=True)
    return Metric(tokens, where[:, 0], where[:, 1:], batch.weight)
