"""Prompts from files: JSONL with one object a line, and plain text files.

A JSONL line is an object with ``text`` (required, not blank) and optionally ``name``; its other keys travel with the
prompt as `extra`. Blank lines, a byte-order mark and Windows line ends are fine.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from interp.errors import UsageError

_SHAPE = 'expected one JSON object a line, such as {"text": "The cat sat.", "name": "cat"}'


def read_prompts(path: str | Path) -> list[tuple[str, str, dict[str, Any]]]:
    """(name, text, extra) of every line; a line without ``name`` is called ``<file name>:<line number>``.

    Raises:
        UsageError: the file cannot be read or holds no prompt, or a line is malformed; the message names file and line.
    """
    path = Path(path)
    prompts = []
    for number, raw in enumerate(_read(path).split(b"\n"), start=1):
        where = f"{path}, line {number}"
        line = _decode(raw, where).strip()
        if line:
            prompts.append(_parse(line, where, f"{path.name}:{number}"))
    if not prompts:
        raise UsageError(f"{path}: no prompts in this file; {_SHAPE}")
    return prompts


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


def _parse(line: str, where: str, default_name: str) -> tuple[str, str, dict[str, Any]]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}: not valid JSON ({error}); {_SHAPE}") from error
    if not isinstance(record, dict):
        raise UsageError(f"{where}: a JSON {_json_type(record)} instead of an object; {_SHAPE}")
    if "text" not in record:
        found = ", ".join(repr(key) for key in record) or "no keys at all"
        raise UsageError(f"{where}: no 'text' in this object (found {found}); {_SHAPE}")
    text = _string(record.pop("text"), "text", where)
    name = _string(record.pop("name"), "name", where) if record.get("name") is not None else default_name
    record.pop("name", None)
    return name, text, record


def _string(value: object, key: str, where: str) -> str:
    if not isinstance(value, str):
        raise UsageError(f"{where}: {key!r} is a JSON {_json_type(value)}; it must be a string")
    if not value.strip():
        raise UsageError(f"{where}: {key!r} is blank; it needs at least one word")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        broken = value[error.start]
        message = f"{where}: {key!r} holds half of a surrogate pair ({broken!r}), which is not text; remove it"
        raise UsageError(message) from error
    return value


def _json_type(value: object) -> str:
    names = {dict: "object", list: "array", str: "string", bool: "boolean", int: "number", float: "number"}
    return names.get(type(value), "null")
