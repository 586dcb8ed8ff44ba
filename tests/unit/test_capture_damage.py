"""What goes wrong with an activation store, and what is left then: damage, full disks, numbers that do not fit."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import interp
from interp.activations.index import KIND, StoreError, read_index
from interp.activations.run import capture
from interp.activations.store import Store, open_store
from interp.errors import NumbersError, UsageError
from interp.runs.lock import locked
from interp.runs.store import RunFolderError
from tests.tiny import tiny, tiny_tokenizer

TEXTS = {f"text-{i}": f"the cat {i} sat on the mat and the dog {'ran ' * i}to it." for i in range(6)}


@pytest.fixture(scope="module")
def model() -> interp.Model:
    return interp.load(tiny("llama"), tokenizer=tiny_tokenizer())


def into(model: Any, out: Path, sites: Any = None, texts: Any = TEXTS, **more: Any) -> Store:
    return capture(model, out, sites, texts=texts, progress=False, **more)


def test_numbers_that_cannot_be_kept_stop_it_and_cost_nothing_before(tmp_path: Path) -> None:
    hf = tiny("llama")
    with torch.no_grad():
        hf.get_input_embeddings().weight[tiny_tokenizer().convert_tokens_to_ids("blue")] *= 1e6
    model = interp.load(hf, tokenizer=tiny_tokenizer())
    texts = {"good": "the cat sat", "huge": "a blue cat", "never": "the dog"}
    with pytest.raises(NumbersError, match=r"'huge': blocks.0.hook_resid_post holds .* which float16 cannot"):
        into(model, tmp_path / "s", texts=texts, dtype_store="float16")
    assert list(open_store(tmp_path / "s").prompts["name"]) == ["good"]
    with torch.no_grad():
        hf.get_input_embeddings().weight[tiny_tokenizer().convert_tokens_to_ids("red")] = float("nan")
    broken = interp.load(hf, tokenizer=tiny_tokenizer(), check=False)
    with pytest.raises(NumbersError, match="not finite"):
        into(broken, tmp_path / "n", texts={"nan": "a red cat"})


def test_damage_is_found_and_repaired(model: interp.Model, tmp_path: Path) -> None:
    out = tmp_path / "s"
    whole = into(model, out, shard_size="20KB")
    expected = {name: np.array(whole[whole.sites[0]].prompt(name)) for name in TEXTS}
    files = [out / "shards" / f"{shard.name}.safetensors" for shard in whole.index.shards]
    data = bytearray(files[1].read_bytes())
    data[-3] ^= 1  # one bit of one number
    files[1].write_bytes(data)
    assert [one.shard for one in open_store(out).verify()] == [whole.index.shards[1].name]
    files[2].write_bytes(files[2].read_bytes()[:-8])
    for attempt in (lambda: open_store(out), lambda: into(model, out)):
        with pytest.raises(StoreError, match=r"00002.safetensors is damaged: it has \d+ bytes.*--repair"):
            attempt()
    repaired = into(model, out, repair=True)
    assert repaired.verify() == [] and len(repaired) == len(TEXTS)
    for name, values in expected.items():
        np.testing.assert_array_equal(repaired[repaired.sites[0]].prompt(name), values)
    (out / "shards" / f"{repaired.index.shards[0].name}.json").write_text("{}")
    with pytest.raises(StoreError, match="does not match its digest"):
        _ = open_store(out).prompts
    assert len(into(model, out, repair=True)) == len(TEXTS)


def test_a_shard_with_other_tensors_is_refused(model: interp.Model, tmp_path: Path) -> None:
    store = into(model, tmp_path / "s", sites="blocks.0.hook_resid_post")
    file = tmp_path / "s/shards/00000.safetensors"
    size = file.stat().st_size
    turned = {"blocks.0.hook_resid_post": torch.zeros(32, store.index.rows)}  # as many bytes, another shape
    save_file(turned, file, {"kind": KIND})
    assert file.stat().st_size == size
    with pytest.raises(StoreError, match="damaged: it holds"):
        open_store(tmp_path / "s")
    file.write_bytes(b"\xff" * size)
    with pytest.raises(StoreError, match="a header of"):
        open_store(tmp_path / "s")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"kind": "other"}, "no index of an activation store"),
        ({"schema": 99}, "schema 99"),
        ({"shards": [{"name": "../../etc"}]}, "damaged"),
        ({"sites": [{"site": "x", "shape": [0], "dtype": "float32"}]}, "damaged"),
        ({"sites": [{"site": "x", "shape": [3], "dtype": "int8"}]}, "damaged"),
        ({"identity": None}, "damaged"),
    ],
)
def test_an_index_that_is_none_is_refused(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    good = {
        "kind": "interp activation store",
        "schema": 1,
        "identity": {},
        "positions": "all",
        "model": {},
        "calls": [],
    }
    good |= {"sites": [{"site": "x", "shape": [3], "dtype": "float32"}], "shards": []}
    (tmp_path / "index.json").write_text(json.dumps(good))
    assert len(open_store(tmp_path)) == 0
    (tmp_path / "index.json").write_text(json.dumps({**good, **changed}))
    with pytest.raises(StoreError, match=message):
        open_store(tmp_path)


def test_one_process_a_store_and_no_strangers(model: interp.Model, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    with locked(tmp_path / "s"), pytest.raises(RunFolderError, match="another"):
        into(model, tmp_path / "s")
    (tmp_path / "s/notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="no activation store"):
        into(model, tmp_path / "s")
    with pytest.raises(interp.SiteError, match="no site"):
        into(model, tmp_path / "t", "blocks.0.hook_nothing")
    assert not (tmp_path / "t").exists()
    with pytest.raises(StoreError, match="no activation store"):
        open_store(tmp_path / "t")


def test_shards_that_are_not_its_own_are_left_alone(model: interp.Model, tmp_path: Path) -> None:
    """A folder of shards without an index may be another tool's, or hold all of a store that lost it."""
    (tmp_path / "shards").mkdir()
    theirs = tmp_path / "shards" / "00000.safetensors"
    save_file({"x": torch.ones(2)}, theirs)
    with pytest.raises(UsageError, match="holds other files"):
        capture(model, tmp_path, texts={"a": "the cat sat"}, progress=False)
    assert theirs.is_file()
    mine = tmp_path / "mine"
    capture(model, mine, texts={"a": "the cat sat", "b": "a dog ran to it"}, shard_size="1KB", progress=False)
    assert len(list((mine / "shards").iterdir())) > 2
    (mine / "index.json").unlink()
    with pytest.raises(UsageError, match="holds other files"):
        capture(model, mine, texts={"a": "the cat sat"}, progress=False)


def test_a_full_disk_is_told_before(model: interp.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interp.activations.sizes.free_bytes", lambda folder: 1000)
    with pytest.raises(StoreError, match=r"would grow by about .* are free"):
        into(model, tmp_path / "s")


def test_a_refusing_disk_keeps_what_was_committed(
    model: interp.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = os.replace, []

    def refuse(source: Any, target: Any) -> None:
        calls.append(target)
        if len(calls) > 4:  # shard, records and index of the first commit, and the second one's shard
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(interp.InterpError, match="No space left"):
        into(model, tmp_path / "s", shard_size="10KB")
    monkeypatch.undo()
    index = read_index(tmp_path / "s")
    assert index is not None and len(index.shards) == 1
    assert len(into(model, tmp_path / "s", shard_size="10KB")) == len(TEXTS)
    assert not [path for path in (tmp_path / "s").rglob("*") if path.name.endswith(".partial")]
