"""``--set key=value`` against a finder's frozen config dataclass, ``--probe-set`` against a probe; the same in Python.

What was given and what is in effect stay apart: `make_config` returns the config in effect, the caller keeps the given.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Union

from interp.errors import UsageError
from interp.registry import unknown

_TRUE = {"true", "yes", "on", "1"}
_FALSE = {"false", "no", "off", "0"}
_NO_SETTINGS = {"name", "help"}


class _BadValue(Exception):
    """A value that does not fit a type; the caller knows the key."""


def parse_pairs(pairs: Sequence[str], option: str = "--set") -> dict[str, str]:
    """``["k=v", ...]`` as a dict; `UsageError` for a pair without ``=`` or a key given twice with different values."""
    given: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        key = key.strip()
        if not equals or not key:
            raise UsageError(f"{option} {pair!r}: expected key=value")
        if given.get(key, value) != value:
            raise UsageError(f"{option} {key}: given twice, as {given[key]!r} and as {value!r}")
        given[key] = value
    return given


def describe(config_type: type) -> dict[str, str]:
    """Every key of a config with its type and default, e.g. ``{"eps": "float = 0.3"}``."""
    hints = typing.get_type_hints(config_type)
    described = {}
    for field in dataclasses.fields(config_type):
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        described[field.name] = f"{_type_text(hints[field.name])} = {default!r}"
    return described


def make_config(config_type: type, given: Mapping[str, Any], finder: str) -> Any:
    """A `config_type` with `given` applied; strings are parsed by the field's type, other values checked by it.

    Raises:
        UsageError: an unknown key (with the nearest and all valid keys and types) or a value its type refuses.
    """
    values = _values(config_type, given, describe(config_type), f"finder {finder}", "--set")
    try:
        return config_type(**values)
    except ValueError as error:
        raise UsageError(f"settings of finder {finder}: {error}") from error


def describe_probe(probe: Any) -> dict[str, str]:
    """Every setting of a probe with its type and value, as `describe` gives them; none for what is no dataclass.

    Its name and help are no settings, nor is a field that holds no plain values.
    """
    if not dataclasses.is_dataclass(probe):
        return {}
    hints = typing.get_type_hints(type(probe))
    names = [field.name for field in dataclasses.fields(probe) if field.name not in _NO_SETTINGS]
    return {name: f"{_type_text(hints[name])} = {getattr(probe, name)!r}" for name in names if _is_plain(hints[name])}


def set_probe(probe: Any, given: Mapping[str, Any], name: str) -> Any:
    """The probe with settings of its own changed, parsed and checked as `make_config` does; itself when none is given.

    Raises:
        UsageError: an unknown key or a value that its type or the probe refuses.
    """
    if not given:
        return probe
    values = _values(type(probe), given, describe_probe(probe), f"probe {name}", "--probe-set")
    try:
        return dataclasses.replace(probe, **values)
    except ValueError as error:
        raise UsageError(f"settings of probe {name}: {error}") from error


def _values(owner: type, given: Mapping[str, Any], keys: Mapping[str, str], told: str, option: str) -> dict[str, Any]:
    """What was given, as its types want it; `keys` are those that may be given, described."""
    hints = typing.get_type_hints(owner) if keys else {}
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key not in keys:
            listed = "; ".join(f"{name}: {text}" for name, text in keys.items()) or "none"
            near = unknown(f"setting of {told}", key, list(keys)).partition(" Known:")[0]
            raise UsageError(f"{near} Valid keys: {listed}.")
        try:
            values[key] = _convert(hints[key], value)
        except _BadValue as error:
            raise UsageError(f"{option} {key}={value}: {error} ({key}: {keys[key]})") from None
    return values


def check_finite(config: Any, finder: str) -> None:
    """`UsageError` for a setting that is infinite or not a number: it would mean nothing, and JSON has none."""
    for key, value in as_dict(config).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"settings of finder {finder}: {key}={value}: expected a finite number")


def as_dict(config: Any) -> dict[str, Any]:
    """The config in effect as JSON-able values (tuples become lists)."""
    return {field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config)}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _type_text(hint: Any) -> str:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return "|".join(str(arg) for arg in args)
    if origin in (Union, types.UnionType):
        return "|".join(_type_text(arg) for arg in args)
    if origin is tuple:
        return ",".join("..." if arg is Ellipsis else _type_text(arg) for arg in args)
    if hint is type(None):
        return "none"
    return getattr(hint, "__name__", str(hint))


def _is_plain(hint: Any) -> bool:
    """Whether a value of this type can be given as text."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType, tuple):
        return all(arg is Ellipsis or _is_plain(arg) for arg in args)
    return origin is Literal or hint in (bool, int, float, str, type(None))


def _convert(hint: Any, value: Any) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        for arg in args:
            if value == arg or (isinstance(value, str) and value.strip() == str(arg)):
                return arg
        raise _BadValue(f"expected one of {', '.join(map(str, args))}")
    if origin in (Union, types.UnionType):
        return _convert_union(args, value)
    if origin is tuple:
        return _convert_tuple(args, value)
    if hint is type(None):
        if value is None or (isinstance(value, str) and value.strip().lower() in {"none", "null", ""}):
            return None
        raise _BadValue("expected none")
    return _convert_scalar(hint, value)


def _convert_union(args: tuple[Any, ...], value: Any) -> Any:
    ordered = sorted(args, key=lambda arg: arg is not type(None))  # "none" is None before it is a string
    problems = []
    for arg in ordered:
        try:
            return _convert(arg, value)
        except _BadValue as error:
            problems.append(str(error))
    raise _BadValue(" or ".join(reversed(problems)))


def _convert_tuple(args: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    if isinstance(value, str):
        text = value.strip().strip("()[]")
        items: list[Any] = [item for item in text.split(",") if item.strip()] if text else []
    elif isinstance(value, list | tuple):
        items = list(value)
    else:
        raise _BadValue("expected values separated by commas")
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(_convert(args[0], item) for item in items)
    if len(items) != len(args):
        raise _BadValue(f"expected {len(args)} values separated by commas, got {len(items)}")
    return tuple(_convert(arg, item) for arg, item in zip(args, items, strict=True))


def _convert_scalar(hint: Any, value: Any) -> Any:
    if hint is bool:
        word = str(value).strip().lower()
        if isinstance(value, bool) or (isinstance(value, str) and word in _TRUE | _FALSE):
            return word in _TRUE
        raise _BadValue("expected true or false")
    if hint in (int, float):
        kind = "an integer" if hint is int else "a number"
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise _BadValue(f"expected {kind}")
        if hint is int and isinstance(value, float) and not value.is_integer():  # infinity and NaN are none either
            raise _BadValue("expected an integer")
        try:
            number = hint(value)
        except (ValueError, OverflowError):
            raise _BadValue(f"expected {kind}") from None
        if not math.isfinite(number):
            raise _BadValue("expected a finite number")
        return number
    if hint is str and isinstance(value, str):
        return value
    raise _BadValue(f"expected {_type_text(hint)}")
