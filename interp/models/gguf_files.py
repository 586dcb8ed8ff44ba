"""GGUF files: read through transformers (dequantised to float), and converted once to safetensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from interp.models.gguf_tokenizers import build_tokenizer
from interp.models.hashing import sha256_file
from interp.models.loading_report import check_complete
from interp.models.quiet import quiet


def read_header(path: Path) -> dict[str, Any]:
    """The scalar key-value pairs of a GGUF file (arrays such as the vocabulary are left out).

    Raises:
        ValueError, OSError, IndexError and others of `gguf.GGUFReader` when the file is not whole.
    """
    from gguf import GGUFReader
    from gguf.constants import GGUFValueType

    reader = GGUFReader(str(path))
    return {
        key: field.contents()
        for key, field in reader.fields.items()
        if field.types and field.types[0] != GGUFValueType.ARRAY
    }


def gguf_tokenizer(path: Path) -> Any:
    """The tokenizer inside a GGUF file."""
    from transformers import AutoTokenizer

    built = build_tokenizer(path)
    return AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name) if built is None else built


def gguf_model(path: Path, dtype: Any, placement: Any = None) -> tuple[Any, dict[str, Any]]:
    """The dequantised model inside a GGUF file, as an ordinary unquantised model that can be saved, and its loading
    report."""
    from transformers import AutoModelForCausalLM

    options = {} if placement is None else {"device_map": placement}
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        str(path.parent), gguf_file=path.name, dtype=dtype, output_loading_info=True, **options
    )
    model, info = loaded
    # What transformers leaves behind describes the file, not the float weights now in memory, and makes save_pretrained
    # refuse.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.is_quantized = False
    model.hf_quantizer = None
    return model.eval(), info


def convert_gguf(path: Path, target: Path, name: str) -> str:
    """Write the model (float32) and tokenizer of a GGUF file to ``target`` as an ordinary checkpoint folder.

    Returns the SHA-256 of the safetensors file.
    """
    import torch

    with quiet():
        tokenizer = gguf_tokenizer(path)
        model, info = gguf_model(path, torch.float32)
        check_complete(info, str(path))
        model.config._name_or_path = name
        model.save_pretrained(target, max_shard_size="100GB")
        tokenizer.save_pretrained(target)
    _make_quick(target, tokenizer)
    return sha256_file(target / "model.safetensors")


def _make_quick(folder: Path, tokenizer: Any) -> None:
    """Save the fast tokenizer without indentation and under the generic class, which reads it as it is. The family's
    own class would rebuild the same tokenizer from a vocabulary parsed several times over (seconds, for Gemma's 262,144
    pieces)."""
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
