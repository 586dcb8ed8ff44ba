"""The memory plan: amounts, parts of the peak by hand, the sizes that are chosen, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import interp
from interp.amounts import parse
from interp.cli import run
from interp.errors import UsageError
from interp.finders.base import Effort
from interp.runs.memory_model import inner_width, shapes_of, stored_weights
from interp.runs.memory_plan import LEAST_CHUNK, MARGIN, budgets, choose, refusal, sizes_told, smaller_block
from interp.runs.memory_shapes import Shapes, cache, parts, rows_of
from interp.runs.plan import plan
from interp.tracing.attention import rows_per_block
from interp.tracing.budget import BUDGET, MIN_ROWS, Budget, within
from interp.tracing.engines import CHOSEN
from tests.mass_finder import MassFinder, registered, save_tiny
from tests.tiny import tiny

GPT = Shapes(
    layers=24,
    heads=16,
    kv_heads=4,
    d_model=1024,
    d_head=64,
    d_mlp=4096,
    vocab=50_000,
    width=4,
    parameters=400_000_000,
    stored=1_600_000_000,
    copied=False,
    window=None,
    device="cpu",
)
PROCESS = 600_000_000
TEXT = "the cat sat on the mat and a red dog ran to it."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture
def finder() -> Iterator[MassFinder]:
    with registered() as made:
        yield made


@pytest.mark.parametrize(
    ("given", "count"),
    [
        ("8GB", 8_000_000_000),
        ("0.5GiB", 1 << 29),
        (" 800 mb ", 800_000_000),
        (".5k", 500),
        ("2.T", 2_000_000_000_000),
        ("123456789", 123_456_789),
        (4096, 4096),
        (None, None),
    ],
)
def test_amounts(given: Any, count: int | None) -> None:
    assert parse(given) == count


@pytest.mark.parametrize(
    "given",
    ["", "8 bytes", "GB", "-1GB", "0", 0, -5, "1e9", "nan", "inf", "8GBB", "0.1", True, "٣GB", "9" * 400],
)
def test_what_is_no_amount(given: Any) -> None:
    with pytest.raises(UsageError, match=r"--memory .*: expected an amount such as 8GB"):
        parse(given)


def test_the_parts_by_hand() -> None:
    length, vocab = 2048, 50_000
    effort = Effort(8.0, reads=1.0, maps=0, edits=False)
    found = parts(GPT, effort, [100, length], Budget(), PROCESS)
    assert found.process == PROCESS and found.weights == 4 * 400_000_000 and found.loading == 0
    assert found.logits == length * vocab * 4 + 335 * vocab * 4  # as they come; log-probabilities of so many tokens
    maps = 3 * 4 * 24 * 16 * length
    assert found.states == 24 * length * 1024 * 4 + maps
    assert found.peak == PROCESS + found.weights + found.states + found.layer + found.block + found.logits
    assert parts(GPT, replace(effort, reads=0.0), [length], Budget(), 0).states == maps
    assert parts(GPT, replace(effort, logits=16), [length], Budget(), 0).logits in (0, 16 * vocab * 8)
    assert parts(GPT, replace(effort, caches=3), [length], Budget(), 0).caches == 3 * 2 * 24 * 4 * 64 * length * 4
    half = parts(replace(GPT, width=2, copied=True), effort, [length], Budget(), PROCESS)
    assert half.weights == 800_000_000 and half.loading == 1_600_000_000
    assert half.logits == length * vocab * 2 + 335 * vocab * 8  # in half precision also a piece in float32
    assert half.peak == PROCESS + half.weights + max(half.loading, half.running)
    assert parts(replace(GPT, copied=True), effort, [length], Budget(), 0, loaded=True).loading == 0
    gpu = parts(replace(GPT, device="cuda"), effort, [length], Budget(), PROCESS)
    assert gpu.process == 0 and gpu.peak < found.peak


def test_chunks_save_the_inside_of_a_layer_and_cost_a_cache() -> None:
    effort = Effort(8.0, logits=0, reads=0.0, edits=False)
    whole, chunked = (parts(GPT, effort, [16_384], Budget(chunk=chunk), 0) for chunk in (None, 512))
    assert chunked.layer < whole.layer / 16 and chunked.caches == cache(GPT, 16_384) and whole.caches == 0
    edited = parts(GPT, replace(effort, edits=True), [16_384], Budget(chunk=512), 0)
    assert edited.layer == whole.layer  # what is edited is read in one piece
    kept = replace(effort, reads=2.0)
    whole, chunked = (parts(GPT, kept, [16_384], Budget(chunk=chunk), 0) for chunk in (None, 512))
    assert chunked.states > 1.9 * whole.states  # chunks, and the same laid end to end


def test_states_of_many_prompts_keep_within_the_budget() -> None:
    effort = Effort(8.0, reads=5.0, bounded=True, maps=0, logits=0, edits=False)
    few, many = (parts(GPT, effort, [10] * count, Budget(), 0).states for count in (2, 100_000))
    assert few == 20 * 5 * 24 * 1024 * 4 + 3 * 4 * 24 * 16 * 10
    assert many == 5 * (1 << 28) + 3 * 4 * 24 * 16 * 10


def test_rows_are_those_of_the_tracer() -> None:
    for elements in (1 << 23, 1 << 20, 1 << 12):
        for keys in (10, 700, 40_000):
            with within(Budget(elements)):
                assert rows_of(GPT, Budget(elements), keys) == rows_per_block(1, GPT.heads, keys)


def test_blocks_shrink_to_the_least_rows() -> None:
    budget, rows = Budget(), [rows_of(GPT, Budget(), 1000)]
    while (smaller := smaller_block(budget, GPT.heads, 1000)) is not None:
        assert smaller.block_elements <= budget.block_elements * 0.6 and smaller.states == budget.states // 2
        budget = smaller
        rows.append(rows_of(GPT, budget, 1000))
    assert rows[0] == 128 and rows[-1] == MIN_ROWS and rows == sorted(set(rows), reverse=True)
    assert (
        f"{16 * 16 * 1000:,} scores instead of 8,388,608" in sizes_told(budget)
        and sizes_told(Budget()) == "attention in full blocks"
    )
    assert "chunks of 2,048 tokens" in sizes_told(Budget(chunk=2048))


@pytest.mark.parametrize("length", [2, 17, 256, 300, 4096, 5000])
def test_the_sizes_tried(length: int) -> None:
    tried = list(budgets(GPT, length))
    assert tried[0] == Budget() and len(set(tried)) == len(tried)
    chunks = {one.chunk for one in tried} - {None}
    assert all(LEAST_CHUNK <= chunk < length for chunk in chunks if chunk)
    assert bool(chunks) == (length > LEAST_CHUNK)


def test_the_largest_sizes_that_fit_are_chosen() -> None:
    effort, lengths = Effort(8.0, logits=0), [8192]
    made = [parts(GPT, effort, lengths, budget, PROCESS).peak for budget in budgets(GPT, 8192)]
    assert choose(GPT, effort, lengths, PROCESS, False, max(made))[0] == Budget()
    for limit in sorted(made):
        budget, found = choose(GPT, effort, lengths, PROCESS, False, limit)
        assert found.peak <= limit
        tried = list(budgets(GPT, 8192))
        assert all(peak > limit for peak in made[: tried.index(budget)])  # no larger one would have done
    budget, found = choose(GPT, effort, lengths, PROCESS, False, 1)
    assert found.peak == min(made)
    said = refusal(GPT, effort, lengths, PROCESS, False, 2_565_000_000, found)
    assert said.startswith("--memory 2.56 GB: this scan needs about ") and "weights 1.60 GB" in said
    assert "may take 15% more" in said
    longest, allowed = int(said.partition("--max-length ")[2].partition(" ")[0]), int(2_565_000_000 / MARGIN)
    assert choose(GPT, effort, [longest], PROCESS, False, allowed)[1].peak <= allowed
    nothing = refusal(GPT, effort, lengths, PROCESS, False, 10, found)
    assert "--max-length" not in nothing and "--dtype" not in nothing and "--memory" in nothing[20:]


def test_numbers_of_a_model(folder: str) -> None:
    loaded = interp.load(folder, check=False)
    found = shapes_of(loaded, loaded.dtype, loaded.device)
    assert (found.layers, found.heads, found.kv_heads, found.d_model, found.d_head) == (3, 4, 2, 32, 8)
    assert (found.d_mlp, found.vocab, found.width, found.window) == (48, 128, 4, None)
    assert found.parameters == sum(one.numel() for one in loaded.hf.parameters())
    assert found.stored == (Path(folder) / "model.safetensors").stat().st_size and not found.copied
    assert shapes_of(loaded, torch.bfloat16, loaded.device).copied
    assert stored_weights(None) == stored_weights("/no/such/folder") == (0, set(), set())


@pytest.mark.parametrize(
    ("arch", "inner", "window"),
    [("gemma3", 48, 8), ("gpt2", 128, None), ("mixtral", 2 * 2 * 48, None), ("phi3", 96, None), ("falcon", 128, None)],
)
def test_numbers_of_families(arch: str, inner: int, window: int | None) -> None:
    loaded = interp.load(tiny(arch), check=False)
    assert inner_width(loaded) == inner
    assert shapes_of(loaded, loaded.dtype, loaded.device).window == window


def test_too_little_is_refused_before_anything_is_loaded(
    folder: str, finder: MassFinder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("interp.runs.scan.load_checked", lambda *_: pytest.fail("the weights were loaded"))
    with pytest.raises(UsageError, match=r"--memory 50 MB: this scan needs about .* \(process .*would do"):
        interp.scan(folder, find="mass", texts=TEXT, memory="50MB", out=tmp_path / "run", progress=False)
    assert finder.calls == [] and list(tmp_path.iterdir()) == []


def test_what_is_free_never_refuses(
    folder: str, finder: MassFinder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
) -> None:
    monkeypatch.setattr("interp.runs.memory.free", lambda *_: 0)
    result = interp.scan(folder, find="mass", texts=TEXT, out=tmp_path / "run")
    assert "That may be too much; going on" in capsys.readouterr().err
    kept = result.provenance["effect"]["memory"]
    assert not kept["given"] and kept["limit"] < kept["estimated"]["peak"]


def test_memory_and_engine_hold_inside_a_scan_and_are_no_part_of_its_key(
    folder: str, finder: MassFinder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen, measure = [], MassFinder.measure

    def watched(self: MassFinder, *arguments: Any) -> Any:
        seen.append((BUDGET.get(), CHOSEN.get()))
        return measure(self, *arguments)

    monkeypatch.setattr(MassFinder, "measure", watched)
    small = Budget(1 << 10, None, 1 << 20)
    monkeypatch.setattr("interp.runs.memory_plan.budgets", lambda *_: iter([small]))
    first = interp.scan(
        folder, find="mass", texts=TEXT, memory="64GB", engine="blocked", out=tmp_path / "run", progress=False
    )
    assert seen == [(small, "blocked")] and (BUDGET.get(), CHOSEN.get()) == (Budget(), "auto")
    effect, given = first.provenance["effect"], first.provenance["given"]
    assert effect["engine"] == given["engine"] == "blocked" and given["memory"] == "64GB"
    assert effect["memory"]["block_elements"] == 1 << 10 and effect["memory"]["limit"] == 64_000_000_000
    monkeypatch.undo()
    finder.calls.clear()
    again = interp.scan(folder, find="mass", texts=TEXT, memory="32GB", out=tmp_path / "run", progress=False)
    assert finder.calls == [] and again.provenance["key"] == first.provenance["key"]
    assert "engine" not in again.provenance["effect"]


def test_an_engine_that_is_none(folder: str, finder: MassFinder) -> None:
    with pytest.raises(UsageError, match="engine 'quick'; there are auto, blocked, fused"):
        plan("mass", texts=TEXT, engine="quick")
    with pytest.raises(UsageError, match="--memory much"):
        plan("mass", texts=TEXT, memory="much")


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--memory", "lots"), "--memory lots: expected an amount such as 8GB"),
        (("--memory", "40MB"), "--memory 40 MB: this scan needs about"),
        (("--engine", "quick"), "'quick' is not one of 'auto', 'blocked', 'fused'"),
    ],
)
def test_the_command_says_what_is_wrong(
    folder: str, finder: MassFinder, more: tuple[str, ...], told: str, capsys: Any, tmp_path: Path
) -> None:
    command = ["scan", "--model", folder, "--find", "mass", "--text", TEXT, "--out", str(tmp_path / "run"), *more]
    assert run(command) == 2
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert told in said and "Traceback" not in said
    assert finder.calls == [] and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["scan", "ablate", "repair", "reproduce wang2022"])
def test_every_command_that_scans_takes_them(command: str, folder: str, capsys: Any) -> None:
    asked = [*command.split(), "--model", folder, "--engine", "fused", "--memory"]
    assert run([*asked, "much"]) == 2
    assert "--memory much: expected an amount" in capsys.readouterr().err


def test_a_dry_run_tells_the_pieces(folder: str, finder: MassFinder, capsys: Any) -> None:
    asked = ["scan", "--model", folder, "--find", "mass", "--text", TEXT, "--dry-run", "--memory", "8GB", "--json"]
    assert run(asked) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["fits"] and found["limit_bytes"] == 8_000_000_000 and found["chunk"] is None
    names = ("process", "weights", "states", "layer", "block", "logits", "caches")
    assert found["peak_bytes"] == sum(found[f"{name}_bytes"] for name in names) > found["process_bytes"] > 1e8
    assert run([*asked[:-3], "--memory", "40MB"]) == 2
    assert "this scan needs about" in capsys.readouterr().err
