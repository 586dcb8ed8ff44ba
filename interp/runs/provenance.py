"""Where a result comes from: enough to know what was run, on what, and to run it again."""

from __future__ import annotations

import dataclasses
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from interp.runs.store import digest, plain
from probes.base import Prompt

_PACKAGES = ("torch", "transformers", "transformer-lens", "numba", "numpy", "pandas", "safetensors")
_SECRET_OPTION = re.compile(r"(?i)^--?[a-z0-9-]*(token|password|secret|api-?key)$")
_SECRET_VALUE = re.compile(r"(?i)\b(hf_[a-z0-9]{16,}|[a-z0-9_-]*(token|password|secret|api_?key)=\S+)")


def now() -> str:
    """UTC time, ISO 8601, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def versions() -> dict[str, str | None]:
    """Versions of python, interp and what its numbers depend on; None for a package that is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    import interp

    found: dict[str, str | None] = {"python": platform.python_version(), "interp": interp.__version__}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def checkout() -> dict[str, Any]:
    """Commit and dirty flag of the git checkout interp runs from; both None for an installed copy or without git."""
    root = Path(__file__).resolve().parents[2]
    here = (root / ".git").exists()
    commit = _git(root, "rev-parse", "HEAD") if here else None
    status = _git(root, "status", "--porcelain") if commit else None
    return {"commit": commit, "dirty": None if status is None else bool(status)}


def _git(root: Path, *arguments: str) -> str | None:
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
            env=environment,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def command_line(argv: Sequence[str] | None = None) -> str:
    """The command line, quoted for a shell, without what looks like a secret or a URL's user and password."""
    words = list(sys.argv if argv is None else argv)
    if words:
        words[0] = Path(words[0]).name
    shown: list[str] = []
    hide_next = False
    for word in words:
        if hide_next:
            shown.append("***")
        else:
            shown.append(_SECRET_VALUE.sub("***", _without_login(word)))
        hide_next = bool(_SECRET_OPTION.match(word))
    return shlex.join(shown)


def _without_login(word: str) -> str:
    if "://" not in word or "@" not in word:
        return word
    try:
        parts = urlsplit(word)
    except ValueError:
        return word
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def model_facts(model: Any, checked: Any) -> dict[str, Any]:
    """What the record says of a `Model` and its `SelfCheck`: what it is, how it is run, how its attention is read."""
    return {
        "model": {
            "name": model.name,
            **model.source.as_dict(),
            "architecture": model.architecture,
            "family": model.family,
            "layers": model.n_layers,
            "heads": model.n_heads,
            "d_model": model.d_model,
        },
        "position0": model.position0,
        "bos": model.bos,
        "chat": model.chat,
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": str(model.device),
        "attention_path": checked.attention_path,
        "self_check": plain(dataclasses.asdict(checked)),
    }


def prompt_key(prompt: Prompt) -> str:
    """What resume knows a prompt by: its exact ids and, where the probe added facts (spans, answers), those too."""
    return prompt.hash if not prompt.extra else digest({"ids": prompt.hash, "extra": plain(prompt.extra)})


def identity(model: Any, finder: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    """What every unit's key is made of, before phase and prompt. Two runs that agree here may share units."""
    source = model.source
    return {
        **weights_identity(model),
        "tokenizer": source.tokenizer_hash,
        "template": source.template_hash,
        "bos": model.bos,
        "chat": model.chat,
        "finder": finder.name,
        "finder_version": str(getattr(finder, "version", "1")),
        "config": plain(config),
    }


def weights_identity(model: Any) -> dict[str, Any]:
    """What settles the numbers a model makes of token ids."""
    return {"weights": model.source.weight_hash, "dtype": str(model.dtype), "device": model.device.type}


def describe_host() -> dict[str, Any]:
    """Platform, processor count and, with CUDA in use, the device's name."""
    import torch

    return {
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cuda_device": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
