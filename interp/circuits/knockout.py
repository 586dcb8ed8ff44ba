"""What the model still does without some of its heads: the logit difference when their outputs are replaced.

mean: by their mean over twins in which the names tell nothing, template by template and position by position (Wang et
al. 2022, arXiv 2211.00593, section 2; see `interp.circuits.means`). zero: by zeros. resample: by their outputs on the
corrupted twin of the same prompt. At every position, or at a named one; MLPs are kept and computed anew.

Many sets of heads run side by side, each from the first block in which it differs from a run that is known: the
untouched one, or that of a set given to `Knockout.remember`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from interp.circuits.config import Head
from interp.circuits.edits import SetStates
from interp.circuits.means import Means, outputs
from interp.circuits.metric import Metric, metric_of
from interp.circuits.pairs import Batch, batches, pair_of
from interp.circuits.roles import ROLES, roles_of
from interp.circuits.swap import Swap
from interp.errors import UsageError
from interp.tracing.budget import BUDGET
from interp.tracing.calls import skip_logits
from interp.tracing.partial import passed_over
from interp.tracing.tracer import trace
from probes.base import Prompt

How = Literal["mean", "zero", "resample"]
TOKENS = 1 << 14
"""Tokens (rows x positions) that run side by side, unless the caller says otherwise."""
ENOUGH = 256
"""Tokens that make a pass worth its while: sets that begin in different blocks share one only up to here."""
PAIRS = 64
"""Prompts of one length that are held together."""


@dataclass
class Base:
    """A known run of a group: without the heads `out`; what enters each block [pair, position, d_model], and the logit
    difference [pair]."""

    out: frozenset[Head]
    resid: dict[int, Tensor]
    difference: Tensor

    def begins(self, out: frozenset[Head]) -> int | None:
        """First layer in which a set differs from this one; None when it does not."""
        return min((layer for layer, _ in out ^ self.out), default=None)


@dataclass
class Group:
    """Prompts of one length: their indices, what replaces their heads' outputs, and the known runs."""

    indices: list[int]
    batch: Batch
    metric: Metric
    other: dict[int, Tensor] | None
    where: Tensor | None
    bases: list[Base] = field(default_factory=list)

    @property
    def length(self) -> int:
        return self.batch.clean.shape[1]


class Knockout:
    """See the module. Nothing runs before a difference is asked for.

    Args:
        model: a loaded `Model`.
        prompts: with pairs; the differences are theirs.
        how: what replaces a head's output.
        at: a named position or a role; None = all positions.
        means_from: prompts whose twins make the means, beside those of `prompts`.
        tokens: run side by side.
        seed: of the twins that are made for the means.

    Attributes:
        heads: all heads of the model.
        work: forward passes over all prompts so far; blocks that were passed over do not count.

    Raises:
        UsageError: an unknown `how`, a prompt without a pair, or one without the position.
    """

    def __init__(
        self,
        model: Any,
        prompts: Sequence[Prompt],
        how: str = "mean",
        *,
        at: str | None = None,
        means_from: Sequence[Prompt] = (),
        tokens: int = TOKENS,
        seed: int = 0,
    ):
        if how not in get_args(How):
            raise UsageError(f"how={how!r}; expected one of {', '.join(get_args(How))}")
        if not prompts:
            raise UsageError("no prompts to ablate heads on")
        self.model, self.prompts, self.how, self.at = model, tuple(prompts), how, at
        self.pairs = [pair_of(prompt) for prompt in self.prompts]
        self.places = None if at is None else [places(prompt, at) for prompt in self.prompts]
        self.means_from, self.tokens, self.seed = tuple(means_from), tokens, seed
        self.remembered: list[frozenset[Head]] = []
        self._groups: tuple[int, list[Group]] | None = None
        self.work = 0.0
        names, layers = model.sites.names(), range(model.n_layers)
        with_heads = [layer for layer in layers if f"blocks.{layer}.attn.hook_z" in names]
        self.heads: tuple[Head, ...] = tuple(
            (layer, head) for layer in with_heads for head in range(model.sites.n_heads(layer))
        )

    @cached_property
    def means(self) -> Means:
        """What stands for the heads with ``mean``."""
        return Means(self.model, self.prompts, self.means_from, self.tokens, self.seed)

    def part(self, indices: Sequence[int]) -> Knockout:
        """The same on some of the prompts, with the same means."""
        chosen = [self.prompts[index] for index in indices]
        one = Knockout(self.model, chosen, self.how, at=self.at, tokens=self.tokens, seed=self.seed)
        if self.how == "mean":
            one.means = self.means
        one.remembered = list(self.remembered)
        return one

    def difference(self, out: Collection[Head]) -> np.ndarray:
        """float64 [prompt]: logit difference on the clean prompts without the heads `out`.

        Raises:
            UsageError: a head the model does not have.
        """
        return self.differences([out])[0]

    def differences(self, sets: Sequence[Collection[Head]]) -> np.ndarray:
        """float64 [set, prompt]: the same for several sets; equal ones run once."""
        asked = [self.checked(one) for one in sets]
        found = np.empty((len(asked), len(self.prompts)))
        for group in self.groups:
            self.complete(group)
            values = self.group_differences(group, list(dict.fromkeys(asked)))
            for row, out in enumerate(asked):
                found[row, group.indices] = values[out].numpy()
        return found

    def remember(self, out: Collection[Head]) -> None:
        """Keep what enters each block without the heads `out`, so that sets like it begin where they differ from it."""
        one = self.checked(out)
        if one and one not in self.remembered:
            self.remembered.append(one)

    def checked(self, out: Collection[Head]) -> frozenset[Head]:
        """The heads as a set."""
        asked = frozenset((int(layer), int(head)) for layer, head in out)
        unknown = sorted(asked - set(self.heads))
        if unknown:
            raise UsageError(f"heads {unknown}: the model has {self.heads[0]} to {self.heads[-1]}")
        return asked

    @property
    def side_by_side(self) -> int:
        """Tokens that run side by side: `tokens`, or as many as the memory plan still grants."""
        return BUDGET.get().side_by_side(self.tokens)

    @property
    def groups(self) -> list[Group]:
        """The prompts by length; settled anew, and known runs forgotten, when memory has run out since."""
        if self._groups is None or self._groups[0] > self.side_by_side:
            self._groups = None  # before others are made
            most = min(PAIRS, max(1, self.side_by_side // max(len(prompt) for prompt in self.prompts)))
            made = [self.group(indices, batch) for indices, batch in batches(self.pairs, most)]
            self._groups = self.side_by_side, made
        return self._groups[1]

    def group(self, indices: list[int], batch: Batch) -> Group:
        other = None
        if self.how == "resample":
            other = outputs(self.model, batch.corrupt)
            self.count(len(indices), batch.clean.shape[1], 0)
        elif self.how == "mean":
            each = [self.means.of(self.prompts[index]) for index in indices]
            other = {layer: torch.stack([one[layer] for one in each]) for layer in each[0]}
        where = None
        if self.places is not None:
            where = torch.zeros(batch.clean.shape, dtype=torch.bool)
            for row, index in enumerate(indices):
                where[row, list(self.places[index])] = True
        return Group(indices, batch, metric_of(batch), other, where)

    def complete(self, group: Group) -> None:
        """Run what is to be known of a group: the untouched run, and that of each set remembered."""
        known = {base.out for base in group.bases}
        for out in (frozenset(), *self.remembered):
            if out not in known:
                group.bases.append(self.base(group, out))

    def base(self, group: Group, out: frozenset[Head]) -> Base:
        n, layers = len(group.indices), range(self.model.n_layers)
        first = min((layer for layer, _ in out), default=0)
        before = {layer: group.bases[0].resid[layer] for layer in layers if out and layer <= first}
        start = before.get(first) if first else None
        resid = {layer: f"blocks.{layer}.hook_resid_pre" for layer in layers if layer not in before}
        difference, read = self.run(group, [out], torch.arange(n), first, start, list(resid.values()))
        return Base(out, before | {layer: read[site] for layer, site in resid.items()}, difference)

    def group_differences(self, group: Group, sets: Sequence[frozenset[Head]]) -> dict[frozenset[Head], Tensor]:
        """Set -> logit difference [pair]."""
        found: dict[frozenset[Head], Tensor] = {}
        begins: list[tuple[int, int, frozenset[Head]]] = []
        for out in sets:
            each = [base.begins(out) for base in group.bases]
            if None in each:
                found[out] = group.bases[each.index(None)].difference
                continue
            first, base = max((first, -base) for base, first in enumerate(each) if first is not None)
            begins.append((-base, first, out))
        begins.sort(key=lambda one: one[:2])
        n = len(group.indices)
        cuts = plan([one[:2] for one in begins], n * group.length, self.side_by_side)
        for cut in cuts:
            chunk = begins[cut]
            base, first, _ = chunk[0]
            outs, pairs = [out for _, _, out in chunk], torch.arange(n).repeat(len(chunk))
            start = group.bases[base].resid[first][pairs] if first else None
            values, _ = self.run(group, outs, pairs, first, start, [])
            found.update(zip(outs, values.unflatten(0, (-1, n)), strict=True))
        return found

    def run(
        self,
        group: Group,
        outs: Sequence[frozenset[Head]],
        pairs: Tensor,
        first: int,
        start: Tensor | None,
        read: list[str],
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """One pass: rows are the sets, each with all pairs. (logit difference [row], what was read)."""
        edits: list[Any] = [] if start is None else [SetStates(first, start)]
        for layer in range(first, self.model.n_layers):
            gone = [[head for at, head in out if at == layer] for out in outs]
            if any(gone):
                mask = torch.zeros(len(outs), self.model.sites.n_heads(layer), dtype=torch.bool)
                for row, heads in enumerate(gone):
                    mask[row, heads] = True
                other = None if group.other is None else group.other[layer]
                edits.append(Swap(layer, mask.repeat_interleave(len(group.indices), 0), pairs, other, group.where))
        self.count(len(pairs), group.length, first)
        with (
            group.metric.on(self.model),
            passed_over(self.model, first),
            trace(self.model, read=read, edit=edits) as t,
        ):
            output = t.run(group.batch.clean[pairs], **skip_logits(self.model))
            return group.metric.of(output, pairs), {site: t[site] for site in read}

    def count(self, rows: int, length: int, first: int) -> None:
        whole = self.model.n_layers * sum(len(prompt) for prompt in self.prompts)
        self.work += rows * length * (self.model.n_layers - first) / whole


def places(prompt: Prompt, at: str) -> tuple[int, ...]:
    """Where a named position or a role stands in a prompt.

    Raises:
        UsageError: nowhere.
    """
    named, roles = pair_of(prompt).positions, roles_of(prompt)
    found = (named[at],) if at in named else roles.get(at, ())
    if not found:
        has = sorted({*named, *(role for role in ROLES if roles[role])})
        raise UsageError(f"prompt {prompt.name!r} has no position {at!r}; it has {', '.join(has)}")
    return found


def plan(begins: Sequence[tuple[int, int]], tokens: int, most: int) -> list[slice]:
    """Which sets share a pass. `begins` = (base, first layer) of each, in order; `tokens` = of one set. A pass has one
    base, begins at its first set's layer, and has at most `most` tokens, unless a single set has more; sets of a later
    layer join it only up to `ENOUGH`."""
    cuts: list[slice] = []
    for at, (base, first) in enumerate(begins):
        if cuts:
            here = cuts[-1]
            size = (at - here.start) * tokens
            together = begins[here.start][0] == base and size + tokens <= most
            if together and (begins[here.start][1] == first or size + tokens <= ENOUGH):
                cuts[-1] = slice(here.start, at + 1)
                continue
        cuts.append(slice(at, at + 1))
    return cuts
