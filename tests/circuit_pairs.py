"""Pairs of random tokens for tiny models."""

from __future__ import annotations

from typing import Any

import torch

from interp.circuits.pairs import Pair, batch_of
from interp.circuits.states import Sides, sides_of
from probes.base import Prompt


def random_sides(model: Any, length: int = 12, pairs: int = 3, first: int = 4, vocab: int = 100) -> Sides:
    """Both sides of pairs of `length` tokens; pair i parts at token `first` + i and goes on alike."""
    generator = torch.Generator().manual_seed(5)
    made = []
    for index in range(pairs):
        clean = torch.randint(3, vocab, (length,), generator=generator)
        corrupt = clean.clone()
        corrupt[first + index] = (clean[first + index] + 7) % vocab
        prompt = Prompt(f"p{index}", "", tuple(clean.tolist()), tuple("x" * length))
        wrong = (20 + index,) if index else (30, 31)
        made.append(Pair(prompt, tuple(corrupt.tolist()), 10 + index, wrong))
    return sides_of(model, batch_of(made))
