"""Where each family keeps its weights and what its config must say: separate projections, gated MLPs and experts here;
fused projections and plain MLPs in `families_fused`."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from tests.planted.families_fused import FUSED
from tests.planted.plan import HEADS, WIDTH
from tests.planted.weights import DECODER, MIXED, Block, Expert, Family, layers


def _attention(layer: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    attention = layer.self_attn
    return attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight, attention.o_proj.weight


def _gated(mlp: Any) -> list[Expert]:
    return [Expert(mlp.gate_proj.weight, mlp.down_proj.weight, mlp.up_proj.weight)]


def _llama(layer: Any) -> Block:
    norms = [layer.input_layernorm.weight, layer.post_attention_layernorm.weight]
    return Block(*_attention(layer), _gated(layer.mlp), norms)


def _qwen3(layer: Any) -> Block:
    block = _llama(layer)
    block.query_norm, block.key_norm = layer.self_attn.q_norm.weight, layer.self_attn.k_norm.weight
    return block


def _gemma2(layer: Any) -> Block:
    norms = [layer.input_layernorm.weight, layer.pre_feedforward_layernorm.weight]
    return Block(
        *_attention(layer),
        _gated(layer.mlp),
        norms,
        offset=1.0,
        after_attention=layer.post_attention_layernorm.weight,
        after_mlp=layer.post_feedforward_layernorm.weight,
    )


def _gemma3(layer: Any) -> Block:
    block = _gemma2(layer)
    block.query_norm, block.key_norm = layer.self_attn.q_norm.weight, layer.self_attn.k_norm.weight
    return block


def _olmo2(layer: Any) -> Block:
    """Attention and MLP read the residual stream as it is; only what they write is normalised."""
    return Block(
        *_attention(layer),
        _gated(layer.mlp),
        [],
        after_attention=layer.post_attention_layernorm.weight,
        after_mlp=layer.post_feedforward_layernorm.weight,
        query_norm=layer.self_attn.q_norm.weight,
        key_norm=layer.self_attn.k_norm.weight,
    )


def _mixtral(layer: Any) -> Block:
    """Each expert does the same, so that it does not matter which ones a token is sent to."""
    experts, norms = layer.mlp.experts, [layer.input_layernorm.weight, layer.post_attention_layernorm.weight]
    pairs = [(up.chunk(2), down) for up, down in zip(experts.gate_up_proj, experts.down_proj, strict=True)]
    return Block(
        *_attention(layer),
        [Expert(gate, down, up) for (gate, up), down in pairs],
        norms,
        others=[layer.mlp.gate.weight],
    )


def _gpt_oss(layer: Any) -> Block:
    """Experts keep [in, out], gate and up in turns; up is used plus one."""
    experts = layer.mlp.experts
    pairs = list(zip(experts.gate_up_proj, experts.down_proj, strict=True))
    return Block(
        *_attention(layer),
        [Expert(up[:, ::2].T, down.T, idle=up[:, 1::2].T) for up, down in pairs],
        [layer.input_layernorm.weight, layer.post_attention_layernorm.weight],
        others=[layer.mlp.router.weight],
    )


_SLIDING = {"sliding_window": 4096, "layer_types": MIXED}
_GEMMA = {**DECODER, **_SLIDING, "query_pre_attn_scalar": WIDTH // HEADS}
FAMILIES = {
    "llama": Family(DECODER, layers, _llama),
    "mistral": Family({**DECODER, "sliding_window": None}, layers, _llama),
    "mixtral": Family(DECODER, layers, _mixtral),
    "qwen2": Family({**DECODER, "use_sliding_window": False}, layers, _llama),
    "qwen3": Family(DECODER, layers, _qwen3),
    "granite": Family(DECODER, layers, _llama, embedding_scale=3.0),
    "gpt_oss": Family({**DECODER, **_SLIDING}, layers, _gpt_oss),
    "gemma2": Family({**_GEMMA, "attn_logit_softcapping": 20.0}, layers, _gemma2, embedding_scale=WIDTH**0.5),
    "gemma3": Family(_GEMMA, layers, _gemma3, embedding_scale=WIDTH**0.5),
    "olmo2": Family(DECODER, layers, _olmo2),
    **FUSED,
}
