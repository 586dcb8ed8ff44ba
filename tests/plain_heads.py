"""Head scores written with loops from the model's own eager attention and hooks on its own modules, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests import plain

# blocks, output projection, norm behind attention (or none), last norm; "rms" or "layer": what the norms are
PLACES: dict[str, tuple[str, str, str | None, str, str]] = {
    "llama": ("model.layers", "self_attn.o_proj", None, "model.norm", "rms"),
    "gemma3": ("model.layers", "self_attn.o_proj", "post_attention_layernorm", "model.norm", "rms"),
    "olmo2": ("model.layers", "self_attn.o_proj", "post_attention_layernorm", "model.norm", "rms"),
    "gpt_oss": ("model.layers", "self_attn.o_proj", None, "model.norm", "rms"),
    "granite": ("model.layers", "self_attn.o_proj", None, "model.norm", "rms"),
    "deepseek_v3": ("model.layers", "self_attn.o_proj", None, "model.norm", "rms"),
    "cohere": ("model.layers", "self_attn.o_proj", None, "model.norm", "layer"),
    "gpt2": ("transformer.h", "attn.c_proj", None, "transformer.ln_f", "layer"),
    "gpt_neox": ("gpt_neox.layers", "attention.dense", None, "gpt_neox.final_layer_norm", "layer"),
    "bloom": ("transformer.h", "self_attention.dense", None, "transformer.ln_f", "layer"),
}


@torch.no_grad()
def scores(hf: Any, arch: str, ids: Sequence[int], start: int, length: int) -> dict[str, np.ndarray]:
    """`interp.heads.random_scores` [layer, head], the slow way, for a segment that stands twice from `start` on."""
    inputs = torch.tensor([list(ids)])
    seen = watch(hf, arch, inputs)
    patterns: list[Tensor] = seen["patterns"]
    out: dict[str, list[list[float]]] = {kind: [] for kind in ("previous", "duplicate", "induction", "copy")}
    second = range(start + length, start + 2 * length)
    for layer, pattern in enumerate(patterns):
        offsets = plain.offsets(pattern, inputs)
        heads = range(pattern.shape[1])
        first = max(start, 1) + 1
        out["previous"].append([float(offsets["previous"][0, head, first:].mean()) for head in heads])
        for kind in ("duplicate", "induction"):
            out[kind].append([float(offsets[kind][0, head, list(second)].mean()) for head in heads])
        written = [head_writes(hf, arch, seen, layer, head, len(heads)) for head in heads]
        out["copy"].append(
            [copy_score(hf, arch, seen, pattern[0, head], written[head], ids, start, second) for head in heads]
        )
    return {kind: np.array(values) for kind, values in out.items()}


def watch(hf: Any, arch: str, inputs: Tensor) -> dict[str, Any]:
    """Patterns, and what goes into the output projections, the norms behind them, and the last norm."""
    blocks, projection, after, last, _ = PLACES[arch]
    seen: dict[str, Any] = {}

    def keep(name: str) -> Any:
        return lambda module, args, kwargs=None: seen.__setitem__(name, args[0].detach().double())

    handles = [attrgetter(last)(hf).register_forward_pre_hook(keep("last"))]
    for layer, block in enumerate(attrgetter(blocks)(hf)):
        handles.append(attrgetter(projection)(block).register_forward_pre_hook(keep(f"z{layer}")))
        if after is not None:
            handles.append(attrgetter(after)(block).register_forward_pre_hook(keep(f"out{layer}")))
    _, seen["patterns"] = plain.eager(hf, inputs, torch.ones_like(inputs))
    for handle in handles:
        handle.remove()
    return seen


def head_writes(hf: Any, arch: str, seen: dict[str, Any], layer: int, head: int, heads: int) -> Tensor:
    """[position, d_model] what one head adds to the residual stream, double."""
    blocks, projection, after, _, _ = PLACES[arch]
    block = attrgetter(blocks)(hf)[layer]
    module = attrgetter(projection)(block)
    weight = module.weight.double() if type(module).__name__ == "Conv1D" else module.weight.double().T
    z = seen[f"z{layer}"][0]
    own = slice(head * z.shape[1] // heads, (head + 1) * z.shape[1] // heads)
    written = z[:, own] @ weight[own]
    if after is not None:
        norm = attrgetter(after)(block)
        written = written / size(seen[f"out{layer}"][0]) * gain(arch, norm)
    return written


def size(x: Tensor) -> Tensor:
    """[position, 1] root mean square."""
    return x.square().mean(-1, keepdim=True).sqrt()


def gain(arch: str, norm: Any) -> Tensor:
    """[d_model] what a norm multiplies by."""
    return norm.weight.double() + (1 if arch == "gemma3" else 0)


def copy_score(
    hf: Any,
    arch: str,
    seen: dict[str, Any],
    pattern: Tensor,
    written: Tensor,
    ids: Sequence[int],
    start: int,
    second: range,
) -> float:
    """See `interp.heads.copying.copying`."""
    _, _, _, last, kind = PLACES[arch]
    norm, x = attrgetter(last)(hf), seen["last"][0]
    if kind == "layer":
        spread = (x - x.mean(-1, keepdim=True)).std(-1, correction=0, keepdim=True)
        through = (written - written.mean(-1, keepdim=True)) / spread
    else:
        through = written / size(x)
    logits = (through * gain(arch, norm) @ hf.get_output_embeddings().weight.double().T).tolist()
    rows = pattern.tolist()
    tokens = sorted(set(ids[start:]))
    total = weights = 0.0
    for query in second:
        allowed = [key for key in range(query + 1) if key >= max(start, 1)]
        top = max(allowed, key=lambda key: rows[query][key])
        weight = rows[query][top]
        if weight == 0:  # a sliding window may end here
            continue
        own = logits[query][ids[top]]
        others = [logits[query][token] for token in tokens if token != ids[top]]
        rank = sum((own > one) + 0.5 * (own == one) for one in others) / len(others)
        total, weights = total + weight * (2 * rank - 1), weights + weight
    return total / weights
