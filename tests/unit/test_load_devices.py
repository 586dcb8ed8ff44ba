"""Where a model is put and in which precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from interp.errors import InterpError, UsageError
from interp.models.load import load
from tests.tiny import tiny

IDS = torch.tensor([[1, 5, 9, 7]])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "whole"
    tiny("llama").save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "tpu9"}, "not one of auto, cpu, cuda"),
        ({"device": "meta"}, "not supported"),
        ({"device": "cuda:99"}, "this machine has"),
        ({"device": "mps"}, "no Apple GPU"),
        ({"dtype": "float8"}, "dtype 'float8' is not one of float32"),
        ({"device_map": "everywhere"}, "device_map must be"),
    ],
)
def test_device_and_dtype_errors(
    whole: Path, options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    with pytest.raises(InterpError, match=message):
        load(whole, check=False, **options)


def test_device_and_device_map_exclude_each_other(whole: Path) -> None:
    with pytest.raises(UsageError, match=r"not both"):
        load(whole, device="cpu", device_map="auto", check=False)


@pytest.mark.parametrize(
    ("asked", "got"),
    [
        (None, torch.float32),
        ("auto", torch.bfloat16),
        ("bfloat16", torch.bfloat16),
        ("float16", torch.float16),
        (torch.float32, torch.float32),
    ],
)
def test_dtype(tmp_path: Path, asked: Any, got: torch.dtype) -> None:
    """On the CPU the default is float32 whatever is stored; `auto` is what is stored."""
    tiny("llama").to(torch.bfloat16).save_pretrained(tmp_path)
    assert load(tmp_path, device="cpu", dtype=asked, check=False).dtype == got


def test_several_devices(whole: Path) -> None:
    """Blocks on different devices (here: in memory and on disk) give the same numbers, and the same hash."""
    plain = load(whole, device="cpu", check=False)
    split = {"model.embed_tokens": "cpu", "model.rotary_emb": "cpu", "model.layers.0": "cpu", "model.layers.1": "disk"}
    split |= {"model.layers.2": "cpu", "model.norm": "cpu", "lm_head": "disk"}
    model = load(whole, device_map=split, check=False)
    assert model.hf.hf_device_map == split
    assert model.device == torch.device("cpu")
    assert torch.equal(model.hf(IDS).logits, plain.hf(IDS).logits)
    assert load(whole, device_map="auto", check=False).source.weight_hash == plain.source.weight_hash
    assert load(model.hf, check=False).source.weight_hash == load(plain.hf, check=False).source.weight_hash
