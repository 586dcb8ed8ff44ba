"""Prompts from files: JSONL with one object a line, and plain text files.

A JSONL line is an object with ``text`` (required, not blank) and optionally ``name``; its other keys travel with the
prompt as `extra`. Blank lines, a byte-order mark and Windows line ends are fine.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from interp.errors import UsageError

_SHAPE = 'expected one JSON object a line, such as {"text": "The cat sat.", "name": "cat"}'


def read_prompts(path: str | Path) -> list[tuple[str, str, dict[str, Any]]]:
    """(name, text, extra) of every line; a line without ``name`` is called ``<file name>:<line number>``.

    Raises:
        UsageError: the file cannot be read or holds no prompt, or a line is malformed; the message names file and line.
    """
    prompts = []
    for where, default_name, record in read_records(path, _SHAPE):
        text = take_string(record, "text", where, _SHAPE)
        prompts.append((take_name(record, where, default_name), text, record))
    return prompts


def read_records(path: str | Path, shape: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(where, default name, object) of every line of a JSONL file; `shape` says what was expected, for messages.

    Raises:
        UsageError: the file cannot be read or holds no object, or a line is none.
    """
    path = Path(path)
    found = False
    for number, raw in enumerate(_read(path).split(b"\n"), start=1):
        where = f"{path}, line {number}"
        line = _decode(raw, where).strip()
        if line:
            found = True
            yield where, f"{path.name}:{number}", _parse(line, where, shape)
    if not found:
        raise UsageError(f"{path}: no prompts in this file; {shape}")


def read_text(path: str | Path) -> tuple[str, str]:
    """(file name, text) of a whole plain text file.

    Raises:
        UsageError: the file cannot be read, is not UTF-8, or is blank.
    """
    path = Path(path)
    text = _decode(_read(path), str(path))
    if not text.strip():
        raise UsageError(f"{path}: this text file is blank; it needs at least one word")
    return path.name, text


def _read(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}; give the path of a readable file") from error
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UsageError(f"{path}: this file is UTF-16; save it as UTF-8")
    return data.removeprefix(b"\xef\xbb\xbf")


def _decode(raw: bytes, where: str) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = f"byte 0x{raw[error.start]:02x} at offset {error.start}"
        raise UsageError(f"{where}: not UTF-8 ({byte}); save the file as UTF-8") from error


def _parse(line: str, where: str, shape: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}: not valid JSON ({error}); {shape}") from error
    return check_object(record, where, shape)


def check_object(record: object, where: str, shape: str) -> dict[str, Any]:
    """The record as it is; `UsageError` when it is no object."""
    if not isinstance(record, dict):
        raise UsageError(f"{where}: a JSON {json_type(record)} instead of an object; {shape}")
    return record


def take_string(record: dict[str, Any], key: str, where: str, shape: str, default: str | None = None) -> str:
    """Take the text under `key` out of a record. With a default it may be missing, null or blank.

    Raises:
        UsageError: it is missing, no text, blank, or not UTF-8.
    """
    value = record.pop(key, None) if default is not None else record.get(key, record)
    if value is record:
        found = ", ".join(repr(name) for name in record) or "no keys at all"
        raise UsageError(f"{where}: no {key!r} in this object (found {found}); {shape}")
    record.pop(key, None)
    if default is not None and (value is None or (isinstance(value, str) and not value.strip())):
        return value or default
    return _string(value, key, where)


def take_name(record: dict[str, Any], where: str, default: str) -> str:
    """Take the ``name`` out of a record; the default when it has none."""
    name = record.pop("name", None)
    return default if name is None else _string(name, "name", where)


def _string(value: object, key: str, where: str) -> str:
    if not isinstance(value, str):
        raise UsageError(f"{where}: {key!r} is a JSON {json_type(value)}; it must be a string")
    if not value.strip():
        raise UsageError(f"{where}: {key!r} is blank; it needs at least one word")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        broken = value[error.start]
        message = f"{where}: {key!r} holds half of a surrogate pair ({broken!r}), which is not text; remove it"
        raise UsageError(message) from error
    return value


def json_type(value: object) -> str:
    """What JSON calls a value."""
    names = {dict: "object", list: "array", str: "string", bool: "boolean", int: "number", float: "number"}
    return names.get(type(value), "null")
