"""The shape checks themselves: active, and strict about axes and dtypes."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import jaxtyping
import pytest
import torch

from tests import shapes

SHAPED = """
from __future__ import annotations
from typing import TYPE_CHECKING
from jaxtyping import Float
from torch import Tensor
if TYPE_CHECKING:
    from somewhere import Unknown

def outer(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"], note: Unknown = None) -> Float[Tensor, "n m"]:
    return (a @ b.T)[:, : note]
"""


@pytest.fixture
def outer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "shaped_example.py").write_text(SHAPED)
    monkeypatch.syspath_prepend(tmp_path)
    with jaxtyping.install_import_hook("shaped_example", "tests.shapes.checked"):
        yield importlib.import_module("shaped_example").outer
    del sys.modules["shaped_example"]


def test_right_shapes_pass(outer) -> None:
    assert outer(torch.ones(2, 3), torch.ones(4, 3)).shape == (2, 4)


@pytest.mark.parametrize(
    "arguments",
    [
        (torch.ones(2, 3), torch.ones(4, 5)),
        (torch.ones(2, 3), torch.ones(3)),
        (torch.ones(2, 3), torch.ones(4, 3, dtype=torch.int64)),
    ],
    ids=["axis size", "rank", "dtype"],
)
def test_wrong_arguments_fail(outer, arguments) -> None:
    with pytest.raises(jaxtyping.TypeCheckError):
        outer(*arguments)


def test_wrong_result_fails(outer) -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match="return value"):
        outer(torch.ones(2, 3), torch.ones(4, 3), 1)


def test_modules_that_state_shapes_are_hooked() -> None:
    """What is listed for checking was really imported through the hook, wherever it has been imported by now."""
    listed = shapes.shaped_modules()
    for name in listed:
        module = importlib.import_module(name)
        assert type(module.__spec__.loader).__name__ == "_JaxtypingLoader", f"{name} was imported before the hook"
