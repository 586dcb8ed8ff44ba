"""The units of a sweep: one scan each, known by a hash of all that is asked of it, checked before anything runs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interp.errors import UsageError
from interp.runs.plan import plan
from interp.runs.settings import as_dict
from interp.runs.store import digest, plain
from interp.sweeps.spec import FinderEntry, ModelEntry, ProbeEntry, Spec, located, points
from interp.text import file_name

ID_LENGTH = 10  # hex digits: two of 20,000 units share an id with probability 2e-4, and that is refused


@dataclass(frozen=True)
class SweepUnit:
    """One scan of a sweep.

    Attributes:
        id: short hash of its content.
        model: the model's label; `name` is what it is loaded by, `load` its options of `interp.load`.
        finder, source: which finder, on the prompts of which probe or file.
        arguments: of `interp.scan`, without the model: finder, settings, prompts, lengths.
        effect: settings and arguments in effect; ``set`` and ``probe_set`` hold those that this sweep names.
        prompts_hash: of its file of prompts, as it was when the unit was made; None = it has none.
    """

    id: str
    model: str
    name: str
    load: dict[str, Any]
    finder: str
    source: str
    arguments: dict[str, Any]
    effect: dict[str, Any]
    prompts_hash: str | None = None

    @property
    def folder(self) -> str:
        """Name of its run folder, from names nobody needs to trust."""
        return f"{file_name(self.finder, 30)}-{file_name(self.model, 40)}-{self.id}"

    @property
    def loads(self) -> str:
        """What two units have in common that can share a loaded model."""
        return f"{self.name} {sorted(self.load.items())}"

    @property
    def told(self) -> str:
        """For people: model, finder, source, and the settings that this sweep names."""
        named = {**self.effect["set"], **self.effect["probe_set"], **self.effect["crossed"]}
        return " ".join([self.model, self.finder, self.source, *(f"{key}={value}" for key, value in named.items())])


def expand(spec: Spec, runs_code: Mapping[str, bool] | None = None) -> tuple[SweepUnit, ...]:
    """All units, models outermost, so that those of one model follow each other.

    Args:
        runs_code: ``allow_pickle`` and ``trust_remote_code``, for all models.

    Raises:
        UsageError: one that no scan would take, or two that are the same; names it.
    """
    made: dict[str, SweepUnit] = {}
    for unit in _crossed(spec, {name: True for name, wanted in (runs_code or {}).items() if wanted}):
        if (twin := made.get(unit.id)) is not None:
            raise UsageError(f"the sweep asks for the same thing twice: {twin.told} and {unit.told}")
        made[unit.id] = unit
    return tuple(made.values())


def _crossed(spec: Spec, runs_code: dict[str, bool]) -> Iterator[SweepUnit]:
    named = _named(spec)
    for model in spec.models:
        for crossed in points(spec.grid):
            for finder in spec.finders:
                for fixed in points(finder.grid):
                    for probe in finder.probes or spec.probes:
                        for set_there in points(probe.grid):
                            yield _unit(spec, model, crossed, finder, fixed, probe, set_there, runs_code, named)


def _named(spec: Spec) -> dict[str, set[str]]:
    """Settings that the sweep names anywhere, by finder."""
    named: dict[str, set[str]] = {}
    for finder in spec.finders:
        named.setdefault(finder.name, set()).update(finder.fixed, finder.grid)
    return named


def _unit(
    spec: Spec,
    model: ModelEntry,
    crossed: dict[str, Any],
    finder: FinderEntry,
    fixed: dict[str, Any],
    probe: ProbeEntry,
    set_there: dict[str, Any],
    runs_code: dict[str, bool],
    named: dict[str, set[str]],
) -> SweepUnit:
    asked = {**spec.placed, **spec.arguments, **crossed, **model.options, **finder.arguments}
    arguments = {name: asked.pop(name) for name in ("max_length", "limit", "generate", "seed") if name in asked}
    if (engine := asked.pop("attention_engine", "auto")) != "auto":
        arguments["engine"] = engine
    arguments |= {"find": finder.name, "config": {**finder.fixed, **fixed}}
    probe_set = {**probe.fixed, **set_there}
    if probe.name is not None:
        arguments["probe"] = probe.name
    if probe.prompts is not None:
        arguments["prompts"] = os.path.abspath(os.path.expanduser(probe.prompts))
    if probe_set:
        arguments["probe_set"] = probe_set
    where = f"{model.label}, {finder.name}, {probe.name or probe.prompts or 'its own probe'}"
    try:
        planned = plan(**arguments, **asked)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error
    config = as_dict(planned.config)
    arguments["config"] = {name: config[name] for name in arguments["config"]}  # parsed: what text and numbers mean
    path = located(model.name)
    name = model.name if path is None else str(path)
    default = getattr(planned.finder, "probe", "text")
    source = probe.name or probe.prompts or default
    prompts_hash = file_hash(arguments["prompts"]) if probe.prompts else None
    content = {
        "model": name,
        "load": asked,
        "finder": finder.name,
        "version": str(getattr(planned.finder, "version", "1")),
        "set": config,
        "source": prompts_hash or source,
        "probe_set": planned.source.settings,
        **{key: getattr(planned, key) for key in ("max_length", "limit", "generate", "seed")},
        **({} if engine == "auto" else {"engine": engine}),
    }
    settings = plain(planned.source.settings)
    effect = {
        "set": {key: config[key] for key in config if key in named[finder.name]},
        "probe_set": {key: settings[key] for key in probe_set if key in settings},
        "crossed": crossed,
        **{key: content[key] for key in ("max_length", "limit", "generate", "seed")},
    }
    return SweepUnit(
        id=digest(plain(content))[:ID_LENGTH],
        model=model.label,
        name=name,
        load={**asked, **runs_code},
        finder=finder.name,
        source=source,
        arguments=plain(arguments),
        effect=plain(effect),
        prompts_hash=prompts_hash,
    )


def file_hash(path: str) -> str:
    """A prompts file by its bytes: another content is another unit."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
