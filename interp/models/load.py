"""`load`: from a name, a folder, a file or an object to a `Model`."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from interp.errors import LoadError, SelfCheckError, UsageError
from interp.models import catalog
from interp.models.checkpoint import inspect_folder
from interp.models.device import placement
from interp.models.hashing import weight_hash_of_files, weight_hash_of_module
from interp.models.hub import hub_folder
from interp.models.model import Kind, Model, Source
from interp.models.packaged import get
from interp.models.packages import PACKAGED, is_sound, read_meta
from interp.models.weights import read_checkpoint, read_gguf, read_tokenizer

HUB_ID = re.compile(r"^(?P<id>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?$")
_ALIAS = re.compile(r"^(?P<alias>[^/\\@]+)(@(?P<revision>[\w./-]+))?$")


@dataclass(frozen=True)
class Options:
    """How to load; see `load`."""

    device: Any
    dtype: Any
    device_map: Any
    revision: str | None
    allow_pickle: bool
    trust_remote_code: bool
    progress: Callable[[str], None]

    def placement(self) -> tuple[Any, Any, Any]:
        """`interp.models.device.placement` of these options."""
        return placement(self.device, self.dtype, self.device_map)

    def refuse_for(self, what: str, instead: str) -> None:
        """`UsageError` when anything is asked for that would change a model in memory already."""
        given = {"device": self.device, "dtype": self.dtype, "device_map": self.device_map, "revision": self.revision}
        asked = [f"{name}={value!r}" for name, value in given.items() if value is not None and value != "auto"]
        if asked:
            raise UsageError(f"{', '.join(asked)}: {what} stays as and where it is; {instead}")


@dataclass(frozen=True)
class Loaded:
    """What a way of loading yields."""

    hf: Any
    tokenizer: Any
    name: str
    kind: Kind
    hash_weights: Callable[[], str]
    hub_id: str | None = None
    revision: str | None = None
    path: str | None = None


def load(
    x: Any,
    *,
    tokenizer: Any = None,
    device: Any = "auto",
    dtype: Any = None,
    device_map: Any = None,
    bos: str = "auto",
    chat: bool = False,
    revision: str | None = None,
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
    check: bool = True,
    progress: Callable[[str], None] | None = None,
) -> Model:
    """Load a causal language model.

    Args:
        x: an alias of the catalog (any letter case), a packaged model, a hub id with optional ``@revision``, a local
            folder, a ``.gguf`` file, a Hugging Face model object, a TransformerLens ``TransformerBridge``, or a `Model`
            (returned as it is; other options than its own are refused). A name of the catalog wins over a folder of
            that name; write ``./name`` for the folder.
        tokenizer: tokenizer object, or a folder or hub id to read it from; None takes the model's own.
        device: ``auto`` (CUDA, then MPS, then CPU), ``cpu``, ``cuda[:i]``, ``mps``. Objects stay where they are.
        dtype: ``float32``, ``bfloat16``, ``float16``, ``auto`` (as stored) or a torch dtype; None is float32 on the CPU
            and ``auto`` elsewhere. Objects stay as they are.
        device_map: ``auto`` or a dict, for models over several devices (Hugging Face accelerate).
        bos: what stands at position 0, see `interp.models.first_position`.
        chat: put every text into the model's chat template.
        revision: commit, branch or tag of a hub model; the same as ``@revision``.
        allow_pickle: also read ``pytorch_model.bin``.
        trust_remote_code: run Python code that comes with a model whose class transformers does not have.
        check: run the self-check (`interp.models.self_check`).
        progress: called with one short sentence a step; None writes them to stderr.

    Raises:
        UsageError: an unknown name or a malformed option.
        LoadError: the model cannot be had, read, or looked into.
        SelfCheckError: it was loaded, but the tracer does not see what the model computes.
    """
    say = progress or (lambda message: print(message, file=sys.stderr))
    options = Options(device, dtype, device_map, revision, allow_pickle, trust_remote_code, say)
    if isinstance(x, Model):
        options.refuse_for(f"the loaded model {x.name}", "load it again from its name or folder")
        _same_policy(x, tokenizer, bos, chat)
        return x
    if isinstance(x, (str, os.PathLike)):
        options.placement()  # what is wrong with it is told before anything is fetched
        requested = os.fspath(x)
        loaded = _from_name(requested, options)
    else:
        requested = type(x).__name__
        loaded = _from_object(x, options)
    if isinstance(tokenizer, (str, os.PathLike)):
        tokenizer = read_tokenizer(_tokenizer_source(os.fspath(tokenizer)), trust_remote_code)
    tokenizer = loaded.tokenizer if tokenizer is None else tokenizer
    model = Model(
        hf=loaded.hf,
        tokenizer=tokenizer,
        name=loaded.name,
        source=Source(
            kind=loaded.kind,
            requested=requested,
            hash_weights=loaded.hash_weights,
            tokenizer=tokenizer,
            hub_id=loaded.hub_id,
            revision=loaded.revision,
            path=loaded.path,
        ),
        bos=bos,
        chat=chat,
    )
    if check:
        from interp.models.self_check import self_check

        outcome = self_check(model)
        if not outcome.ok:
            raise SelfCheckError(f"{model.name}: the self-check failed ({'; '.join(outcome.notes)})")
    return model


def _same_policy(model: Model, tokenizer: Any, bos: str, chat: bool) -> None:
    """A loaded model keeps its policies; asking for others must not pass unnoticed."""
    if tokenizer is not None or bos not in ("auto", model.bos) or (chat and not model.chat):
        raise UsageError(
            f"{model.name} is loaded already, with bos={model.bos!r} and chat={model.chat}; for another tokenizer, "
            "bos or chat load it again, or use dataclasses.replace(model, bos=..., chat=...)"
        )


def _tokenizer_source(name: str) -> str:
    """A folder, or what a catalogued name stands for, or the name itself as a hub id."""
    entry = catalog.find(name)
    if entry is None:
        return name
    return str(get(entry.alias)) if entry.packaged else entry.hub_id


def _from_name(name: str, options: Options) -> Loaded:
    path = local_path(name)
    if name.lower().endswith(".gguf"):
        return _from_gguf(path, options)
    alias = _ALIAS.match(name)
    entry = catalog.find(alias["alias"]) if alias else None
    if alias and entry:
        revision = alias["revision"] or options.revision
        if entry.packaged and not revision:
            return _from_package(entry.alias, options)
        return _from_hub(entry.hub_id, revision, options)
    if os.path.exists(path):  # Path.exists raises for a name too long
        return _from_folder(path, options)
    hub = HUB_ID.match(name)
    if hub and not name.startswith((".", "~")):
        return _from_hub(hub["id"], hub["revision"] or options.revision, options)
    if alias and not name.startswith((".", "~")):
        raise UsageError(
            f"{name!r} is neither a model of the catalog{catalog.suggest(alias['alias'])}, nor a folder here, nor a "
            "hub id (owner/name); `interp ls models` lists the catalog"
        )
    raise LoadError(f"there is no model folder or .gguf file at {name}")


def local_path(name: str) -> Path:
    """``name`` as a path, with ``~`` for the home folder; ``~unknown`` stays as it is, where pathlib would raise."""
    return Path(os.path.expanduser(name))


def _from_package(name: str, options: Options) -> Loaded:
    folder = get(name, None if is_sound(name) else options.progress)
    meta = read_meta(name)
    if meta is None:
        raise LoadError(f"{folder} was there a moment ago and is gone; try again")
    hf, tokenizer, _ = _read_folder(folder, options)
    base = PACKAGED[name].base
    return Loaded(hf, tokenizer, name, "packaged", lambda: str(meta["weight_hash"]), hub_id=base, path=str(folder))


def _from_hub(hub_id: str, revision: str | None, options: Options) -> Loaded:
    folder, commit = hub_folder(
        hub_id,
        revision,
        allow_pickle=options.allow_pickle,
        trust_remote_code=options.trust_remote_code,
        say=options.progress,
    )
    hf, tokenizer, hash_weights = _read_folder(folder, options)
    return Loaded(hf, tokenizer, hub_id, "hub", hash_weights, hub_id=hub_id, revision=commit, path=str(folder))


def _from_folder(path: Path, options: Options) -> Loaded:
    _no_revision(options, path)
    if not path.is_dir():
        raise LoadError(f"{path} is a file, and neither a model folder nor a .gguf file")
    hf, tokenizer, hash_weights = _read_folder(path, options)
    return Loaded(hf, tokenizer, path.resolve().name, "folder", hash_weights, path=str(path.resolve()))


def _from_gguf(path: Path, options: Options) -> Loaded:
    _no_revision(options, path)
    dtype, device_map, device = options.placement()
    hf, tokenizer = read_gguf(path, dtype, device_map)
    if device_map is None:
        hf = hf.to(device)
    real = path.resolve()
    return Loaded(hf, tokenizer, path.stem, "gguf", partial(weight_hash_of_files, [real]), path=str(real))


def _no_revision(options: Options, path: Path) -> None:
    if options.revision is not None:
        raise UsageError(f"revision {options.revision!r} makes sense for a hub model only, not for {path}")


def _read_folder(folder: Path, options: Options) -> tuple[Any, Any, Callable[[], str]]:
    checkpoint = inspect_folder(folder, allow_pickle=options.allow_pickle, trust_remote_code=options.trust_remote_code)
    dtype, device_map, device = options.placement()
    tokenizer = read_tokenizer(folder, options.trust_remote_code) if checkpoint.has_tokenizer else None
    hf = read_checkpoint(checkpoint, dtype=dtype, placement=device_map, trust_remote_code=options.trust_remote_code)
    if device_map is None:
        hf = hf.to(device)
    return hf, tokenizer, partial(weight_hash_of_files, checkpoint.weights)


def _from_object(x: Any, options: Options) -> Loaded:
    options.refuse_for(f"a {type(x).__name__} object", "change it before loading it")
    from transformers import PreTrainedModel

    from interp.models.bridged import is_bridge, unwrapped

    if is_bridge(x):
        hf, kind, tokenizer = unwrapped(x), "bridge", getattr(x, "tokenizer", None)
    elif isinstance(x, PreTrainedModel):
        hf, kind, tokenizer = x, "object", None
    else:
        raise UsageError(
            f"cannot load a {type(x).__module__}.{type(x).__qualname__}: give a name, a folder, a .gguf file, a "
            "transformers model or a TransformerBridge"
        )
    _refuse_object(hf)
    name = str(getattr(hf.config, "_name_or_path", "") or type(hf).__name__)
    return Loaded(hf, tokenizer, name, kind, partial(weight_hash_of_module, hf))


def _refuse_object(hf: Any) -> None:
    from interp.models.self_check import refuse_unsupported

    refuse_unsupported(hf)
    if hf.get_output_embeddings() is None:
        raise LoadError(
            f"{type(hf).__name__} has no language-model head, so it predicts no next token; load the ...ForCausalLM"
        )
    if hf.training and any(getattr(module, "p", 0) for module in hf.modules() if type(module).__name__ == "Dropout"):
        raise LoadError(
            f"{type(hf).__name__} is in training mode with dropout on, so its numbers are random: call .eval() first"
        )
