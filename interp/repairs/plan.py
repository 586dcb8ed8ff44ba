"""What an edit makes of the rows of given heads in one prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from interp.circuits.config import Head
from interp.repairs.config import ORACLE
from interp.repairs.layout import Layout, Meant, donor_row, even, layout_of, meant, oracle_row, pointed
from probes.base import Prompt


@dataclass(frozen=True)
class Look:
    """One prompt as the untouched model reads it.

    Attributes:
        layout: what can be known of it without the answer.
        end, repeat: attention rows at the last token and where the question names its object [layer, head, key].
    """

    layout: Layout
    end: np.ndarray
    repeat: np.ndarray

    @classmethod
    def of(cls, ends: Any, pair: int, n_layers: int) -> Look:
        """Of one pair of an `Ends`; a layer without attention has rows of 0."""
        prompt = ends.batch.pairs[pair].prompt

        def rows(by_layer: dict[int, np.ndarray]) -> np.ndarray:
            some = next(iter(by_layer.values()))[pair]
            return np.stack([by_layer[i][pair] if i in by_layer else np.zeros_like(some) for i in range(n_layers)])

        return cls(layout_of(prompt), rows(ends.at_end), rows(ends.at_repeat))

    def slot(self, pointers: Sequence[Head]) -> int:
        """The candidate that the pointers point at."""
        return pointed(self.layout, np.stack([self.repeat[head] for head in pointers]))


@dataclass(frozen=True)
class Plan:
    """What the training prompts settled, beside the heads of each edit.

    Attributes:
        pointers: heads that say which candidate is meant.
        spare: whether the candidate they point at is the one to be said.
        masses: of the donors, [layer, head, group] (`interp.repairs.layout.GROUPS`); None = no donors.
    """

    pointers: tuple[Head, ...]
    spare: bool
    masses: np.ndarray | None = None

    def means(self, look: Look) -> Meant:
        """What the model's own heads speak for and against in a prompt."""
        return meant(look.layout, look.slot(self.pointers), self.spare)

    def rows(
        self, edit: str, heads: Sequence[Head], look: Look, factor: float, label: Prompt | None
    ) -> dict[Head, np.ndarray]:
        """(layer, head) -> [key]. `label`, the prompt with its answer, is for the oracle; no other edit looks at it."""
        length = look.layout.length
        if edit == ORACLE:
            assert label is not None, "the oracle is told the answer"
            return {head: oracle_row(label) for head in heads}
        if edit == "scale":
            return {head: (factor * look.end[head]).astype(np.float32) for head in heads}
        says = self.means(look)
        if edit == "inhibit":
            return {head: even(length, says.unsaid) for head in heads}
        if edit == "point":
            return {head: even(length, says.said) for head in heads}
        assert self.masses is not None, "donors were read"
        return {head: donor_row(look.layout, says, look.end[head], self.masses[head]) for head in heads}
