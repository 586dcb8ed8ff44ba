"""Whether a mask took effect, phase by phase and layer by layer, looked at in a run of its own.

The released code of Wu et al. 2024 (arXiv 2404.15574) never applies its mask on half of its models, which its answers
do not show. Here every masked layer is looked at where the mask should show: what the output projection really
receives (zero, mean), or the attention rows that are multiplied with the values (uniform, block); while the prompt is
read and while the answer is written, where both are masked; and in a batch that arms have left, as in the answers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from interp.ablation.config import Head
from interp.models.binding import take
from interp.retrieval.arms import Phase, answers, keys_of
from interp.retrieval.config import How, RetrievalConfig, When
from interp.retrieval.masks import Mask, layers_in, mask_of, table
from interp.retrieval.task import Task
from interp.tracing.blocks import PassFrame, RowBlock

EQUAL = 1e-4
"""Weights of a row count as equal when they differ by less than this share of the largest."""
STEPS = 3
"""Generated tokens that are looked at; half of the arms leave after the first."""
PHASES: Mapping[When, tuple[Phase, ...]] = {
    "prefill": ("prefill",),
    "decode": ("decode",),
    "both": ("prefill", "decode"),
}
"""Where a mask has to show."""


@dataclass
class Watch:
    """What masked heads should be, compared with what they are, while a trace runs.

    Attributes:
        how: what is done to them.
        mask: to which, bool [arm, layer, head]: that of the arms now in the batch.
        means: for ``mean``.
        keys: for ``block``: first key, and the one behind the last.
        phase: what goes on.
        off: (phase, layer) -> how far the worst head is from what it should be; 0 = the mask is there. What was not
            reached is missing.
        there: for ``block``: (phase, layer) where an arm without a mask looks at the keys, so that there is something
            to take away.
    """

    how: How
    mask: Mask
    means: Mapping[Head, Tensor] | None = None
    keys: tuple[int, int] | None = None
    phase: Phase = "prefill"
    off: dict[tuple[Phase, int], float] = field(default_factory=dict)
    there: set[tuple[Phase, int]] = field(default_factory=set)

    def begin(self, phase: Phase, mask: Mask) -> None:
        """See `interp.retrieval.arms.Watch`."""
        self.phase, self.mask = phase, mask

    def note(self, layer: int, off: Tensor) -> None:
        """Take in how far masked heads are from what they should be (any shape; empty = nothing to say)."""
        if off.numel():
            at = (self.phase, layer)
            self.off[at] = max(self.off.get(at, 0.0), float(off.abs().max()))

    # -- zero and mean: what the output projection is given ------------------------------------------------------------

    def attach(self, model: Any, stack: ExitStack) -> None:
        """Plain hooks behind those of the trace."""
        for layer in layers_in(self.mask) if self.how in ("zero", "mean") else []:
            binding = model.sites.binding(f"blocks.{layer}.attn.hook_z")

            def look(module: nn.Module, args: tuple, layer: int = layer, binding: Any = binding) -> None:
                self.outputs(layer, take(binding, args[0], len(self.mask)))

            stack.callback(binding.module.register_forward_pre_hook(look).remove)

    def outputs(self, layer: int, z: Tensor) -> None:
        """Compare z [arm, position, head, d_head]."""
        masked = self.mask[:, layer].to(z.device)
        target = torch.zeros_like(z)
        if self.how == "mean":
            target = target + table(self.mask, self.means or {})[layer].to(z)
        self.note(layer, (z - target).transpose(1, 2)[masked])

    # -- uniform and block: the rows, as a statistic of the trace ------------------------------------------------------

    def stats(self) -> list[Any]:
        """Itself, where it looks at rows."""
        return [] if self.how in ("zero", "mean") else [self]

    @property
    def layers(self) -> frozenset[int]:
        """Layers it looks at."""
        return frozenset(layers_in(self.mask))

    @property
    def name(self) -> str:
        """As a statistic."""
        return "watch"

    def accumulator(self, frame: PassFrame) -> Watch:
        """See `Statistic`."""
        return self

    def fold(self, block: RowBlock) -> None:
        """Compare a block of rows."""
        rows, masked = block.rows, self.mask[:, block.layer].to(block.rows.device)
        if self.how == "block":
            start, stop = self.keys or (0, 0)
            inside = (block.key_positions >= start) & (block.key_positions < stop)
            behind = block.query_positions >= stop
            mass = rows[:, :, behind][..., inside].sum(-1)  # [arm, head, query]
            free = ~self.mask.flatten(1).any(1).to(rows.device)
            if mass.numel() and bool((mass[free] > 0).any()):
                self.there.add((self.phase, block.layer))
            self.note(block.layer, mass[masked])
            return
        seen = rows > 0
        largest = rows.amax(-1)
        smallest = torch.where(seen, rows, torch.inf).amin(-1)
        uneven = 1 - smallest / largest.clamp_min(torch.finfo(rows.dtype).tiny)
        fewer = seen.sum(-1) < seen.sum(-1).amax((0, 1))  # a row on one key alone is even, and is not uniform
        self.note(block.layer, torch.where(fewer, 1.0, uneven)[masked])

    def result(self) -> dict[tuple[Phase, int], float]:
        """How far off each layer is, by phase."""
        return self.off


def proof(
    model: Any, task: Task, arms: Sequence[Sequence[Head]], config: RetrievalConfig, means: Mapping[Head, Tensor] | None
) -> dict[str, Any]:
    """Run a prompt under masks as for its answers, up to the third token of these, and look at every masked layer.

    Every arm is there twice: one leaves after the first token, the other stays in the smaller batch. For ``block`` an
    arm without a mask stands beside, which shows where there is something to block.

    Returns:
        JSON-able: ``prompt``; ``phases``, in which the masks have to show; ``layers``, those in which they name heads;
        ``heads``, how many they name; ``failed``, the layers where a mask does not show in one of the phases;
        ``nothing``, the layers where there was nothing to block in any of them (the needle lies outside the window of
        a sliding layer), of which nothing is proved; ``worst``, the largest difference seen from what should be.
    """
    shown = [*arms, ()] if config.how == "block" else list(arms)
    steps = min(STEPS, task.max_new_tokens)
    mask = mask_of([*shown, *shown], (model.n_layers, model.n_heads))
    watch, layers, phases = Watch(config.how, mask, means, keys_of(task)), layers_in(mask), PHASES[config.when]
    together = replace(config, at_once=max(1, len(mask)))
    answers(model, task, mask, together, means, watch, [1] * len(shown) + [steps] * len(shown))
    limit = EQUAL if config.how == "uniform" else 0.0
    required: dict[int, list[tuple[Phase, int]]] = {
        layer: [(phase, layer) for phase in phases if config.how != "block" or (phase, layer) in watch.there]
        for layer in layers
    }
    return {
        "prompt": task.prompt.name,
        "phases": list(phases),
        "layers": layers,
        "heads": int(mask.any(0).sum()),
        "failed": [layer for layer in layers if any(watch.off.get(at, math.inf) > limit for at in required[layer])],
        "nothing": [layer for layer in layers if not required[layer]],
        "worst": max(watch.off.values(), default=None),
    }
