"""Families with fused projections (Phi-3, GPT-2, GPT-NeoX, Falcon) or a plain MLP (those three and OPT)."""

from __future__ import annotations

from typing import Any

from tests.planted.plan import HEAD_WIDTH, HEADS, HIDDEN, LAYERS, WIDTH
from tests.planted.weights import DECODER, Block, Expert, Family, layers


def _phi3(layer: Any) -> Block:
    """All queries, then all keys, then all values; gate, then up."""
    query, key, value = layer.self_attn.qkv_proj.weight.split([WIDTH, WIDTH // 2, WIDTH // 2])
    gate, up = layer.mlp.gate_up_proj.weight.chunk(2)
    norms = [layer.input_layernorm.weight, layer.post_attention_layernorm.weight]
    out = layer.self_attn.o_proj.weight
    return Block(query, key, value, out, [Expert(gate, layer.mlp.down_proj.weight, up)], norms)


def _gpt2(layer: Any) -> Block:
    """Conv1D keeps [in, out]; thirds are queries, keys, values."""
    query, key, value = layer.attn.c_attn.weight.T.chunk(3)
    mlp = Expert(layer.mlp.c_fc.weight.T, layer.mlp.c_proj.weight.T)
    return Block(query, key, value, layer.attn.c_proj.weight.T, [mlp], [layer.ln_1.weight, layer.ln_2.weight])


def _gpt_neox(layer: Any) -> Block:
    """Each head's query, key and value together; attention and MLP side by side."""
    fused = layer.attention.query_key_value.weight.view(HEADS, 3, HEAD_WIDTH, WIDTH)
    mlp = Expert(layer.mlp.dense_h_to_4h.weight, layer.mlp.dense_4h_to_h.weight)
    norms = [layer.input_layernorm.weight, layer.post_attention_layernorm.weight]
    return Block(fused[:, 0], fused[:, 1], fused[:, 2], layer.attention.dense.weight, [mlp], norms)


def _falcon(layer: Any) -> Block:
    """All heads' queries, then one key and one value for all; attention and MLP side by side, behind one norm."""
    fused = layer.self_attention.query_key_value.weight.view(HEADS + 2, HEAD_WIDTH, WIDTH)
    mlp = Expert(layer.mlp.dense_h_to_4h.weight, layer.mlp.dense_4h_to_h.weight)
    out, norms = layer.self_attention.dense.weight, [layer.input_layernorm.weight]
    return Block(fused[:-2], fused[-2], fused[-1], out, [mlp], norms)


def _opt(layer: Any) -> Block:
    """No module of its own for the MLP; learned positions."""
    attention, mlp = layer.self_attn, Expert(layer.fc1.weight, layer.fc2.weight)
    query, key, value = attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight
    norms = [layer.self_attn_layer_norm.weight, layer.final_layer_norm.weight]
    return Block(query, key, value, attention.out_proj.weight, [mlp], norms)


_PLAIN = {"num_hidden_layers": LAYERS, "hidden_size": WIDTH, "num_attention_heads": HEADS}
FUSED = {
    "phi3": Family({**DECODER, "sliding_window": None}, layers, _phi3),
    "gpt2": Family(
        {"n_layer": LAYERS, "n_embd": WIDTH, "n_head": HEADS, "n_inner": HIDDEN},
        lambda model: list(model.transformer.h),
        _gpt2,
        positions=lambda model: model.transformer.wpe.weight,
    ),
    "gpt_neox": Family({**_PLAIN, "intermediate_size": HIDDEN}, lambda model: list(model.gpt_neox.layers), _gpt_neox),
    "falcon": Family({**_PLAIN, "ffn_hidden_size": HIDDEN}, lambda model: list(model.transformer.h), _falcon),
    "opt": Family(
        {**_PLAIN, "ffn_dim": HIDDEN, "word_embed_proj_dim": WIDTH},
        lambda model: list(model.model.decoder.layers),
        _opt,
        positions=lambda model: model.model.decoder.embed_positions.weight,
    ),
}
