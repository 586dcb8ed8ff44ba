"""What an activation store holds, as its files say: the layout of the folder, the index, and the prompts of a shard.

::

    STORE/index.json                 schema, model, sites, and one line a shard; whatever it does not name is not there
    STORE/shards/00000.safetensors   one tensor a site, [row, ...]; rows of whole prompts, one after another
    STORE/shards/00000.json          the prompts of that shard and their rows

A shard's two files are written and renamed first and the index last, so that after ``kill -9`` a shard is named by the
index and whole, or not named and thrown away. SHA-256 digests of both files are in the index.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from interp.errors import InterpError, UsageError
from interp.runs.result import prompt_record
from interp.runs.store import LOCK_FILE, plain, write_atomically
from probes.base import Prompt

SCHEMA = 1  # raised when a field changes its meaning
KIND = "interp activation store"
INDEX_FILE, SHARDS = "index.json", "shards"
PARTIAL = ".partial"
DTYPES = ("float16", "bfloat16", "float32", "float64")
ITEM_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
POSITIONS = ("all", "last")
SHARD_NAME = re.compile(r"\d{5,9}")
_OWN_FILE = re.compile(rf"(?:{SHARD_NAME.pattern})\.(?:safetensors|json)|\..*\{PARTIAL}")


class StoreError(InterpError):
    """An activation store that cannot be read, written or trusted."""


@dataclass(frozen=True)
class SiteSpec:
    """One site: its shape behind [row], and its dtype as stored (``float16``, ``bfloat16``, ``float32``, ...)."""

    site: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def row_bytes(self) -> int:
        """Bytes a token."""
        size = ITEM_BYTES[self.dtype]
        for axis in self.shape:
            size *= axis
        return size


@dataclass(frozen=True)
class Shard:
    """One shard: number of rows and prompts, size in bytes, and the digests of its two files."""

    name: str
    rows: int
    prompts: int
    bytes: int
    sha256: str
    records_sha256: str


@dataclass(frozen=True)
class Entry:
    """One prompt in the store: rows ``start:stop`` of shard number `shard` are its positions, in order."""

    prompt: Prompt
    shard: int
    start: int
    stop: int


@dataclass(frozen=True)
class Index:
    """The index file.

    Attributes:
        identity: what settles the numbers (`interp.runs.provenance.weights_identity`): all prompts share it.
        positions: ``all`` or ``last``: which of a prompt's positions are rows.
        sites: in the order of the forward pass.
        shards: in the order they were written, which is the order of rows.
        model: what the model is, for people.
        calls: where the prompts come from: one record a call of capture that added any.
    """

    identity: dict[str, Any]
    positions: str
    sites: tuple[SiteSpec, ...]
    shards: tuple[Shard, ...] = ()
    model: dict[str, Any] = field(default_factory=dict)
    calls: tuple[dict[str, Any], ...] = ()

    @property
    def model_name(self) -> str:
        """Its display name (untrusted text)."""
        told = self.model.get("model")
        return str(told.get("name")) if isinstance(told, dict) else "an unnamed model"

    @property
    def rows(self) -> int:
        """Rows in all."""
        return sum(shard.rows for shard in self.shards)

    @property
    def row_bytes(self) -> int:
        """Bytes a row, all sites together."""
        return sum(spec.row_bytes for spec in self.sites)

    @property
    def bytes(self) -> int:
        """Size of the shards on disk."""
        return sum(shard.bytes for shard in self.shards)


def shard_file(folder: Path, name: str) -> Path:
    """Where a shard's tensors are."""
    return folder / SHARDS / f"{name}.safetensors"


def records_file(folder: Path, name: str) -> Path:
    """Where a shard's prompts are."""
    return folder / SHARDS / f"{name}.json"


def inspect(folder: Path) -> None:
    """Refuse a folder that is neither new, empty nor a store's; touches nothing.

    Raises:
        UsageError: a file, or a folder that holds something else.
        StoreError: it cannot be looked into.
    """
    try:
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"--out {folder} is a file; name a folder")
        names = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    except OSError as error:
        raise StoreError(f"cannot use {folder} as an activation store: {error.strerror or error}") from error
    if not names or INDEX_FILE in names:
        return  # `read_index` tells whether it is ours
    shards = folder / SHARDS
    strange = not all(name in (SHARDS, LOCK_FILE) or name.endswith(PARTIAL) for name in names)
    # without an index, a killed call leaves its first shard at most; more is another tool's, or a store's that lost it
    strange = strange or (shards.is_dir() and not only_first(shards))
    if strange:
        raise UsageError(f"--out {folder} holds other files and is no activation store; name a new or empty folder")


def read_index(folder: Path) -> Index | None:
    """The index; None where there is none.

    Raises:
        StoreError: it cannot be read, is damaged, of another schema version, or no index of a store.
    """
    path = folder / INDEX_FILE
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        record = json.loads(data)
    except ValueError as error:
        raise StoreError(f"{path} is damaged ({error}); capture again into another folder") from error
    if not isinstance(record, dict) or record.get("kind") != KIND:
        raise StoreError(f"{path} is no index of an activation store; name a folder that interp capture wrote")
    if record.get("schema") != SCHEMA:
        raise StoreError(f"{path} has schema {record.get('schema')!r}, this version of interp reads {SCHEMA}")
    try:
        return _index(record)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(f"{path} is damaged ({type(error).__name__}: {error}); capture into another folder") from error


def _index(record: Mapping[str, Any]) -> Index:
    sites = tuple(SiteSpec(str(s["site"]), tuple(int(n) for n in s["shape"]), s["dtype"]) for s in record["sites"])
    shards = tuple(Shard(**shard) for shard in record["shards"])
    for spec in sites:
        if spec.dtype not in DTYPES or any(n < 1 for n in spec.shape):
            raise ValueError(f"site {spec.site!r} of dtype {spec.dtype!r} and shape {list(spec.shape)}")
    for shard in shards:
        counts = (shard.rows, shard.prompts, shard.bytes)
        if not SHARD_NAME.fullmatch(shard.name) or not all(type(n) is int and n > 0 for n in counts):
            raise ValueError(f"shard {shard.name!r}")  # the name becomes a path
    if record["positions"] not in POSITIONS or not sites:
        raise ValueError(f"positions {record['positions']!r}, {len(sites)} sites")
    return Index(
        dict(record["identity"]),
        record["positions"],
        sites,
        shards,
        dict(record["model"]),
        tuple(dict(call) for call in record["calls"]),
    )


def write_index(folder: Path, index: Index) -> None:
    """Write the index: from here on, what it names is there.

    Raises:
        RunFolderError: the disk refuses.
    """
    record = {"kind": KIND, "schema": SCHEMA, **asdict(index)}
    write_atomically(folder / INDEX_FILE, json.dumps(plain(record), indent=1, allow_nan=False).encode())


def records_bytes(entries: Sequence[Entry]) -> bytes:
    """What the prompts of a shard look like on disk."""
    told = [{**prompt_record(one.prompt), "rows": [one.start, one.stop]} for one in entries]
    return json.dumps({"prompts": told}, allow_nan=False).encode()


def read_records(folder: Path, number: int, shard: Shard) -> list[Entry]:
    """The prompts of one shard.

    Raises:
        StoreError: they cannot be read, or are not those the index tells of.
    """
    path = records_file(folder, shard.name)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}; {REPAIR}") from error
    if hashlib.sha256(data).hexdigest() != shard.records_sha256:
        raise StoreError(f"{path} is damaged: it does not match its digest in {INDEX_FILE}; {REPAIR}")
    entries = []
    for one in json.loads(data)["prompts"]:
        prompt = Prompt(
            one["name"], one["text"], tuple(one["ids"]), tuple(one["tokens"]), one["truncated"], one["extra"]
        )
        entries.append(Entry(prompt, number, *one["rows"]))
    return entries


REPAIR = "`interp capture --verify` lists what is damaged, and --repair forgets it, so that it is captured again"


def forget(index: Index, names: set[str]) -> Index:
    """The index without some of its shards."""
    return replace(index, shards=tuple(shard for shard in index.shards if shard.name not in names))


def only_first(shards: Path) -> bool:
    """Whether a folder of shards holds no more than a killed call may leave before it has written an index: files
    half-written, and the first shard, which says that it is ours."""
    from safetensors import SafetensorError, safe_open

    names = {entry.name for entry in shards.iterdir() if not entry.name.endswith(PARTIAL)}
    if not names:
        return True
    if "00000.safetensors" not in names or names - {"00000.safetensors", "00000.json"}:
        return False
    try:
        with safe_open(shards / "00000.safetensors", framework="numpy") as opened:
            return (opened.metadata() or {}).get("kind") == KIND
    except (OSError, SafetensorError, ValueError):
        return False


def is_own(name: str) -> bool:
    """Whether a file in the folder of shards is one that capture writes (or left half-written)."""
    return bool(_OWN_FILE.fullmatch(name))
