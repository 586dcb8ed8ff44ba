"""Where each family keeps its weights, as views [out, in] that can be written through, and what its config must say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from tests.planted.plan import HEADS, HIDDEN, LAYERS, WIDTH


@dataclass
class Expert:
    """An MLP, or one of several that share the work. `gates` read the residual stream, `down` writes to it."""

    gate: Tensor
    down: Tensor
    up: Tensor | None = None


@dataclass
class Block:
    """One block's weights; `query` and `key` are [head x head width, residual].

    Attributes:
        ones: norm weights for which 1 means: leave the scale alone; given with the offset the family adds to them.
        after_attention, after_mlp: norms of what is written (post-norm families), with that offset.
        query_norm, key_norm: norms over the head width.
        others: further matrices that read the residual stream (routers).
        biases: to be zero.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    out: Tensor
    experts: list[Expert]
    ones: list[Tensor]
    offset: float = 0.0
    after_attention: Tensor | None = None
    after_mlp: Tensor | None = None
    query_norm: Tensor | None = None
    key_norm: Tensor | None = None
    others: list[Tensor] = field(default_factory=list)
    biases: list[Tensor] = field(default_factory=list)


@dataclass(frozen=True)
class Family:
    """Config settings, modules of the blocks, and a reader of a block's weights."""

    settings: dict[str, Any]
    blocks: Callable[[Any], list[nn.Module]]
    read: Callable[[Any], Block]
    embedding_scale: float = 1.0
    positions: Callable[[Any], Tensor] | None = None


_DECODER = {
    "num_hidden_layers": LAYERS,
    "hidden_size": WIDTH,
    "intermediate_size": HIDDEN,
    "num_attention_heads": HEADS,
    "num_key_value_heads": HEADS // 2,
    "head_dim": WIDTH // HEADS,
}
_GPT2 = {"n_layer": LAYERS, "n_embd": WIDTH, "n_head": HEADS, "n_inner": HIDDEN}


def _layers(model: Any) -> list[nn.Module]:
    return list(model.model.layers)


def _llama(layer: Any) -> Block:
    attention, mlp = layer.self_attn, layer.mlp
    return Block(
        attention.q_proj.weight,
        attention.k_proj.weight,
        attention.v_proj.weight,
        attention.o_proj.weight,
        [Expert(mlp.gate_proj.weight, mlp.down_proj.weight, mlp.up_proj.weight)],
        [layer.input_layernorm.weight, layer.post_attention_layernorm.weight],
    )


def _qwen3(layer: Any) -> Block:
    block = _llama(layer)
    block.query_norm, block.key_norm = layer.self_attn.q_norm.weight, layer.self_attn.k_norm.weight
    return block


def _gemma3(layer: Any) -> Block:
    block = _qwen3(layer)
    block.offset = 1.0
    block.ones = [layer.input_layernorm.weight, layer.pre_feedforward_layernorm.weight]
    block.after_attention = layer.post_attention_layernorm.weight
    block.after_mlp = layer.post_feedforward_layernorm.weight
    return block


def _gpt_oss(layer: Any) -> Block:
    attention, mlp = layer.self_attn, layer.mlp
    up, down = mlp.experts.gate_up_proj, mlp.experts.down_proj
    projections = (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj)
    return Block(
        *(projection.weight for projection in projections),
        [Expert(up[i, :, ::2].T, down[i].T, None) for i in range(len(up))],
        [layer.input_layernorm.weight, layer.post_attention_layernorm.weight],
        others=[up[i, :, 1::2].T for i in range(len(up))] + [mlp.router.weight],
        biases=[
            *(p.bias for p in projections),
            mlp.experts.gate_up_proj_bias,
            mlp.experts.down_proj_bias,
            mlp.router.bias,
        ],
    )


def _gpt2(layer: Any) -> Block:
    fused = layer.attn.c_attn.weight.T  # Conv1D keeps [in, out]
    return Block(
        fused[:WIDTH],
        fused[WIDTH : 2 * WIDTH],
        fused[2 * WIDTH :],
        layer.attn.c_proj.weight.T,
        [Expert(layer.mlp.c_fc.weight.T, layer.mlp.c_proj.weight.T)],
        [layer.ln_1.weight, layer.ln_2.weight],
        biases=[
            m.bias
            for m in (layer.ln_1, layer.ln_2, layer.attn.c_attn, layer.attn.c_proj, layer.mlp.c_fc, layer.mlp.c_proj)
        ],
    )


_MIXED = ["sliding_attention", "full_attention"] * (LAYERS // 2)
FAMILIES = {
    "llama": Family(_DECODER, _layers, _llama),
    "qwen3": Family(_DECODER, _layers, _qwen3),
    "gemma3": Family(
        {**_DECODER, "sliding_window": 4096, "layer_types": _MIXED, "query_pre_attn_scalar": WIDTH // HEADS},
        _layers,
        _gemma3,
        embedding_scale=WIDTH**0.5,
    ),
    "gpt2": Family(
        _GPT2, lambda model: list(model.transformer.h), _gpt2, positions=lambda model: model.transformer.wpe.weight
    ),
    "gpt_oss": Family({**_DECODER, "sliding_window": 4096, "layer_types": _MIXED}, _layers, _gpt_oss),
}
