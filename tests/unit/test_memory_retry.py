"""Memory that runs out in the middle of a scan: smaller pieces, the same numbers, and a clean end at the smallest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import interp
from interp.cli import run
from interp.finders.base import Unit
from interp.runs.memory_plan import Sizes
from interp.runs.memory_retry import OutOfMemoryError, Retry, is_out_of_memory
from interp.runs.memory_shapes import Parts
from interp.runs.progress import Silent
from interp.runs.run import Pieces, Store, Tally
from interp.runs.store import RunFolder
from interp.tracing import attention
from interp.tracing.budget import BUDGET, Budget
from tests.mass_finder import MassFinder, registered, save_tiny

TEXTS = {"short": "a red dog ran.", "long": "the cat sat on the mat and a red dog ran to it. " * 12}
HEADS = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture
def finder() -> Iterator[MassFinder]:
    with registered() as made:
        yield made


def scan(folder: str, out: Path, find: str = "mass", **options: Any) -> interp.ScanResult:
    return interp.scan(folder, find=find, texts=TEXTS, out=out, max_length=200, **options)


class Allocator:
    """Stands where attention gets its block: nothing of more than `most` numbers, from the `after`th call on."""

    def __init__(self, most: int, after: int = 0, error: type[BaseException] = torch.OutOfMemoryError):
        self.most, self.after, self.error = most, after, error
        self.calls, self.failed, self.largest = 0, 0, 0
        self.products = attention.products

    def __call__(self, left: Tensor, right: Tensor, out: Tensor | None = None) -> Tensor:
        self.calls += 1
        wanted = left.shape[0] * left.shape[1] * right.shape[2]
        if out is not None and wanted > self.most and self.calls > self.after:
            self.failed += 1
            raise self.error("CUDA out of memory. Tried to allocate 3.00 GiB")
        self.largest = max(self.largest, wanted if out is not None else 0)
        return self.products(left, right, out)


@pytest.mark.parametrize("find", ["mass", "sinks"])
def test_a_scan_goes_on_in_smaller_pieces_with_the_same_numbers(
    find: str, folder: str, finder: MassFinder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    config = {"config": {"controls": 1, "keep_arrays": 2}} if find == "sinks" else {}
    before = scan(folder, tmp_path / "before", find, progress=False, **config)
    length = max(len(prompt) for prompt in before.prompts)
    assert length > 150
    fake = Allocator(most=40 * HEADS * length, after=7)  # two layers of blocks are folded before it fails
    monkeypatch.setattr(attention, "products", fake)
    after = scan(folder, tmp_path / "after", find, **config)
    assert fake.failed == 2 and 0 < fake.largest <= fake.most  # 128 rows, then 64; 32 go through, and stay
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("out of memory (CUDA out of")]
    assert len(told) == 2 and f"going on with attention in blocks of {32 * HEADS * length:,} scores" in told[1]
    assert "Memory ran out 2 times" in after.findings.caveats[-1]
    memory = after.provenance["effect"]["memory"]
    assert len(memory["halvings"]) == 2 and memory["block_elements"] < Budget().block_elements
    assert after.provenance["key"] == before.provenance["key"]
    one, other = before.findings, after.findings
    assert list(one.table["position"]) == list(other.table["position"]) and one.verdict == other.verdict
    assert set(one.arrays) == set(other.arrays) and one.arrays
    for name, array in one.arrays.items():
        np.testing.assert_allclose(other.arrays[name], array, atol=2e-6, err_msg=name)
    assert "Memory ran out" not in " ".join(one.caveats)


def test_without_any_room_the_end_is_clean_and_nothing_is_lost(
    folder: str, finder: MassFinder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("INTERP_MEMORY", raising=False)
    Path("texts.jsonl").write_text("".join(f'{{"name": "{n}", "text": "{t}"}}\n' for n, t in TEXTS.items()))
    command = ["scan", "--model", folder, "--find", "mass", "--prompts", "texts.jsonl", "--max-length", "200"]
    command += ["--out", "run"]
    with monkeypatch.context() as patched:
        patched.setattr(attention, "products", Allocator(most=17 * 17 * HEADS))
        assert run(command) == 1
    said = capsys.readouterr().err
    assert "Traceback" not in said and said.count("going on with") == 3
    for word in ("after 3 halvings", "the smallest", "weights", "--max-length", "--dtype", "what is finished is kept"):
        assert word in said, word
    assert [call for call in finder.calls if call[1] == "long"] == [("measure", "long")] * 4
    finder.calls.clear()
    assert run(command) == 0
    assert [call for call in finder.calls if call[0] == "measure"] == [("measure", "long")]


SIZES = Sizes(Budget(), Parts(1, 2, 0, 3, 4, 5, 6, 0), 100, False, True, 21, heads=4, longest=1000)


def test_pieces_of_an_exploration_are_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interp.runs.memory_retry.freed", lambda: None)  # a search of all objects takes a while
    folder = RunFolder(tmp_path / "run")
    folder.prepare()
    said: list[str] = []
    freed: list[int] = []
    retry, tally = Retry(SIZES, said.append, lambda: freed.append(1)), Tally()
    seen: list[Budget] = []

    def make() -> Unit:
        seen.append(BUDGET.get())
        if len(seen) < 3:
            raise MemoryError
        return Unit(facts={"rows": seen[-1].block_elements})

    pieces = Pieces("base", Store(folder, retry), Silent(), tally)
    unit = pieces.unit("one", make)
    assert unit.facts["rows"] == seen[2].block_elements < seen[1].block_elements < seen[0].block_elements
    assert [one.chunk for one in seen] == [None, 500, 500]  # half of the prompt; a quarter would be below the least
    assert len(said) == len(freed) == 2 and tally.measured == {"explore": 1}
    assert pieces.unit("one", lambda: pytest.fail("it is stored")).facts == unit.facts
    assert BUDGET.get() == Budget()


def test_other_errors_pass_and_endless_trying_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interp.runs.memory_retry.freed", lambda: None)
    retry = Retry(SIZES, lambda _: None)

    def broken() -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        retry(broken)
    assert retry.halvings == [] and retry.caveat() is None

    def hungry() -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory: 8 bytes")

    with pytest.raises(OutOfMemoryError, match=r"DefaultCPUAllocator.*after 3 halvings"):
        retry(hungry)
    assert len(retry.halvings) == 3


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes"), True),
        (RuntimeError("MPS backend out of memory"), True),
        (RuntimeError("expected a tensor"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_counts_as_out_of_memory(error: BaseException, is_one: bool) -> None:
    assert is_out_of_memory(error) == is_one


def test_a_real_allocation_that_is_too_large() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
