"""TransformerLens bridges: taking the Hugging Face model back out of one, and putting a copy into one."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from interp.errors import LoadError


def is_bridge(x: Any) -> bool:
    """Whether ``x`` is a TransformerLens bridge (asked by class name, so that TransformerLens need not be imported)."""
    return any(
        cls.__module__.startswith("transformer_lens") and cls.__name__ == "TransformerBridge" for cls in type(x).__mro__
    )


def unwrapped(bridge: Any) -> Any:
    """The Hugging Face model inside a bridge, as it was before: the same parameters (shared, not copied) in plain
    modules.

    A bridge puts its own components in place of the model's modules; here the module tree is rebuilt without them, and
    the bridge is left as it is.

    Raises:
        LoadError: the bridge has rewritten its weights (compatibility mode), so there is no original model to take out.
    """
    if getattr(bridge, "compatibility_mode", False):
        raise LoadError(
            "this TransformerBridge is in compatibility mode: its weights were folded and centred, so it is no "
            "longer the original model; give a bridge without enable_compatibility_mode(), or the Hugging Face model"
        )
    return _plain(bridge.original_model, {})


def _plain(module: nn.Module, seen: dict[int, nn.Module]) -> nn.Module:
    original = module._modules.get("_original_component")
    if original is not None:
        return _plain(original, seen)
    if id(module) in seen:
        return seen[id(module)]
    twin = copy.copy(module)
    seen[id(module)] = twin
    for own in ("_parameters", "_buffers", "_forward_hooks", "_forward_pre_hooks"):
        twin.__dict__[own] = copy.copy(module.__dict__[own])
    twin.__dict__["_modules"] = {
        name: None if child is None else _plain(child, seen) for name, child in module._modules.items()
    }
    if (
        isinstance(twin, nn.Linear) and "bias" in twin._buffers
    ):  # zeros that a bridge gives an unembedding without a bias
        del twin._buffers["bias"]
        twin.register_parameter("bias", None)
    if "_hf_hook" not in twin.__dict__:
        twin.__dict__.pop("forward", None)  # some adapters patch it on the instance (Falcon)
    return twin


def bridged(hf: Any, tokenizer: Any) -> Any:
    """A ``TransformerBridge`` over a deep copy of ``hf``, with a copy of ``tokenizer`` (or None) as its tokenizer.

    The tokenizer is set afterwards, because building with one makes TransformerLens load it again by name, from the hub
    if need be.
    """
    from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module, detect_tokenizer_bos_eos

    from interp.models.quiet import quiet

    twin = copy.deepcopy(hf)
    with quiet():
        bridge = build_bridge_from_module(twin, type(hf).__name__, hf_config=twin.config, dtype=hf.dtype)
    if tokenizer is not None:
        bridge.tokenizer = copy.deepcopy(tokenizer)
        bridge.cfg.tokenizer_prepends_bos, bridge.cfg.tokenizer_appends_eos = detect_tokenizer_bos_eos(bridge.tokenizer)
    return bridge
