"""A hub id becomes a local folder: what the local hub cache has is used first, the hub is asked only for what it
lacks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from interp.errors import LoadError, UsageError
from interp.models.catalog import find, suggest
from interp.models.loading_report import one_line
from interp.models.offline import complete, hub_cache_dir, offline_summary
from interp.models.quiet import quiet

# Everything beside the weights that a config, tokenizer or chat template may be in; weights are chosen from the file
# list.
_SIDE_FILES = (".json", ".jinja", ".model", ".txt", ".tiktoken")
_OTHER_FORMATS = ("consolidated", "original", "flax_model", "tf_model", "rust_model")


def hub_folder(
    hub_id: str, revision: str | None, *, allow_pickle: bool, trust_remote_code: bool, say: Callable[[str], None]
) -> tuple[Path, str]:
    """The snapshot folder of ``hub_id`` at ``revision`` and the commit it is, downloading what is missing.

    Raises:
        UsageError: ``revision`` cannot be one.
        LoadError: not in the cache and not to be had: names what was tried and what is on this machine.
    """
    local = cached_snapshot(hub_id, revision)
    if local is not None:
        return local, local.name
    say(f"asking the hub for {hub_id}, which is not in the local hub cache")
    try:
        with quiet():
            names = _wanted(hub_id, revision, allow_pickle=allow_pickle, trust_remote_code=trust_remote_code)
        say(f"fetching {len(names)} files of {hub_id}")
        with quiet():
            folder = _snapshot(hub_id, revision, names)
    except LoadError:
        raise
    except Exception as error:  # of many kinds: offline, gated, not found, disk full
        short = hub_id.rsplit("/", 1)[-1]
        raise LoadError(
            f"{hub_id}{f'@{revision}' if revision else ''}: not complete in the local hub cache ({hub_cache_dir()}), "
            f"and the hub did not give it: {one_line(error, 200)}{'' if find(short) else suggest(short)}. "
            f"{offline_summary()}"
        ) from None
    assert folder is not None
    return folder, folder.name


def cached_snapshot(hub_id: str, revision: str | None) -> Path | None:
    """The complete snapshot of ``hub_id`` at ``revision`` in the local hub cache, or None; asks no network.

    Raises:
        UsageError: ``revision`` cannot be one.
        LoadError: ``hub_id`` cannot be one.
    """
    if revision is not None and {"", ".", ".."} & set(revision.split("/")):  # it becomes part of a path in the cache
        raise UsageError(f"revision {revision!r} of {hub_id} cannot be a commit, branch or tag")
    folder = _snapshot(hub_id, revision, None)
    return folder if folder is not None and complete(folder) else None


def _snapshot(hub_id: str, revision: str | None, names: list[str] | None) -> Path | None:
    """The cached snapshot (``names`` None; None when there is none), or a download of exactly ``names``."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(
            snapshot_download(
                hub_id,
                revision=revision,
                cache_dir=hub_cache_dir(),
                allow_patterns=names,
                local_files_only=names is None,
            )
        )
    except HFValidationError as error:
        raise LoadError(f"{hub_id!r} cannot be a hub id: {one_line(error)}") from None
    except OSError:  # not there (LocalEntryNotFoundError), or the cache cannot be read
        if names is None:
            return None
        raise


def _wanted(hub_id: str, revision: str | None, *, allow_pickle: bool, trust_remote_code: bool) -> list[str]:
    """The files of the top folder to fetch: safetensors if it has them, pickles only if allowed."""
    from huggingface_hub import HfApi

    listed = [name for name in HfApi().list_repo_files(hub_id, revision=revision) if "/" not in name]
    listed = [name for name in listed if not name.startswith(_OTHER_FORMATS)]
    safe = [name for name in listed if name.endswith(".safetensors")]
    pickled = [name for name in listed if name.startswith("pytorch_model") and name.endswith(".bin")]
    if not safe and pickled and not allow_pickle:
        raise LoadError(
            f"{hub_id}: the only weights are {pickled[0]}, a pickle, which can run code when read; "
            "nothing was fetched. Pass --allow-pickle (allow_pickle=True) if you trust where it comes from"
        )
    side = [name for name in listed if name.endswith(_SIDE_FILES) or (trust_remote_code and name.endswith(".py"))]
    return side + (safe or pickled)
