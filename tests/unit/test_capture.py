"""The activation store: what is written is what a trace reads, shard by shard, and stays so."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import interp
from interp.activations.run import capture
from interp.activations.store import Store, open_store
from interp.activations.writer import Writer
from interp.errors import UsageError
from probes.base import Prompt
from tests.tiny import tiny, tiny_tokenizer

ROOT = Path(__file__).resolve().parents[2]
SITES = ("blocks.*.hook_resid_post", "blocks.1.attn.hook_z")
TEXTS = {f"text-{i}": f"the cat {i} sat on the mat and the dog {'ran ' * i}to it." for i in range(6)}


@pytest.fixture(scope="module")
def model() -> interp.Model:
    return interp.load(tiny("llama"), tokenizer=tiny_tokenizer())


@pytest.fixture(scope="module")
def store(model: interp.Model, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return into(model, tmp_path_factory.mktemp("store") / "a", shard_size="20KB")


def into(model: Any, out: Path, sites: Any = SITES, texts: Any = TEXTS, **more: Any) -> Store:
    return capture(model, out, sites, texts=texts, progress=False, **more)


def direct(model: interp.Model, ids: tuple[int, ...], site: str) -> torch.Tensor:
    with interp.trace(model, read=[site]) as t:
        t.run(list(ids))
    return t[site][0]


def test_it_holds_what_a_trace_reads_bit_for_bit(model: interp.Model, store: Store) -> None:
    assert len(store.index.shards) > 2
    assert store.sites == model.sites.expand(SITES)
    assert model.name == store.index.model_name == store.as_dict()["model"] and model.name in repr(store)
    for number, (name, text) in enumerate(TEXTS.items()):
        prompt = store.prompt(number)
        assert (prompt.name, prompt.ids) == (name, model.encode(text).ids)
        for site in store.sites:
            expected = direct(model, prompt.ids, site).numpy()
            np.testing.assert_array_equal(np.asarray(store[site].prompt(name)), expected)
            assert store[site].prompt(name).dtype == np.float32


def test_its_files_are_plain_safetensors(store: Store) -> None:
    first = store.index.shards[0]
    loaded = load_file(store.path / "shards" / f"{first.name}.safetensors")
    assert set(loaded) == set(store.sites)
    site = store.sites[0]
    np.testing.assert_array_equal(loaded[site].numpy(), store[site][: first.rows])
    table = store.prompts
    assert list(table["start"]) == [0, *table["stop"][:-1]] and table["stop"].iloc[-1] == store.index.rows
    assert list(table["tokens"]) == [len(store.prompt(i)) for i in range(len(store))]


def test_rows_by_number_slice_list_and_mask(store: Store) -> None:
    view = store["blocks.1.attn.hook_z"]
    whole = np.concatenate([view.prompt(i) for i in range(len(store))])
    assert view.shape == whole.shape and len(view) == len(whole) and whole.shape[1:] == (4, 8)
    np.testing.assert_array_equal(np.asarray(view), whole)
    order = [-1, 3, 60, 3]
    for rows in (slice(None), slice(5, 70), slice(70, 5), slice(60, 2, -7), order, np.arange(len(whole)) % 9 == 0):
        np.testing.assert_array_equal(view[rows], whole[rows])
    assert view[[]].shape == (0, 4, 8)
    np.testing.assert_array_equal(view[-2], whole[-2])
    for beyond in (len(whole), [0, -len(whole) - 1]):
        with pytest.raises(IndexError, match="row"):
            view[beyond]
    with pytest.raises(UsageError, match="rows alone"):
        view[0, 1]


def test_batches_go_through_all_rows_once(store: Store) -> None:
    site = store.sites[1]
    for seed in (None, 3):
        batches = list(store.batches(site, 16, seed=seed))
        assert [len(batch.prompts) for batch in batches[:-1]] == [16] * (len(batches) - 1)
        seen = {(int(p), int(at)) for batch in batches for p, at in zip(batch.prompts, batch.positions, strict=True)}
        assert len(seen) == store.index.rows == sum(len(batch.values) for batch in batches)
        for batch in batches:
            for value, p, at, token in zip(batch.values, batch.prompts, batch.positions, batch.token_ids, strict=True):
                np.testing.assert_array_equal(value, store[site].prompt(int(p))[at])
                assert store.prompt(int(p)).ids[at] == token
    assert [batch.prompts.tolist() for batch in store.batches(site, 16, seed=3)] != [
        batch.prompts.tolist() for batch in store.batches(site, 16)
    ]
    with pytest.raises(UsageError, match="at least 1"):
        store.batches(site, 0)


def test_views_lie_in_the_file_and_cannot_change_it(store: Store) -> None:
    part = store[store.sites[0]].prompt(1)
    assert isinstance(part, np.memmap) and not part.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        part[0] = 0
    assert store.verify() == []


def test_reading_one_prompt_does_not_read_the_shard(tmp_path: Path) -> None:
    """32 MB in one shard: what one prompt costs in memory is its own pages."""
    writer = Writer(tmp_path, replace(EMPTY), {"dtype_store": "as-is"}, 256 * 10**6)
    writer.sweep()
    for number in range(4):
        prompt = Prompt(f"p{number}", "", (number, *range(2047)), ("x",) * 2048)
        writer.add(prompt, {"site": torch.full((2048, 1024), float(number + 1))})
    writer.commit()
    code = (
        "import sys, psutil, numpy as np\nfrom interp.activations.store import open_store\n"
        f"store = open_store({str(tmp_path)!r})\nview = store['site']\nstore.entries\n"
        "before = psutil.Process().memory_info().rss\n"
        "part = view.prompt(2)[100:110]\nassert (part == 3).all(), part\n"
        "print((psutil.Process().memory_info().rss - before) / 1e6)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 6


EMPTY = interp.activations.index.Index({"weights": "w", "dtype": "torch.float32", "device": "cpu"}, "all", ())


def test_a_prompt_larger_than_a_shard_gets_one_of_its_own(model: interp.Model, tmp_path: Path) -> None:
    texts = {"short": "the cat sat", "long": "the dog " * 40, "last": "it was red"}
    store = into(model, tmp_path / "s", texts=texts, shard_size=len("the cat") * 1000)
    assert [shard.prompts for shard in store.index.shards] == [1, 1, 1]
    for name in texts:
        expected = direct(model, store.prompt(name).ids, store.sites[2]).numpy()
        np.testing.assert_array_equal(store[store.sites[2]].prompt(name), expected)
    # sites that are one tensor: a block's output and the next one's input
    both = into(model, tmp_path / "b", ("blocks.0.hook_resid_post", "blocks.1.hook_resid_pre"), texts, shard_size=1)
    for name in texts:
        np.testing.assert_array_equal(*(both[site].prompt(name) for site in both.sites))


@pytest.mark.parametrize(("dtype_store", "bits"), [("as-is", torch.bfloat16), ("float16", torch.float16)])
def test_bfloat16_comes_back_as_it_was(tmp_path: Path, dtype_store: str, bits: torch.dtype) -> None:
    model = interp.load(tiny("llama").to(torch.bfloat16), tokenizer=tiny_tokenizer())
    store = into(model, tmp_path / "s", dtype_store=dtype_store, shard_size="10KB")
    view = store[store.sites[0]]
    assert view.dtype == str(bits).removeprefix("torch.")
    expected = torch.cat([direct(model, store.prompt(i).ids, view.site) for i in range(len(store))])
    assert expected.dtype == torch.bfloat16
    for got in (view[:], view[list(range(len(view)))]):
        tensor = got if isinstance(got, torch.Tensor) else torch.from_numpy(np.array(got))
        assert tensor.dtype == bits and torch.equal(tensor, expected.to(bits))
    assert np.asarray(view).dtype == (np.float32 if dtype_store == "as-is" else np.float16)
    if bits is torch.bfloat16:
        view = store["blocks.0.hook_resid_post"]
        first = view.prompt(0)
        assert isinstance(first, torch.Tensor)
        before = first.clone()
        first += 1  # a reader's own copy
        assert torch.equal(view.prompt(0), before)


def test_last_positions_only(model: interp.Model, tmp_path: Path) -> None:
    store = into(model, tmp_path / "s", positions="last", dtype_store="float32")
    assert len(store[store.sites[0]]) == len(TEXTS)
    for number in range(len(store)):
        ids = store.prompt(number).ids
        np.testing.assert_array_equal(
            store[store.sites[0]].prompt(number)[0], direct(model, ids, store.sites[0])[-1].numpy()
        )
        assert store.positions(number).tolist() == [len(ids) - 1]
    batch = next(store.batches(store.sites[0]))
    assert batch.token_ids.tolist() == [store.prompt(i).ids[-1] for i in range(len(store))]


def test_adding_prompts_captures_only_new_ones(model: interp.Model, tmp_path: Path) -> None:
    few = dict(list(TEXTS.items())[:2])
    first = into(model, tmp_path / "s", texts=few)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "s/shards").iterdir()}
    more = {**TEXTS, "again": TEXTS["text-0"], "text-1": "something else was red"}
    second = capture(model, tmp_path / "s", texts=more, progress=False)
    assert len(second) == 7  # 'again' is text-0, and text-1 is another text under a name that is taken
    assert second.prompts["name"].is_unique and "text-1 (2)" in set(second.prompts["name"])
    now = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "s/shards").iterdir()}
    assert {name: now[name] for name in before} == before
    for site in first.sites:
        np.testing.assert_array_equal(second[site][: len(first[site])], np.asarray(first[site]))
    assert [call["first_shard"] for call in second.index.calls] == ["00000", "00001"]
    third = capture(model, tmp_path / "s", texts=more, progress=False)
    assert third.index == second.index


def test_what_does_not_go_with_the_store_is_named(model: interp.Model, tmp_path: Path) -> None:
    out = tmp_path / "s"
    into(model, out, positions="last")
    other = interp.load(tiny("llama", seed=1), tokenizer=tiny_tokenizer())
    half = interp.load(tiny("llama").to(torch.bfloat16), tokenizer=tiny_tokenizer())
    for message, wrong in {
        "other weights": {"model": other},
        "other dtype: torch.float32 there, torch.bfloat16 here": {"model": half},
        "last positions of its prompts, asked for were all": {"positions": "all"},
        "--dtype-store as-is, asked for was float16": {"dtype_store": "float16"},
        r"1 sites more \(blocks.0.hook_resid_pre\)": {"sites": [*SITES, "blocks.0.hook_resid_pre"]},
        r"1 sites fewer \(blocks.1.attn.hook_z\)": {"sites": SITES[0]},
    }.items():
        request: dict[str, Any] = {"model": model, "texts": {"new": "a red cat"}, **wrong}
        with pytest.raises(UsageError, match=message):
            capture(request.pop("model"), out, request.pop("sites", None), progress=False, **request)
    assert len(open_store(out)) == len(TEXTS)


def test_labels_travel_and_must_not_contradict(model: interp.Model, tmp_path: Path) -> None:
    lines = [{"text": f"the {word} cat", "label": word} for word in ("red", "blue")]
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    store = capture(model, tmp_path / "s", prompts=file, progress=False)
    assert list(store.prompts["label"]) == ["red", "blue"]
    file.write_text(json.dumps({**lines[0], "label": "blue"}) + "\n", encoding="utf-8")
    with pytest.raises(UsageError, match="which has label 'red', not 'blue'"):
        capture(model, tmp_path / "s", prompts=file, progress=False)


def test_a_slow_capture_is_committed_by_the_clock(tmp_path: Path) -> None:
    now = [0.0]
    writer = Writer(tmp_path, EMPTY, {"dtype_store": "as-is"}, 10**6, clock=lambda: now[0])
    writer.sweep()
    for number in range(4):
        writer.add(Prompt(f"p{number}", "", (number,), ("x",)), {"site": torch.zeros(1, 4)})
        now[0] += 35.0
    assert [shard.prompts for shard in writer.index.shards] == [3]
