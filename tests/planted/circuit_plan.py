"""What is planted: a circuit for indirect object identification (Wang et al. 2022, arXiv 2211.00593), head by head.

A prompt names two people and then one of them again: `<s> .. IO .. S1 .. S2 .. END`, or with S1 first; the other one
is to be said. A residual stream holds, side by side: what the token is (`ID`), what stands before it (`LINK`), who was
named before (`DUP`), who is not to be said (`AVOID`), what is to be said (`OUT`), the position (learned ones only),
marks, and noise. Words have orthogonal sign codes that sum to zero, so that RMSNorm and LayerNorm treat them alike.

1. previous token: writes each word into its successor's `LINK`, and marks tokens behind names (`BEHIND`).
2. duplicate token: from a word to its earlier occurrence, never to itself; writes it to `DUP`.
3. induction: from a word to the token behind its earlier occurrence, by `LINK`; writes it to `DUP`. 2 and 3 both mark
   names that come again (`DOUBLED`).
4. inhibition (two): from the end to a token marked so; moves what is in its `DUP` into `AVOID`.
5. movers (two): from the end to names (`NAME`), less to those in `AVOID`; write what they see into `OUT`.
6. negative mover: the same look, and writes the opposite.
7. backup mover: looks as movers do, but little at a name that is in `OUT` already; so it takes over when they are gone.

With nothing to look for, each rests on the first token and writes nothing. All other heads and all MLPs are noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

Head = tuple[int, int]
LAYERS, HEADS, GROUPS = 5, 6, 3
"""Neighbouring heads share keys and values, `GROUPS` sets of them a layer, where the family lets them."""
HEAD_WIDTH = 64
WIDTH = HEADS * HEAD_WIDTH
CODE = 32
ID, LINK, DUP, AVOID, OUT = (slice(i * CODE, (i + 1) * CODE) for i in range(5))
PAIRS = 4
"""Frequencies that places are compared by."""
POS = slice(5 * CODE, 5 * CODE + 4 * PAIRS)
BIAS, FIRST, NAME, END, BEHIND, DOUBLED, PAD = (slice(POS.stop + 2 * i, POS.stop + 2 * i + 2) for i in range(7))
NOISE = slice(PAD.stop, WIDTH)
NORM = 3.0
"""Length of every embedding; each part of it has length 1, noise `NOISY`, and `PAD` the rest."""
NOISY = 0.5

SPECIAL = 4
"""Ids below are no words; 1 is the first token."""
NAMES, FILLERS, ENDINGS = range(20), range(20, 29), range(29, 31)
WORDS = CODE - 1
VOCABULARY = SPECIAL + WORDS


@dataclass(frozen=True)
class Circuit:
    """Where each head sits, (layer, head). No two share their keys."""

    previous: Head
    duplicate: Head
    induction: Head
    inhibition: tuple[Head, Head]
    movers: tuple[Head, Head]
    negative: Head
    backup: Head

    @property
    def heads(self) -> tuple[Head, ...]:
        """All but the backup, in order: what the untouched model answers with."""
        one = (self.previous, self.duplicate, self.induction, self.negative)
        return tuple(sorted((*one, *self.inhibition, *self.movers)))

    @property
    def classes(self) -> dict[str, list[Head]]:
        """Class, as `interp.circuits.config.CLASSES` has it -> those heads."""
        return {
            "mover": sorted(self.movers),
            "negative mover": [self.negative],
            "inhibition": sorted(self.inhibition),
            "induction": [self.induction],
            "duplicate token": [self.duplicate],
            "previous token": [self.previous],
        }


def random_circuit(seed: int) -> Circuit:
    """Places drawn from `seed`, layer by layer in the order in which they read each other."""
    rng = np.random.default_rng(seed)

    def take(layer: int, count: int) -> list[Head]:
        size = HEADS // GROUPS
        return [(layer, int(group) * size + int(rng.integers(size))) for group in rng.permutation(GROUPS)[:count]]

    (previous, duplicate), (induction,), (one, other), (strong, weak, negative), (backup,) = (
        take(layer, count) for layer, count in enumerate((2, 1, 2, 3, 1))
    )
    return Circuit(previous, duplicate, induction, (one, other), (strong, weak), negative, backup)


@cache
def codes() -> Tensor:
    """[word, CODE]: the rows of a Hadamard matrix but the first, which does not sum to zero; of length 1."""
    signs = np.ones((1, 1))
    while len(signs) < CODE:
        signs = np.block([[signs, signs], [signs, -signs]])
    return torch.tensor(signs[1:] / CODE**0.5, dtype=torch.float32)
