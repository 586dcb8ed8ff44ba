"""What heads are made to put out in a prompt that is a pair: its corrupted twin's outputs, or means over twins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from interp.ablation.config import Head
from interp.circuits.pairs import pair_of
from interp.errors import UsageError
from interp.tracing.calls import skip_logits
from interp.tracing.tracer import trace
from probes.base import Prompt

ABC = "abc"
TWINS = "twins"
BATCH = 32


def head_outputs(model: Any, ids: Sequence[Sequence[int]]) -> dict[Head, Tensor]:
    """`hook_z` of every head, (layer, head) -> [sequence, position, d_head], of sequences of one length."""
    sites = {layer: f"blocks.{layer}.attn.hook_z" for layer in range(model.n_layers)}
    there = {layer: site for layer, site in sites.items() if site in model.sites.names()}
    with trace(model, read=list(there.values())) as t:
        t.run(torch.tensor([list(one) for one in ids]), **skip_logits(model))
    return {(layer, head): t[site][:, :, head] for layer, site in there.items() for head in range(t[site].shape[2])}


def twin_outputs(model: Any, prompt: Prompt) -> dict[Head, Tensor]:
    """Every head's output [position, d_head] in the prompt's corrupted twin.

    Raises:
        UsageError: the prompt has none.
    """
    return {head: z[0] for head, z in head_outputs(model, [pair_of(prompt).corrupt]).items()}


class TwinMeans:
    """Means of heads' outputs by position, over the twins of all prompts of one template and one length (Wang et al.
    2022, section 2.1): the ``abc`` twins where every prompt has one, else the corrupted ones.

    Attributes:
        abc: whether it is the ``abc`` twins.
        groups: (template, tokens) -> the twins' ids.
    """

    def __init__(self, prompts: Sequence[Prompt]):
        """Nothing is run yet.

        Raises:
            UsageError: a prompt that is no pair, or an ``abc`` twin that does not line up with its prompt.
        """
        self.abc = all(ABC in (prompt.extra.get(TWINS) or {}) for prompt in prompts)
        self.groups: dict[tuple[str, int], list[tuple[int, ...]]] = {}
        self._means: dict[tuple[str, int], dict[Head, Tensor]] = {}
        for prompt in prompts:
            ids = tuple(prompt.extra[TWINS][ABC]) if self.abc else pair_of(prompt).corrupt
            if len(ids) != len(prompt):
                raise UsageError(
                    f"prompt {prompt.name!r}: its {ABC} twin has {len(ids)} tokens, the prompt {len(prompt)}; they "
                    "have to line up token by token"
                )
            self.groups.setdefault(self._group(prompt), []).append(ids)

    @staticmethod
    def _group(prompt: Prompt) -> tuple[str, int]:
        return pair_of(prompt).template, len(prompt)

    def of(self, model: Any, prompt: Prompt) -> dict[Head, Tensor]:
        """Every head's mean [position, d_head] for this prompt; its group's twins are run once."""
        group = self._group(prompt)
        if group not in self._means:
            ids, sums = self.groups[group], {}
            for first in range(0, len(ids), BATCH):
                for head, z in head_outputs(model, ids[first : first + BATCH]).items():
                    sums[head] = sums.get(head, 0) + z.float().sum(0)
            self._means[group] = {head: total / len(ids) for head, total in sums.items()}
        return self._means[group]

    def told(self) -> str:
        """``over the ABC twins of the prompts of its template (1 to 4 of them), position by position``."""
        sizes = sorted({len(ids) for ids in self.groups.values()})
        number = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
        which = "ABC twins (other names)" if self.abc else "corrupted twins"
        return f"over the {which} of all prompts of the same template and length ({number} of them), by position"
