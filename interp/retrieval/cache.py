"""KV caches that several continuations share, and prompts read in chunks so that what they have in common is read once.

A prompt is always read in chunks that end at multiples of `CHUNK`, whether or not its beginning was there already, so
sharing changes no bit of the result. A model's prompts are remembered only between `remember` and `forget`, which a run
calls (a finder's `prepare` and `release`): outside a run nobody says whether the weights are still those that were read
with.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch

from interp.tracing.calls import skip_logits
from interp.tracing.passes import cache_name, cache_of

CHUNK = 256
WINDOWS = 8
"""At so many places a model's sliding windows are kept; each place costs their memory."""


def fork(cache: Any) -> Any:
    """A cache that goes on from `cache` by itself. Tensors are shared: the layers that are shared so only ever replace
    theirs, never write into them; any other cache is copied in full."""
    if not shares(cache):
        twin = copy.deepcopy(cache)
    else:
        twin = copy.copy(cache)
        twin.layers = [copy.copy(layer) for layer in cache.layers]
    vars(twin).pop("reorder_cache", None)  # an open trace guards its own cache with it, not the twin
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


@dataclass
class Memory:
    """What is remembered of the last prompt that a model read.

    Attributes:
        ids: the prompt.
        cache: its KV cache.
        marks: multiples of `CHUNK` at which the cache can be cut, each with its sliding layers as they stood there.
        state: `model_state` under which it was read.
    """

    ids: tuple[int, ...] = ()
    cache: Any = None
    marks: dict[int, dict[int, Any]] = field(default_factory=dict)
    state: Any = None


_MEMORIES: WeakKeyDictionary[Any, Memory] = WeakKeyDictionary()


class Prefixes:
    """The last prompt's KV cache, for the next prompt that begins alike; nothing where nothing is to be remembered.

    Attributes:
        memory: what is remembered; None = nothing is (see `remember`).
    """

    def __init__(self, model: Any):
        self.model = model
        self.memory: Memory | None = _MEMORIES.get(model.hf)

    def read(self, ids: Sequence[int], share: bool = True) -> Any:
        """A cache of `ids`, the caller's own.

        `share` = False reads everything and remembers nothing; so does a model that was not to be remembered, or that
        hooks (an open trace) may change.
        """
        ids = tuple(int(one) for one in ids)
        known = self.memory if share else None
        state = None if known is None else model_state(self.model.hf)
        start, cache = (0, None) if known is None else best(known, ids, state)
        marks = {} if known is None else {at: windows for at, windows in known.marks.items() if at <= start}
        for at in range(start, len(ids), CHUNK):  # `start` is a multiple of CHUNK, so the chunks are always the same
            cache, _ = feed(self.model, ids[at : at + CHUNK], cache)
            if state is not None and len(ids) - at >= CHUNK and shares(cache):
                marks[at + CHUNK] = windows_of(cache)
                thin(marks)
        if known is not None and state is not None and shares(cache):
            kept = Memory(ids, fork(cache), marks, state)
            vars(known).update(vars(kept))  # at once: an interrupted read leaves what was there
        return cache


def best(known: Memory, ids: tuple[int, ...], state: Any) -> tuple[int, Any]:
    """The longest remembered beginning of `ids`: (its length, a cache of it), or (0, None)."""
    if state is None or state != known.state:
        return 0, None
    most = min(len(ids), len(known.ids))
    common = next((i for i in range(most) if ids[i] != known.ids[i]), most)
    at = max((at for at in known.marks if at <= common), default=0)
    return (at, cut(known.cache, at, known.marks[at])) if at else (0, None)


def windows_of(cache: Any) -> dict[int, Any]:
    """Its sliding layers as they stand, by number: keys that leave their window cannot be had back."""
    windows = {i: copy.copy(layer) for i, layer in enumerate(cache.layers) if layer.is_sliding and layer.is_initialized}
    for layer in windows.values():
        if layer.keys.untyped_storage().nbytes() > layer.keys.nbytes:  # a view would keep the whole chunk alive
            layer.keys, layer.values = layer.keys.clone(), layer.values.clone()
    return windows


def thin(marks: dict[int, dict[int, Any]]) -> None:
    """Hold no more than `WINDOWS` sets of windows: of the marks that have one, drop that which leaves the least gap."""
    while sum(map(bool, marks.values())) > WINDOWS:
        numbers = sorted(marks)
        gaps = {here: after - before for before, here, after in zip([0, *numbers], numbers, numbers[1:], strict=False)}
        del marks[min(gaps, key=lambda at: (gaps[at], at))]


def cut(cache: Any, length: int, windows: dict[int, Any]) -> Any:
    """The first `length` tokens of a cache: full layers are views of its own."""
    twin = fork(cache)
    for number, layer in enumerate(twin.layers):
        if number in windows:
            twin.layers[number] = copy.copy(windows[number])
        elif layer.is_initialized:  # not so where a layer uses another's keys
            layer.keys, layer.values = layer.keys[..., :length, :], layer.values[..., :length, :]
    return twin


def model_state(hf: Any) -> Any:
    """Something that changes when the model's weights or attention do; None while hooks may change what it computes.

    It sees edits that autograd sees, not those of ``weight.data``: hence `remember`.
    """
    for module in hf.modules():
        for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values()):
            if not getattr(hook, "__module__", "").startswith("transformers."):  # whose own only take notes
                return None
    weights = tuple((one.data_ptr(), 0 if one.is_inference() else one._version) for one in hf.parameters())
    return weights, getattr(hf.config, "_attn_implementation", None), torch.get_num_threads()


def prefixes(model: Any) -> Prefixes:
    """The model's prefixes, remembered or not."""
    return Prefixes(model)


def remember(model: Any) -> None:
    """Remember a model's prompts from now on, none from before; its weights must not be edited until `forget`."""
    _MEMORIES[model.hf] = Memory()


def forget(model: Any) -> None:
    """Free what is remembered of a model's prompts, and remember no more; it also goes when the model does."""
    _MEMORIES.pop(model.hf, None)
