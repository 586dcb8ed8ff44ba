"""What is planted: one head that copies a needle, alone or led by a previous-token head.

A residual stream holds, side by side: what the token is (`ID`), a word it is linked to (`LINK`), what is to be said
next (`OUT`), the position (`POS`, learned positions only), marks, and noise. Words have sign codes that sum
to zero, so that RMSNorm and LayerNorm treat them alike.

1. Kind "content": each needle word's embedding holds its successor in `LINK`. The retrieval head's query reads `LINK`,
   its keys read `ID`, and it writes what it attends to into `OUT`, which the unembedding reads.
2. Kind "induction": `LINK` is empty until a previous-token head in an earlier layer writes each word into its
   successor's `LINK`. The retrieval head's query reads `ID`, its keys read `LINK`.
3. With nothing to look for, the retrieval head rests on the first token (in gpt_oss on its learned sink), writes
   nothing that counts, and the likeliest token is the one that ends the text.
4. Decoys: a head that attends to tokens equal to its own, inside the needle too, and one that rests on the first token.
   All other heads are noise that only noise reads.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Kind = Literal["content", "induction"]
Head = tuple[int, int]
LAYERS, HEADS, GROUPS = 4, 4, 2
"""Neighbouring heads share keys and values, `GROUPS` sets of them a layer, where the family lets them."""
WIDTH, HEAD_WIDTH = 256, 64
CODE = 40
"""Width of a word's code."""
ID, LINK, OUT = slice(0, CODE), slice(CODE, 2 * CODE), slice(2 * CODE, 3 * CODE)
PAIRS = 4
"""Frequencies a previous-token head compares positions by."""
POS = slice(3 * CODE, 3 * CODE + 4 * PAIRS)
BIAS, FIRST, OTHER, BARE, PAD, DUMP = (slice(POS.stop + 2 * i, POS.stop + 2 * i + 2) for i in range(6))
"""Marks: every token, the first one, tokens that are no words, those behind such a one (written by the previous-token
head), filling up to `NORM`, and what is thrown away."""
NOISE = slice(DUMP.stop, WIDTH)
NORM = 3.0
"""Length of every embedding."""
CONSTANT, NOISY = 2.0, 0.5
"""Length of an embedding's `BIAS` and noise; everything else in it has length 1."""
ENDING = 5.0
"""The token that ends the text has so much more `BIAS`: it is the likeliest one unless a word was written to `OUT`."""
LOUD = 60.0
"""What the retrieval head writes; in units of an embedding's `OUT`."""

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>", "\n", ".", ":", "?", "/", "N", "A", "Question", "Answer")
NEEDLES, LONGEST, FILLERS = 12, 8, 100
WORDS = NEEDLES * LONGEST + FILLERS
VOCABULARY = len(SPECIAL) + WORDS


@dataclass(frozen=True)
class Copying:
    """Where what is planted sits, as (layer, head), and in which words the needles are written.

    Attributes:
        previous: None in kind "content".
        needles: words of each: topic, cue, and the span that must come back.
        fillers: words the haystack is made of.
    """

    kind: Kind
    retrieval: Head
    previous: Head | None
    duplicate: Head
    sink: Head
    needles: tuple[tuple[int, ...], ...]
    fillers: tuple[int, ...]

    @property
    def planted(self) -> tuple[Head, ...]:
        """Every head that is no noise."""
        return tuple(head for head in (self.retrieval, self.previous, self.duplicate, self.sink) if head is not None)

    def successor(self, word: int) -> int | None:
        """The next word of the needle that holds `word`; None behind its last one and outside of needles."""
        chains = (needle for needle in self.needles if word in needle[:-1])
        return next((needle[needle.index(word) + 1] for needle in chains), None)


def random_copying(kind: Kind, seed: int, full: tuple[int, ...]) -> Copying:
    """A planting drawn from `seed`; `full` names the layers that see the whole text. No two heads share their keys.

    Decoys stand in no later layer than the retrieval head if there is room: what it writes is so long that little of
    anything else is left of a later layer's normalised input.
    """
    rng = np.random.default_rng(seed)
    retrieval = int(rng.choice([layer for layer in full if layer > 0 or kind == "content"]))
    free = [(layer, group) for layer in range(LAYERS) for group in range(GROUPS)]

    def take(layers: Iterable[int]) -> Head:
        """A head of one of the layers; none has room: of any."""
        layers = set(layers)
        layer, group = rng.permutation([place for place in free if place[0] in layers] or free)[0]
        free.remove((int(layer), int(group)))
        size = HEADS // GROUPS
        return int(layer), int(group * size + rng.integers(size))

    head = take([retrieval])
    previous = take(range(retrieval)) if kind == "induction" else None
    sink = take(layer for layer in full if layer <= retrieval)
    duplicate = take(range(retrieval + 1))
    words = [int(word) for word in rng.permutation(WORDS)]
    needles = tuple(
        tuple(words[i * LONGEST : i * LONGEST + int(rng.integers(LONGEST - 3, LONGEST + 1))]) for i in range(NEEDLES)
    )
    fillers = tuple(words[NEEDLES * LONGEST :])
    return Copying(kind, head, previous, duplicate, sink, needles, fillers)


@cache
def codes() -> Tensor:
    """[word, CODE] codes of length 1 that sum to zero; no two have a cosine above 0.4."""
    rng = np.random.default_rng(0)
    signs = np.repeat([1.0, -1.0], CODE // 2)
    chosen: list[np.ndarray] = []
    while len(chosen) < WORDS:
        one = rng.permutation(signs)
        if not chosen or (np.stack(chosen) @ one).max() <= 0.4 * CODE:
            chosen.append(one)
    return torch.tensor(np.stack(chosen) / CODE**0.5, dtype=torch.float32)
