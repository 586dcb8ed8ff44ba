"""The run folder: units survive whole or not at all, damage is noticed, other folders are left alone."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interp.errors import UsageError
from interp.finders.base import Unit
from interp.runs.lock import locked
from interp.runs.store import RunFolder, RunFolderError, canonical, digest, plain, write_atomically

KEY = "a" * 64


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path / "run")
    made.prepare()
    return made


def _unit() -> Unit:
    arrays = {
        "x": np.arange(6, dtype=np.float32).reshape(2, 3),
        "flags": np.array([True, False]),
        "none": np.zeros((0, 3)),
    }
    return Unit(arrays, {"loss": 1.5, "nan": float("nan"), "pair": (1, 2), "at": {3: "c"}})


def test_a_unit_comes_back_as_it_was_put(folder: RunFolder) -> None:
    put = folder.put(KEY, _unit())
    there, got = folder.get(KEY)
    assert there and got is not None and put is not None
    assert set(got.arrays) == {"x", "flags", "none"}
    for name, array in _unit().arrays.items():
        np.testing.assert_array_equal(got.arrays[name], array)
        assert got.arrays[name].dtype == array.dtype
    # what a fresh run sees is what a resumed run sees: facts have been through JSON both times
    assert canonical(got.facts) == canonical(put.facts)
    assert got.facts["pair"] == put.facts["pair"] == [1, 2]
    assert got.facts["at"] == put.facts["at"] == {"3": "c"}


def test_nothing_to_do_is_stored_too(folder: RunFolder) -> None:
    folder.put(KEY, None)
    assert folder.get(KEY) == (True, None)


def test_fetch_makes_a_unit_once(folder: RunFolder) -> None:
    made: list[int] = []

    def make() -> Unit:
        made.append(1)
        return _unit()

    assert [folder.fetch(KEY, make)[0] for _ in range(3)] == [False, True, True]
    assert len(made) == 1


@pytest.mark.parametrize("keep", [0, 1, 7, 40, -1])
def test_a_truncated_unit_is_not_there(folder: RunFolder, keep: int) -> None:
    folder.put(KEY, _unit())
    path = folder.unit_path(KEY)
    path.write_bytes(path.read_bytes()[:keep])
    assert folder.get(KEY) == (False, None)


def test_any_flipped_byte_is_noticed(folder: RunFolder) -> None:
    folder.put(KEY, _unit())
    path = folder.unit_path(KEY)
    whole = path.read_bytes()
    unnoticed = []
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x15]) + whole[place + 1 :])
        if folder.get(KEY)[0]:
            unnoticed.append(place)
    assert unnoticed == []


def test_a_unit_under_another_name_is_not_taken_for_it(folder: RunFolder) -> None:
    folder.put(KEY, _unit())
    os.replace(folder.unit_path(KEY), folder.unit_path("b" * 64))
    assert folder.get("b" * 64) == (False, None)


def test_a_failed_write_keeps_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunFolderError, match="No space left on device"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_sweep_removes_only_half_written_files(folder: RunFolder) -> None:
    folder.put(KEY, _unit())
    (folder.units / f".{KEY}.safetensors.77.partial").write_bytes(b"half")
    (folder.path / ".run.json.77.partial").write_bytes(b"half")
    (folder.path / "notes.partial").write_bytes(b"mine")
    folder.sweep()
    assert sorted(entry.name for entry in folder.path.iterdir()) == ["notes.partial", "units"]
    assert folder.get(KEY)[0]


def test_discard_leaves_files_that_are_not_a_runs(folder: RunFolder) -> None:
    folder.put(KEY, _unit())
    folder.write_json({"schema": 1})
    (folder.path / "notes.txt").write_text("mine")
    (folder.units / "mine.safetensors").write_bytes(b"mine")
    folder.discard()
    assert sorted(str(entry.relative_to(folder.path)) for entry in folder.path.rglob("*")) == [
        "notes.txt",
        "units",
        "units/mine.safetensors",
    ]


def test_a_folder_with_other_files_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("words")
    with pytest.raises(UsageError, match="no run folder"):
        RunFolder(tmp_path).prepare()
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("foreign", ['{"not": "ours"}', '{"schema": "https://a/b"}', "[]", "{half", "\udcff"])
def test_a_foreign_run_json_is_refused_and_untouched(tmp_path: Path, foreign: str) -> None:
    files = {"run.json": foreign, "report.html": "theirs", "notes.txt": "mine"}
    for name, text in files.items():
        (tmp_path / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError, match=r"run\.json that (was not written by interp scan|cannot be read)"):
        RunFolder(tmp_path).prepare()
    assert {entry.name for entry in tmp_path.iterdir()} == set(files)


def test_a_page_alone_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("mine")
    with pytest.raises(UsageError, match="no run folder"):
        RunFolder(tmp_path).prepare()


def test_what_a_kill_leaves_is_a_run(folder: RunFolder) -> None:
    (folder.path / ".lock").touch()
    (folder.path / ".run.json.77.partial").write_bytes(b"half")
    folder.inspect()
    (folder.path / "run.json").write_text("{half")
    folder.inspect()


def test_a_file_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("words")
    with pytest.raises(RunFolderError, match=r"cannot write .*Not a directory"):
        write_atomically(tmp_path / "file" / "x.html", b"new")


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("words")
    with pytest.raises(UsageError, match="is a file"):
        RunFolder(tmp_path / "file").prepare()
    with pytest.raises(RunFolderError, match="cannot use"):
        RunFolder(tmp_path / "file" / "below").prepare()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{half", "damaged"),
        ("[]", "was not written by interp"),
        ('{"schema": 99}', "schema 99"),
        ("\udcff", "cannot read"),
    ],
)
def test_a_run_json_that_is_not_ours(folder: RunFolder, text: str, message: str) -> None:
    (folder.path / "run.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(RunFolderError, match=message):
        folder.read_json()


def test_plain_is_strict_json() -> None:
    value = {1: (np.float32(1.5), float("inf")), "array": np.array([[1, 2]]), "set": {3}}
    assert json.loads(json.dumps(plain(value), allow_nan=False)) == {"1": [1.5, None], "array": [[1, 2]], "set": [3]}


def test_digests_do_not_depend_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 1, "b": 3})


def _hold(path: str, ready: Any, release: Any) -> None:
    with locked(Path(path)):
        ready.set()
        release.wait(30)


def test_one_process_a_folder_and_a_killed_one_leaves_no_lock(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, release = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(str(tmp_path), ready, release))
    holder.start()
    try:
        assert ready.wait(60)
        with (
            pytest.raises(RunFolderError, match=rf"another scan \(process {holder.pid} on .*\) is working in"),
            locked(tmp_path),
        ):
            pass
    finally:
        holder.kill()
        holder.join()
    assert (tmp_path / ".lock").exists()  # stale
    with locked(tmp_path):
        pass
