"""Hub models without a hub: what lies in the hub cache is enough, and what does not is told in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from interp.errors import InterpError, LoadError, UsageError
from interp.models import hub
from interp.models.load import load
from interp.models.model import Model
from tests.tiny import tiny, tiny_tokenizer


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete checkpoint folder."""
    folder = tmp_path_factory.mktemp("models") / "whole"
    tiny("llama").save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty caches, and a hub that cannot be reached."""
    monkeypatch.setenv("INTERP_CACHE", str(tmp_path / "interp"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def quick(name: str, revision: str | None = None) -> Model:
    return load(name, device="cpu", revision=revision, check=False, progress=lambda _message: None)


def failure(name: str) -> str:
    with pytest.raises(LoadError) as caught:
        quick(name)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 700
    return message


def test_hub_model_that_cannot_be_had(caches: Path) -> None:
    message = failure("Qwen/Qwen3-0.6Bx")
    assert "Qwen/Qwen3-0.6Bx: not complete in the local hub cache" in message
    assert "No model is on this machine yet" in message
    assert "Qwen/Qwen3-14B@abc" in failure("QWEN3-14B@abc")
    assert "cannot be a hub id" in failure("a/b--c..d")


def snapshot_of(folder: Path, caches: Path, hub_id: str, commit: str) -> Path:
    """Lay `folder` into the hub cache, the way huggingface_hub would."""
    entry = caches / f"models--{hub_id.replace('/', '--')}"
    target = entry / "snapshots" / commit
    target.parent.mkdir(parents=True, exist_ok=True)
    (entry / "blobs").mkdir(exist_ok=True)
    (entry / "refs").mkdir(exist_ok=True)
    (entry / "refs" / "main").write_text(commit)
    shutil.copytree(folder, target)
    return target


def test_hub_cache_is_enough(whole: Path, caches: Path) -> None:
    commit = "a" * 40
    snapshot_of(whole, caches, "openai-community/gpt2", commit)
    for name in (
        "openai-community/gpt2",
        "GPT2",
        f"openai-community/gpt2@{commit}",
        f"gpt2@{commit}",
        "openai-community/gpt2@main",
    ):
        model = quick(name)
        assert (model.source.kind, model.source.hub_id, model.source.revision) == (
            "hub",
            "openai-community/gpt2",
            commit,
        )
    assert quick("gpt2", revision=commit).source.revision == commit
    assert "openai-community/gpt2@" + "b" * 40 in failure("gpt2@" + "b" * 40)
    assert "On this machine already: openai-community/gpt2" in failure("qwen/other")


def test_incomplete_snapshot_is_asked_for_again(whole: Path, caches: Path) -> None:
    """A cached index without one of its shards must not be taken for a model."""
    snapshot = snapshot_of(whole, caches, "openai-community/gpt2", "a" * 40)
    (snapshot / "model.safetensors").rename(snapshot / "model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    assert "not complete in the local hub cache" in failure("gpt2")


@pytest.mark.parametrize("revision", ["..", "../..", ".", "/etc/hostname", "a/../..", "a//b", "refs/"])
def test_revision_that_would_leave_its_place(whole: Path, caches: Path, revision: str) -> None:
    snapshot_of(whole, caches, "some/model", "a" * 40)
    with pytest.raises(UsageError, match=r"revision '.*' of some/model cannot be a commit, branch or tag"):
        quick(f"some/model@{revision}")


def test_revision_that_is_a_folder_of_the_cache(whole: Path, caches: Path) -> None:
    snapshot_of(whole, caches, "some/model", "a" * 40)
    (caches / "models--some--model" / "refs" / "pr").mkdir()
    assert "some/model@pr: not complete in the local hub cache" in failure("some/model@pr")


@pytest.mark.parametrize(
    "options",
    [{"device": "cuda:99"}, {"dtype": "float8"}, {"device_map": "x"}, {"device": "cpu", "device_map": "auto"}],
)
def test_options_are_checked_before_anything_is_fetched(
    caches: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, str]
) -> None:
    """The hub cannot be reached here and the package not fetched, so trying either would be the error told."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    for name in ("some/model", "smollm2-135m"):
        with pytest.raises(InterpError, match=r"device|dtype"):
            load(name, check=False, progress=lambda message: pytest.fail(message), **options)  # type: ignore[arg-type]


def test_what_is_fetched_from_a_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file list decides: top folder only, safetensors before pickles, code only with leave."""
    listing = ["config.json", "tokenizer.json", "model.safetensors", "pytorch_model.bin", "modeling_x.py", "README.md"]
    listing += ["original/model.safetensors", "consolidated.safetensors", "tf_model.h5", "chat_template.jinja"]
    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_files", lambda self, repo, revision=None: listing)
    safe = hub._wanted("a/b", None, allow_pickle=True, trust_remote_code=False)
    assert sorted(safe) == ["chat_template.jinja", "config.json", "model.safetensors", "tokenizer.json"]
    assert "modeling_x.py" in hub._wanted("a/b", None, allow_pickle=False, trust_remote_code=True)
    listing.remove("model.safetensors")
    with pytest.raises(LoadError, match=r"pytorch_model.bin, a pickle.*nothing was fetched"):
        hub._wanted("a/b", None, allow_pickle=False, trust_remote_code=False)
    assert "pytorch_model.bin" in hub._wanted("a/b", None, allow_pickle=True, trust_remote_code=False)
