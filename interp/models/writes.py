"""What each part of a block writes into the residual stream along a direction: attention, each head, the MLP.

A block that only adds (every family but OPT-350m's and one BLOOM option) leaves ``hook_resid_pre + hook_attn_out +
hook_mlp_out``, so the projections of these parts on any direction add up to the projection gained. Attention splits
further into its heads: ``hook_attn_out = sum_h z_h @ W_h + b``, times a residual factor where the family has one.
Behind an RMS post-norm the split stays exact at the scale that the norm used on the whole: every head is multiplied by
that one number and by the norm's weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from interp.errors import SiteError
from interp.models.sites import SiteMap

SITES = (
    "hook_resid_pre",
    "attn.hook_z",
    "attn.hook_out",
    "hook_attn_out",
    "hook_mlp_out",
    "hook_resid_post",
)
"""What `writing` needs of a block; for ``heads=False`` those that begin with ``hook``."""
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Writing:
    """Projections of n tokens, each on its own direction.

    Attributes:
        before, after: of the residual entering and leaving the block, [n].
        attention, mlp: of what they add, [n]; None where the block does more than add (`why` says what).
        heads: of what each head adds, [n, head]; None when the split is not known (`why_heads`).
        bias: of the output projection's bias, [n]; with `heads`.
        why, why_heads: reasons for what is None.
    """

    before: Tensor
    after: Tensor
    attention: Tensor | None = None
    mlp: Tensor | None = None
    heads: Tensor | None = None
    bias: Tensor | None = None
    why: str | None = None
    why_heads: str | None = None


@torch.no_grad()
def writing(sites: SiteMap, layer: int, at: Mapping[str, Tensor], direction: Tensor, heads: bool = True) -> Writing:
    """Split what block `layer` added along `direction`.

    Args:
        at: values of `SITES` by short name, [n, d_model] ([n, head, d_head] for ``attn.hook_z``).
        direction: unit vectors [n, d_model].
        heads: also split attention into its heads.
    """

    def along(name: str) -> Tensor:
        return (at[name].float() * direction).sum(-1)

    before, after = along("hook_resid_pre"), along("hook_resid_post")
    why = not_a_sum(sites)
    if why is not None:
        return Writing(before, after, why=why, why_heads=why)
    attention, mlp = along("hook_attn_out"), along("hook_mlp_out")
    if not heads:
        return Writing(before, after, attention, mlp, why_heads="the heads were not asked for")
    try:
        names = ("attn.hook_out", "hook_attn_out")
        between = factor(sites, layer, names, at[names[0]], at[names[1]])
        weight, bias = sites.output_weight(layer)
    except SiteError as error:
        return Writing(before, after, attention, mlp, why_heads=str(error))
    seen = between * direction  # the direction as the output projection's results meet it
    by_head = torch.einsum("nhd,hdm,nm->nh", at["attn.hook_z"].float(), weight.float(), seen)
    constant = torch.zeros_like(attention) if bias is None else seen @ bias.float()
    return Writing(before, after, attention, mlp, by_head, constant)


def not_a_sum(sites: SiteMap) -> str | None:
    """Why a block's output is not the sum of its input and what attention and MLP add; None where it is."""
    if sites.structure.norm_after_add:
        return "this model normalises the residual after each addition, so no share of the result belongs to one part"
    if sites.structure.residual_from_norm:
        return "this model adds to a normalised copy of the residual, so the parts do not add up to what was gained"
    return None


def factor(sites: SiteMap, layer: int, names: tuple[str, str], out: Tensor, added: Tensor) -> Tensor:
    """Elementwise factor between what a module returns and what is added of it to the residual, [n, d_model] or [1].

    Args:
        names: the two sites, by short name (``mlp.hook_out``, ``hook_mlp_out``).
        out, added: their values, [n, d_model].

    Raises:
        SiteError: what stands between them is not an RMS norm.
    """
    writer, binding = (sites.binding(f"blocks.{layer}.{name}") for name in names)
    if binding.module is writer.module:
        return torch.full((1,), binding.scale / writer.scale, device=out.device)
    post_norm = binding.module
    flat = torch.ones(1, 1, out.shape[-1], dtype=out.dtype, device=out.device)
    weights = post_norm(flat).reshape(-1).float() * binding.scale
    weighted = weights * out.float()
    scale = (added.float() * weighted).sum(-1, keepdim=True) / weighted.square().sum(-1, keepdim=True).clamp(min=1e-30)
    left = (added.float() - scale * weighted).norm(dim=-1)
    allowed = max(TOLERANCE, 8 * torch.finfo(added.dtype).eps) * added.float().norm(dim=-1)
    if bool((left > allowed).any()):
        raise SiteError(
            f"the norm after {names[0]} in block {layer} ({type(post_norm).__name__}) is not a rescaling, so what it "
            "lets through cannot be told part by part"
        )
    return scale * weights
