"""Small models that every contract is tried on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

import interp
from interp.finders.base import Unit
from interp.runs.store import RunFolder, digest, plain
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


@dataclass
class Memory:
    """Keeps what a finder explores (`interp.finders.base.Kept`), in `folder` where one is given; counts.

    Attributes:
        folder: where units go and come from, as in a run.
        most: KeyboardInterrupt instead of one more unit; None = as many as there are.
        phases: what progress was told of.
        keys: of the units asked for, in order of first being asked for.
        made: how many were measured.
    """

    folder: RunFolder | None = None
    most: int | None = None
    phases: list[tuple[str, int]] = field(default_factory=list)
    keys: dict[str, Unit | None] = field(default_factory=dict)
    made: int = 0

    def __post_init__(self) -> None:
        if self.folder is not None:
            self.folder.prepare()

    def phase(self, label: str, pieces: int) -> None:
        self.phases.append((label, pieces))

    def unit(self, name: str, make: Callable[[], Unit], of: Any = None) -> Unit:
        key = digest({"piece": name, "of": plain(of)})
        if key not in self.keys:
            if self.most is not None and self.made >= self.most:
                raise KeyboardInterrupt
            self.made += 1
            unit = make()
            self.keys[key] = unit if self.folder is None else self.folder.put(key, unit)
        found = self.keys[key]
        assert found is not None
        return found


@pytest.fixture(scope="session", params=["llama", "gpt2"])
def model(request: pytest.FixtureRequest) -> interp.Model:
    """One model with rotary and one with learned positions, with a tokenizer."""
    return interp.load(tiny(request.param), tokenizer=tiny_tokenizer(128))
