"""KV caches that several continuations share, and prompts read in chunks so that what they have in common is read once.

A prompt is always read in chunks that end at multiples of `CHUNK`, whether or not its beginning was there already, so
sharing changes no bit of the result.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch

from interp.tracing.calls import skip_logits
from interp.tracing.passes import cache_name, cache_of

CHUNK = 256


def fork(cache: Any) -> Any:
    """A cache that goes on from `cache` by itself. Tensors are shared: the layers that are shared so only ever replace
    theirs, never write into them; any other cache is copied in full."""
    if not shares(cache):
        return copy.deepcopy(cache)
    twin = copy.copy(cache)
    twin.layers = [copy.copy(layer) for layer in cache.layers]
    return twin


def shares(cache: Any) -> bool:
    """Whether every layer of the cache is of a kind that `fork` can share."""
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    layers = getattr(cache, "layers", None)
    return bool(layers) and all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)


def widened(cache: Any, batch: int) -> Any:
    """A fork of a cache of one sequence, for `batch` equal sequences side by side."""
    twin = fork(cache)
    if batch > 1:
        twin.batch_repeat_interleave(batch)
    return twin


def feed(model: Any, ids: Sequence[int] | torch.Tensor, cache: Any) -> tuple[Any, torch.Tensor]:
    """Run ids behind a cache (None = from the start), untraced: (cache, logits of the last position [batch, vocab])."""
    rows = torch.as_tensor(ids, device=model.device)
    rows = rows[None] if rows.dim() == 1 else rows
    with torch.no_grad():
        out = model.hf(input_ids=rows, **{cache_name(model.hf): cache}, use_cache=True, **skip_logits(model))
    return cache_of(out), out.logits[:, -1]


class Prefixes:
    """The last prompt's KV cache at every multiple of `CHUNK`, for the next prompt that begins alike.

    Snapshots of full-attention layers are views of one tensor; those of sliding layers hold a window each.
    """

    def __init__(self, model: Any):
        self.model = model
        self.ids: tuple[int, ...] = ()
        self.snapshots: dict[int, Any] = {}

    def read(self, ids: Sequence[int], share: bool = True) -> Any:
        """A cache of `ids`, the caller's own. `share` = False reads everything and remembers nothing."""
        ids = tuple(int(one) for one in ids)
        start, cache = self.best(ids) if share else (0, None)
        taken = {at: one for at, one in self.snapshots.items() if at <= start} if share else {}
        at = start
        while at < len(ids):
            end = min(at - at % CHUNK + CHUNK, len(ids))
            cache, _ = feed(self.model, ids[at:end], cache)
            at = end
            if share and end % CHUNK == 0 and shares(cache):
                taken[end] = fork(cache)
        if share and cache is not None:
            self.remember(ids, cache, taken)
        return fork(cache)

    def best(self, ids: tuple[int, ...]) -> tuple[int, Any]:
        """The longest snapshot that `ids` begin with: (its length, a fork of it), or (0, None)."""
        common = next((i for i, (a, b) in enumerate(zip(ids, self.ids, strict=False)) if a != b), len(ids))
        usable = [at for at in self.snapshots if at <= min(common, len(self.ids))]
        return (max(usable), fork(self.snapshots[max(usable)])) if usable else (0, None)

    def remember(self, ids: tuple[int, ...], cache: Any, taken: dict[int, Any]) -> None:
        """Keep the snapshots, full-attention layers as views of the longest one's tensors."""
        for at, one in taken.items():
            for layer, last in zip(one.layers, cache.layers, strict=True):
                if not layer.is_sliding and layer.keys.shape[-2] == at:
                    layer.keys, layer.values = last.keys[..., :at, :], last.values[..., :at, :]
        self.ids, self.snapshots = ids, taken


_PREFIXES: WeakKeyDictionary[Any, Prefixes] = WeakKeyDictionary()


def prefixes(model: Any) -> Prefixes:
    """The model's remembered prefixes."""
    if model.hf not in _PREFIXES:
        _PREFIXES[model.hf] = Prefixes(model)
    return _PREFIXES[model.hf]


def forget(model: Any) -> None:
    """Free what is remembered of a model's prompts."""
    _PREFIXES.pop(model.hf, None)
