"""A sweep's YAML file as plain values. Safe YAML only, and a key given twice is an error."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from interp.errors import UsageError

SHAPE = "expected keys such as models, finders, probes; see docs/sweeps.md"


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping a YAML file holds.

    Raises:
        UsageError: no such file, no UTF-8, no YAML, a key twice, or anything but a mapping.
    """
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {getattr(error, 'strerror', None) or 'it is not UTF-8 text'}") from error
    try:
        refuse_twice(yaml.compose(text, Loader=yaml.SafeLoader), path)
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date such as 2024-13-01
        raise UsageError(f"{path} is not YAML: {' '.join(str(error).split())[:300]}") from error
    if not isinstance(value, Mapping):
        raise UsageError(f"{path} holds {'nothing' if value is None else type(value).__name__}; {SHAPE}")
    return dict(value)


def refuse_twice(node: Any, path: Path) -> None:
    """`UsageError` for a mapping with a key twice; `node` as ``yaml.compose`` gives it."""
    import yaml

    seen: set[int] = set()
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:  # an alias leads here again
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            for key in keys:
                if keys.count(key) > 1 and key != "<<":
                    raise UsageError(f"{path}, line {node.start_mark.line + 1}: the key {key!r} is given twice")
            waiting += [value for _, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value
