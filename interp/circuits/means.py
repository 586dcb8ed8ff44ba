"""What a head puts out on average where the names tell nothing (Wang et al. 2022, arXiv 2211.00593, section 2).

1. Twins: the ABC twins, where every prompt has one (``extra["twins"]["abc"]``), else the corrupted twins of the pairs.
2. For each template and length: the mean of `hook_z` over its twins, position by position. Where a template has fewer
   than `EACH` ABC twins, more are made: the tokens in which another prompt's ABC twin differs from its prompt take the
   places of its own.
3. A prompt whose template has fewer than `LEAST` twins of its length takes, position by position, the first that there
   is: the mean over all twins at the position of that name; at the first token, over all first tokens; at the same
   position in twins of the same length, when these are at least `LEAST`; over all positions without a name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.circuits.pairs import Pair, pair_of
from interp.tracing.budget import BUDGET
from interp.tracing.calls import skip_logits
from interp.tracing.partial import only_logits
from interp.tracing.tracer import trace
from probes.base import Prompt

EACH = 8
"""ABC twins of a template, at least, where so many can be made."""
LEAST = 2
"""Twins that make a mean."""
READ = 8
"""Rows that are read keep all layers' outputs, so fewer run side by side: one in so many."""

Form = tuple[str, int]
"""(template, tokens): prompts of one form line up position by position."""
Ids = tuple[int, ...]


def outputs(model: Any, ids: Tensor) -> dict[int, Tensor]:
    """`hook_z` [row, position, head, d_head] of every layer with attention, for `ids` [row, position]."""
    names = model.sites.names()
    sites = {layer: f"blocks.{layer}.attn.hook_z" for layer in range(model.n_layers)}
    sites = {layer: site for layer, site in sites.items() if site in names}
    with only_logits(model, torch.zeros(1, dtype=torch.long)), trace(model, read=list(sites.values())) as t:
        t.run(ids, **skip_logits(model))
        return {layer: t[site] for layer, site in sites.items()}


def form_of(pair: Pair) -> Form:
    """Template and length."""
    return pair.template, len(pair.prompt)


def exchanged(clean: Ids, twin: Ids, other_clean: Ids, other_twin: Ids) -> Ids | None:
    """`twin` with the tokens that stand in the places where `other_twin` differs from `other_clean`; None where the two
    do not correspond, or where this would bring a token back that `clean` had in one of those places."""
    at, other_at = _differing(clean, twin), _differing(other_clean, other_twin)
    own, new = [twin[i] for i in at], [other_twin[i] for i in other_at]
    same = len(own) == len(new) and [own.index(one) for one in own] == [new.index(one) for one in new]
    if not same or {clean[i] for i in at} & set(new):
        return None
    made = list(twin)
    for i, token in zip(at, new, strict=True):
        made[i] = token
    return tuple(made)


def _differing(clean: Ids, twin: Ids) -> list[int]:
    return [i for i, (one, other) in enumerate(zip(clean, twin, strict=True)) if one != other]


def twins_of(prompts: Sequence[Prompt]) -> tuple[str, list[Ids]]:
    """(``abc`` or ``corrupt``, the twin of each prompt)."""
    given = [prompt.extra.get("twins") or {} for prompt in prompts]
    if given and all("abc" in one for one in given):
        return "abc", [tuple(one["abc"]) for one in given]
    return "corrupt", [pair_of(prompt).corrupt for prompt in prompts]


def by_form(prompts: Sequence[Prompt], wanted: Iterable[Form], *, each: int = EACH, seed: int = 0) -> dict[Form, set]:
    """Form -> its different twins (step 2)."""
    kind, twins = twins_of(prompts)
    pairs = [pair_of(prompt) for prompt in prompts]
    order = np.random.default_rng(seed).permutation(len(prompts)).tolist()
    found: dict[Form, set[Ids]] = {}
    for form in dict.fromkeys(wanted):
        here = [i for i, pair in enumerate(pairs) if form_of(pair) == form]
        found[form] = {twins[i] for i in here}
        if kind == "abc":
            for other, own in ((other, own) for other in order for own in here if own != other):
                if len(found[form]) >= each:
                    break
                made = exchanged(prompts[own].ids, twins[own], prompts[other].ids, twins[other])
                found[form] |= {made} if made else set()
    return found


class Mean:
    """A running mean of tensors by layer; [row, ...] are added over rows."""

    def __init__(self) -> None:
        self.n, self.sums = 0, {}

    def add(self, values: Mapping[int, Tensor]) -> None:
        self.n += len(next(iter(values.values()), ()))
        for layer, value in values.items():
            total = value.float().sum(0)
            self.sums[layer] = self.sums[layer] + total if layer in self.sums else total

    def at(self, layer: int) -> Tensor:
        return self.sums[layer] / self.n


class Means:
    """Means for `prompts`, from the twins of these and of `more`.

    Attributes:
        kind: ``abc`` or ``corrupt``.
        used: how many of `prompts` take the means of their ``template``, and how many those ``by position``.
        rows: twins that were run.
    """

    def __init__(self, model: Any, prompts: Sequence[Prompt], more: Sequence[Prompt], tokens: int, seed: int = 0):
        self.model, self.tokens, self.rows = model, tokens, 0
        known = {prompt.ids for prompt in prompts}
        self.reference = [*prompts, *(prompt for prompt in more if prompt.ids not in known)]
        self.kind, self.twins = twins_of(self.reference)
        forms = [form_of(pair_of(prompt)) for prompt in prompts]
        groups = by_form(self.reference, forms, seed=seed)
        self.by_form: dict[Form, Mean] = {}
        for form, twins in groups.items():
            if len(twins) >= LEAST:
                self.by_form[form] = Mean()
                for z in self.read(sorted(twins)):
                    self.by_form[form].add(z)
        alone = sum(form not in self.by_form for form in forms)
        self.used = {"template": len(forms) - alone, "by position": alone}
        self.named: dict[Any, Mean] = {}
        if alone:
            self.by_position()

    def read(self, twins: Sequence[Ids]) -> Iterable[dict[int, Tensor]]:
        """Outputs of twins of one length, in pieces."""
        step = max(1, BUDGET.get().side_by_side(self.tokens) // (READ * len(twins[0])))
        for first in range(0, len(twins), step):
            rows = torch.tensor(twins[first : first + step])
            self.rows += len(rows)
            yield outputs(self.model, rows)

    def by_position(self) -> None:
        """Step 3: one mean a name, one a length, one for the first token and one for tokens without a name."""
        lengths: dict[int, list[int]] = {}
        for index, twin in enumerate(self.twins):
            lengths.setdefault(len(twin), []).append(index)
        for length, here in lengths.items():
            done = 0
            for z in self.read([self.twins[i] for i in here]):
                n = len(next(iter(z.values()), ()))
                self.named.setdefault(("length", length), Mean()).add(z)
                for row, index in enumerate(here[done : done + n]):
                    for at, key in enumerate(keys(self.reference[index])):
                        self.named.setdefault(key, Mean()).add({k: v[row : row + 1, at] for k, v in z.items()})
                done += n

    def of(self, prompt: Prompt) -> dict[int, Tensor]:
        """Layer -> float32 [position, head, d_head]."""
        form = form_of(pair_of(prompt))
        if form in self.by_form:
            mean = self.by_form[form]
            return {layer: mean.at(layer) for layer in mean.sums}
        level = self.named["length", len(prompt)]
        found: dict[int, Tensor] = {}
        for layer in level.sums:
            value = level.at(layer).clone()
            for at, key in enumerate(keys(prompt)):
                if key != ("other",) or level.n < LEAST:
                    value[at] = self.named[key].at(layer)
            found[layer] = value
        return found


def keys(prompt: Prompt) -> list[tuple[str, ...]]:
    """What each position is known by: its name (the first in order of the alphabet), first, or other."""
    names: dict[int, str] = {}
    for name, at in sorted(pair_of(prompt).positions.items()):
        names.setdefault(at, name)
    bare = [("first",), *[("other",)] * (len(prompt) - 1)]
    return [("name", names[at]) if at in names else bare[at] for at in range(len(prompt))]
