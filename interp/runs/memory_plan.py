"""How large the pieces of a scan may be, so that its peak fits: blocks of attention rows, chunks of a prompt.

Sizes change no result beyond rounding, so they are no part of a run's key: a run that was begun with some goes on with
others.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from interp.amounts import told
from interp.errors import LoadError, UsageError
from interp.finders.base import Effort
from interp.runs import memory
from interp.runs.memory_model import shapes_of
from interp.runs.memory_shapes import Parts, Shapes, parts
from interp.tracing.budget import MIN_ROWS, Budget

LEAST_CHUNK = 256
MARGIN = 1.15
"""How far a peak may lie above its estimate (`benchmarks/memory_plan.py`): what was asked for holds all the same."""
FORWARDS = 8.0  # passes over a prompt where a finder does not say: one to measure, the rest for the check


@dataclass(frozen=True)
class Sizes:
    """What a scan keeps to.

    Attributes:
        budget: the sizes.
        parts: the estimate with them.
        limit: bytes there are: what was asked for, or what is free with what the process holds already.
        given: whether `limit` was asked for.
        fits: whether the estimate keeps within it, with `MARGIN` where it was asked for.
        full: the peak at full sizes.
        heads, longest: query heads a layer, and tokens of the longest prompt.
    """

    budget: Budget
    parts: Parts
    limit: int
    given: bool
    fits: bool
    full: int
    heads: int
    longest: int

    def sentence(self) -> str | None:
        """What is worth saying: that sizes are below the full ones, or that even the smallest may not do."""
        had = f"--memory {told(self.limit)}" if self.given else f"{told(self.limit)} to be had"
        said = f"memory: {had}, peak about {told(self.full)} at full blocks"
        if self.budget != Budget():
            said += f"; {sizes_told(self.budget)}: about {told(self.parts.peak)}"
        elif self.fits:
            return None
        return said if self.fits else f"{said}. That may be too much; going on"

    def as_dict(self) -> dict[str, Any]:
        """For run.json."""
        chosen = {"block_elements": self.budget.block_elements, "chunk": self.budget.chunk}
        return {"limit": self.limit, "given": self.given, **chosen, "estimated": self.parts.as_dict()}


def sizes_told(budget: Budget) -> str:
    """The sizes in words, where they are below the full ones."""
    full, said = Budget(), []
    if budget.block_elements < full.block_elements:
        said.append(f"attention in blocks of {budget.block_elements:,} scores instead of {full.block_elements:,}")
    if budget.chunk is not None:
        said.append(f"prompts in chunks of {budget.chunk:,} tokens where nothing is edited")
    if budget.states < full.states:
        said.append(f"states of prompts side by side within {told(budget.states)}")
    return ", ".join(said) or "attention in full blocks"


def effort_of(finder: Any, config: Any, prompts: Sequence[Any], shape: tuple[int, int]) -> Effort:
    """What a finder says it will ask of the model (see `interp.finders.base`)."""
    if hasattr(finder, "effort"):
        return finder.effort(config, prompts, shape)
    return Effort(float(getattr(finder, "passes", FORWARDS)), reads=float(getattr(finder, "reads", Effort.reads)))


def foreseen(planned: Any, model: Any) -> Sizes | None:
    """The sizes of a scan whose model is not loaded yet; None where its files are not on this machine, or are a GGUF
    file, whose shapes are known once it is read.

    Raises:
        UsageError: `planned.memory` was given, and does not do for the smallest sizes; names the parts, and what would.
    """
    from interp.models.device import placement
    from interp.runs.outline import outline

    options = {n: planned.load_options[n] for n in ("device", "dtype", "device_map") if n in planned.load_options}
    dtype, _, device = placement(**options)
    if isinstance(model, str | os.PathLike) and os.fspath(model).lower().endswith(".gguf"):
        return None
    try:
        sketched = outline(model, planned.load_options)
    except LoadError:
        return None  # to be fetched first; loading tells whatever else is wrong
    on_meta = sketched.hf.get_input_embeddings().weight.device.type == "meta"
    if not on_meta or dtype == "auto":
        dtype = sketched.dtype
    device = device if on_meta else sketched.device
    memory.warm()
    return settled(planned, sketched, planned.prompts(sketched), dtype, device, loaded=not on_meta)


def settle(planned: Any, model: Any, prompts: Sequence[Any]) -> Sizes:
    """The sizes of a scan whose model is loaded; too little `planned.memory` only makes them small."""
    return settled(planned, model, prompts, model.dtype, model.device, loaded=True, refuse=False)


def settled(
    planned: Any, model: Any, prompts: Sequence[Any], dtype: Any, device: Any, *, loaded: bool, refuse: bool = True
) -> Sizes:
    """See `foreseen` and `settle`.

    Raises:
        UsageError: see `foreseen`.
    """
    shapes = shapes_of(model, dtype, device)
    lengths = [len(prompt) + (planned.generate or 0) for prompt in prompts]
    effort = effort_of(planned.finder, planned.config, prompts, (model.n_layers, model.n_heads))
    on_cpu = shapes.device == "cpu"
    process = max(0, memory.held() - (shapes.weights if loaded else 0)) if on_cpu else 0
    given = planned.memory is not None
    if given:
        limit = planned.memory
    else:
        limit = memory.free(device, planned.load_options.get("device_map") is not None)
        limit += process if on_cpu else 0
        limit += shapes.weights if loaded else 0
    allowed = int(limit / MARGIN) if given else limit
    budget, chosen = choose(shapes, effort, lengths, process, loaded, allowed)
    fits = chosen.peak <= allowed
    if given and not fits and refuse:
        raise UsageError(refusal(shapes, effort, lengths, process, loaded, limit, chosen))
    full = parts(shapes, effort, lengths, Budget(), process, loaded).peak
    return Sizes(budget, chosen, limit, given, fits, full, shapes.heads, max(*lengths, effort.longest))


def choose(
    shapes: Shapes, effort: Effort, lengths: Sequence[int], process: int, loaded: bool, limit: int
) -> tuple[Budget, Parts]:
    """The largest sizes that fit, blocks before chunks; the smallest where none do. Full sizes where nothing helps."""
    made = [
        (budget, parts(shapes, effort, lengths, budget, process, loaded))
        for budget in budgets(shapes, max(*lengths, effort.longest))
    ]
    fitting = next((one for one in made if one[1].peak <= limit), None)
    if fitting is not None:
        return fitting
    least = min(one[1].peak for one in made)
    return next(one for one in made if one[1].peak == least)


def budgets(shapes: Shapes, longest: int) -> Iterator[Budget]:
    """Sizes from the full ones down: smaller blocks cost least, then chunks of half the prompt and less."""
    chunks: list[int | None] = [None]
    size = 1 << max(0, longest - 1).bit_length() >> 1
    while size >= LEAST_CHUNK:
        chunks.append(size)
        size >>= 1
    full = Budget()
    for chunk in chunks:
        budget = replace(full, chunk=chunk)
        yield budget
        while (budget := smaller_block(budget, shapes.heads, longest)) is not None:
            yield budget


def smaller_block(budget: Budget, heads: int, longest: int) -> Budget | None:
    """Half of the rows that a prompt of `longest` tokens has in a block; None at the least rows.

    What finders hold side by side is halved with it.
    """
    rows = budget.rows(heads * longest)
    if rows <= MIN_ROWS:
        return None
    rows = max(MIN_ROWS, rows // 32 * 16)
    return replace(budget, block_elements=rows * heads * longest, states=budget.states // 2)


def refusal(
    shapes: Shapes, effort: Effort, lengths: Sequence[int], process: int, loaded: bool, limit: int, least: Parts
) -> str:
    """Why a scan cannot keep within its memory, and what would help."""

    allowed = int(limit / MARGIN)

    def fits(shapes: Shapes, longest: int) -> bool:
        cut = [min(length, longest) for length in lengths]
        return choose(shapes, effort, cut, process, loaded, allowed)[1].peak <= allowed

    ways, longest = [], max(lengths) // 2
    while longest >= 16 and not fits(shapes, longest):
        longest //= 2
    if longest >= 16:
        ways.append(f"--max-length {longest}")
    if not loaded and shapes.width == 4 and fits(replace(shapes, width=2, copied=bool(shapes.stored)), max(lengths)):
        ways.append("--dtype bfloat16")
    ways.append(f"--memory {told(least.peak * MARGIN * 1.01).replace(' ', '')}")
    return (
        f"--memory {told(limit)}: this scan needs about {told(least.peak)} even in the smallest pieces "
        f"({least.told()}), and may take {MARGIN - 1:.0%} more; {' or '.join(ways)} would do"
    )
