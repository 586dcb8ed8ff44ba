"""The run folder: units written atomically under content keys, and final files that are either whole or absent.

A unit is one phase on one prompt. It is written to a temporary file, synced and renamed, so after ``kill -9`` it is
there or not; a digest in its metadata tells a unit that was damaged later, which is then measured again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from interp.errors import InterpError, UsageError
from interp.finders.base import Unit

SCHEMA = 1  # of run.json; raised when a field changes its meaning
RUN_FILE = "run.json"
TABLE_FILE = "findings.parquet"
ARRAYS_FILE = "tensors.safetensors"
REPORT_FILE = "report.html"
UNITS = "units"
LOCK_FILE = ".lock"
_OWN = {RUN_FILE, TABLE_FILE, ARRAYS_FILE, REPORT_FILE, UNITS, LOCK_FILE}
_UNIT_NAME = re.compile(r"[0-9a-f]{64}\.safetensors")
_TEMPORARY = ".partial"


class RunFolderError(InterpError):
    """A run folder that cannot be read, written or used."""


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: what keys are hashes of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=_numpy)


def _numpy(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} {value!r} is not JSON-able")


def plain(value: Any) -> Any:
    """`value` as strict JSON allows it: numpy and tuples as numbers and lists, NaN and infinity as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def digest(value: Any) -> str:
    """SHA-256 of `canonical(value)`, in hex."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` so that `path` holds all of it or what it held before; `RunFolderError` when the disk refuses."""
    partial = path.with_name(f".{path.name}.{os.getpid()}{_TEMPORARY}")
    try:
        with open(partial, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
    except OSError as error:
        with contextlib.suppress(OSError):  # under a file there is nothing to remove, and unlinking fails as well
            partial.unlink(missing_ok=True)
        raise RunFolderError(f"cannot write {path}: {error.strerror or error}") from error
    _sync_folder(path.parent)


def write_page(target: Path, html: str) -> Path:
    """Write an HTML page and return where it is.

    Raises:
        UsageError: `target` is a folder.
        RunFolderError: it cannot be written.
    """
    if target.is_dir():
        raise UsageError(f"{target} is a folder; name a file for the page, such as {target / REPORT_FILE}")
    write_atomically(target, html.encode("utf-8", "replace"))
    return target


def _sync_folder(folder: Path) -> None:
    """Make a rename outlive a power cut, where the system allows to sync a folder."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray], metadata: dict[str, str] | None = None) -> None:
    """Arrays as a safetensors file, atomically."""
    from safetensors.numpy import save

    write_atomically(path, save({name: np.ascontiguousarray(array) for name, array in arrays.items()}, metadata))


def load_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Arrays and metadata of a safetensors file; `RunFolderError` when it is missing or damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}, dict(opened.metadata() or {})  # noqa: SIM118
    except (OSError, SafetensorError, ValueError) as error:
        raise RunFolderError(f"cannot read {path}: {error}") from error


def _unit_digest(unit: Unit, told: str) -> str:
    state = hashlib.sha256(told.encode())
    for name in sorted(unit.arrays):
        array = np.ascontiguousarray(unit.arrays[name])
        state.update(f"{name}|{array.dtype.str}|{array.shape}|".encode())
        state.update(array.tobytes())
    return state.hexdigest()


class RunFolder:
    """One run's folder. Nothing is created before `prepare`."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @property
    def units(self) -> Path:
        return self.path / UNITS

    def _stranger(self) -> str | None:
        """Why this folder cannot be a run's; None where a run.json of ours says it is one.

        Without a readable run.json it may hold only what a run leaves that was killed at its start or damaged later.
        """
        names = {entry.name for entry in self.path.iterdir()}
        only_own = UNITS in names and all(name in _OWN or name.endswith(_TEMPORARY) for name in names)
        if RUN_FILE not in names:
            return None if only_own else "holds other files and is no run folder"
        try:
            record = json.loads((self.path / RUN_FILE).read_text(encoding="utf-8"))
        except ValueError:  # not JSON, or not even text
            return None if only_own else f"holds other files beside a {RUN_FILE} that cannot be read"
        ours = isinstance(record, dict) and type(record.get("schema")) is int
        return None if ours else f"holds a {RUN_FILE} that was not written by interp scan"

    def inspect(self) -> None:
        """Refuse a folder that is neither new, empty nor a run's; touches nothing."""
        try:
            if self.path.exists() and not self.path.is_dir():
                raise UsageError(f"--out {self.path} is a file; name a folder")
            if self.path.is_dir() and any(self.path.iterdir()) and (why := self._stranger()):
                raise UsageError(f"--out {self.path} {why}; name a new or empty folder")
        except OSError as error:
            raise RunFolderError(f"cannot use {self.path} as run folder: {error.strerror or error}") from error

    def prepare(self) -> None:
        """Create the folder, or accept an empty one or a run's; an error for any other folder or an unwritable one."""
        self.inspect()
        try:
            self.units.mkdir(parents=True, exist_ok=True)
            writable = os.access(self.units, os.W_OK | os.X_OK) and os.access(self.path, os.W_OK | os.X_OK)
        except OSError as error:
            raise RunFolderError(f"cannot use {self.path} as run folder: {error.strerror or error}") from error
        if not writable:
            raise RunFolderError(f"cannot use {self.path} as run folder: it is not writable")

    def leave(self) -> None:
        """Take back what `prepare` made, if nothing has been put there."""
        for folder in (self.units, self.path):
            with contextlib.suppress(OSError):  # not empty: it is in use
                folder.rmdir()

    def sweep(self) -> None:
        """Remove half-written files a killed process left. Only under the lock."""
        self._remove(entry for folder in (self.path, self.units) for entry in folder.glob(f".*{_TEMPORARY}"))

    def discard(self) -> None:
        """Forget everything an earlier run left here, and nothing else that may lie in the folder."""
        units = [entry for entry in self.units.glob("*.safetensors") if _UNIT_NAME.fullmatch(entry.name)]
        finals = [self.path / name for name in (RUN_FILE, TABLE_FILE, ARRAYS_FILE, REPORT_FILE)]
        self._remove([*units, *finals])

    def _remove(self, entries: Iterable[Path]) -> None:
        try:
            for entry in entries:
                entry.unlink(missing_ok=True)
        except OSError as error:
            raise RunFolderError(f"cannot clear {self.path}: {error.strerror or error}") from error

    def unit_path(self, key: str) -> Path:
        return self.units / f"{key}.safetensors"

    def put(self, key: str, unit: Unit | None) -> Unit | None:
        """Store a unit under its key and return it as a later `get` will (facts through JSON).

        None (nothing to do for this prompt) is stored too, so that it is not asked again.
        """
        stored = unit if unit is not None else Unit()
        told = canonical({"none": unit is None, "facts": stored.facts})
        metadata = {"key": key, "told": told, "digest": _unit_digest(stored, told)}
        save_arrays(self.unit_path(key), stored.arrays, metadata)
        return None if unit is None else Unit(dict(stored.arrays), json.loads(told)["facts"])

    def get(self, key: str) -> tuple[bool, Unit | None]:
        """``(True, unit)`` for a whole unit, ``(False, None)`` for a missing or damaged one."""
        path = self.unit_path(key)
        if not path.is_file():
            return False, None
        try:
            arrays, metadata = load_arrays(path)
            told = json.loads(metadata["told"])
            unit = Unit(arrays, told["facts"])
        except (RunFolderError, KeyError, TypeError, json.JSONDecodeError):
            return False, None
        if metadata.get("key") != key or metadata.get("digest") != _unit_digest(unit, metadata["told"]):
            return False, None
        return True, (None if told["none"] else unit)

    def fetch(self, key: str, make: Callable[[], Unit | None]) -> tuple[bool, Unit | None]:
        """The stored unit, or the one `make` makes, stored. The flag says whether it was there already."""
        there, unit = self.get(key)
        if not there:
            unit = self.put(key, make())
        return there, unit

    def read_json(self) -> dict[str, Any] | None:
        """run.json, or None when there is none; `RunFolderError` when it is not what a run writes."""
        path = self.path / RUN_FILE
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise RunFolderError(f"cannot read {path}: {error}") from error
        try:
            record = json.loads(text)
        except json.JSONDecodeError as error:
            raise RunFolderError(f"{path} is damaged ({error}); scan again with --fresh") from error
        if not isinstance(record, dict) or "schema" not in record:
            raise RunFolderError(f"{path} was not written by interp scan; name a run folder")
        if record["schema"] != SCHEMA:
            raise RunFolderError(f"{path} has schema {record['schema']!r}, this version of interp reads {SCHEMA}")
        return record

    def write_json(self, record: Mapping[str, Any]) -> None:
        text = json.dumps(record, indent=1, ensure_ascii=True, allow_nan=False)
        write_atomically(self.path / RUN_FILE, text.encode())
