"""Hashes: the same for the same content, another for any change, and not computed twice for a file that did not
change."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from interp.models import hashing
from tests.tiny import tiny, tiny_tokenizer


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("INTERP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_sha256_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")  # FIPS 180-4 example
    assert hashing.sha256_file(tmp_path / "f") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_file_is_hashed_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Path] = []
    real = hashing.sha256_file
    monkeypatch.setattr(hashing, "sha256_file", lambda path: calls.append(path) or real(path))
    path = tmp_path / "f"
    path.write_bytes(b"one")
    first = hashing.remembered_sha256(path)
    assert hashing.remembered_sha256(path) == first and len(calls) == 1
    path.write_bytes(b"two")
    os.utime(path, ns=(1, 1))
    second = hashing.remembered_sha256(path)
    assert second != first and len(calls) == 2
    (tmp_path / "link").symlink_to(path)
    assert hashing.remembered_sha256(tmp_path / "link") == second and len(calls) == 2


def test_damaged_memory_only_costs_time(tmp_path: Path, own_cache: Path) -> None:
    (tmp_path / "f").write_bytes(b"one")
    first = hashing.remembered_sha256(tmp_path / "f")
    (note,) = (own_cache / "hashes").iterdir()
    for text in ("", "[]", '{"stamp": 1}', "nonsense"):
        note.write_text(text)
        assert hashing.remembered_sha256(tmp_path / "f") == first


def test_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("INTERP_CACHE", str(tmp_path / "file" / "below"))
    assert hashing.remembered_sha256(tmp_path / "file") == hashing.sha256_file(tmp_path / "file")


def test_shards(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(b"1")
    b.write_bytes(b"2")
    assert hashing.weight_hash_of_files([a]) == hashing.sha256_file(a)
    both = hashing.weight_hash_of_files([a, b])
    assert both == hashing.weight_hash_of_files([b, a]) != hashing.weight_hash_of_files([a])
    b.write_bytes(b"33")
    assert hashing.weight_hash_of_files([a, b]) != both


def test_module() -> None:
    first = hashing.weight_hash_of_module(tiny("llama"))
    assert first == hashing.weight_hash_of_module(tiny("llama"))
    assert first != hashing.weight_hash_of_module(tiny("llama", seed=1))
    assert first != hashing.weight_hash_of_module(tiny("llama").to(torch.bfloat16))
    changed = tiny("llama")
    with torch.no_grad():
        changed.model.layers[2].mlp.up_proj.weight[0, 0] += 1e-3
    assert first != hashing.weight_hash_of_module(changed)


def test_tokenizer() -> None:
    first = hashing.tokenizer_hash(tiny_tokenizer())
    assert first == hashing.tokenizer_hash(tiny_tokenizer())
    assert first != hashing.tokenizer_hash(tiny_tokenizer(100))
    padded = tiny_tokenizer()
    padded(["a", "a b"], padding=True, truncation=True, max_length=4)
    assert padded.backend_tokenizer.truncation is not None
    assert first == hashing.tokenizer_hash(padded)  # how it was last called is not what it is
    assert padded.backend_tokenizer.truncation is not None
    grown = tiny_tokenizer()
    grown.add_tokens(["new"])
    assert first != hashing.tokenizer_hash(grown)
    assert hashing.tokenizer_hash(None) is None


def test_template() -> None:
    tokenizer = tiny_tokenizer()
    assert hashing.template_hash(tokenizer) is None
    tokenizer.chat_template = "{{ messages }}"
    first = hashing.template_hash(tokenizer)
    tokenizer.chat_template = "{{ messages }} "
    assert first != hashing.template_hash(tokenizer)
