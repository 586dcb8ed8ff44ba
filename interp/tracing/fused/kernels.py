"""Fused attention that also returns its logsumexps: PyTorch's own kernels, one call shape for CPU and GPU.

`scaled_dot_product_attention` hides the logsumexps that its kernels compute, so they are called as it calls them.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

Out = tuple[Float[Tensor, "batch head query d_v"], Float[Tensor, "batch head query"]]
MULTIPLE = 8  # of head dimensions, on a GPU
AMPERE = (8, 0)  # the first GPUs that the flash kernel runs on
WIDEST = 256  # head dimension that the flash kernel takes


def flash(
    query: Float[Tensor, "batch head query d"],
    key: Float[Tensor, "batch kv_head key d"],
    value: Float[Tensor, "batch kv_head key d_v"],
    scaling: float,
    causal: bool,
) -> Out:
    """softmax(scaling * q.k) @ v, and the logsumexp of each query's scaled scores (natural logarithm, float32).

    `causal`: query i sees keys 0 to i; there must be as many queries as keys. Query heads of a KV head stand together.
    """
    d_v, width = value.shape[-1], max(query.shape[-1], value.shape[-1])
    if query.device.type != "cpu":
        width = -(-width // MULTIPLE) * MULTIPLE
    # autocast may have left them in different precisions
    query, key, value = (padded(one.to(query.dtype), width) for one in (query, key, value))
    if query.device.type == "cpu":
        # float32 sums whatever the model's precision, as the blocks have them
        parts = (one.float() for one in (query, key, value))
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(*parts, 0.0, causal, scale=scaling)
    else:
        groups = query.unflatten(1, (key.shape[1], -1))
        out, lses = groups.new_empty(*groups.shape[:-1], width), []
        for index, group in enumerate(groups.unbind(2)):
            out[:, :, index], lse = on_gpu(group, key, value, scaling, causal)
            lses.append(lse)
        out, lse = out.flatten(1, 2), torch.stack(lses, 2).flatten(1, 2)
    return out[..., :d_v], lse.float()


def on_gpu(query: Tensor, key: Tensor, value: Tensor, scaling: float, causal: bool) -> Out:
    """`flash` with as many query as key heads; repeating the keys of 128k tokens would take gigabytes."""
    half = query.dtype in (torch.float16, torch.bfloat16)
    if half and query.shape[-1] <= WIDEST and torch.cuda.get_device_capability(query.device) >= AMPERE:
        out, lse, *_ = torch.ops.aten._scaled_dot_product_flash_attention(
            query, key, value, 0.0, causal, False, scale=scaling
        )
    else:
        out, lse, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(
            query, key, value, None, True, 0.0, causal, scale=scaling
        )
    return out, lse[..., : query.shape[2]]  # the efficient kernel rounds its length up


def padded(tensor: Tensor, width: int) -> Tensor:
    """`tensor` with zeros behind its last axis up to `width`, and that axis in one piece."""
    missing = width - tensor.shape[-1]
    if missing:
        return torch.nn.functional.pad(tensor, (0, missing))
    # the kernels take it for granted that an axis of a head lies in one piece, and do not say when it does not
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def merged(one: Out, other: Out) -> Out:
    """Attention over two sets of keys from attention over each, float32."""
    lse = torch.logaddexp(one[1], other[1])
    shares = [(part[1] - lse).nan_to_num(float("-inf")).exp()[..., None] for part in (one, other)]
    return one[0].float() * shares[0] + other[0].float() * shares[1], lse


def on_this_device(device: torch.device) -> bool:
    """Whether there are kernels to call: on CPUs and NVIDIA's GPUs."""
    return device.type in ("cpu", "cuda")
