"""Settings of the retrieval-heads finder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

How = Literal["zero", "mean", "uniform", "block"]
When = Literal["prefill", "decode", "both"]


@dataclass(frozen=True)
class RetrievalConfig:
    """What counts as a retrieval head, and how that is tested."""

    threshold: float = 0.1  # a head whose score reaches it is a retrieval head (Wu et al. 2024, section 2)
    min_recall: float = 0.5  # an instance counts when ROUGE-1 recall of its answer is above it (same section)
    stop_at_newline: bool = True  # the answer ends at a line's end that follows text, as in the released code
    share_prefix: bool = True  # prompts that begin alike are read once up to where they part
    random_tokens: int = 128  # length of the random segment, given twice, that induction is scored on; 0 = not scored
    held_out: float = 0.5  # share of the needles that judge; the others choose the heads that are masked
    ks: tuple[int, ...] = (0, 1, 2, 5, 10, 20, 50, 100)  # how many heads are masked (section 4.1 of the paper)
    draws: int = 5  # random sets a K, retrieval heads excluded, the same number a layer
    how: How = "zero"  # zero or mean output, uniform attention (the released q = 0), or the needle blocked
    when: When = "decode"  # masked while the prompt is read, while the answer is written, or both
    texts: int = 8  # plain texts whose next-token loss is measured under masks; 0 = none
    at_once: int = 16  # masked variants of a prompt that run side by side
    closed_book: int = 24  # questions asked with and without the text that answers them; 0 = none
    seed: int = 0  # of the split, the random heads and the bootstrap

    def __post_init__(self) -> None:
        for name in ("threshold", "min_recall"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)}: expected a number from 0 to 1")
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out={self.held_out}: expected a share between 0 and 1")
        for name, bound in {
            "draws": 1,
            "at_once": 1,
            "texts": 0,
            "closed_book": 0,
            "seed": 0,
            "random_tokens": 0,
        }.items():
            if getattr(self, name) < bound:
                raise ValueError(f"{name}={getattr(self, name)}: expected {bound} or more")
        if not self.ks or list(self.ks) != sorted(set(self.ks)) or self.ks[0] < 0:
            raise ValueError(f"ks={','.join(map(str, self.ks)) or 'none'}: expected different counts, ascending from 0")
