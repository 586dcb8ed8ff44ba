"""The arguments of a scan, checked before any model is loaded."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

from interp.amounts import parse
from interp.errors import UsageError
from interp.registry import FINDERS, unknown
from interp.runs import sources
from interp.runs.settings import as_dict, check_finite, make_config
from interp.tracing.engines import known
from probes.base import Prompt

MAX_LENGTH = 512
MIN_LENGTH = 2
LOAD_OPTIONS = (
    "tokenizer",
    "device",
    "dtype",
    "device_map",
    "bos",
    "chat",
    "revision",
    "allow_pickle",
    "trust_remote_code",
)
"""Keywords of `interp.load` that a scan hands on, listed so that a misspelt one is told without importing torch."""
_ARGUMENTS = (
    "find",
    "texts",
    "text_files",
    "prompts",
    "probe",
    "probe_set",
    "max_length",
    "limit",
    "generate",
    "out",
    "config",
    "seed",
    "fresh",
    "memory",
    "engine",
)


@dataclasses.dataclass(frozen=True)
class Plan:
    """A scan that has been checked but not started.

    Attributes:
        finder, config: the finder and its settings in effect.
        source: where the prompts come from, already read.
        generate: most tokens of the model's own continuation of each prompt; None = no continuation.
        given: what the caller asked for, as it was asked.
        load_options: what goes to `interp.models.load.load`.
        memory: bytes that the scan is to keep within; None = what is free.
        engine: what takes attention statistics (`interp.tracing.engines`).
    """

    finder: Any
    config: Any
    source: sources.Source
    limit: int | None
    max_length: int
    seed: int
    generate: int | None
    given: dict[str, Any]
    load_options: dict[str, Any]
    memory: int | None = None
    engine: str = "auto"

    def prompts(self, model: Any) -> tuple[Prompt, ...]:
        """Prompts for a loaded model, no longer than it can take, their continuation included.

        Raises:
            UsageError: one is too long or too short, or is none that the finder can use (`interp.finders.base`).
        """
        prompts = self.source.prompts(model, self.limit, self.length_for(model), self.seed)
        if needs := getattr(self.finder, "needs", None):
            for prompt in prompts:
                needs(prompt)
        if suits := getattr(self.finder, "suits", None):
            for prompt in prompts:
                suits(prompt, self.config)
        if self.generate is not None:
            from interp.runs.generate import refuse_tasks, require_room

            refuse_tasks(prompts, self.generate)
            require_room(model, prompts, self.generate)
        return prompts

    def length_for(self, model: Any) -> int:
        """`max_length`, or fewer tokens where the model has no more positions."""
        return self.max_length if model.max_positions is None else min(self.max_length, model.max_positions)


def check_bounds(limit: int | None, max_length: int | None, seed: int) -> None:
    """`UsageError` for a number of prompts, a length or a seed that cannot be."""
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit}: at least 1 prompt is needed")
    if max_length is not None and max_length < MIN_LENGTH:
        raise UsageError(f"--max-length {max_length}: at least {MIN_LENGTH} tokens are needed")
    if seed < 0:
        raise UsageError(f"--seed {seed}: a seed is 0 or more")


def plan(
    find: str = "sinks",
    *,
    texts: Any = None,
    text_files: Any = None,
    prompts: Any = None,
    probe: str | None = None,
    probe_set: Mapping[str, Any] | None = None,
    max_length: int | None = None,
    limit: int | None = None,
    generate: int | None = None,
    config: Any = None,
    seed: int = 0,
    keep_arrays: int | None = None,
    memory: str | int | None = None,
    engine: str = "auto",
    **load_options: Any,
) -> Plan:
    """Check everything that can be checked without a model; see `scan` for the arguments.

    Raises:
        UsageError: whatever is wrong with the request, naming the argument, its value and what would do.
    """
    check_bounds(limit, max_length, seed)
    if generate is not None and generate < 1:
        raise UsageError(f"--generate {generate}: at least 1 token is needed; leave it out for none")
    for name in load_options:
        if name not in LOAD_OPTIONS:
            raise UsageError(unknown("argument of scan", name, [*_ARGUMENTS, "keep_arrays", *LOAD_OPTIONS]))
    keep_within = parse(memory)
    known(engine)
    finder = FINDERS.get(find)
    if generate is not None:
        from interp.runs.generate import refuse_finder

        refuse_finder(finder, generate)
    given = {
        "find": find,
        "texts": None if texts is None else "given",
        "text_files": _told(text_files),
        "prompts": _told(prompts),
        "probe": probe,
        "probe_set": None if probe_set is None else dict(probe_set) or None,
        "max_length": max_length,
        "limit": limit,
        "generate": generate,
        "seed": seed or None,
        "keep_arrays": keep_arrays,
        "memory": memory,
        "engine": None if engine == "auto" else engine,
        **{name: _told(value) for name, value in load_options.items() if value not in (None, False)},
    }
    settings = dict(config) if isinstance(config, Mapping) else {}
    made = _config(finder, settings if isinstance(config, Mapping) or config is None else config, seed, keep_arrays)
    given["set"] = as_dict(config) if dataclasses.is_dataclass(config) else settings or None
    default = getattr(finder, "probe", sources.DEFAULT_PROBE)
    source = sources.choose(texts, text_files, prompts, probe, default=default, probe_set=probe_set)
    if source.plain and sources.reads_tasks(default) and (needs := getattr(finder, "needs", None)):
        needs(Prompt(source.plain, "", (), ()))  # text alone carries no task: refused before a model is loaded
    return Plan(
        finder=finder,
        config=made,
        source=source,
        limit=limit,
        max_length=getattr(finder, "max_length", MAX_LENGTH) if max_length is None else max_length,
        seed=seed,
        generate=generate,
        given={name: value for name, value in given.items() if value is not None},
        load_options=load_options,
        memory=keep_within,
        engine=engine,
    )


def _told(value: Any) -> Any:
    """An argument as the record keeps it: plain values as they are, paths as text, objects by their kind."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Sequence) and all(isinstance(item, str | os.PathLike) for item in value):
        return [os.fspath(item) for item in value]
    return str(value) if type(value).__module__ == "torch" else type(value).__name__


def _config(finder: Any, config: Any, seed: int, keep_arrays: int | None) -> Any:
    if not isinstance(config, Mapping):
        if not isinstance(config, finder.config_type):
            raise UsageError(
                f"config: finder {finder.name} takes {finder.config_type.__name__} or a dict of its fields, "
                f"got {type(config).__name__}"
            )
        check_finite(config, finder.name)
        return config
    values = dict(config)
    fields = {field.name for field in dataclasses.fields(finder.config_type)}
    if seed and "seed" in fields:
        values.setdefault("seed", seed)
    if keep_arrays is not None:
        if keep_arrays < 0:
            raise UsageError(f"--keep-arrays {keep_arrays}: 0 or more")
        if "keep_arrays" not in fields:
            raise UsageError(f"--keep-arrays: finder {finder.name} keeps no arrays per prompt")
        values["keep_arrays"] = keep_arrays
    return make_config(finder.config_type, values, finder.name)
