"""Retrieval scores of one instance, from the top keys that decoding kept: pure functions of numbers.

A head copies at a step when its most attended key lies in the answer span and holds the token just generated
(Wu et al. 2024, arXiv 2404.15574, section 2). Keys that are themselves generated never count: the span lies in the
prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from interp.scoring import copies as kernel


@dataclass(frozen=True)
class Copies:
    """Scores of every head, [layer, head].

    Attributes:
        distinct: float32, share of the span's positions copied: the score of the paper, 0 to 1.
        released: float32, copying steps per span position: the released code's score, which can pass 1.
        events: int32, copying steps.
    """

    distinct: np.ndarray
    released: np.ndarray
    events: np.ndarray


def copies(top_key: np.ndarray, prompt: Sequence[int], generated: Sequence[int], span: tuple[int, int]) -> Copies:
    """Score every head on one answer.

    Args:
        top_key: int [layer, head, step], see `interp.retrieval.decode.Decoded`.
        prompt: ids of the prompt.
        generated: the id written at each step.
        span: tokens of the answer in the prompt, half open.

    Raises:
        ValueError: shapes that do not belong together, or a span that is no part of the prompt.
    """
    if top_key.ndim != 3:
        raise ValueError(f"copies: expected top keys [layer, head, step], got {list(top_key.shape)}")
    flat = top_key.reshape(-1, top_key.shape[-1])
    counts = kernel.copies(flat, np.array(prompt, np.int64), np.array(generated, np.int64), span)
    distinct, events = counts.T.reshape(2, *top_key.shape[:2])
    length = span[1] - span[0]
    return Copies((distinct / length).astype(np.float32), (events / length).astype(np.float32), events.astype(np.int32))


def steps(top_key: np.ndarray, prompt: Sequence[int], generated: Sequence[int], span: tuple[int, int]) -> np.ndarray:
    """bool [layer, head, step]: where each head copied; arguments as for `copies`."""
    return kernel.copying(top_key, np.array(prompt, np.int64), np.array(generated, np.int64), span)
