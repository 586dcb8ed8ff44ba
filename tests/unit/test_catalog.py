"""The catalog: complete, spelled consistently, cheap to import, and honest about what is on this machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from interp.errors import UsageError
from interp.models import catalog, offline
from interp.models.packages import LAYOUT, META, PACKAGED

FAMILIES = (
    "Qwen2",
    "Qwen2.5",
    "Qwen2.5-Math",
    "Qwen3",
    "Qwen3-MoE",
    "QwQ",
    "DeepSeek-R1-Distill",
    "Llama 2",
    "Llama 3",
    "Llama 3.1",
    "Llama 3.2",
    "Llama 3.3",
    "CodeLlama",
    "Phi-3",
    "Phi-4",
    "Mistral",
    "Mathstral",
    "Ministral",
    "Mixtral",
    "gpt-oss",
    "GPT-2",
    "Pythia",
    "OPT",
    "Gemma 2",
    "Gemma 3",
    "OLMo 2",
    "OLMo 3",
    "SmolLM2",
    "SmolLM3",
    "Yi",
    "Falcon",
    "GLM-4",
    "Granite",
)


def test_aliases_are_unique_in_any_letter_case() -> None:
    aliases = [entry.alias.lower() for entry in catalog.entries()]
    assert len(aliases) == len(set(aliases)) > 200
    assert all(alias == alias.strip() and "/" not in alias and "@" not in alias for alias in aliases)


def test_hub_ids_are_unique_and_well_formed() -> None:
    ids = [entry.hub_id for entry in catalog.entries()]
    assert len(ids) == len(set(ids))
    assert all(hub_id.count("/") == 1 and " " not in hub_id for hub_id in ids)


@pytest.mark.parametrize("family", FAMILIES)
def test_family_is_there(family: str) -> None:
    assert any(entry.family == family for entry in catalog.entries())


def test_architectures_are_causal_models_of_transformers() -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    known = {
        name
        for value in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()
        for name in ([value] if isinstance(value, str) else value)
    }
    assert {entry.architecture for entry in catalog.entries()} <= known


@pytest.mark.parametrize(
    ("name", "hub_id"),
    [
        ("qwen3-14b", "Qwen/Qwen3-14B"),
        ("QWEN3-14B", "Qwen/Qwen3-14B"),
        (" qwq-32b", "Qwen/QwQ-32B"),
        ("Meta-Llama-3-8B", "meta-llama/Meta-Llama-3-8B"),  # the hub id's last part works too
        ("llama-3-8b", "meta-llama/Meta-Llama-3-8B"),
        ("gpt2", "openai-community/gpt2"),
        ("deepseek-r1-distill-llama-8b", "deepseek-ai/DeepSeek-R1-Distill-Llama-8B"),
        ("qwen3-4b-thinking-2507", "Qwen/Qwen3-4B-Thinking-2507"),
    ],
)
def test_resolve(name: str, hub_id: str) -> None:
    assert catalog.resolve(name).hub_id == hub_id


def test_unknown_alias_suggests_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"'qwen3-14' .*did you mean qwen3-14b"):
        catalog.resolve("qwen3-14")
    with pytest.raises(UsageError) as caught:
        catalog.resolve("zzzzzzzzzz")
    assert "did you mean" not in str(caught.value)


def test_packaged_entries_are_the_packaged_models() -> None:
    assert {entry.alias: entry.hub_id for entry in catalog.entries() if entry.packaged} == {
        name: model.base for name, model in PACKAGED.items()
    }


def test_on_this_machine_follows_the_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERP_CACHE", str(tmp_path / "interp"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    packaged, plain = catalog.resolve("smollm2-135m"), catalog.resolve("gpt2")
    assert not offline.on_this_machine(packaged)
    assert not offline.on_this_machine(plain)
    assert offline.available_offline() == ()
    assert "No model is on this machine" in offline.offline_summary()

    folder = tmp_path / "interp" / "models" / "smollm2-135m"
    folder.mkdir(parents=True)
    meta = f'{{"gguf_sha256": "{PACKAGED["smollm2-135m"].sha256}", "layout": {LAYOUT}, "sizes": {{"a": 2}}}}'
    (folder / META).write_text(meta)
    (folder / "a").write_text("1")
    assert not offline.on_this_machine(packaged)  # one file is shorter than was noted
    (folder / "a").write_text("12")
    snapshot = tmp_path / "hub" / "models--openai-community--gpt2" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    assert offline.available_offline() == ("smollm2-135m",)  # a config alone is not a model
    index = snapshot / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"x": "one.safetensors", "y": "two.safetensors"}}')
    (snapshot / "one.safetensors").write_bytes(b"")
    assert not offline.on_this_machine(plain)  # nor is one without all its weights
    (snapshot / "two.safetensors").write_bytes(b"")
    assert offline.on_this_machine(packaged)
    assert offline.on_this_machine(plain)
    assert offline.available_offline() == ("smollm2-135m", "openai-community/gpt2")
    (folder / META).write_text(meta.replace(PACKAGED["smollm2-135m"].sha256, "0" * 64))
    assert not offline.on_this_machine(packaged)  # made from another file


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"HF_HUB_CACHE": "/a/b"}, "/a/b"),
        ({"HF_HOME": "/a"}, "/a/hub"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/huggingface/hub"),
        ({"HF_HUB_CACHE": "/a/b", "HF_HOME": "/c"}, "/a/b"),
    ],
)
def test_hub_cache_is_where_huggingface_hub_puts_it(
    variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert offline.hub_cache_dir() == Path(expected)


def test_listing_models_imports_nothing_heavy() -> None:
    code = (
        "import sys; from interp.models import catalog, offline\n"
        "[offline.on_this_machine(e) for e in catalog.entries()]"
        "\nprint(sorted({'torch', 'transformers', 'pandas', 'huggingface_hub'} & set(sys.modules)))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
