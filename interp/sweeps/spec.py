"""What a sweep is asked to cross, read from plain values (a YAML file, the command line, Python) and checked.

``set`` holds one value a key, and a list there is one value; ``grid`` holds a list of values a key, which are crossed.
The two are never told apart by guessing. Nothing here loads a model or imports torch.
"""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from interp.errors import UsageError
from interp.registry import unknown

ARGUMENTS = ("max_length", "limit", "generate", "seed")
"""Arguments of a scan that a sweep hands on."""
HANDED = (*ARGUMENTS, "attention_engine")
"""These, and what takes attention statistics (`engine` of a scan): it may not be crossed, for it changes no finding."""
PLACED = ("device", "dtype", "bos", "chat")
"""Options of `interp.load` that may be given for all models at once."""
LOADED = (*PLACED, "device_map", "revision", "tokenizer")
CROSSED = (*ARGUMENTS, "dtype", "bos")
KEYS = ("models", "finders", "probes", *HANDED, *PLACED, "grid")
MODEL_KEYS = ("name", "label", *LOADED)
FINDER_KEYS = ("name", "set", "grid", "probes", *HANDED)
PROBE_KEYS = ("name", "prompts", "set", "grid")
RUNS_CODE = ("allow_pickle", "trust_remote_code")
MOST_UNITS = 20_000
LARGEST = 2**63 - 1  # what a column of whole numbers holds
_CHOICES = {
    "bos": ("auto", "add", "none"),
    "dtype": ("float32", "bfloat16", "float16", "auto"),
    "attention_engine": ("auto", "blocked", "fused"),
}
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")
_KINDS = {"max_length": int, "limit": int, "generate": int, "seed": int, "chat": bool}


@dataclass(frozen=True)
class ModelEntry:
    """One model: what it is loaded by, what it is called in tables, and its own options of `interp.load`."""

    name: str
    label: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ProbeEntry:
    """One source of prompts: a probe (`name`), a JSONL file (`prompts`), or neither: the finder's own probe."""

    name: str | None = None
    prompts: str | None = None
    fixed: dict[str, Any] = field(default_factory=dict)
    grid: dict[str, tuple[Any, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class FinderEntry:
    """One finder with its settings, and with probes and arguments of its own where it has any."""

    name: str
    fixed: dict[str, Any]
    grid: dict[str, tuple[Any, ...]]
    probes: tuple[ProbeEntry, ...] | None
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Spec:
    """A whole sweep. `arguments` and `placed` go for all units, `grid` crosses more of them."""

    models: tuple[ModelEntry, ...]
    finders: tuple[FinderEntry, ...]
    probes: tuple[ProbeEntry, ...]
    arguments: dict[str, Any]
    placed: dict[str, Any]
    grid: dict[str, tuple[Any, ...]]

    def __post_init__(self) -> None:
        """Refuse what crosses to more units than a folder should hold, before they are made."""
        per_finder = [
            _size(finder.grid) * sum(_size(probe.grid) for probe in finder.probes or self.probes)
            for finder in self.finders
        ]
        if (units := len(self.models) * _size(self.grid) * sum(per_finder)) > MOST_UNITS:
            raise UsageError(f"this sweep crosses to {units:,} units; {MOST_UNITS:,} is the most")


def points(grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination of a grid's values; of an empty grid the one empty combination."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def _size(grid: Mapping[str, Sequence[Any]]) -> int:
    return math.prod(len(values) for values in grid.values())


def read(given: Mapping[str, Any], where: str = "the sweep") -> Spec:
    """Check a sweep and give every part its place.

    Args:
        given: what the YAML file holds, or the same in Python; see docs/sweeps.md.
        where: what messages call it.

    Raises:
        UsageError: an unknown key (with the nearest one), a value of the wrong kind, a key that is both set and
            crossed; names where it stands.
    """
    _known(given, KEYS, where)
    grid = _grid(given.get("grid"), f"{where}: grid")
    _known(grid, CROSSED, f"{where}: grid")
    arguments, placed = _some(given, HANDED, where), _some(given, PLACED, where)
    for key, values in grid.items():
        for value in values:
            _check(key, value, f"{where}: grid")
    _not_both(grid, {**arguments, **placed}, where)
    models = _models(_listed(given, "models", where), where)
    for model in models:
        _not_both(grid, model.options, f"{where}: model {model.label!r}")
    finders = tuple(_finder(entry, i, where) for i, entry in enumerate(_listed(given, "finders", where)))
    for finder in finders:
        _not_both(grid, finder.arguments, f"{where}: finder {finder.name!r}")
    probes = _probes(given, where) if given.get("probes") is not None else (ProbeEntry(),)
    return Spec(models, finders, probes, arguments, placed, grid)


def _listed(given: Mapping[str, Any], key: str, where: str) -> list[Any]:
    """One entry or a list of them; `UsageError` when there is none."""
    value = given.get(key)
    entries = list(value) if isinstance(value, list | tuple) else [] if value is None else [value]
    if not entries:
        raise UsageError(f"{where}: {key}: name one or more, for example {_EXAMPLES[key]}")
    return entries


_EXAMPLES = {"models": "[smollm2-135m, gemma3-270m]", "finders": "[sinks, heads]", "probes": "[text, needle]"}


def _known(given: Any, keys: Sequence[str], where: str) -> None:
    for key in given:
        if key in RUNS_CODE:
            raise UsageError(
                f"{where}: {key} lets a model run code of its own; that is not for a file to decide: give "
                f"--{str(key).replace('_', '-')} on the command line, or the keyword in Python"
            )
        if key not in keys:
            raise UsageError(f"{where}: {unknown('key', str(key), list(keys))}")


def _grid(given: Any, where: str) -> dict[str, tuple[Any, ...]]:
    """Values to cross, by key."""
    for key, values in (made := _mapping(given, where)).items():
        if not isinstance(values, list | tuple) or not values:
            raise UsageError(
                f"{where}: {key}: expected a list of values to cross, got {values!r}; a single value goes under 'set' "
                "(of a finder or probe) or stands by its own name"
            )
    return {key: tuple(values) for key, values in made.items()}


def _mapping(given: Any, where: str) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
        raise UsageError(f"{where}: expected key: value pairs, got {given!r}"[:300])
    return dict(given)


def _not_both(grid: Mapping[str, Any], fixed: Mapping[str, Any], where: str) -> None:
    for key in grid:
        if key in fixed:
            raise UsageError(f"{where}: {key} is given as one value and crossed in a grid; leave one of them out")


def _some(given: Mapping[str, Any], keys: Sequence[str], where: str) -> dict[str, Any]:
    """Those of `keys` that are given, checked."""
    some = {key: given[key] for key in keys if given.get(key) is not None}
    for key, value in some.items():
        _check(key, value, where)
    return some


def _check(key: str, value: Any, where: str) -> None:
    kind = _KINDS.get(key, str)
    if key == "device_map":
        fits = value == "auto" or (isinstance(value, Mapping) and all(map(_placed, value, value.values())))
        expected = "auto, or a mapping of modules (text) to devices (text, or the number of a GPU)"
    elif key in _CHOICES:
        fits, expected = value in _CHOICES[key], f"one of {', '.join(_CHOICES[key])}"
    elif key == "device":
        fits, expected = bool(_DEVICE.fullmatch(str(value))), "auto, cpu, cuda[:i] or mps"
    elif kind is int and isinstance(value, int) and abs(value) > LARGEST:
        fits, expected = False, f"a whole number of at most {LARGEST:,}"
    else:
        fits = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
        expected = {int: "a whole number", bool: "true or false", str: "text"}[kind]
    if not fits:
        raise UsageError(f"{where}: {key}: expected {expected}, got {value!r}"[:300])


def _placed(module: Any, device: Any) -> bool:
    """Whether a pair of a ``device_map`` is one."""
    number = isinstance(device, int) and not isinstance(device, bool) and 0 <= device <= LARGEST
    return isinstance(module, str) and (number or isinstance(device, str))


def _entry(given: Any, keys: Sequence[str], where: str) -> dict[str, Any]:
    """A name alone, or a mapping with more."""
    if isinstance(given, str | os.PathLike):
        return {"name": os.fspath(given)}
    if not isinstance(given, Mapping):
        raise UsageError(f"{where}: expected a name, or a mapping with {', '.join(keys)}; got {given!r}"[:300])
    _known(given, keys, where)
    return dict(given)


def _text(entry: Mapping[str, Any], key: str, where: str) -> str:
    value = entry.get(key)
    value = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f"{where}: {key}: expected text, got {value!r}; put it in quotes if YAML takes it for else")
    return value


def _finder(given: Any, number: int, where: str) -> FinderEntry:
    where = f"{where}: finders[{number}]"
    entry = _entry(given, FINDER_KEYS, where)
    fixed, grid = _mapping(entry.get("set"), f"{where}: set"), _grid(entry.get("grid"), f"{where}: grid")
    _not_both(grid, fixed, where)
    probes = _probes(entry, where) if entry.get("probes") is not None else None
    return FinderEntry(_text(entry, "name", where), fixed, grid, probes, _some(entry, HANDED, where))


def _probes(given: Mapping[str, Any], where: str) -> tuple[ProbeEntry, ...]:
    return tuple(_probe(entry, f"{where}: probes[{i}]") for i, entry in enumerate(_listed(given, "probes", where)))


def _probe(given: Any, where: str) -> ProbeEntry:
    entry = _entry(given, PROBE_KEYS, where)
    fixed, grid = _mapping(entry.get("set"), f"{where}: set"), _grid(entry.get("grid"), f"{where}: grid")
    _not_both(grid, fixed, where)
    if ("name" in entry) == ("prompts" in entry):
        raise UsageError(f"{where}: give either the name of a probe or prompts: FILE.jsonl")
    if "prompts" in entry:
        return ProbeEntry(None, _text(entry, "prompts", where), fixed, grid)
    return ProbeEntry(_text(entry, "name", where), None, fixed, grid)


def _models(entries: Sequence[Any], where: str) -> tuple[ModelEntry, ...]:
    """Each under a label of its own: its name here, with its options where two share that."""
    read_in: list[tuple[str, str | None, dict[str, Any]]] = []
    for i, given in enumerate(entries):
        at = f"{where}: models[{i}]"
        entry = _entry(given, MODEL_KEYS, at)
        label = _text(entry, "label", at) if entry.get("label") is not None else None
        read_in.append((_text(entry, "name", at), label, _some(entry, LOADED, at)))
    plain = [label or short(name) for name, label, _ in read_in]
    labels = []
    for (_, label, options), own in zip(read_in, plain, strict=True):
        told = ", ".join(f"{key}={value}" for key, value in options.items())
        labels.append(f"{own} ({told})" if label is None and told and plain.count(own) > 1 else own)
    for own in labels:
        if labels.count(own) > 1:
            raise UsageError(f"{where}: two models would be called {own!r}; give each a label of its own")
    return tuple(ModelEntry(name, own, options) for (name, _, options), own in zip(read_in, labels, strict=True))


def short(name: str) -> str:
    """What a model is called where its entry does not say: the last part of a folder or file, else the name."""
    path = located(name)
    if path is None:
        return name
    return path.stem if path.suffix.lower() == ".gguf" else path.name or name


def located(name: str) -> Path | None:
    """The folder or ``.gguf`` file on this machine that `interp.load` would read, absolute; None for other names.

    Raises:
        UsageError: a name that stands for nothing: neither catalogued, nor here, nor a hub id.
    """
    from interp.models import catalog

    alias = name.partition("@")[0]
    if catalog.find(alias) is not None and "/" not in name:
        return None
    path = Path(os.path.abspath(os.path.expanduser(name)))
    if os.path.exists(path):
        return path
    if name.startswith((".", "~", "/")) or "\\" in name or alias.count("/") > 1 or name.lower().endswith(".gguf"):
        raise UsageError(f"{name!r}: no such folder or file here ({path})")
    if "/" not in name:
        raise UsageError(
            f"{name!r} is neither a model of the catalog{catalog.suggest(alias)}, nor a folder here, nor a hub id "
            "(owner/name); `interp ls models` lists the catalog"
        )
    return None
