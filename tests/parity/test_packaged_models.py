"""The two packaged models as users get them: they speak sense, and their tokenizers are right."""

from __future__ import annotations

import hashlib

import pytest
import torch

from interp.models.load import load
from interp.models.model import Model
from interp.models.packages import PACKAGED, folder_of, read_meta

TEXTS = (
    "The capital of France is Paris.\n\n\tdef f(x):\n        return x  + 12",
    "Ünïcödé, naïve café, 東京, 😀 and 1,234.50 €",
    "  leading and trailing  ",
)


def next_words(model: Model, text: str, count: int) -> tuple[str, ...]:
    with torch.no_grad():
        logits = model.hf(torch.tensor([model.encode(text).ids])).logits[0, -1]
    return model.decode_tokens(logits.topk(count).indices.tolist())


def check_common(model: Model, name: str) -> None:
    assert model.source.kind == "packaged" and model.source.hub_id == PACKAGED[name].base
    assert model.dtype == torch.float32 and model.tokenizer is not None
    for text in TEXTS:
        prompt = model.encode(text)
        assert model.tokenizer.decode(prompt.ids, skip_special_tokens=True) == text
        shown = "".join(prompt.tokens)
        assert all(word in shown for word in text.split() if word.isascii())
        assert len(prompt.tokens) == len(prompt.ids)
    meta = read_meta(name)
    assert meta is not None and model.source.weight_hash == meta["weight_hash"]
    assert meta["weight_hash"] == hashlib.sha256((folder_of(name) / "model.safetensors").read_bytes()).hexdigest()


@pytest.mark.smollm2
def test_smollm2(smollm2: Model) -> None:
    check_common(smollm2, "smollm2-135m")
    assert (smollm2.n_layers, smollm2.n_heads, smollm2.d_model, smollm2.vocab_size) == (30, 9, 576, 49152)
    assert (smollm2.family, smollm2.max_positions) == ("llama", 8192)
    assert next_words(smollm2, "The capital of France is", 1) == (" Paris",)
    assert next_words(smollm2, "One, two, three, four,", 1) == (" five",)


@pytest.mark.smollm2
def test_smollm2_tokenizer(smollm2: Model) -> None:
    """No BOS by itself; digits split off one by one, spaces before them kept together; ChatML with a system turn."""
    assert smollm2.position0 == "the text's first token (this tokenizer adds no BOS, --bos auto)"
    assert smollm2.encode("x  1024").tokens == ("x", "  ", "1", "0", "2", "4")
    added = load("smollm2-135m", device="cpu", bos="add", check=False)
    assert added.encode("Hi").tokens == ("<|im_start|>", "Hi")
    assert added.position0 == "'<|im_start|>' (id 1, the tokenizer's BOS, added: --bos add)"
    chat = load("SmolLM2-135M", device="cpu", chat=True, check=False)
    text = "".join(chat.encode("Hi there").tokens)
    assert text.startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM")
    assert text.endswith("<|im_start|>user\nHi there<|im_end|>\n<|im_start|>assistant\n")
    assert chat.source.template_hash is not None


@pytest.mark.gemma3
def test_gemma3(gemma3: Model) -> None:
    check_common(gemma3, "gemma3-270m")
    assert (gemma3.n_layers, gemma3.n_heads, gemma3.d_model, gemma3.vocab_size) == (18, 4, 640, 262144)
    assert (gemma3.family, gemma3.d_head) == ("gemma3_text", 256)
    assert gemma3.position0 == "'<bos>' (id 2, added by the tokenizer itself, --bos auto)"
    assert gemma3.encode("Hi").tokens == ("<bos>", "Hi")
    assert " Paris" in next_words(gemma3, "The capital of France is", 5)
    assert next_words(gemma3, "One, two, three, four,", 1) == (" five",)
