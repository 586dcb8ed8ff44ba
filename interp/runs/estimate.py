"""``--dry-run``: what a scan would run on, and roughly how much memory and time it takes. Writes nothing."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interp.amounts import told
from interp.runs import memory
from interp.runs.memory_plan import Sizes, effort_of, settled, sizes_told
from interp.runs.places import runs_dir
from interp.runs.plan import plan
from interp.runs.progress import duration
from interp.runs.store import RunFolder

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
        sizes: the memory plan: sizes chosen, and the parts of the peak.
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
    sizes: Sizes
    seconds: float
    how: str
    out: str | None

    @property
    def peak_bytes(self) -> int:
        """Of main memory, this process included; on a GPU, of what is allocated there."""
        return self.sizes.parts.peak

    @property
    def process_bytes(self) -> int:
        """What this process holds now, before it loads anything: part of `peak_bytes`."""
        return self.sizes.parts.process

    @property
    def weights_bytes(self) -> int:
        return self.sizes.parts.weights

    @property
    def cache_bytes(self) -> int:
        """KV caches that the finder holds, and a chunked prompt's."""
        return self.sizes.parts.caches

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        prompts = [{"name": name, "tokens": tokens} for name, tokens in self.prompts]
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "sizes"}
        parts = {f"{name}_bytes": count for name, count in self.sizes.parts.as_dict().items()}
        chosen = {"block_elements": self.sizes.budget.block_elements, "chunk": self.sizes.budget.chunk}
        return {**own, "prompts": prompts, **parts, **chosen, "fits": self.sizes.fits, "limit_bytes": self.sizes.limit}

    def lines(self) -> list[tuple[str, str]]:
        """(label, text) for people."""
        total = sum(tokens for _, tokens in self.prompts)
        own = "" if self.generate is None else f", up to {self.generate:,} of each the model's own continuation"
        limit = ("--memory " if self.sizes.given else "to be had: ") + told(self.sizes.limit)
        limit += "" if self.sizes.fits else ", which may be too little"
        return [
            ("model", f"{self.model}, {self.parameters:,} parameters, {self.dtype} on {self.device}"),
            ("position 0", self.position0),
            ("finder", self.finder),
            ("prompts", f"{len(self.prompts)} from {self.source}, {total:,} tokens{own}"),
            *((f"  {name}", f"{tokens:,} tokens") for name, tokens in self.prompts),
            ("peak memory", f"about {told(self.peak_bytes)} ({self.sizes.parts.told()})"),
            (
                "pieces",
                f"{sizes_told(self.sizes.budget)}; {limit}",
            ),
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
    memory.warm()
    prompts = planned.prompts(sketched)
    on_meta = sketched.hf.get_input_embeddings().weight.device.type == "meta"
    if not on_meta:
        device = sketched.device
    if not on_meta or dtype == "auto":
        dtype = sketched.dtype
    own = planned.generate or 0
    lengths = [len(prompt) + own for prompt in prompts]
    effort = effort_of(planned.finder, planned.config, prompts, (sketched.n_layers, sketched.n_heads))
    sizes = settled(planned, sketched, prompts, dtype, device, loaded=not on_meta)
    parameters = sum(parameter.numel() for parameter in sketched.hf.parameters())
    weights = sizes.parts.weights
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
        sizes=sizes,
        seconds=seconds,
        how=(
            f"memory from shapes and what this process holds, for the longest prompt; time from {effort.passes:.3g} "
            f"forward passes a prompt at {EFFICIENCY:.0%} of the speed of a short matrix product on this device "
            f"({speed / 1e9:,.0f} GFLOP/s)"
            + (" and from reading all weights once a generated token" if own else "")
            + (f" and from reading all weights for {each:,} decoded tokens a prompt" if each else "")
            + (f" and {effort.steps:,} more" if effort.steps else "")
            + (f"; {effort.tokens:,} tokens are read beside the prompts" if effort.tokens else "")
            + "".join(sorted({f"; {note}" for prompt in prompts for note in prompt.notes}))
        ),
        out=None if out is None else str(Path(out)),
    )


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
