"""The families a copying head is planted in: the readers of `families`, with the settings of this plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.planted.families import FAMILIES as SINK_FAMILIES
from tests.planted.retrieval_plan import GROUPS, HEAD_WIDTH, HEADS, LAYERS, VOCABULARY, WIDTH
from tests.planted.weights import Block, Expert, Family

THETA = 1e12
"""Rotary base: the slower two thirds of a head stand still over a few hundred tokens, so content is compared there."""
MIXED = ("sliding_attention", "full_attention") * (LAYERS // 2)
POSITIONS = 1024


@dataclass(frozen=True)
class Home:
    """A family, and what this plan must know of it.

    Attributes:
        full: layers that see the whole text.
        final: the model's last norm.
        rotary: head dimensions that are rotated, the two halves of which make pairs; 0 = learned positions.
        theta: base of their frequencies.
    """

    family: Family
    full: tuple[int, ...] = tuple(range(LAYERS))
    rotary: int = HEAD_WIDTH
    theta: float = THETA
    final: Callable[[Any], Any] = lambda model: model.model.norm

    def frequencies(self, count: int) -> list[float]:
        """The fastest ones, in radians a token."""
        return [self.theta ** (-2 * i / (self.rotary or HEAD_WIDTH)) for i in range(count)]

    def still(self) -> list[int]:
        """Head dimensions that hardly turn within 300 tokens, slowest last."""
        slow = [i for i in range(self.rotary // 2) if 300 * self.theta ** (-2 * i / self.rotary) < 0.1]
        turning = [dim for i in slow for dim in (i, i + self.rotary // 2)]
        return turning + list(range(self.rotary, HEAD_WIDTH))


def _phi3(layer: Any) -> Block:
    """All queries, then all keys, then all values; gate, then up."""
    width, keys = HEADS * HEAD_WIDTH, GROUPS * HEAD_WIDTH
    query, key, value = layer.self_attn.qkv_proj.weight.split([width, keys, keys])
    gate, up = layer.mlp.gate_up_proj.weight.chunk(2)
    norms = [layer.input_layernorm.weight, layer.post_attention_layernorm.weight]
    return Block(
        query, key, value, layer.self_attn.o_proj.weight, [Expert(gate, layer.mlp.down_proj.weight, up)], norms
    )


def _gpt_neox(layer: Any) -> Block:
    """Each head's query, key and value together."""
    fused = layer.attention.query_key_value.weight.view(HEADS, 3, HEAD_WIDTH, WIDTH)
    mlp = Expert(layer.mlp.dense_h_to_4h.weight, layer.mlp.dense_4h_to_h.weight)
    norms = [layer.input_layernorm.weight, layer.post_attention_layernorm.weight]
    return Block(fused[:, 0], fused[:, 1], fused[:, 2], layer.attention.dense.weight, [mlp], norms)


def _rope(theta: float = THETA) -> dict[str, Any]:
    return {"rope_type": "default", "rope_theta": theta}


_COMMON = {"vocab_size": VOCABULARY, "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS}
_DECODER = {
    **_COMMON,
    "num_key_value_heads": GROUPS,
    "head_dim": HEAD_WIDTH,
    "max_position_embeddings": POSITIONS,
    "rope_parameters": _rope(),
}
_SLIDING = {"sliding_window": 16, "layer_types": list(MIXED)}
_FULL = tuple(layer for layer, kind in enumerate(MIXED) if kind == "full_attention")
_GPT2 = {
    "vocab_size": VOCABULARY,
    "n_embd": WIDTH,
    "n_layer": LAYERS,
    "n_head": HEADS,
    "n_inner": 64,
    "n_positions": POSITIONS,
}
_GEMMA = {
    **_DECODER,
    **_SLIDING,
    "query_pre_attn_scalar": HEAD_WIDTH,
    "rope_parameters": {"full_attention": _rope(), "sliding_attention": _rope()},
}
_NEOX = {
    **_COMMON,
    "max_position_embeddings": POSITIONS,
    "rope_parameters": {**_rope(1e4), "partial_rotary_factor": 0.25},
}


def _home(arch: str, settings: dict[str, Any], read: Any = None, **more: Any) -> Home:
    known = SINK_FAMILIES[arch]
    scale = WIDTH**0.5 if arch == "gemma3" else 1.0
    return Home(Family(settings, known.blocks, read or known.read, scale, known.positions), **more)


HOMES = {
    "llama": _home("llama", _DECODER),
    "qwen3": _home("qwen3", _DECODER),
    "gpt2": _home("gpt2", _GPT2, rotary=0, final=lambda model: model.transformer.ln_f),
    "gemma3": _home("gemma3", _GEMMA, full=_FULL),
    "gpt_oss": _home("gpt_oss", {**_DECODER, **_SLIDING}, full=_FULL),
    "mistral": _home("mistral", {**_DECODER, "sliding_window": None}),
    "olmo2": _home("olmo2", _DECODER),
    "phi3": _home("phi3", {**_DECODER, "sliding_window": None}, _phi3),
    "gpt_neox": _home(
        "gpt_neox",
        _NEOX,
        _gpt_neox,
        rotary=HEAD_WIDTH // 4,
        theta=1e4,
        final=lambda model: model.gpt_neox.final_layer_norm,
    ),
}
REQUIRED = ("llama", "qwen3", "gpt2", "gemma3", "gpt_oss")
"""Plain; query and key norms; learned positions and fused projections; post-norms, (1 + w) norms, a scaled embedding
and sliding windows; learned sinks, experts and sliding windows."""
