"""Names for finders, probes, statistics and interventions: one small file and one line here adds one.

Built-ins are listed as lazy ``module:attribute`` strings, so naming them imports nothing. Packages outside this one add
theirs through entry points (groups ``interp.finders``, ``interp.probes``, and so on)
or in code with `finder` and `Registry.add`. Two targets under one name are an error, never a silent replacement.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from interp.errors import InterpError, UsageError

T = TypeVar("T", bound=type)


class RegistryError(InterpError):
    """Two things under one name, or a lazy target that does not lead anywhere."""


class Registry:
    """Objects of one kind by name.

    Attributes:
        kind: what is registered, singular, for messages (``finder``).
        group: entry-point group that is read, once, when a name is first looked up.
    """

    def __init__(self, kind: str, builtin: Mapping[str, str] | None = None, group: str | None = None) -> None:
        self.kind = kind
        self.group = group
        self._targets: dict[str, Any] = dict(builtin or {})
        self._read_entry_points = group is None

    def add(self, name: str, target: Any) -> None:
        """Register `target`, an object or a lazy ``module:attribute`` string, as `name`.

        A lazy built-in is filled by the module it points at; any other second registration raises `RegistryError`.
        """
        if not name or name != name.strip():
            raise RegistryError(f"a {self.kind} needs a name without spaces around it, got {name!r}")
        self._entry_points()
        self._put(name, target)

    def _put(self, name: str, target: Any) -> None:
        if name in self._targets and not self._fills(self._targets[name], target):
            raise RegistryError(
                f"{self.kind} {name!r} is registered twice: {_where(self._targets[name])} and {_where(target)}; "
                "give one of them another name"
            )
        self._targets[name] = target

    def get(self, name: str) -> Any:
        """The object registered as `name`; `UsageError` with the nearest names when there is none."""
        self._entry_points()
        if name not in self._targets:
            raise UsageError(unknown(self.kind, name, self.names()))
        target = self._targets[name]
        if isinstance(target, str):
            found = self._import(name, target)
            if isinstance(self._targets[name], str):  # the module did not register itself while it was imported
                self._targets[name] = found
        return self._targets[name]

    def names(self) -> tuple[str, ...]:
        """Every registered name, built-ins first, in order of registration."""
        self._entry_points()
        return tuple(self._targets)

    def __contains__(self, name: object) -> bool:
        self._entry_points()
        return name in self._targets

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def _entry_points(self) -> None:
        if self._read_entry_points:
            return
        from importlib.metadata import entry_points

        for point in entry_points(group=str(self.group)):
            self._put(point.name, point.value)
        self._read_entry_points = True

    def _import(self, name: str, target: str) -> Any:
        module_name, _, attribute = target.partition(":")
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            raise RegistryError(f"{self.kind} {name!r} points at {target}, but {error}") from error
        if not isinstance(self._targets[name], str):
            return self._targets[name]
        found: Any = module
        for part in attribute.split("."):
            if not hasattr(found, part):
                raise RegistryError(f"{self.kind} {name!r} points at {target}, but {module_name} has no {attribute!r}")
            found = getattr(found, part)
        return found

    @staticmethod
    def _fills(old: Any, new: Any) -> bool:
        """Whether `new` is what the lazy string `old` promised (or the very same target again)."""
        if old is new or (isinstance(old, str) and old == new):
            return True
        module = getattr(new, "__module__", None)  # of an instance: its class's
        return isinstance(old, str) and not isinstance(new, str) and old.partition(":")[0] == module


def unknown(kind: str, name: str, known: tuple[str, ...] | list[str]) -> str:
    """One line for a name nobody knows: the nearest known names, then all of them."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    return f"unknown {kind} {name!r}.{hint} Known: {', '.join(known) or 'none'}."


def _where(target: Any) -> str:
    if isinstance(target, str):
        return target
    owner = target if hasattr(target, "__qualname__") else type(target)
    return f"{owner.__module__}:{owner.__qualname__}"


FINDERS = Registry(
    "finder",
    {
        "sinks": "interp.finders.sinks:sinks",
        "sink-formation": "interp.finders.sink_formation:sink_formation",
        "ablation": "interp.ablation.finder:ablation",
        "sink-norm-law": "interp.finders.sink_norm_law:norm_law",
        "primary-weakening": "interp.finders.primary_weakening:primary_weakening",
        "massive-activations": "interp.finders.massive_activations:massive_activations",
        "sink-neighbourhood": "interp.finders.sink_neighbourhood:sink_neighbourhood",
        "sink-rate": "interp.finders.sink_rate:sink_rate",
        "heads": "interp.heads.finder:heads",
        "retrieval-heads": "interp.retrieval.finder:retrieval_heads",
        "circuit": "interp.circuits.finder:circuit",
        "repair": "interp.repairs.finder:repair",
        "probe": "interp.finders.probe:linear_probe",
    },
    "interp.finders",
)
PROBES = Registry(
    "probe",
    {
        "text": "probes.text:probe",
        "repeated": "probes.repeated:probe",
        "repeated-segment": "probes.repeated:segment",
        "random": "probes.random_tokens:probe",
        "problems": "probes.problems:probe",
        "problem-statements": "probes.problems:statements",
        "needle": "probes.needle:probe",
        "ioi": "probes.ioi:probe",
        "colored-objects": "probes.colored_objects:probe",
        "greater-than": "probes.greater_than:probe",
        "induction": "probes.induction:probe",
        "pairs": "probes.pairs:probe",
    },
    "interp.probes",
)
STATISTICS = Registry(
    "statistic",
    {
        "received": "interp.tracing.statistics:Received",
        "mass_on": "interp.tracing.statistics:MassOn",
        "entropy": "interp.tracing.statistics:Entropy",
        "top_key": "interp.tracing.statistics:TopKey",
        "top_mass": "interp.tracing.statistics:TopMass",
        "row_sum": "interp.tracing.statistics:RowSum",
        "offsets": "interp.tracing.statistics:Offsets",
        "rows": "interp.tracing.statistics:Rows",
    },
    "interp.statistics",
)
INTERVENTIONS = Registry(
    "intervention",
    {
        "zero-heads": "interp.interventions.ablate:ZeroHeads",
        "mean-heads": "interp.interventions.ablate:MeanHeads",
        "cut-keys": "interp.interventions.attention:CutKeys",
        "uniform-heads": "interp.interventions.uniform_heads:UniformHeads",
        "block-keys": "interp.interventions.block_keys:BlockKeys",
        "act": "interp.interventions.calibrate:ACT",
        "remove-sinks": "interp.interventions.calibrate:RemoveSinks",
        "uniform-sinks": "interp.interventions.calibrate:UniformSinks",
        "streaming-window": "interp.interventions.streaming:StreamingWindow",
        "redistribute-keys": "interp.interventions.redistribute:RedistributeKeys",
        "resample-heads": "interp.interventions.resample:ResampleHeads",
        "at-positions": "interp.interventions.resample:AtPositions",
        "knock-edges": "interp.interventions.knock_edges:KnockEdges",
        "set-norm-at": "interp.interventions.positions:SetNorm",
        "write-direction-at": "interp.interventions.positions:WriteDirection",
        "set-dims": "interp.interventions.dims:SetDims",
    },
    "interp.interventions",
)
PAPERS = Registry(
    "paper",
    {
        "wong2025": "interp.papers.wong2025:paper",
        "gu2024": "interp.papers.gu2024:paper",
        "wu2024": "interp.papers.wu2024:paper",
        "wang2022": "interp.papers.wang2022:paper",
        "merullo2023": "interp.papers.merullo2023:paper",
    },
    "interp.papers",
)


def finder(name: str, *, config: type, version: str = "1") -> Callable[[T], T]:
    """Class decorator: registers an instance as finder `name` (see `interp.finders.base`).

    Args:
        config: its frozen config dataclass; every field has a default and can be given as ``--set field=value``.
        version: part of the key of stored units; raise it when `measure` or `check` computes something else.
    """

    def register(cls: T) -> T:
        cls.name, cls.config_type, cls.version = name, config, version  # type: ignore[attr-defined]
        FINDERS.add(name, cls())
        return cls

    return register
