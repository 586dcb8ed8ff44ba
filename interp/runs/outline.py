"""A model without its weights: config, tokenizer and parameter shapes, for ``--dry-run``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from interp.errors import LoadError
from interp.models import catalog
from interp.models.checkpoint import has_tokenizer
from interp.models.packages import folder_of, is_present


def outline(x: Any, load_options: dict[str, Any]) -> Any:
    """A `Model` whose parameters have shapes and no values, where its folder is on this machine; nothing is downloaded.

    What this made before is given back. An object or a ``.gguf`` file is loaded as it is: the one has its weights
    already, the other its config inside.

    Raises:
        UsageError: a revision that cannot be one.
        LoadError: the model is not on this machine, or its config or tokenizer cannot be read.
    """
    from interp.models.load import load
    from interp.models.model import Model, Source

    if isinstance(x, Model) and x.hf.get_input_embeddings().weight.device.type == "meta":
        return x
    if not isinstance(x, str | Path) or str(x).lower().endswith(".gguf"):
        return load(x, **load_options, check=False)
    folder = _folder(str(x), load_options.get("revision"))
    trust_remote_code = bool(load_options.get("trust_remote_code"))
    tokenizer = _tokenizer(folder, trust_remote_code) if has_tokenizer(folder) else None
    source = Source(
        kind="folder", requested=str(x), hash_weights=lambda: "", tokenizer=tokenizer, path=str(folder)
    )  # nothing is written, so nothing is hashed
    bos, chat = load_options.get("bos", "auto"), bool(load_options.get("chat"))
    return Model(_shapes(folder, trust_remote_code), tokenizer, str(x), source, bos, chat)


def _folder(name: str, revision: str | None) -> Path:
    """Where `load` would read `name` from, if that is on this machine; asks no network."""
    from interp.models.hub import cached_snapshot
    from interp.models.load import HUB_ID, local_path
    from interp.models.offline import offline_summary

    alias, at, named = name.partition("@")
    revision = named if at else revision
    entry = catalog.find(alias)
    if entry is not None and entry.packaged and not revision:
        if not is_present(entry.alias):
            raise LoadError(
                f"{entry.alias} is not on this machine, or not all of it: run `interp get {entry.alias}`, then the "
                "dry run again"
            )
        return folder_of(entry.alias)
    if entry is None and os.path.isdir(local_path(name)):  # Path.is_dir raises for a name too long
        return local_path(name)
    is_hub_id = HUB_ID.match(name) and not name.startswith((".", "~"))
    hub_id = entry.hub_id if entry is not None else alias if is_hub_id else None
    snapshot = cached_snapshot(hub_id, revision) if hub_id is not None else None
    if snapshot is not None:
        return snapshot
    raise LoadError(
        f"{name}: a dry run downloads nothing, and this model is not on this machine, or not all of it. "
        f"{offline_summary()}"
    )


def _shapes(folder: Path, trust_remote_code: bool) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from interp.models.quiet import quiet

    try:
        with quiet(), torch.device("meta"):
            config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
            return AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code).eval()
    except (OSError, ValueError, KeyError) as error:
        raise LoadError(f"{folder}: its config cannot be read ({' '.join(str(error).split())[:200]})") from error


def _tokenizer(folder: Path, trust_remote_code: bool) -> Any:
    from interp.models.weights import read_tokenizer

    return read_tokenizer(folder, trust_remote_code)
