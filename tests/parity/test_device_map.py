"""One model over several devices (accelerate): traces, edits and statistics give what they give on one.

On this kind of machine the second device is memory or a disk that weights are fetched from when a module runs, and its
parameters are on ``meta`` in between; with two GPUs the same tests run on both for real.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import cpu_offload, disk_offload, dispatch_model

import interp
from interp.circuits.dla import direct_logit_attribution
from interp.circuits.edge_parts import EdgeParts
from interp.heads.copying import reading
from interp.interventions.ablate import ZeroHeads
from interp.interventions.attention import CutKeys
from interp.interventions.dims import SetDims
from interp.tracing.statistics import Entropy, Received, TopKey
from tests.circuit_pairs import random_sides
from tests.contracts.conftest import fingerprint
from tests.tiny import tiny, tiny_tokenizer

IDS = torch.tensor([[1, 5, 9, 7, 30, 40, 5, 9], [1, 8, 8, 60, 70, 80, 90, 100]])
READ = (
    "hook_embed",
    "blocks.*.hook_resid_post",
    "blocks.*.attn.hook_z",
    "blocks.*.attn.hook_rot_q",
    "unembed.hook_out",
)
EDITS: dict[str, Callable[[], list[Any]]] = {
    "none": list,
    "site": lambda: [ZeroHeads([(0, 1), (2, 3)]), SetDims([("blocks.1.hook_resid_post", 3, 7, 2.0)])],
    "row": lambda: [CutKeys([0])],
}
"""Site edits in blocks on both sides of the split, and an edit of every layer's attention rows."""


def whole(hf: Any, folder: Path) -> Any:
    return hf


def in_memory(hf: Any, folder: Path) -> Any:
    """The last two blocks and the head wait in memory, on meta in between."""
    for part in (hf.model.layers[1], hf.model.layers[2], hf.lm_head):
        cpu_offload(part, execution_device=torch.device("cpu"))
    return hf


def all_offloaded(hf: Any, folder: Path) -> Any:
    """Every weight, the embedding's too."""
    return cpu_offload(hf, execution_device=torch.device("cpu"))


def on_disk(hf: Any, folder: Path) -> Any:
    disk_offload(hf, str(folder / "offload"), execution_device=torch.device("cpu"))
    return hf


def dispatched(hf: Any, folder: Path) -> Any:
    split = {"model.embed_tokens": "cpu", "model.rotary_emb": "cpu", "model.layers.0": "cpu", "model.layers.1": "disk"}
    split |= {"model.layers.2": "cpu", "model.norm": "cpu", "lm_head": "disk"}
    return dispatch_model(hf, split, main_device="cpu", offload_dir=str(folder / "split"))


SPLITS = {one.__name__: one for one in (in_memory, all_offloaded, on_disk, dispatched)}


def looked_at(hf: Any, edit: Callable[[], list[Any]]) -> dict[str, torch.Tensor]:
    """Logits, sites and statistics of one traced pass."""
    stats = [Received(), Entropy(), TopKey()]
    with interp.trace(hf, read=READ, stats=stats, edit=edit()) as t:
        logits = t.run(IDS).logits
    found = {"logits": logits, **{site: t[site] for site in t.read}}
    return found | {stat.name: t.stats[stat.name] for stat in stats}


def same(got: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], **tolerance: float) -> None:
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        found = got[name]
        if isinstance(value, torch.Tensor):
            assert found.device.type != "meta", name
            torch.testing.assert_close(found.cpu(), value.cpu(), **(tolerance or {"atol": 0, "rtol": 0}), msg=name)
        else:
            assert str(found) == str(value), name


@pytest.fixture(scope="module")
def expected() -> dict[str, dict[str, torch.Tensor]]:
    return {name: looked_at(tiny("llama"), edit) for name, edit in EDITS.items()}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("split", SPLITS)
def test_a_split_model_gives_the_same_numbers(
    split: str, edit: str, expected: dict[str, dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    hf = SPLITS[split](tiny("llama"), tmp_path)
    assert any(parameter.device.type == "meta" for parameter in hf.parameters())
    same(looked_at(hf, EDITS[edit]), expected[edit])
    assert not torch.equal(expected["site"]["logits"], expected["none"]["logits"])
    assert not torch.equal(expected["row"]["logits"], expected["none"]["logits"])


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_model_is_left_as_it_was(split: str, tmp_path: Path) -> None:
    hf = SPLITS[split](tiny("llama"), tmp_path)
    plain = hf(IDS).logits
    before = state(hf)
    for edit in EDITS.values():
        looked_at(hf, edit)
    assert state(hf) == before
    assert torch.equal(hf(IDS).logits, plain)


def state(hf: Any) -> list[tuple[Any, ...]]:
    """What must be the same after a trace; the values of offloaded weights are elsewhere."""
    modules: list[tuple[Any, ...]] = [
        (name, type(one).__name__, one.training, "forward" in vars(one), hasattr(one, "_hf_hook"))
        for name, one in hf.named_modules()
    ]
    modules += [(len(one._forward_hooks), len(one._forward_pre_hooks)) for one in hf.modules()]
    parameters = [(name, str(one.device), str(one.dtype), one.requires_grad) for name, one in hf.named_parameters()]
    return [*modules, *parameters, (hf.config._attn_implementation,)]


@pytest.mark.parametrize("split", SPLITS)
def test_the_output_weights_are_fetched(split: str, tmp_path: Path) -> None:
    plain = interp.load(tiny("llama"), check=False).sites
    hf = SPLITS[split](tiny("llama"), tmp_path)
    sites = interp.load(hf, check=False).sites
    for layer in range(sites.n_layers):
        assert torch.equal(sites.output_weight(layer)[0], plain.output_weight(layer)[0])


@pytest.mark.parametrize("split", SPLITS)
def test_weights_that_finders_multiply_with_are_fetched(split: str, tmp_path: Path) -> None:
    plain, other = (
        interp.load(tiny("llama"), check=False),
        interp.load(SPLITS[split](tiny("llama"), tmp_path), check=False),
    )
    assert torch.equal(reading(other.sites, 1, [3, 5]), reading(plain.sites, 1, [3, 5]))
    same(
        vars(direct_logit_attribution(other, random_sides(other))),
        vars(direct_logit_attribution(plain, random_sides(plain))),
    )
    for layer in range(plain.n_layers):
        for side in ("q", "k", "v"):
            assert torch.equal(EdgeParts(other).weight(layer, side)[0], EdgeParts(plain).weight(layer, side)[0])


@pytest.mark.parametrize("device_map", ["auto", {"": "cpu"}])
def test_loaded_with_a_device_map(device_map: Any, tmp_path: Path, expected: dict[str, dict[str, Any]]) -> None:
    tiny("llama").save_pretrained(tmp_path)
    model = interp.load(tmp_path, device_map=device_map, dtype="float32")
    before = fingerprint(model.hf) if model.hf.device.type == "cpu" else None
    exact = {} if model.hf.device.type == "cpu" else {"atol": 1e-4, "rtol": 1e-3}
    same(looked_at(model, EDITS["site"]), expected["site"], **exact)
    assert before is None or fingerprint(model.hf) == before


def test_a_scan_runs_over_the_split(tmp_path: Path) -> None:
    """Load, self-check, units and causal check: the whole way, and the same table as on one device."""
    hf = tiny("llama")
    hf.save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    split = {"model.embed_tokens": "disk", "model.rotary_emb": "cpu", "model.layers.0": "cpu", "model.layers.1": "disk"}
    split |= {"model.layers.2": "cpu", "model.norm": "cpu", "lm_head": "disk"}
    options = {"find": "sinks", "texts": ["the cat sat on the mat and the dog ran to it"], "progress": False}
    loose = {"floor": 0.0, "multiple": 1.0, "norm": 0.0, "cosine": 0.2}
    one = interp.scan(tmp_path / "model", device="cpu", out=tmp_path / "one", config=loose, **options)
    two = interp.scan(tmp_path / "model", device_map=split, out=tmp_path / "two", config=loose, **options)
    assert len(one.table) > 0
    assert one.table.equals(two.table)


@pytest.mark.cuda
@pytest.mark.parametrize("edit", EDITS)
def test_over_two_gpus(edit: str, expected: dict[str, dict[str, torch.Tensor]], tmp_path: Path) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("one GPU only")
    tiny("llama").save_pretrained(tmp_path)
    split = {"model.embed_tokens": 0, "model.rotary_emb": 0, "model.layers.0": 0, "model.layers.1": 1}
    split |= {"model.layers.2": 1, "model.norm": 1, "lm_head": 1}
    model = interp.load(tmp_path, device_map=split, dtype="float32")
    assert {str(parameter.device) for parameter in model.hf.parameters()} == {"cuda:0", "cuda:1"}
    same(looked_at(model, EDITS[edit]), expected[edit], atol=1e-4, rtol=1e-3)
