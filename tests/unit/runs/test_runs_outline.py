"""A dry run looks at this machine alone: what is not here, or not all of it, is told, and no hub is asked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from interp.errors import InterpError, LoadError, UsageError
from interp.models.packages import LAYOUT, META, PACKAGED
from interp.runs.estimate import estimate
from interp.runs.outline import outline
from tests.mass_finder import save_tiny

COMMIT = "a" * 40


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache with foo/bar at `main`, and a hub that must not be asked."""

    def asked(*_given: Any, **_named: Any) -> None:
        pytest.fail("the hub was asked")

    monkeypatch.setenv("INTERP_CACHE", str(tmp_path / "interp"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_files", asked)
    entry = tmp_path / "hub" / "models--foo--bar"
    save_tiny(entry / "snapshots" / COMMIT)
    (entry / "refs").mkdir()
    (entry / "refs" / "main").write_text(COMMIT)
    return entry


def failure(name: str, **options: Any) -> str:
    with pytest.raises(LoadError) as caught:
        outline(name, options)
    return str(caught.value)


def test_what_is_cached_is_found(hub: Path) -> None:
    for name in ("foo/bar", "foo/bar@main", f"foo/bar@{COMMIT}"):
        assert outline(name, {}).source.path == str(hub / "snapshots" / COMMIT)
    assert outline("foo/bar", {"revision": COMMIT}).source.path == str(hub / "snapshots" / COMMIT)


def test_other_revisions_are_not_asked_for(hub: Path) -> None:
    assert "a dry run downloads nothing" in failure("foo/bar@dev")
    assert "a dry run downloads nothing" in failure("foo/bar", revision="dev")
    with pytest.raises(UsageError, match=r"cannot be a commit, branch or tag"):
        outline("foo/bar@..", {})


def test_incomplete_snapshot_is_not_completed(hub: Path) -> None:
    snapshot = hub / "snapshots" / COMMIT
    (snapshot / "model.safetensors").rename(snapshot / "one.safetensors")
    shards = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps(shards))
    message = failure("foo/bar")
    assert "or not all of it" in message and "already: foo/bar" not in message


@pytest.mark.parametrize("name", ["~nobody-here/x", "z" * 300, "./nowhere", "/no/such/folder", "foo/" + "z" * 300])
def test_names_of_nothing(hub: Path, name: str) -> None:
    failure(name)


def test_packaged_model_that_is_not_whole(hub: Path, tmp_path: Path) -> None:
    folder = tmp_path / "interp" / "models" / "smollm2-135m"
    shutil.copytree(hub / "snapshots" / COMMIT, folder)
    meta = {"gguf_sha256": PACKAGED["smollm2-135m"].sha256, "layout": LAYOUT}
    weights = folder / "model.safetensors"
    (folder / META).write_text(json.dumps(meta | {"sizes": {weights.name: weights.stat().st_size}}))
    assert outline("smollm2-135m", {}).source.path == str(folder)
    weights.write_bytes(weights.read_bytes()[:-1])
    assert "run `interp get smollm2-135m`" in failure("smollm2-135m")


def test_folder_without_a_tokenizer(hub: Path) -> None:
    snapshot = hub / "snapshots" / COMMIT
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (snapshot / name).unlink()
    with pytest.raises(
        LoadError, match=rf"{snapshot} holds none of tokenizer\.json, .*put the model's tokenizer files"
    ):
        outline(str(snapshot), {}).encode("the cat")


@pytest.mark.parametrize("options", [{"device": "cuda:99"}, {"dtype": "float8"}, {"device_map": "x"}])
def test_options_are_checked_before_the_model_is_looked_for(hub: Path, options: dict[str, Any]) -> None:
    with pytest.raises(InterpError, match=r"device|dtype"):
        estimate("no/such-model", texts="the cat", **options)
