"""A model in numbers (`interp.runs.memory_shapes.Shapes`), read from a model with its weights or without them."""

from __future__ import annotations

import contextlib
import json
import struct
from pathlib import Path
from typing import Any

from interp.errors import InterpError
from interp.runs.memory_shapes import Shapes


def shapes_of(model: Any, dtype: Any, device: Any) -> Shapes:
    """The numbers of a `Model`, as it would be in `dtype` on `device`."""
    config, parameters = model.config, list(model.hf.parameters())
    names = {name for name, _ in model.hf.named_parameters()}
    stored, kinds, tensors = stored_weights(model.source.path)
    count = sum(one.numel() for one in parameters)
    named = str(dtype).removeprefix("torch.")
    merged = len(tensors) > len(names) and bool(names - tensors)  # such as experts, which a file holds one by one
    head = model.hf.get_output_embeddings()
    return Shapes(
        layers=model.n_layers,
        heads=model.n_heads,
        kv_heads=int(getattr(config, "num_key_value_heads", None) or model.n_heads),
        d_model=model.d_model,
        d_head=model.d_head,
        d_mlp=inner_width(model),
        vocab=model.vocab_size if head is None else int(head.weight.shape[0]),
        width=dtype.itemsize,
        parameters=count,
        stored=stored,
        copied=bool(stored) and (merged or kinds != {named}),
        window=_window(config),
        device=device.type,
    )


def inner_width(model: Any) -> int:
    """Widest inner width of a block's MLP, for one token; of a mixture, times the experts that a token is sent to."""
    sent = int(getattr(model.config, "num_experts_per_tok", None) or 1)
    widest = model.d_model
    try:
        blocks = [(model.sites.block(layer), model.sites.attention(layer)) for layer in range(model.n_layers)]
    except InterpError:  # a layout that is not known: as if the MLP were four states wide
        return 4 * model.d_model
    for block, attention in blocks:
        not_mlp = {id(one) for one in attention.parameters()}
        for name, weight in block.named_parameters():
            if id(weight) in not_mlp or weight.dim() < 2:
                continue
            routed = weight.dim() == 3 or ".experts." in f".{name}"
            widest = max(widest, max(weight.shape[-2:]) * (sent if routed else 1))
    return widest


def _window(config: Any) -> int | None:
    """Tokens of the sliding window that some layer has."""
    window, kinds = getattr(config, "sliding_window", None), getattr(config, "layer_types", None)
    if not isinstance(window, int) or getattr(config, "use_sliding_window", True) is False:
        return None
    return None if kinds is not None and not any("sliding" in str(kind) for kind in kinds) else window


def stored_weights(path: str | None) -> tuple[int, set[str], set[str]]:
    """(bytes, dtypes as torch names them, tensor names) of the weight files of a model folder, from their headers.

    Nothing of an object. Of a ``.gguf`` file or a pickle: their size, and a dtype that no model has in memory.
    """
    if path is None or not Path(path).exists():
        return 0, set(), set()
    if Path(path).is_file():
        return Path(path).stat().st_size, {"file"}, set()
    from interp.models.checkpoint import weight_files

    size, kinds, names = 0, set[str](), set[str]()
    with contextlib.suppress(InterpError, OSError, ValueError, KeyError, TypeError, AttributeError, struct.error):
        files, pickled = weight_files(Path(path))
        size = sum(file.stat().st_size for file in files)
        kinds |= {"pickle"} if pickled else set()
        for file in () if pickled else files:
            with file.open("rb") as handle:
                header = json.loads(handle.read(struct.unpack("<Q", handle.read(8))[0]))
            for name, entry in header.items():
                if name != "__metadata__":
                    names.add(name)
                    kinds.add(_DTYPES.get(entry["dtype"], str(entry["dtype"])))
    return size, kinds, names


_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
