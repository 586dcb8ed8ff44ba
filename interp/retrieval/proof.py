"""Whether a mask took effect, layer by layer, looked at in a run of its own.

The released code of Wu et al. 2024 (arXiv 2404.15574) never applies its mask on half of its models, which its answers
do not show. Here every masked layer is looked at where the mask should show: what the output projection really
receives (zero, mean), or the attention rows that are multiplied with the values (uniform, block).
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
from interp.retrieval.arms import answers, keys_of
from interp.retrieval.config import How, RetrievalConfig
from interp.retrieval.masks import Mask, layers_in, mask_of, table
from interp.retrieval.task import Task
from interp.tracing.blocks import PassFrame, RowBlock

EQUAL = 1e-4
"""Weights of a row count as equal when they differ by less than this share of the largest."""


@dataclass
class Watch:
    """What masked heads should be, compared with what they are, while a trace runs.

    Attributes:
        how: what is done to them.
        mask: to which, bool [arm, layer, head].
        means: for ``mean``.
        keys: for ``block``: first key, and the one behind the last.
        off: layer -> how far the worst head is from what it should be; 0 = the mask is there. A layer that was not
            reached is missing.
    """

    how: How
    mask: Mask
    means: Mapping[Head, Tensor] | None = None
    keys: tuple[int, int] | None = None
    off: dict[int, float] = field(default_factory=dict)

    def note(self, layer: int, off: Tensor) -> None:
        """Take in how far masked heads are from what they should be (any shape; empty = nothing to say)."""
        if off.numel():
            self.off[layer] = max(self.off.get(layer, 0.0), float(off.abs().max()))

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
            self.note(block.layer, rows[masked][:, behind][..., inside].sum(-1))
            if bool(behind.any()):
                self.off.setdefault(block.layer, 0.0)  # keys a window has left behind have no mass to compare
            return
        seen = rows > 0
        largest = rows.amax(-1)
        smallest = torch.where(seen, rows, torch.inf).amin(-1)
        uneven = 1 - smallest / largest.clamp_min(torch.finfo(rows.dtype).tiny)
        fewer = seen.sum(-1) < seen.sum(-1).amax((0, 1))  # a row on one key alone is even, and is not uniform
        self.note(block.layer, torch.where(fewer, 1.0, uneven)[masked])

    def result(self) -> dict[int, float]:
        """How far off each layer is."""
        return self.off


def proof(
    model: Any, task: Task, arms: Sequence[Sequence[Head]], config: RetrievalConfig, means: Mapping[Head, Tensor] | None
) -> dict[str, Any]:
    """Run a prompt under masks as for its answers, up to the first token of these, and look at every masked layer.

    Returns:
        JSON-able: ``prompt``; ``layers``, those in which the masks name heads; ``heads``, how many they name;
        ``failed``, the layers where a mask does not show; ``worst``, the largest difference seen from what should be.
    """
    mask = mask_of(arms, (model.n_layers, model.n_heads))
    watch, layers = Watch(config.how, mask, means, keys_of(task)), layers_in(mask)
    together = replace(config, at_once=max(1, len(arms)))
    answers(model, replace(task, max_new_tokens=1), mask, together, means, watch)
    limit = EQUAL if config.how == "uniform" else 0.0
    return {
        "prompt": task.prompt.name,
        "layers": layers,
        "heads": int(mask.any(0).sum()),
        "failed": [layer for layer in layers if watch.off.get(layer, math.inf) > limit],
        "worst": max(watch.off.values(), default=None),
    }
