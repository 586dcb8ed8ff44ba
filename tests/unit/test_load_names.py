"""Loading by name, from folders and from the hub cache; what is broken or unsafe is refused in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

from interp.errors import LoadError, SelfCheckError, UsageError
from interp.models.load import load
from interp.models.model import Model
from interp.models.self_check import SelfCheck
from tests.tiny import tiny, tiny_tokenizer

IDS = torch.tensor([[1, 5, 9, 7]])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete checkpoint folder."""
    folder = tmp_path_factory.mktemp("models") / "whole"
    tiny("llama").save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(whole, tmp_path / "model"))


@pytest.fixture
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty caches, and a hub that cannot be reached."""
    monkeypatch.setenv("INTERP_CACHE", str(tmp_path / "interp"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def quick(x: Any, **options: Any) -> Model:
    return load(x, device="cpu", check=False, **options)


def failure(x: Any, **options: Any) -> str:
    """The message of the LoadError, which must be one line."""
    with pytest.raises(LoadError) as caught:
        quick(x, **options)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 700
    return message


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_folder(whole: Path) -> None:
    model = quick(whole)
    assert torch.equal(model.hf(IDS).logits, tiny("llama")(IDS).logits)
    assert (model.name, model.source.kind, model.source.path) == ("whole", "folder", str(whole))
    assert (model.n_layers, model.n_heads, model.d_model, model.d_head) == (3, 4, 32, 8)
    assert (model.vocab_size, model.max_positions) == (128, 256)
    assert (model.family, model.architecture, model.dtype) == ("llama", "LlamaForCausalLM", torch.float32)
    assert not model.hf.training
    assert model.encode("the cat").tokens == ("<s>", "the", " ", "cat")
    assert model.facts().position0 == model.position0
    json.dumps(model.source.as_dict())


def test_folder_given_as_text_and_relative(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(whole.parent)
    assert quick("./whole").source.path == str(whole)
    assert quick("whole").source.path == str(whole)


def test_catalogued_name_wins_over_a_folder_of_that_name(
    folder: Path, caches: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.rename(folder.parent / "gpt2")
    monkeypatch.chdir(folder.parent)
    assert "openai-community/gpt2" in failure("gpt2")
    assert quick("./gpt2").architecture == "LlamaForCausalLM"


def test_loading_prints_nothing(whole: Path, capfd: pytest.CaptureFixture[str]) -> None:
    quick(whole)
    assert capfd.readouterr() == ("", "")


def test_folder_without_a_tokenizer(folder: Path, whole: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    model = quick(folder)
    assert model.tokenizer is None
    with pytest.raises(LoadError, match=rf"prompt 'text' cannot be read: .*{folder} holds none of tokenizer\.json, "):
        model.encode("the")
    assert f"need a tokenizer: model is without a tokenizer: {folder} holds none of" in failure(folder, bos="add")
    assert quick(folder, tokenizer=tiny_tokenizer()).encode("the").ids == (1, quick(whole).encode("the").ids[1])
    assert quick(folder, tokenizer=str(whole)).encode("the").tokens == ("<s>", "the")


def test_sharded_checkpoint(tmp_path: Path) -> None:
    tiny("llama").save_pretrained(tmp_path / "m", max_shard_size="20KB")
    shards = sorted((tmp_path / "m").glob("*.safetensors"))
    assert len(shards) > 1
    assert torch.equal(quick(tmp_path / "m").hf(IDS).logits, tiny("llama")(IDS).logits)
    shards[1].unlink()
    assert f"lacks 1 of {len(shards)} weight files, the first is {shards[1].name}" in failure(tmp_path / "m")
    index = tmp_path / "m" / "model.safetensors.index.json"
    edit(index, weight_map={"lm_head.weight": "../elsewhere.safetensors"})
    assert "points outside its folder" in failure(tmp_path / "m")
    edit(index, weight_map={})
    assert "no weight_map" in failure(tmp_path / "m")


@pytest.mark.parametrize("keep", [0, 5, 200, 0.5, -1])
def test_truncated_safetensors(folder: Path, keep: float) -> None:
    path = folder / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if 0 < keep < 1 else int(keep)])
    message = failure(folder)
    assert "model.safetensors" in message and "truncated or corrupt" in message


@pytest.mark.parametrize("change", ["appended", "header", "not safetensors"])
def test_corrupt_safetensors(folder: Path, change: str) -> None:
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    if change == "appended":
        data += b"more"
    elif change == "header":
        data[20:40] = b"\xff" * 20
    else:
        data = bytearray(b"<html>not found</html>" * 40)
    path.write_bytes(data)
    assert "truncated or corrupt" in failure(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
@pytest.mark.parametrize("text", ["", '{"model_type": "lla', "[]", "\x00\x01"])
def test_corrupt_json(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    assert name in failure(folder) or "tokenizer" in failure(folder)


def test_config_that_names_nothing(folder: Path) -> None:
    (folder / "config.json").write_text("{}")
    assert "names neither a model_type nor an architecture" in failure(folder)
    (folder / "config.json").write_text('{"model_type": "no-such-type"}')
    assert "no-such-type" in failure(folder)
    (folder / "config.json").unlink()
    assert "no config.json" in failure(folder)
    (folder / "adapter_config.json").write_text("{}")
    assert "an adapter" in failure(folder)


def test_missing_weights_are_not_replaced_by_random_ones(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    message = failure(folder)
    assert "1 parameters are not in the weight files, e.g. model.layers.1.mlp.up_proj.weight" in message


def test_weights_that_do_not_belong(folder: Path) -> None:
    edit(folder / "config.json", num_hidden_layers=2)
    assert "tensors in the weight files are not in the model, e.g. model.layers.2" in failure(folder)
    edit(folder / "config.json", num_hidden_layers=3, intermediate_size=64)
    assert (
        "another shape than the config says, e.g. model.layers.0.mlp.down_proj.weight ([32, 48], should be [32, 64])"
        in (failure(folder))
    )


def test_weights_of_another_architecture(folder: Path) -> None:
    tiny("gpt2").config.save_pretrained(folder)
    assert "the weights do not match config.json" in failure(folder)


def test_no_weights(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "consolidated.safetensors")
    assert "has no weights: no model.safetensors" in failure(folder)
    assert "it holds consolidated.safetensors" in failure(folder)


def test_pickle_only_with_leave(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    assert quick(folder).source.kind == "folder"  # safetensors beside it is what is read
    (folder / "model.safetensors").unlink()
    message = failure(folder)
    assert "pytorch_model.bin" in message and "--allow-pickle" in message
    allowed = quick(folder, allow_pickle=True)
    assert torch.equal(allowed.hf(IDS).logits, tiny("llama")(IDS).logits)
    (folder / "pytorch_model.bin").write_bytes(b"")
    assert "pytorch_model.bin is empty" in failure(folder, allow_pickle=True)


class Bomb:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (print, ("a pickle ran code",))


def test_pickle_cannot_run_code_even_with_leave(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"lm_head.weight": Bomb()}, folder / "pytorch_model.bin")
    failure(folder, allow_pickle=True)
    assert "ran code" not in capfd.readouterr().out


REMOTE = """
from transformers import LlamaConfig, LlamaForCausalLM
class OddConfig(LlamaConfig):
    model_type = "odd-llama"
class OddForCausalLM(LlamaForCausalLM):
    config_class = OddConfig
"""


def test_remote_code_only_with_leave(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    (folder / "odd.py").write_text(REMOTE)
    auto_map = {"AutoConfig": "odd.OddConfig", "AutoModelForCausalLM": "odd.OddForCausalLM"}
    edit(folder / "config.json", model_type="odd-llama", architectures=["OddForCausalLM"], auto_map=auto_map)
    message = failure(folder)
    assert "'odd-llama'" in message and "--trust-remote-code" in message
    assert not (tmp_path / "modules").exists()
    model = quick(folder, trust_remote_code=True)
    assert model.architecture == "OddForCausalLM"
    assert torch.equal(model.hf(IDS).logits, tiny("llama")(IDS).logits)


def test_code_beside_a_known_type_is_not_needed(folder: Path) -> None:
    """Many repositories (Phi-3, Falcon) still carry code for what transformers has long had."""
    edit(folder / "config.json", auto_map={"AutoModelForCausalLM": "gone.GoneForCausalLM"})
    assert quick(folder).architecture == "LlamaForCausalLM"


@pytest.mark.parametrize(
    ("model_type", "what"),
    [
        ("bert", "is an encoder"),
        ("t5", "encoder-decoder"),
        ("mamba", "no attention heads"),
        ("vit", "not a causal language model"),
    ],
)
def test_wrong_kind_of_model(model_type: str, what: str, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    AutoConfig.for_model(model_type).save_pretrained(folder)
    save_file({"x": torch.zeros(1)}, folder / "model.safetensors")
    assert what in failure(folder)


def test_self_check_is_run_and_heeded(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(whole, device="cpu").name == "whole"
    failed = SelfCheck(False, 1.0, 1.0, 1.0, "streamed", ("its logits are off",))
    monkeypatch.setattr("interp.models.self_check.self_check", lambda model: failed)
    with pytest.raises(SelfCheckError, match=r"whole: the self-check failed .its logits are off."):
        load(whole, device="cpu")
    assert load(whole, device="cpu", check=False).name == "whole"


def test_unknown_names(caches: Path) -> None:
    with pytest.raises(UsageError, match=r"did you mean smollm2-135m"):
        quick("smollm2-135")
    with pytest.raises(UsageError, match=r"neither a model of the catalog"):
        quick("zzzz")
    assert "no model folder or .gguf file at ./nowhere" in failure("./nowhere")
    assert "no model folder or .gguf file at ~nobody-here/x" in failure("~nobody-here/x")
    assert "could not be opened" in failure("~nobody-here/x.gguf")
    with pytest.raises(UsageError, match=r"neither a model of the catalog"):
        quick("z" * 300)
    assert "File name too long" in failure("z" * 300 + ".gguf")


def test_revision_of_a_folder(whole: Path) -> None:
    with pytest.raises(UsageError, match=r"makes sense for a hub model only"):
        quick(whole, revision="main")
