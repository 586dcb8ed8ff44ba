"""The relative rule: which tokens are sinks, judged against the anchor and the other keys of the same prompt.

It needs no absolute layer count, so it says the same on an 18-layer model as on a 48-layer one. Pure NumPy.

1. Rank keys. Ordinary keys draw less the later they stand (a uniform pattern gives key k about ln(T/k)/(T-k)), and
   the last ones have too few queries to judge by. So each key is held against the median of its 65 nearest keys,
   which stand as early and have as many queries, and the last `unranked` keys are left out.
2. Mark (block, key) where the state the block leaves is long and the next block's attention goes to it.
3. The anchor is the key with the most attention over its marked spans, counted in whole queries, so that a key few
   queries can see does not win on its average.
4. A span needs alignment with the anchor's state as well: the cosine, and in blocks where the states of many keys
   point the same way (an anisotropic residual stream) the cosine of states centred on the block's ordinary mean.
5. Compare each span with the anchor's own: primary, secondary, transient.
"""

from __future__ import annotations

import numpy as np

from interp.finders.sink_config import Kind, Measured, Sink, SinksConfig
from interp.scoring.spans import spans

NEAREST = 65
"""So many keys in a row are an ordinary key's company (step 1)."""


def anchor(received: np.ndarray, norm: np.ndarray, config: SinksConfig, chat: bool = False) -> int | None:
    """The primary sink's position (steps 1 to 3), or None when no key is marked long enough.

    Args:
        received: [layer, head, position]; norm: [layer, position]; chat: not used by this rule.
    """
    marked = marks(received, norm, config)
    found = spans(marked[None], config.gap, config.least)
    if len(found) == 0:
        return None
    mass = received.mean(axis=1)
    length = received.shape[2]
    total = np.zeros(length)
    for _, position, start, stop, _ in found:
        total[position] += float(mass[start + 1 : stop + 1, position].sum()) * (length - position)
    return int(total.argmax())


def find(measured: Measured, config: SinksConfig) -> list[Sink]:
    """The sinks of one prompt (steps 4 and 5), the anchor's own spans included, by position and start."""
    if measured.anchor is None:
        return []
    called = marks(measured.received, measured.norm, config) & aligned(measured, config)
    found = spans(called[None], config.gap, config.least)
    anchored = [(int(start), int(stop)) for _, position, start, stop, _ in found if position == measured.anchor]
    sinks = []
    for _, position, start, stop, bridged in found.tolist():
        kind: Kind = "primary" if position == measured.anchor else kind_of(start, stop, anchored)
        sinks.append(Sink(position, kind, start, stop - start, tuple(range(start, stop)), bridged))
    return sinks


def ranked(length: int, config: SinksConfig) -> int:
    """How many keys are ranked: those that at least `unranked` queries can see (METHODS 1.1); in a short prompt at most
    a quarter of the keys is left out, so that something remains."""
    return length - min(max(config.unranked - 1, 0), length // 4)


def marks(received: np.ndarray, norm: np.ndarray, config: SinksConfig) -> np.ndarray:
    """bool [layer, position]: block l leaves a long state and block l + 1 attends to it (step 2). The last block is
    never marked."""
    n_layers, _, length = received.shape
    out = np.zeros((n_layers, length), dtype=bool)
    keys = ranked(length, config)
    if keys < 1 or n_layers < 2:
        return out
    mass = received[1:, :, :keys].mean(axis=1, dtype=np.float64)
    drawn = (mass >= config.floor) & (mass >= config.multiple * ordinary(mass))
    longest = config.norm * np.median(norm[:-1], axis=1, keepdims=True)
    out[:-1, :keys] = drawn & (norm[:-1, :keys] >= longest)
    return out


def ordinary(mass: np.ndarray) -> np.ndarray:
    """[layer, key]: the median over the `NEAREST` keys around each key (step 1); at the ends, of the first or last so
    many."""
    keys = mass.shape[1]
    width = min(NEAREST, keys)
    medians = np.median(np.lib.stride_tricks.sliding_window_view(mass, width, axis=1), axis=2)
    return medians[:, np.clip(np.arange(keys) - width // 2, 0, keys - width)]


def aligned(measured: Measured, config: SinksConfig) -> np.ndarray:
    """bool [layer, position]: the state points the anchor's way (step 4)."""
    same = measured.cosine > config.cosine
    crowded = same.mean(axis=1, keepdims=True) > config.anisotropic
    return same & (~crowded | (measured.centred > config.cosine))


def kind_of(start: int, stop: int, anchored: list[tuple[int, int]]) -> Kind:
    """What a span [start, stop) is beside the anchor's spans (step 5; METHODS 1.2)."""
    if any(abs(start - a) <= 1 and abs(stop - b) <= 1 for a, b in anchored):
        return "primary"
    return "secondary" if any(a + 1 < start < b for a, b in anchored) else "transient"
