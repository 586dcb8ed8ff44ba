"""Look at a checkpoint folder before anything in it is loaded: is it whole, is it safe, is it a model we can read?

transformers reports broken files in many ways, some of them long and some (missing weights) only as a log line next to
a model with random parameters. Everything that can be seen from names, sizes and headers is checked here and told in
one line.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interp.errors import LoadError

SAFETENSORS, SAFETENSORS_INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLE, PICKLE_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
)


@dataclass(frozen=True)
class Checkpoint:
    """A folder that passed the look.

    Attributes:
        folder: where it is.
        config: its config.json.
        weights: the weight files, in name order.
        pickled: whether those are pickles.
        has_tokenizer: whether a tokenizer lies beside them.
    """

    folder: Path
    config: dict[str, Any]
    weights: tuple[Path, ...]
    pickled: bool
    has_tokenizer: bool


def inspect_folder(folder: Path, *, allow_pickle: bool, trust_remote_code: bool) -> Checkpoint:
    """Check a local checkpoint folder.

    Raises:
        LoadError: with the file that is missing, truncated, unsafe or unreadable.
    """
    config = _config(folder)
    needs_remote_code(config, str(folder), trust_remote_code)
    weights, pickled = weight_files(folder)
    if pickled and not allow_pickle:
        raise LoadError(
            f"{folder}: the only weights are {weights[0].name}, a pickle, which can run code when read; "
            "convert it to safetensors, or pass --allow-pickle (allow_pickle=True) if you trust where it comes from"
        )
    for path in weights:
        if not pickled:
            check_safetensors(path)
        elif path.stat().st_size == 0:
            raise LoadError(f"{path} is empty")
    return Checkpoint(folder, config, weights, pickled, has_tokenizer(folder))


def has_tokenizer(folder: Path) -> bool:
    """Whether any file of a tokenizer lies in ``folder``."""
    return any((folder / name).exists() for name in TOKENIZER_FILES)


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        if (folder / "adapter_config.json").is_file():
            raise LoadError(
                f"{folder} holds an adapter (adapter_config.json), not a model: merge it into its base model first"
            )
        raise LoadError(f"{folder} is not a model folder: there is no config.json in it")
    config = read_json(path)
    if "model_type" not in config and not config.get("architectures"):
        raise LoadError(f"{path} names neither a model_type nor an architecture")
    return config


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file, or a LoadError naming the file and what is wrong with it."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise LoadError(f"{path} cannot be read as JSON ({error}): truncated or corrupt") from None
    if not isinstance(value, dict):
        raise LoadError(f"{path} should hold a JSON object, and holds a {type(value).__name__}")
    return value


def needs_remote_code(config: dict[str, Any], where: str, trust_remote_code: bool) -> None:
    """Refuse a model whose class comes as Python code beside the weights, unless allowed. Types transformers has itself
    pass."""
    from transformers import CONFIG_MAPPING

    if config.get("auto_map") and config.get("model_type") not in CONFIG_MAPPING and not trust_remote_code:
        raise LoadError(
            f"{where}: model type {config.get('model_type')!r} is defined by Python code that comes with the weights; "
            "pass --trust-remote-code (trust_remote_code=True) to run it if you trust where it comes from"
        )


def weight_files(folder: Path) -> tuple[tuple[Path, ...], bool]:
    """The weight files transformers would read, and whether they are pickles.

    Raises:
        LoadError: there are none, or the index names some that are not there.
    """
    for single, index, pickled in ((SAFETENSORS, SAFETENSORS_INDEX, False), (PICKLE, PICKLE_INDEX, True)):
        if (folder / single).is_file():
            return (folder / single,), pickled
        if (folder / index).is_file():
            return _shards(folder / index), pickled
    others = sorted(
        path.name
        for suffix in ("*.safetensors", "*.gguf", "*.bin", "*.pt", "*.pth", "*.h5")
        for path in folder.glob(suffix)
    )
    found = f"; it holds {', '.join(others[:5])}" if others else ""
    hint = ", and a .gguf file is loaded by its own path" if any(name.endswith(".gguf") for name in others) else ""
    raise LoadError(f"{folder} has no weights: no {SAFETENSORS} and no {SAFETENSORS_INDEX}{found}{hint}")


def _shards(index: Path) -> tuple[Path, ...]:
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise LoadError(f"{index} has no weight_map: truncated or corrupt")
    files = sorted({str(name) for name in names.values()})
    outside = [name for name in files if Path(name).name != name]
    if outside:
        raise LoadError(f"{index} points outside its folder: {outside[0]!r}")
    missing = [name for name in files if not (index.parent / name).is_file()]
    if missing:
        raise LoadError(f"{index.parent} lacks {len(missing)} of {len(files)} weight files, the first is {missing[0]}")
    return tuple(index.parent / name for name in files)


def check_safetensors(path: Path) -> None:
    """Check a safetensors file's header against its size (format: 8-byte little-endian header length, JSON header,
    data).

    Raises:
        LoadError: truncated, longer than its header says, or not safetensors at all.
    """
    size = path.stat().st_size
    with path.open("rb") as handle:
        start = handle.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= size - 8:
            raise LoadError(f"{path} is not a whole safetensors file ({size:,} bytes): truncated or corrupt")
        raw = handle.read(length)
    try:
        header = json.loads(raw)
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        expected = 8 + length + max(ends, default=0)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        raise LoadError(f"{path} has an unreadable safetensors header: truncated or corrupt") from None
    if expected != size:
        raise LoadError(f"{path} should have {expected:,} bytes by its header and has {size:,}: truncated or corrupt")
