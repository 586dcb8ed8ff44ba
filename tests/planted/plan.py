"""What is planted: tokens that become attention sinks at a known block and stop being sinks at another.

A sink is a token whose state is long in one fixed direction. Every other direction used here is a zero-mean pair of
dimensions, so that RMSNorm and LayerNorm treat it alike. A planting is the same for each architecture; `families` says
where a family keeps its weights.

1. The embedding gives every token a constant (`BIAS`) and each planted token a flag of its own.
2. In block `start` a neuron of the MLP reads the flag and writes `length` in direction `SINK`. Normalisation makes a
   sink's input that direction and little else. In block `start + lifetime` a neuron that reads it, and is shut by other
   sinks' flags, takes as much away again. A fading sink loses a fixed length in each later block instead, so that its
   lifetime follows from its length.
3. In all blocks queries read `BIAS` and keys read `SINK`, through the slowest rotary pair, so that all heads attend
   to sinks.
4. All other weights are noise that neither reads nor writes these dimensions, so nothing else can become a sink.
5. Decoys lack one of the three things that make a sink. Keys read the flag of one, so that it draws attention, and its
   state stays "short". One is long and read by keys, but points "aside". One is long in `SINK`, but its flag shuts the
   keys: it is "ignored".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

LAYERS = 12
WIDTH = 64
HEADS = 4
HEAD_WIDTH = WIDTH // HEADS
HIDDEN = 32
VOCABULARY = 128
LENGTH = 200.0
FLAG = 4.0
CONSTANT = 3.0
TOKENS = 72
UNRANKED = 31
"""The finder ranks no later keys than the 32nd last (with the default settings)."""

BIAS, SINK, ASIDE, DUMP = 0, 1, 2, 3
"""Directions; a decoy points along `ASIDE`, and what is written to `DUMP` the post-norm families lose."""
FIRST_FLAG = 4
RESERVED = 2 * (FIRST_FLAG + 10)
"""The first so many dimensions of the residual stream belong to the plan."""


@dataclass(frozen=True)
class Planted:
    """A token that is a sink in the states after blocks `start` to `start + lifetime - 1`.

    Attributes:
        kind: as the finder has it; of a decoy "short", "aside" or "ignored".
        length: how far its state then lies along `SINK`.
        fade: every block after `start` takes so much away; the lifetime is then `lifetime_of(length, fade)`.
    """

    token: int
    position: int
    kind: str
    start: int
    lifetime: int
    length: float = LENGTH
    fade: float = 0.0

    @property
    def axis(self) -> Tensor:
        """The direction [WIDTH] its state is long in."""
        return direction(ASIDE if self.kind == "aside" else SINK)


@dataclass(frozen=True)
class Planting:
    """The sinks, and decoys, of a prompt of `tokens` tokens."""

    sinks: tuple[Planted, ...]
    decoys: tuple[Planted, ...] = ()
    tokens: int = TOKENS

    @property
    def all(self) -> tuple[Planted, ...]:
        """Every token with a flag."""
        return self.sinks + self.decoys

    @property
    def writing(self) -> tuple[Planted, ...]:
        """Those that become long."""
        return tuple(planted for planted in self.all if planted.kind != "short")

    @property
    def truth(self) -> list[tuple[int, int, str, int, int]]:
        """(token, position, kind, start, lifetime) of each sink, by position, as the finder should have it."""
        by_position = sorted(self.sinks, key=lambda one: one.position)
        return [(one.token, one.position, one.kind, one.start, one.lifetime) for one in by_position]

    def flag(self, planted: Planted) -> Tensor:
        """The direction [WIDTH] of a planted token's flag."""
        return direction(FIRST_FLAG + self.all.index(planted))

    def prompt(self, seed: int = 0, positions: dict[int, int] | None = None) -> tuple[int, ...]:
        """Token ids: ordinary ones, and the planted ones at their places (or at `positions`, token -> place)."""
        places = {planted.token: planted.position for planted in self.all} if positions is None else positions
        planted = {one.token for one in self.all}
        ordinary = torch.tensor([token for token in range(VOCABULARY) if token not in planted])
        rng = torch.Generator().manual_seed(seed)
        ids = ordinary[torch.randint(len(ordinary), (self.tokens,), generator=rng)]
        for token, place in places.items():
            ids[place] = token
        return tuple(ids.tolist())


PLANTED = (
    Planted(1, 0, "primary", 1, 9),
    Planted(7, 18, "secondary", 4, 4),
    Planted(9, 41, "secondary", 5, 5),
)
FIXED = Planting(PLANTED)


def direction(index: int) -> Tensor:
    """Unit vector [WIDTH] of `BIAS`, `SINK`, `DUMP` or a flag: one dimension against another, so its mean is zero."""
    made = torch.zeros(WIDTH)
    made[2 * index], made[2 * index + 1] = 0.5**0.5, -(0.5**0.5)
    return made


def prompt(seed: int = 0, positions: dict[int, int] | None = None) -> tuple[int, ...]:
    """A prompt of the fixed planting."""
    return FIXED.prompt(seed, positions)


def lifetime_of(length: float, fade: float) -> int:
    """How many blocks leave a sink that starts `length` long and then loses `fade` a block.

    The length must be an odd number of half fades: then the last state that counts is half a fade long, well above
    what the rule asks of a sink, and the next one lies the other way. A single block is no span.
    """
    blocks = int(length / fade + 0.5)
    return blocks if blocks > 1 else 0


def random_planting(seed: int) -> Planting:
    """An anchor, one to four secondaries, sometimes a transient sink and a second primary, and a decoy of each kind,
    all drawn from `seed`."""
    rng = np.random.default_rng(seed)
    tokens = int(rng.integers(64, 97))
    first = 0 if rng.random() < 0.5 else int(rng.integers(1, 11))
    start, stop = int(rng.integers(0, 4)), int(rng.integers(9, LAYERS))
    lives = [("primary", start, stop)]
    for _ in range(rng.integers(1, 5)):
        begins = int(rng.integers(start + 2, stop - 1))
        lives.append(("secondary", begins, int(rng.integers(begins + 2, stop + 1))))
    if rng.random() < 0.4:
        begins = start + int(rng.integers(2))
        lives.append(("transient", begins, int(rng.integers(begins + 2, stop - 1))))
    if rng.random() < 0.3:
        lives.append(("primary", start, stop))
    lives += [("short", 0, 0), ("aside", start + 1, stop - 2), ("ignored", start, stop)]
    places = [first, *rng.choice(np.arange(first + 1, tokens - UNRANKED), len(lives) - 1, replace=False)]
    ids = rng.choice(VOCABULARY, len(lives), replace=False)
    lengths = [*rng.uniform(100, 400, len(lives) - 1), 80.0]
    made = tuple(
        Planted(int(token), int(place), kind, begins, ends - begins, float(length))
        for token, place, length, (kind, begins, ends) in zip(ids, places, lengths, lives, strict=True)
    )
    return Planting(made[:-3], made[-3:], tokens)


def deep_planting(seed: int, layers: int) -> Planting:
    """Sinks as the released rule knows them (its kinds, METHODS 1.2): the anchor at position 0 or 1; secondaries, whose
    lifetimes are 5 to `layers` - 16; a longer-lived primary-like one; noise of at most 4."""
    rng = np.random.default_rng(seed)
    least = layers - 15
    start, stop = int(rng.integers(1, 4)), int(rng.integers(layers - 4, layers))
    spans = [("secondary", int(lifetime)) for lifetime in (5, *rng.integers(6, least - 1, 2), least - 1)]
    spans += [("primary", int(rng.integers(least, stop - start - 1))), ("transient", int(rng.integers(2, 5)))]
    places = rng.choice(np.arange(2, TOKENS - UNRANKED), len(spans), replace=False)
    ids = rng.choice(VOCABULARY, len(spans) + 1, replace=False)
    sinks = [Planted(int(ids[-1]), int(rng.integers(2)), "primary", start, stop - start, 500.0)]
    for token, place, (kind, lifetime) in zip(ids, places, spans, strict=False):
        begins = int(rng.integers(start, stop - lifetime + 1))
        sinks.append(Planted(int(token), int(place), kind, begins, lifetime, float(rng.uniform(100, 400))))
    return Planting(tuple(sinks))
