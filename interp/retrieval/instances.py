"""What was measured, instance by instance: which ones count, and which needle each belongs to. Pure NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from interp.finders.base import Unit
from interp.retrieval.config import RetrievalConfig
from interp.retrieval.task import Task, task_of
from probes.base import Prompt


@dataclass(frozen=True)
class Instances:
    """All instances of a run, in the order of its prompts.

    Attributes:
        tasks, units: what was asked, and what was measured.
        min_recall: an instance is kept when its recall is above it.
    """

    tasks: tuple[Task, ...]
    units: tuple[Unit, ...]
    min_recall: float

    @classmethod
    def of(cls, prompts: Sequence[Prompt], units: Sequence[Unit], config: RetrievalConfig) -> Instances:
        """From stored units.

        Raises:
            UsageError: a prompt holds no needle.
        """
        return cls(tuple(task_of(prompt) for prompt in prompts), tuple(units), config.min_recall)

    def __len__(self) -> int:
        return len(self.tasks)

    @cached_property
    def recall(self) -> np.ndarray:
        """[instance] ROUGE-1 recall of the answer."""
        return np.array([unit.facts["recall"] for unit in self.units], dtype=np.float64)

    @cached_property
    def exact(self) -> np.ndarray:
        """[instance] whether the answer came back word for word."""
        return np.array([unit.facts["exact"] for unit in self.units], dtype=bool)

    @cached_property
    def kept(self) -> np.ndarray:
        """[instance] whether it counts: it was answered."""
        return self.recall > self.min_recall

    @cached_property
    def needles(self) -> tuple[str, ...]:
        """Their names, in the order in which they come."""
        return tuple(dict.fromkeys(task.needle for task in self.tasks))

    @cached_property
    def answered(self) -> tuple[str, ...]:
        """Names of those of which at least one instance is kept."""
        return tuple(name for index, name in enumerate(self.needles) if self.kept[self.which == index].any())

    @cached_property
    def which(self) -> np.ndarray:
        """[instance] index of its needle."""
        at = {name: index for index, name in enumerate(self.needles)}
        return np.array([at[task.needle] for task in self.tasks], dtype=np.int64)

    @property
    def shape(self) -> tuple[int, int]:
        """(layers, heads)."""
        layers, heads = self.units[0].arrays["copies"].shape
        return int(layers), int(heads)

    def array(self, name: str, these: np.ndarray) -> np.ndarray:
        """[instance, layer * head] one measure of the instances a mask selects.

        Args:
            name: an array of the units, [layer, head].
            these: bool [instance].
        """
        chosen = [self.units[i].arrays[name].ravel() for i in np.flatnonzero(these)]
        empty = np.empty((0, self.shape[0] * self.shape[1]))
        return np.stack(chosen).astype(np.float64) if chosen else empty

    def of_needles(self, names: frozenset[str]) -> np.ndarray:
        """[instance] whether its needle is one of these."""
        return np.array([task.needle in names for task in self.tasks], dtype=bool)

    def by_needle(self, values: np.ndarray, these: np.ndarray | None = None) -> np.ndarray:
        """[needle] mean of a value by instance, needles without an instance left out.

        Args:
            values: [instance].
            these: bool [instance]; None = all.
        """
        among = np.ones(len(self), dtype=bool) if these is None else these
        groups = [values[among & (self.which == one)] for one in range(len(self.needles))]
        return np.array([group.mean() for group in groups if len(group)], dtype=np.float64)
