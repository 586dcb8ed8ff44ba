"""GGUF files, written here with the `gguf` package: what they hold is what is loaded; broken ones are refused in one
line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from tokenizers import pre_tokenizers

from interp.errors import LoadError, UsageError
from interp.models.gguf_files import convert_gguf, read_header
from interp.models.gguf_tokenizers import build_tokenizer
from interp.models.hashing import sha256_file
from interp.models.load import load
from tests.tiny import tiny

IDS = torch.tensor([[1, 5, 9, 7]])
NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "model.layers.": "blk.",
}


def gguf_name(name: str) -> str:
    for ours, theirs in NAMES.items():
        name = name.replace(ours, theirs)
    return name


def permuted(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """GGUF keeps Llama's rotary pairs next to each other, transformers half a head apart."""
    rows = weight.shape[0] // heads // 2
    return weight.reshape(heads, 2, rows, -1).swapaxes(1, 2).reshape(weight.shape)


def write(path: Path, *, pre: str = "default", leave_out: str = "", parts: int = 0, architecture: str = "llama") -> Any:
    """A tiny Llama as a GGUF file; returns the model."""
    model = tiny("llama")
    config = model.config
    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    if parts:
        writer.add_uint16("split.count", parts)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    tokens = ["<unk>", "<s>", "</s>", "ab", "cd", *letters][: config.vocab_size]
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3] + [1] * (len(tokens) - 3))
    writer.add_token_merges(["a b", "c d"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    for name, tensor in model.state_dict().items():
        if name != leave_out:
            heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(
                name.split(".")[-2]
            )
            writer.add_tensor(gguf_name(name), (permuted(tensor, heads) if heads else tensor).contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def failure(path: Path) -> str:
    with pytest.raises(LoadError) as caught:
        load(path, device="cpu", check=False)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    original = write(tmp_path / "Tiny.GGUF")
    model = load(str(tmp_path / "Tiny.GGUF"), device="cpu", check=False)
    assert capfd.readouterr() == ("", "")
    torch.testing.assert_close(model.hf(IDS).logits, original(IDS).logits, atol=1e-5, rtol=1e-5)
    assert (model.name, model.source.kind, model.source.path) == ("Tiny", "gguf", str(tmp_path / "Tiny.GGUF"))
    assert model.source.weight_hash == sha256_file(tmp_path / "Tiny.GGUF")
    assert model.encode("abc").tokens[-2:] == ("ab", "c")


def test_converted_copy_is_bit_equal(tmp_path: Path) -> None:
    write(tmp_path / "m.gguf")
    weight_hash = convert_gguf(tmp_path / "m.gguf", tmp_path / "copy", name="tiny")
    straight, copy = (load(tmp_path / name, device="cpu", check=False) for name in ("m.gguf", "copy"))
    assert torch.equal(straight.hf(IDS).logits, copy.hf(IDS).logits)
    assert copy.source.weight_hash == weight_hash == sha256_file(tmp_path / "copy" / "model.safetensors")
    assert not hasattr(copy.hf.config, "quantization_config")
    assert straight.encode("ab 12").ids == copy.encode("ab 12").ids


def test_digits_are_split_off_where_the_file_says_so(tmp_path: Path) -> None:
    """transformers drops `tokenizer.ggml.pre`; SmolLM2's splits digits before anything else, which shows at runs of
    spaces."""
    write(tmp_path / "m.gguf", pre="smollm")
    assert read_header(tmp_path / "m.gguf")["tokenizer.ggml.pre"] == "smollm"
    tokenizer = load(tmp_path / "m.gguf", device="cpu", check=False).tokenizer
    assert tokenizer is not None
    split = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("x  12")
    assert [piece for piece, _ in split] == ["x", "ĠĠ", "1", "2"]
    assert tokenizer("abx")["input_ids"] == tokenizer.convert_tokens_to_ids(["ab", "x"])
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (1, 2)


def test_sentencepiece_without_a_space_in_front(tmp_path: Path) -> None:
    """Gemma's kind: merges from the vocabulary, BOS as the file says, runs of spaces and unknown bytes as pieces."""
    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "\n", "\n\n", "  ", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += ["\u2581t", "he", "\u2581the", "\u2581", "t", "h", "e", "a"]
    types = [3, 3, 3, 3, 4, 4, 4] + [6] * 256 + [1] * 8
    for add_bos in (True, False):
        writer = gguf.GGUFWriter(str(tmp_path / "t.gguf"), "gemma3")
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_token_list(pieces)
        writer.add_token_scores([-1000.0] * len(pieces))
        writer.add_token_types(types)
        writer.add_bos_token_id(2)
        writer.add_eos_token_id(1)
        writer.add_unk_token_id(3)
        writer.add_add_bos_token(add_bos)
        writer.add_add_space_prefix(False)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
        tokenizer = build_tokenizer(tmp_path / "t.gguf")
        assert tokenizer is not None
        ids = tokenizer("a the\n\n   é")["input_ids"]
        shown = tokenizer.convert_ids_to_tokens(ids)
        front = ["<bos>"] if add_bos else []
        spaces = ["\u2581\u2581", "\u2581"]
        assert shown == [*front, "a", "\u2581the", "\n\n", *spaces, "<0xC3>", "<0xA9>"]
        assert tokenizer.decode(ids, skip_special_tokens=True) == "a the\n\n   é"


def test_other_kinds_are_left_to_transformers(tmp_path: Path) -> None:
    write(tmp_path / "m.gguf", pre="llama-bpe")
    assert build_tokenizer(tmp_path / "m.gguf") is None


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.95])
def test_truncated(tmp_path: Path, share: float) -> None:
    write(tmp_path / "m.gguf")
    data = (tmp_path / "m.gguf").read_bytes()
    (tmp_path / "m.gguf").write_bytes(data[: int(share * len(data))])
    assert "m.gguf" in failure(tmp_path / "m.gguf")


def test_not_gguf(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"PK\x03\x04 something else")
    assert "is not a GGUF file: it starts with b'PK" in failure(tmp_path / "m.gguf")
    assert "could not be opened" in failure(tmp_path / "none.gguf")
    (tmp_path / "dir.gguf").mkdir()
    assert "could not be opened" in failure(tmp_path / "dir.gguf")


def test_missing_tensor(tmp_path: Path) -> None:
    write(tmp_path / "m.gguf", leave_out="model.layers.1.mlp.up_proj.weight")
    assert "model.layers.1.mlp.up_proj.weight" in failure(tmp_path / "m.gguf")


def test_unknown_architecture(tmp_path: Path) -> None:
    write(tmp_path / "m.gguf", architecture="unheard-of")
    assert "(GGUF architecture 'unheard-of') could not be loaded" in failure(tmp_path / "m.gguf")


def test_one_part_of_several(tmp_path: Path) -> None:
    write(tmp_path / "m.gguf", parts=3)
    assert "one part of a GGUF file in 3 parts" in failure(tmp_path / "m.gguf")


def test_folder_with_a_gguf_file_only(tmp_path: Path) -> None:
    write(tmp_path / "m.gguf")
    tiny("llama").config.save_pretrained(tmp_path)
    assert "a .gguf file is loaded by its own path" in failure(tmp_path)


def test_revision_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"makes sense for a hub model only"):
        load(tmp_path / "m.gguf", revision="main", check=False)
