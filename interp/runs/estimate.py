"""``--dry-run``: what a scan would run on, and roughly how much memory and time it takes. Writes nothing."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interp.finders.base import Effort
from interp.runs.places import runs_dir
from interp.runs.plan import plan
from interp.runs.progress import duration
from interp.runs.store import RunFolder
from probes.base import Prompt

BLOCK_ROWS = 128  # query rows whose attention is held at once (DESIGN decision 3)
BLOCK_COPIES = 3  # scores, weights and what a statistic makes of them, float32
FORWARDS = 8.0  # forward passes a prompt: one to measure, the rest for the causal check and its controls
EFFICIENCY = 0.5  # share of a bare matrix product's speed that a whole forward pass reaches


@dataclass(frozen=True)
class Estimate:
    """What a scan would take.

    Attributes:
        model, finder, source: names of what would be run on what.
        device, dtype: where and in which precision.
        prompts: (name, tokens) of each, with the longest continuation.
        generate: tokens of that continuation; None = none is asked for.
        decodes: tokens that the finder decodes a prompt, at the most; None = it decodes none.
        parameters: number of parameters.
        weights_bytes, activation_bytes, block_bytes, cache_bytes: the parts of `peak_bytes`; the last one is for the KV
            caches that the finder holds.
        seconds: forward passes and continuations alone, without loading.
        how: one sentence on how it was estimated.
        out: run folder, where one was named.
    """

    model: str
    finder: str
    source: str
    device: str
    dtype: str
    position0: str
    prompts: tuple[tuple[str, int], ...]
    generate: int | None
    decodes: int | None
    parameters: int
    weights_bytes: int
    activation_bytes: int
    block_bytes: int
    cache_bytes: int
    seconds: float
    how: str
    out: str | None

    @property
    def peak_bytes(self) -> int:
        return self.weights_bytes + self.activation_bytes + self.block_bytes + self.cache_bytes

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        prompts = [{"name": name, "tokens": tokens} for name, tokens in self.prompts]
        return {**dataclasses.asdict(self), "prompts": prompts, "peak_bytes": self.peak_bytes}

    def lines(self) -> list[tuple[str, str]]:
        """(label, text) for people."""
        total = sum(tokens for _, tokens in self.prompts)
        own = "" if self.generate is None else f", up to {self.generate:,} of each the model's own continuation"
        parts = f"weights {_size(self.weights_bytes)}, activations {_size(self.activation_bytes)}"
        parts += f", KV caches {_size(self.cache_bytes)}" if self.cache_bytes else ""
        return [
            ("model", f"{self.model}, {self.parameters:,} parameters, {self.dtype} on {self.device}"),
            ("position 0", self.position0),
            ("finder", self.finder),
            ("prompts", f"{len(self.prompts)} from {self.source}, {total:,} tokens{own}"),
            *((f"  {name}", f"{tokens:,} tokens") for name, tokens in self.prompts),
            ("peak memory", f"about {_size(self.peak_bytes)} ({parts}, attention block {_size(self.block_bytes)})"),
            ("time", f"about {duration(self.seconds)}, without loading"),
            ("how", self.how),
            ("run folder", self.out or f"{runs_dir()}/<finder>-<model>-<key>"),
        ]


def estimate(model: Any, *, out: str | os.PathLike[str] | None = None, **request: Any) -> Estimate:
    """Estimate the scan that `interp.runs.scan.scan` would run with the same arguments.

    Raises:
        UsageError, LoadError: as `scan` would, as far as can be told without the weights.
    """
    from interp.models.device import placement
    from interp.runs.outline import outline

    planned = plan(**request)
    if out is not None:
        RunFolder(out).inspect()
    asked = {
        name: planned.load_options[name] for name in ("device", "dtype", "device_map") if name in planned.load_options
    }
    dtype, _, device = placement(**asked)
    sketched = outline(model, planned.load_options)
    prompts = planned.prompts(sketched)
    on_meta = sketched.hf.get_input_embeddings().weight.device.type == "meta"
    if not on_meta:
        device = sketched.device
    if not on_meta or dtype == "auto":
        dtype = sketched.dtype
    own = planned.generate or 0
    lengths = [len(prompt) + own for prompt in prompts]
    effort = effort_of(planned.finder, planned.config, prompts, (sketched.n_layers, sketched.n_heads))
    parameters = sum(parameter.numel() for parameter in sketched.hf.parameters())
    weights = parameters * dtype.itemsize
    speed = _speed(device, dtype)
    operations = effort.passes * sum(_operations(sketched, parameters, length) for length in lengths)
    seconds = (operations + 2.0 * parameters * effort.tokens) / (speed * EFFICIENCY)
    each = effort.decodes
    decoded = len(lengths) * (own + each) + effort.steps
    if own:  # one pass over each prompt before the scan
        seconds += sum(_operations(sketched, parameters, length - own) for length in lengths) / (speed * EFFICIENCY)
    if decoded:  # all weights are read once a token
        seconds += decoded * weights / (_reading(device, dtype) * EFFICIENCY)
    return Estimate(
        model=sketched.name,
        finder=planned.finder.name,
        source=planned.source.told,
        device=str(device),
        dtype=str(dtype).removeprefix("torch."),
        position0=sketched.position0,
        prompts=tuple((prompt.name, length) for prompt, length in zip(prompts, lengths, strict=True)),
        generate=planned.generate,
        decodes=each or None,
        parameters=parameters,
        weights_bytes=weights,
        activation_bytes=_activations(sketched, max(lengths), dtype.itemsize),
        block_bytes=BLOCK_COPIES * 4 * sketched.n_heads * min(BLOCK_ROWS, max(lengths)) * max(lengths),
        cache_bytes=effort.caches * _cache(sketched, max(lengths), dtype.itemsize),
        seconds=seconds,
        how=(
            f"memory from shapes, for the longest prompt; time from {effort.passes:.3g} forward passes a prompt at "
            f"{EFFICIENCY:.0%} of the speed of a short matrix product on this device ({speed / 1e9:,.0f} GFLOP/s)"
            + (" and from reading all weights once a generated token" if own else "")
            + (f" and from reading all weights for {each:,} decoded tokens a prompt" if each else "")
            + (f" and {effort.steps:,} more" if effort.steps else "")
            + (f"; {effort.tokens:,} tokens are read beside the prompts" if effort.tokens else "")
            + "".join(sorted({f"; {note}" for prompt in prompts for note in prompt.notes}))
        ),
        out=None if out is None else str(Path(out)),
    )


def effort_of(finder: Any, config: Any, prompts: Sequence[Prompt], shape: tuple[int, int]) -> Effort:
    """What a finder says it will ask of the model (see `interp.finders.base`)."""
    if hasattr(finder, "effort"):
        return finder.effort(config, prompts, shape)
    return Effort(float(getattr(finder, "passes", FORWARDS)))


def _cache(model: Any, length: int, width: int) -> int:
    """Keys and values of one sequence in every layer, as if none had a sliding window."""
    heads = getattr(model.config, "num_key_value_heads", None) or model.n_heads
    return 2 * model.n_layers * heads * model.d_head * length * width


def _activations(model: Any, length: int, width: int) -> int:
    """Every block's output (a finder reads them), one block's insides (about ten states wide), logits twice."""
    states = (model.n_layers + 11) * length * model.d_model * width
    return states + length * model.vocab_size * (width + 4)


def _operations(model: Any, parameters: int, length: int) -> float:
    """Operations of one forward pass: two a parameter and token, and attention's two products over all keys."""
    attention = 4.0 * model.n_layers * model.n_heads * model.d_head * length * length
    return 2.0 * parameters * length + attention


def _speed(device: Any, dtype: Any) -> float:
    """Floating point operations a second of a matrix product, best of a few short tries."""
    import torch

    size = 512 if device.type == "cpu" else 4096
    left = torch.ones(size, size, device=device, dtype=dtype)
    return 2.0 * size**3 / _best(lambda: (left @ left)[0, 0])


def _reading(device: Any, dtype: Any) -> float:
    """Bytes a second that a product of a matrix with one vector reads."""
    import torch

    matrix = torch.ones(8192, 4096, device=device, dtype=dtype)  # beyond what most caches hold
    vector = matrix[0]
    return matrix.numel() * dtype.itemsize / _best(lambda: (matrix @ vector)[0])


def _best(work: Callable[[], Any]) -> float:
    """Seconds, best of a few tries; reading the value that `work` gives waits for the device."""
    best = float("inf")
    for _ in range(4):
        started = time.perf_counter()
        work().item()
        best = min(best, time.perf_counter() - started)
    return best


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
