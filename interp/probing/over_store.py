"""`probe`: linear probes over an activation store, for questions of one's own; the same core as the finder's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import filter as matching
from typing import TYPE_CHECKING, Any

import numpy as np

from interp.errors import NumbersError, UsageError
from interp.probing import labels as asking
from interp.probing.config import ProbeConfig, plain_number
from interp.probing.fit import Removal, best_of, fit
from interp.probing.rows import row, table_of
from interp.probing.task import Examples, drawn, halves, prefix_of, task_of
from interp.probing.words import sentence
from interp.registry import unknown
from interp.runs.settings import make_config
from probes.base import Prompt

if TYPE_CHECKING:
    import pandas as pd

    from interp.activations.store import Store

NO_STORE_SETTING = ("site", "layers", "label", "positions", "draws")
"""Settings of the finder that are arguments here, or belong to its causal check."""


@dataclass(frozen=True, eq=False)
class Probed:
    """What `probe` found.

    Attributes:
        table: one row a site, the best in cross-validation first (`interp.probing.config.COLUMNS`).
        verdict: one sentence on the first row. Nothing was intervened on: that takes the model (``--find probe``).
        classes: labels by class number; empty for quantities.
        training, held_out: names of the prompts on either side.
        control: what the control task gives labels to: ``token type``, or ``prompt`` where there are no types.
        left_out, seen: examples left out (`interp.probing.task.Task`).
        removals: site -> what takes out of a state all that its probe reads.
        converged: whether every final fit reached its tolerance.
    """

    table: pd.DataFrame
    verdict: str
    classes: tuple[str, ...]
    training: tuple[str, ...]
    held_out: tuple[str, ...]
    control: str
    left_out: int
    seen: int
    removals: dict[str, Removal]
    converged: bool

    def __repr__(self) -> str:
        return f"<Probed: {self.verdict!r}>"


def probe(
    store: Store, site: str | Sequence[str], labels: Any, *, position: str | int | None = None, **settings: Any
) -> Probed:
    """Fit a linear probe at each site of a store, with control task, baseline and held-out prompts.

    Args:
        store: of `interp.open_store`.
        site: a site, a pattern (``blocks.*.hook_resid_post``), or several.
        labels: a built-in question (`interp.probing.labels`); or labels of one's own: a dict of prompt name -> label,
            one a prompt, one a row of the store, or a function of (prompt, position). Floats are quantities, anything
            else a class; None leaves an example out.
        position: ``all``, ``last``, a number or a name of the pair's positions; by default as the question wants, all
            for one a row or a function, else the last. Only positions that the store holds take part.
        settings: of `ProbeConfig`: ``select``, ``tokens``, ``strengths``, ``folds``, ``seed``, ...

    Raises:
        UsageError: no such site, question or setting, labels that do not fit, or nothing to be fitted.
        NumbersError: values that are not finite.
    """
    for name in settings:
        if name in NO_STORE_SETTING:
            raise UsageError(f"{name}={settings[name]!r}: no setting of a probe over a store")
    config: ProbeConfig = make_config(ProbeConfig, settings, "probe")
    sites = _sites(store, site)
    prompts = [entry.prompt for entry in store.entries]
    label, each = _labels(store, prompts, labels)
    where = str(position) if position is not None else "all" if each else "last"
    examples, rows = _examples(store, prompts, label, where, config)
    strata = (
        [None] * len(prompts) if each else [_stratum(label, prompt, number) for number, prompt in enumerate(prompts)]
    )
    split = halves(prompts, strata, config)
    task = task_of(examples, split, config)
    if task.why:
        raise UsageError(f"nothing to probe in {store.path}: {task.why}")
    made, fits = [], []
    for one in sites:
        states = np.asarray(_values(store, one, rows[task.kept]), dtype=np.float64).reshape(len(task.kept), -1)
        if not np.isfinite(states).all():
            raise NumbersError(f"{store.path}: {one} holds numbers that are not finite")
        fits.append(fit(states, task, config))
        made.append(row(one, _layer(one), where, fits[-1], task, config.seed))
    best = made[best_of(fits)]
    return Probed(
        table=table_of(made),
        verdict=sentence(best, _subject(labels), task.numbers, len(fits[0].prompts), config.margin, task.by_type),
        classes=task.classes,
        training=tuple(prompts[number].name for number in split[0]),
        held_out=tuple(prompts[number].name for number in split[1]),
        control="token type" if task.by_type else "prompt",
        left_out=task.left_out,
        seen=task.seen,
        removals={one: fitted.removal for one, fitted in zip(sites, fits, strict=True)},
        converged=all(fitted.converged for fitted in fits),
    )


def _sites(store: Store, site: str | Sequence[str]) -> list[str]:
    found = []
    for pattern in [site] if isinstance(site, str) else site:
        here = matching(store.sites, pattern)
        if not here:
            raise UsageError(unknown("site of this store", pattern, store.sites))
        found += [one for one in here if one not in found]
    return found


def _labels(store: Store, prompts: Sequence[Prompt], given: Any) -> tuple[Callable[[Prompt, int, int, int], Any], bool]:
    """((prompt, position, its number, row) -> label, whether labels differ within a prompt)."""
    if isinstance(given, str):
        asked = asking.question(given)
        for prompt in prompts:
            asking.requires(prompt, asked)
        return (lambda prompt, position, number, row: asked.of(prompt, position)), asked.each_token
    if isinstance(given, Mapping):
        lost = [str(name) for name in given if name not in {prompt.name for prompt in prompts}]
        if lost:
            raise UsageError(f"labels for {lost[0]!r}, which is no prompt of {store.path}")
        return (lambda prompt, position, number, row: _plain(given.get(prompt.name))), False
    if callable(given):
        return (lambda prompt, position, number, row: _plain(given(prompt, position))), True
    listed = list(given)
    if len(listed) == len(prompts):
        return (lambda prompt, position, number, row: _plain(listed[number])), False
    if len(listed) == store.index.rows:
        return (lambda prompt, position, number, row: _plain(listed[row])), True
    raise UsageError(
        f"{len(listed)} labels for {len(prompts)} prompts with {store.index.rows} rows; give one a prompt or one a row"
    )


def _plain(value: Any) -> Any:
    """A label without NumPy around it."""
    return value.item() if isinstance(value, np.generic) else value


def _stratum(label: Callable[[Prompt, int, int, int], Any], prompt: Prompt, number: int) -> Any:
    """A prompt's label for parting prompts evenly; None where it has none or a quantity."""
    value = label(prompt, len(prompt) - 1, number, 0)
    return None if plain_number(value) else value


def _examples(
    store: Store,
    prompts: Sequence[Prompt],
    label: Callable[[Prompt, int, int, int], Any],
    where: str,
    config: ProbeConfig,
) -> tuple[Examples, np.ndarray]:
    """Examples, and the row of the store of each."""
    told, rows = [], []
    start = 0
    for number, prompt in enumerate(prompts):
        held = store.positions(number)
        wanted = set(asking.places(prompt, where))
        here = [(int(at), start + i) for i, at in enumerate(held) if int(at) in wanted]
        known = [(at, row, value) for at, row in here if (value := label(prompt, at, number, row)) is not None]
        known = drawn(prompt, known, config)
        told += [(number, at, prompt.ids[at], value) for at, _, value in known]
        rows += [row for _, row, _ in known]
        start += len(held)
    columns = [np.array([one[i] for one in told], dtype=np.int64) for i in range(3)]
    prefixes = [prefix_of(prompts[number], at) for number, at, _, _ in told]
    return Examples(*columns, labels=[one[3] for one in told], prefixes=prefixes), np.array(rows, dtype=np.int64)


def _values(store: Store, site: str, rows: np.ndarray) -> np.ndarray:
    """Rows of a site as NumPy; bfloat16 as float32."""
    found: Any = store[site][rows]
    return found if isinstance(found, np.ndarray) else found.float().numpy()


def _layer(site: str) -> int | None:
    parts = site.split(".")
    return int(parts[1]) if parts[0] == "blocks" else None


def _subject(labels: Any) -> str:
    return asking.question(labels).told.capitalize() if isinstance(labels, str) else "The label"
