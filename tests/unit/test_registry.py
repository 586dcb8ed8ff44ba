"""The registry: lazy targets, collisions, near names, entry points."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from interp.errors import UsageError
from interp.registry import FINDERS, INTERVENTIONS, PROBES, STATISTICS, Registry, RegistryError, finder


def test_a_lazy_target_is_imported_on_first_use_only() -> None:
    registry = Registry("tool", {"ordered": "collections:OrderedDict"})
    assert registry.names() == ("ordered",)
    import collections

    assert registry.get("ordered") is collections.OrderedDict


def test_naming_the_built_ins_imports_none_of_them() -> None:
    code = (
        "import sys, interp.registry as r\n"
        "for names in (r.FINDERS, r.PROBES, r.STATISTICS, r.INTERVENTIONS): assert len(names.names()) > 0\n"
        "bad = {'torch', 'transformers', 'pandas', 'plotly', 'numba'} & set(sys.modules)\n"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_every_built_in_name_leads_somewhere() -> None:
    for registry in (FINDERS, PROBES, STATISTICS, INTERVENTIONS):
        for name in registry.names():
            assert registry.get(name) is not None


def test_an_unknown_name_says_what_was_meant_and_what_there_is() -> None:
    registry = Registry("tool", {"hammer": "a:b", "saw": "a:c"})
    with pytest.raises(UsageError, match=r"unknown tool 'hamer'\. Did you mean hammer\? Known: hammer, saw\."):
        registry.get("hamer")


def test_a_second_target_under_one_name_is_refused_and_changes_nothing() -> None:
    registry = Registry("tool")
    first, second = object(), object()
    registry.add("x", first)
    with pytest.raises(RegistryError, match="'x' is registered twice"):
        registry.add("x", second)
    assert registry.get("x") is first
    registry.add("x", first)  # the same again is no collision
    assert registry.names() == ("x",)


@pytest.mark.parametrize("target", ["collections:NoSuchThing", "no_such_module_at_all:x"])
def test_a_target_that_leads_nowhere_is_named(target: str) -> None:
    with pytest.raises(RegistryError, match=f"tool 'x' points at {target}"):
        Registry("tool", {"x": target}).get("x")


@pytest.mark.parametrize("name", ["", " x"])
def test_a_name_needs_letters(name: str) -> None:
    with pytest.raises(RegistryError, match="needs a name"):
        Registry("tool").add(name, object())


class _Point:
    def __init__(self, name: str, value: str) -> None:
        self.name, self.value = name, value


def _entry_points(monkeypatch: pytest.MonkeyPatch, *points: _Point) -> None:
    def fake(group: str) -> tuple[_Point, ...]:
        assert group == "interp.tools"
        return points

    monkeypatch.setattr(importlib.metadata, "entry_points", fake)


def test_entry_points_add_names(monkeypatch: pytest.MonkeyPatch) -> None:
    _entry_points(monkeypatch, _Point("deque", "collections:deque"))
    registry = Registry("tool", {"ordered": "collections:OrderedDict"}, "interp.tools")
    from collections import deque

    assert registry.names() == ("ordered", "deque")
    assert registry.get("deque") is deque


def test_an_entry_point_cannot_replace_a_built_in(monkeypatch: pytest.MonkeyPatch) -> None:
    _entry_points(monkeypatch, _Point("ordered", "evil:target"))
    registry = Registry("tool", {"ordered": "collections:OrderedDict"}, "interp.tools")
    for _ in range(2):  # and not on the second look either
        with pytest.raises(RegistryError, match=r"twice: collections:OrderedDict and evil:target"):
            registry.get("ordered")


@dataclass(frozen=True)
class _Config:
    n: int = 1


def test_the_finder_decorator_registers_an_instance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FINDERS, "_targets", dict(FINDERS._targets))

    @finder("test-decorated", config=_Config, version="7")
    class Decorated:
        pass

    found: Any = FINDERS.get("test-decorated")
    assert isinstance(found, Decorated)
    assert (found.name, found.config_type, found.version) == ("test-decorated", _Config, "7")


def test_a_module_may_fill_its_own_lazy_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FINDERS, "_targets", {"mine": f"{__name__}:Mine"})

    @finder("mine", config=_Config)
    class Mine:
        pass

    assert isinstance(FINDERS.get("mine"), Mine)


def test_the_public_api_is_what_it_says() -> None:
    import interp

    for name in interp.__all__:
        assert getattr(interp, name) is not None
    assert set(interp.__all__) <= set(dir(interp))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = interp.nonsense
