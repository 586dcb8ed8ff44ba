"""Content hashes that go into provenance: the weights, the tokenizer, the chat template."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.models.cache import cache_dir, write_whole

if TYPE_CHECKING:
    import torch
    from torch import nn

_CHUNK = 1 << 22


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(_CHUNK):
            digest.update(block)
    return digest.hexdigest()


def remembered_sha256(path: Path) -> str:
    """`sha256_file`, remembered in the cache under the file's resolved path, size and modification time (ns).

    A cache that cannot be written only costs the next caller the hashing again.
    """
    real = path.resolve()
    stat = real.stat()
    key = hashlib.sha256(str(real).encode("utf-8", "surrogateescape")).hexdigest()
    note = cache_dir() / "hashes" / f"{key}.json"
    stamp = [stat.st_size, stat.st_mtime_ns]
    try:
        known = json.loads(note.read_text(encoding="utf-8"))
        if known["stamp"] == stamp:
            return str(known["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    digest = sha256_file(real)
    with contextlib.suppress(OSError):
        write_whole(note, json.dumps({"stamp": stamp, "sha256": digest}))
    return digest


def weight_hash_of_files(paths: Iterable[Path]) -> str:
    """One hash for a checkpoint: the file's own SHA-256 for one file, a hash over (name, SHA-256) in name order for
    shards."""
    files = sorted(paths, key=lambda path: path.name)
    if len(files) == 1:
        return remembered_sha256(files[0])
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.name}:{remembered_sha256(path)}\n".encode())
    return digest.hexdigest()


def weight_hash_of_module(module: nn.Module) -> str:
    """Hash of every parameter and persistent buffer (name, dtype, shape, bytes) in name order.

    Depends on the values and the dtype, not on the device or on how the object came to be.
    """
    import torch

    digest = hashlib.sha256()
    for name in sorted(module.state_dict()):
        tensor = _in_memory(module, name)
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        if tensor.numel():
            flat = tensor.detach().to("cpu").contiguous().reshape(-1).view(torch.uint8)
            digest.update(flat.numpy().data)
    return digest.hexdigest()


def _in_memory(module: nn.Module, name: str) -> torch.Tensor:
    """A parameter or buffer by its dotted name, fetched first when accelerate keeps it elsewhere."""
    from interp.models.device import in_memory

    owner_name, _, leaf = name.rpartition(".")
    return in_memory(module.get_submodule(owner_name), leaf)


def tokenizer_hash(tokenizer: Any) -> str | None:
    """Hash of the fast tokenizer's own serialisation (vocabulary, merges, normalisers, added tokens); None without a
    tokenizer.

    Truncation and padding are call-time state of the object, not part of its identity, and are left out.
    """
    if tokenizer is None:
        return None
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        state = json.dumps({"class": type(tokenizer).__name__, "vocab": tokenizer.get_vocab()}, sort_keys=True)
        return hashlib.sha256(state.encode()).hexdigest()
    if backend.truncation is not None or backend.padding is not None:
        backend = type(backend).from_str(backend.to_str())
        backend.no_truncation()
        backend.no_padding()
    return hashlib.sha256(backend.to_str().encode("utf-8", "surrogatepass")).hexdigest()


def template_hash(tokenizer: Any) -> str | None:
    """Hash of the chat template; None when there is none."""
    template = getattr(tokenizer, "chat_template", None)
    if not template:
        return None
    text = template if isinstance(template, str) else json.dumps(template, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
