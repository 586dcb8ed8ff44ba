"""Small models that every contract is tried on."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
import torch

import interp
from tests.tiny import tiny, tiny_tokenizer


def fingerprint(hf: torch.nn.Module) -> str:
    """Hash of all parameters, buffers, hooks and modes: what must be the same after a trace."""
    state = hashlib.sha256()
    for name, tensor in [*hf.named_parameters(), *hf.named_buffers()]:
        state.update(f"{name}{tensor.dtype}{tensor.requires_grad}{tensor.grad is None}".encode())
        state.update(tensor.detach().numpy().tobytes())
    for name, module in hf.named_modules():
        hooks = [len(getattr(module, kind)) for kind in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")]
        state.update(f"{name}{hooks}{module.training}{'forward' in vars(module)}".encode())
    config: Any = hf.config
    state.update(str(config._attn_implementation).encode())
    return state.hexdigest()


@pytest.fixture(scope="session", params=["llama", "gpt2"])
def model(request: pytest.FixtureRequest) -> interp.Model:
    """One model with rotary and one with learned positions, with a tokenizer."""
    return interp.load(tiny(request.param), tokenizer=tiny_tokenizer(128))
