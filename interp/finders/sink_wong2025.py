"""The released rule of Wong et al. 2025, arXiv 2512.22213: hidden states only, attention is not looked at. Pure NumPy.

1. Candidates for the anchor: positions 0, 1, 2 under a chat template, else 0 and 1; the one with the largest norm
   averaged over layers.
2. d[l] = |H[l+1, b]| - |H[l, b]|; start = argmax(d) + 1; end = argmin(d[start:]) + start + 1, exclusive. Other layers
   do not count.
3. A token after the anchor is recorded at a layer where |cos| with the anchor's state exceeds 0.9.
4. Its start is the first recorded layer, its lifetime the number of recorded layers, gaps or not.
5. Lifetime of at least L - 15: primary-like; more than 4: secondary; fewer: noise, listed as transient.

So with 20 layers or fewer nothing can be secondary. One departure: H[l] is what block l leaves; the released code
takes the last layer's state after the final norm.
"""

from __future__ import annotations

import numpy as np

from interp.finders.sink_config import Kind, Measured, Sink, SinksConfig

PRIMARY_SHORT_OF = 15
NOISE = 4


def anchor(received: np.ndarray, norm: np.ndarray, config: SinksConfig, chat: bool = False) -> int | None:
    """Step 1. `norm` is [layer, position]; `received` and `config` are not used by this rule."""
    candidates = norm[:, : 3 if chat else 2]
    return int(candidates.mean(axis=0).argmax()) if candidates.size else None


def window(norm: np.ndarray) -> tuple[int, int]:
    """[start, end) of the anchor (step 2), from its norms [layer]; empty for a single layer."""
    steps = np.diff(norm.astype(np.float64))
    if len(steps) == 0:
        return 0, 0
    start = int(steps.argmax()) + 1
    rest = steps[start:]
    return start, int(rest.argmin()) + start + 1 if len(rest) else len(norm)


def find(measured: Measured, config: SinksConfig) -> list[Sink]:
    """Steps 2 to 5 for one prompt; the anchor's own window comes first, as primary."""
    if measured.anchor is None:
        return []
    n_layers = len(measured.norm)
    start, end = window(measured.norm[:, measured.anchor])
    if end <= start:
        return []
    sinks = [Sink(measured.anchor, "primary", start, end - start, tuple(range(start, end)))]
    recorded = np.abs(measured.cosine[start:end]) > config.cosine  # 3
    for position in range(measured.anchor + 1, measured.cosine.shape[1]):
        layers = tuple(int(layer) + start for layer in np.flatnonzero(recorded[:, position]))
        if layers:
            sinks.append(Sink(position, kind_of(len(layers), n_layers), layers[0], len(layers), layers))  # 4, 5
    return sinks


def kind_of(lifetime: int, n_layers: int) -> Kind:
    """Step 5."""
    if lifetime >= n_layers - PRIMARY_SHORT_OF:
        return "primary"
    return "secondary" if lifetime > NOISE else "transient"
