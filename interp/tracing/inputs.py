"""What a trace is given: a model, in one of its forms, and token ids."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from interp.errors import UsageError


def unwrap(model: Any) -> tuple[nn.Module, Any]:
    """The HF module and the site map of a `Model` or a bare HF model."""
    if isinstance(model, nn.Module):
        from interp.models.self_check import refuse_unsupported
        from interp.models.sites import SiteMap

        refuse_unsupported(model)
        return model, SiteMap(model)
    if hasattr(model, "hf") and hasattr(model, "sites"):
        return model.hf, model.sites
    raise UsageError(f"trace() takes a loaded Model or a Hugging Face model, got {type(model).__name__}")


def as_ids(input_ids: Any, device: torch.device) -> Tensor:
    """Token ids as [batch, position] int64.

    Raises:
        UsageError: anything that is not one sequence of ids or a rectangle of them.
    """
    try:
        ids = torch.as_tensor(input_ids)
    except (TypeError, ValueError) as error:
        raise UsageError(f"token ids must be a list of ints or equally long lists of them: {error}") from error
    if ids.dim() == 1:
        ids = ids[None]
    if ids.dim() != 2 or ids.shape[1] == 0 or ids.is_floating_point():
        raise UsageError(
            f"token ids of shape {tuple(ids.shape)} and type {ids.dtype}; expected ints [position] or [batch, position]"
        )
    return ids.long().to(device)


def entry_modules(hf: nn.Module, block: nn.Module) -> list[nn.Module]:
    """The modules around the blocks that take token ids: the causal LM, its base model, its decoder."""
    name = next(name for name, module in hf.named_modules() if module is block)
    parts = name.split(".") if name else []
    around = [hf.get_submodule(".".join(parts[:depth])) for depth in range(len(parts) + 1)]
    return [module for module in around if "input_ids" in inspect.signature(module.forward).parameters]
