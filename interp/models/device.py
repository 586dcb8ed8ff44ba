"""Where a model goes and in which precision."""

from __future__ import annotations

from typing import Any

import torch

from interp.errors import LoadError, UsageError

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def pick_device(device: str | torch.device) -> torch.device:
    """``auto`` takes CUDA, then MPS, then the CPU; anything else is taken at its word.

    Raises:
        UsageError: not a device.
        LoadError: a device this machine does not have.
    """
    if str(device) == "auto":
        return torch.device(
            "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        )
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise UsageError(f"device {str(device)!r} is not one of auto, cpu, cuda, cuda:0, cuda:1, ..., mps") from None
    if chosen.type == "cuda":
        count = torch.cuda.device_count()
        if (chosen.index or 0) >= count:
            raise LoadError(
                f"device {str(device)!r} is not there: this machine has {count} CUDA device(s); use --device auto"
            )
    elif chosen.type == "mps":
        if not torch.backends.mps.is_available():
            raise LoadError("device 'mps' is not there: no Apple GPU that torch can use; use --device auto")
    elif chosen.type != "cpu":
        raise UsageError(f"device {str(device)!r} is not supported; use auto, cpu, cuda[:i] or mps")
    return chosen


def input_device(hf: Any) -> torch.device:
    """Where a Hugging Face model takes its token ids: with its embedding, or, where accelerate keeps that on ``meta``
    and fetches it when it runs, on the device it runs on."""
    embedding = hf.get_input_embeddings()
    device = embedding.weight.device
    if device.type != "meta" or not _hooks(embedding):  # a model of shapes alone stays on meta
        return device
    places = (getattr(one, "execution_device", None) for one in _hooks(embedding))  # the first that places the module
    return torch.device(next((place for place in places if place is not None), device))


def in_memory(module: Any, name: str) -> torch.Tensor:
    """A module's own parameter or buffer; a copy, fetched first, where accelerate keeps it elsewhere."""
    tensor = getattr(module, name)
    if tensor.device.type != "meta":
        return tensor
    keeps = next((one.weights_map for one in _hooks(module) if getattr(one, "offload", False)), None)
    return tensor if keeps is None else keeps[name].detach().clone()


def _hooks(module: Any) -> list[Any]:
    """Accelerate's hooks of a module, one by one."""
    hook = getattr(module, "_hf_hook", None)
    return [] if hook is None else [hook, *getattr(hook, "hooks", ())]


def placement(device: Any = "auto", dtype: Any = None, device_map: Any = None) -> tuple[Any, Any, torch.device]:
    """(dtype, device_map or None, device the whole model goes to when there is no device_map), checked.

    Raises:
        UsageError: not a device, dtype or device_map, or both device and device_map.
        LoadError: a device this machine does not have.
    """
    chosen = pick_device(device)
    if device_map is not None and device_map != "auto" and not isinstance(device_map, dict):
        raise UsageError(f"device_map must be 'auto' or a dict of module to device, not {device_map!r}")
    if device_map is not None and str(device) != "auto":
        raise UsageError(f"give either device ({device}) or device_map ({device_map}), not both")
    return pick_dtype(dtype, chosen), device_map, chosen


def pick_dtype(dtype: str | torch.dtype | None, device: torch.device) -> Any:
    """A torch dtype, or ``"auto"`` for the checkpoint's own. None: float32 on the CPU, the checkpoint's own
    elsewhere."""
    if dtype is None:
        return torch.float32 if device.type == "cpu" else "auto"
    if dtype == "auto":
        return "auto"
    if dtype in _DTYPES.values():
        return dtype
    try:
        return _DTYPES[str(dtype)]
    except KeyError:
        raise UsageError(f"dtype {str(dtype)!r} is not one of {', '.join(_DTYPES)}, auto") from None
