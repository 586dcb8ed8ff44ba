"""From labels to a task: which prompts train and which judge, which classes there are, and the control task. Pure.

The control task is that of Hewitt and Liang 2019 (arXiv 1909.03368, section 2): every token type gets one label, drawn
once from how often the labels occur. It can be learnt only by remembering types, so what a probe reaches there tells
how much of its score may be memory. Where nearly all examples are one token (the end of templated prompts), there are
no types to remember, and every prompt gets a label of its own instead.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from interp.probing.config import ProbeConfig, plain_number
from interp.verify import MIN_PROMPTS
from probes.base import Prompt

T = TypeVar("T")

MIN_TRAIN = 3
"""Prompts left to train before `MIN_PROMPTS` are held out at any share."""
MIN_TYPES = 8
"""Token types among the training examples, no one of them in more than half, for a control task by type."""


@dataclass(frozen=True)
class Examples:
    """Where labels are, one example each.

    Attributes:
        prompts, positions, tokens: int64 [n]: number of the prompt, position in it, token id there.
        labels: [n], as the question gives them; None = no label.
        prefixes: [n], hash of the tokens up to and with the example's: where two are equal, so are the states.
    """

    prompts: np.ndarray
    positions: np.ndarray
    tokens: np.ndarray
    labels: list[Any]
    prefixes: list[str]


def prefix_of(prompt: Prompt, position: int) -> str:
    """Hash of a prompt's tokens up to and with `position`."""
    return hashlib.sha256(np.array(prompt.ids[: position + 1], dtype=np.int64).tobytes()).hexdigest()


def drawn(prompt: Prompt, known: Sequence[T], config: ProbeConfig) -> list[T]:
    """At most `config.tokens` of a prompt's examples, in order, drawn by seed and prompt."""
    if len(known) <= config.tokens:
        return list(known)
    rng = np.random.default_rng((config.seed, int(prompt.hash[:15], 16)))
    return [known[i] for i in sorted(rng.choice(len(known), config.tokens, replace=False))]


@dataclass(frozen=True)
class Task:
    """A task ready to be fitted; `why` says why there is none.

    Attributes:
        kept: int64 [n]: examples that take part, of all.
        y, control: [n] class numbers, or float quantities: the labels, and those of the control task.
        train, test: bool [n].
        prompts: int64 [n], number of the prompt.
        classes: labels by class number; empty for quantities.
        left_out: examples that have no label or one of a class too rare.
        seen: held-out examples that were left out since a training prompt begins with the very same tokens (a template,
            a system prompt): a causal model's states there are the training examples' own.
        by_type: the control task gives labels to token types; else to prompts.
    """

    kept: np.ndarray
    y: np.ndarray
    control: np.ndarray
    train: np.ndarray
    test: np.ndarray
    prompts: np.ndarray
    classes: tuple[str, ...]
    left_out: int
    seen: int
    by_type: bool
    why: str = ""

    @property
    def numbers(self) -> bool:
        """Labels are quantities."""
        return self.y.dtype.kind == "f"


def halves(prompts: Sequence[Prompt], labels: Sequence[Any], config: ProbeConfig) -> tuple[list[int], list[int]]:
    """(training, held out): numbers of prompts, each in order, seeded. Whole prompts, so that no token of one stands on
    both sides; prompts of the same tokens stay together.

    Args:
        labels: one a prompt where it has one, so that classes are parted evenly; else None.
    """
    groups: dict[str, list[int]] = {}
    for number, prompt in enumerate(prompts):
        groups.setdefault(prompt.hash, []).append(number)
    listed = list(groups.values())
    n = len(prompts)
    least = MIN_PROMPTS if n >= MIN_PROMPTS + MIN_TRAIN else min(1, n - 1)
    wanted = min(max(n - round(n * config.select), least), n - 1)  # one prompt trains, and nothing judges
    order = np.random.default_rng((config.seed, n)).permutation(len(listed))
    stratum = [str(labels[group[0]]) for group in listed]
    sizes, seen = Counter(stratum), Counter()
    rank = {}
    for place, at in enumerate(order):
        mine = stratum[at]
        rank[at] = ((seen[mine] + 0.5) / sizes[mine], place)
        seen[mine] += 1
    held_out: list[int] = []
    for at in sorted(rank, key=lambda at: rank[at]):
        if len(held_out) + len(listed[at]) <= max(wanted, 0):
            held_out += listed[at]
    return sorted(set(range(n)) - set(held_out)), sorted(held_out)


def task_of(examples: Examples, split: tuple[Sequence[int], Sequence[int]], config: ProbeConfig) -> Task:
    """The task that examples make; classes are settled by the training prompts alone."""
    n = len(examples.labels)
    train, test = (np.isin(examples.prompts, np.asarray(side, dtype=np.int64)) for side in split)
    there = np.array([label is not None and label == label for label in examples.labels], dtype=bool)  # NaN is none
    known = [label for label in examples.labels if label is not None]
    numbers = any(plain_number(label) for label in known)
    numbers = numbers and all(isinstance(one, int | float) and not isinstance(one, bool) for one in known)
    classes: tuple[str, ...] = ()
    if numbers:
        values = np.array([float(label) if good else 0.0 for label, good in zip(examples.labels, there, strict=True)])
        there &= np.isfinite(values)
    else:
        named = [str(label) for label in examples.labels]
        counts = Counter(named[i] for i in np.flatnonzero(there & train))
        common = [name for name, times in counts.most_common(config.classes) if times >= config.least]
        classes = tuple(sorted(common))
        numbered = {name: number for number, name in enumerate(classes)}
        values = np.array([numbered.get(name, -1) for name in named], dtype=np.int64)
        there &= values >= 0
    trained = {examples.prefixes[i] for i in np.flatnonzero(train)}
    seen = np.array([prefix in trained for prefix in examples.prefixes], dtype=bool) & test & there
    kept = np.flatnonzero(there & (train | test) & ~seen)
    tokens = examples.tokens[kept]
    y, trains = values[kept], train[kept]
    by_type = _has_types(tokens[trains])
    drawn_by = tokens if by_type else examples.prompts[kept]
    task = Task(
        kept=kept,
        y=y,
        control=_control(drawn_by, y, trains, config.seed),
        train=trains,
        test=test[kept],
        prompts=examples.prompts[kept],
        classes=classes,
        left_out=n - len(kept) - int(seen.sum()),
        seen=int(seen.sum()),
        by_type=by_type,
        why=_why(y, trains, test[kept], numbers, config),
    )
    return task


def _why(y: np.ndarray, train: np.ndarray, test: np.ndarray, numbers: bool, config: ProbeConfig) -> str:
    """Why nothing can be fitted or judged; empty where it can."""
    if not train.any():
        return "no training prompt has a label that occurs often enough"
    if len(np.unique(y[train])) < 2:
        what = "number" if numbers else f"label with at least {config.least} training examples"
        return f"the training prompts have one {what} only"
    return "" if test.any() else "no held-out prompt has a label that the training prompts know"


def _has_types(tokens: np.ndarray) -> bool:
    """Whether a control task by token type can be told from a constant one."""
    _, counts = np.unique(tokens, return_counts=True)
    return len(counts) >= MIN_TYPES and bool(counts.max() <= len(tokens) / 2)


def _control(by: np.ndarray, y: np.ndarray, train: np.ndarray, seed: int) -> np.ndarray:
    """One label for each value of `by` [n], drawn from the training labels as often as they occur."""
    pool = y[train]
    if len(pool) == 0:
        return y.copy()
    drawn = {one: pool[np.random.default_rng((seed, int(one))).integers(len(pool))] for one in np.unique(by)}
    return np.array([drawn[one] for one in by], dtype=y.dtype)
