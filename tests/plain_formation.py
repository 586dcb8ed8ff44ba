"""Formation the plain way: raw hooks on named modules, float64, loops. Shares no code with `interp`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


@torch.no_grad()
def observe(hf: Any, block: int, ids: Sequence[int]) -> dict[str, Tensor]:
    """Quantities of one block of a Llama, Gemma 3 or GPT-2, by their name in the findings, [position, ...], float64.

    Also ``z`` [position, head, d_head], ``out_weight`` [head, d_head, d_model] and ``out`` (output projection).
    """
    gpt2 = hf.config.model_type == "gpt2"
    layer = hf.transformer.h[block] if gpt2 else hf.model.layers[block]
    attention = layer.attn if gpt2 else layer.self_attn
    projection = attention.c_proj if gpt2 else attention.o_proj
    seen: dict[str, Tensor] = {}

    def out(name: str) -> Any:
        return lambda _, __, output: seen.update({name: (output if isinstance(output, Tensor) else output[0]).clone()})

    def into(name: str) -> Any:
        return lambda _, args, kwargs: seen.update({name: (args[0] if args else kwargs["hidden_states"]).clone()})

    mlp = layer.mlp
    after_attention = getattr(layer, "pre_feedforward_layernorm", None) and layer.post_attention_layernorm
    after_mlp = getattr(layer, "post_feedforward_layernorm", None)
    hooks = [
        layer.register_forward_pre_hook(into("resid_pre"), with_kwargs=True),
        layer.register_forward_hook(out("resid_post")),
        projection.register_forward_pre_hook(into("z"), with_kwargs=True),
        projection.register_forward_hook(out("out")),
        (after_attention or projection).register_forward_hook(out("attn_out")),
        mlp.register_forward_pre_hook(into("mlp_in"), with_kwargs=True),
        mlp.register_forward_hook(out("mlp_out")),
        (after_mlp or mlp).register_forward_hook(out("mlp_added")),
        (mlp.c_fc if gpt2 else mlp.gate_proj).register_forward_hook(out("gate")),
        (mlp.c_proj if gpt2 else mlp.down_proj).register_forward_pre_hook(into("product"), with_kwargs=True),
    ]
    if not gpt2:
        hooks.append(mlp.up_proj.register_forward_hook(out("up")))
    hf(torch.tensor([list(ids)]), use_cache=False)
    for hook in hooks:
        hook.remove()
    found = {name: value[0].double() for name, value in seen.items()}
    found["activation"] = (mlp.act if gpt2 else mlp.act_fn)(seen["gate"])[0].double()
    heads = hf.config.num_attention_heads
    found["z"] = found["z"].unflatten(-1, (heads, -1))
    weight = projection.weight if gpt2 else projection.weight.T
    found["out_weight"] = weight.detach().double().unflatten(0, (heads, -1))
    return found


def cosine(found: dict[str, Tensor], name: str, position: int, anchor: int) -> float:
    """Of one quantity with the anchor's; ``direction`` = what the MLP adds with the anchor's state after the block."""
    mine = found["mlp_added" if name == "direction" else name][position]
    other = found["resid_post" if name == "direction" else name][anchor]
    return float(functional.cosine_similarity(mine, other, dim=0))


def shares(found: dict[str, Tensor], position: int) -> dict[str, Any]:
    """Of the gain along the new state: ``mlp``, ``attention``, ``heads`` (each alone through the projection, the
    post-norm a fixed rescaling), and ``carried``."""
    state = found["resid_post"][position]
    unit = state / state.norm()
    gain = float((state - found["resid_pre"][position]) @ unit)
    scale = found["attn_out"][position] / found["out"][position]  # elementwise: 1 without a post-norm
    heads = [
        float(((z @ weight) * scale) @ unit) / gain
        for z, weight in zip(found["z"][position], found["out_weight"], strict=True)
    ]
    return {
        "mlp": float(found["mlp_added"][position] @ unit) / gain,
        "attention": float(found["attn_out"][position] @ unit) / gain,
        "heads": heads,
        "carried": float(found["resid_pre"][position] @ unit) / float(state.norm()),
    }
