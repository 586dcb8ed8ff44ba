"""A model without its weights: config, tokenizer and parameter shapes, for ``--dry-run``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from interp.errors import LoadError
from interp.models import catalog
from interp.models.packages import folder_of, is_present


def outline(x: Any, load_options: dict[str, Any]) -> Any:
    """A `Model` whose parameters have shapes and no values, where its folder is on this machine; nothing is downloaded.

    An object or a ``.gguf`` file is loaded as it is: the one has its weights already, the other its config inside.

    Raises:
        LoadError: the model is not on this machine, or its config or tokenizer cannot be read.
    """
    from interp.models.load import load
    from interp.models.model import Model, Source

    if not isinstance(x, str | Path) or str(x).lower().endswith(".gguf"):
        return load(x, **load_options, check=False)
    folder = _folder(str(x))
    trust_remote_code = bool(load_options.get("trust_remote_code"))
    tokenizer = _tokenizer(folder, trust_remote_code)
    source = Source(
        kind="folder", requested=str(x), hash_weights=lambda: "", tokenizer=tokenizer, path=str(folder)
    )  # nothing is written, so nothing is hashed
    bos, chat = load_options.get("bos", "auto"), bool(load_options.get("chat"))
    return Model(_shapes(folder, trust_remote_code), tokenizer, str(x), source, bos, chat)


def _folder(name: str) -> Path:
    """Where `load` would read `name` from, if that is on this machine."""
    from interp.models.hub import hub_folder
    from interp.models.offline import in_hub_cache, offline_summary

    alias, _, revision = name.partition("@")
    entry = catalog.find(alias)
    if entry is not None and entry.packaged and not revision:
        if not is_present(entry.alias):
            raise LoadError(
                f"{entry.alias} is not on this machine: run `interp get {entry.alias}`, then the dry run again"
            )
        return folder_of(entry.alias)
    if entry is None and Path(name).expanduser().is_dir():
        return Path(name).expanduser()
    hub_id = entry.hub_id if entry is not None else alias
    if "/" in hub_id and in_hub_cache(hub_id):
        return hub_folder(hub_id, revision or None, allow_pickle=False, trust_remote_code=False, say=lambda _: None)[0]
    raise LoadError(f"{name}: a dry run downloads nothing, and this model is not on this machine. {offline_summary()}")


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
