"""How a model's parts read the residual stream and write into it, head by head.

A head's query is its slice of the projection of the block's normalised input; an MLP reads its own norm's result. What
a head writes is its z through its slice of the output projection, with an equal share of that projection's bias; behind
an RMS post-norm, times the norm's weights and the scale that the norm used on the whole of its run, so that the heads
add up to what attention adds. The norms are the model's own modules and the matrices its own weights. Both are compared
with what the model computes before they are used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from interp.circuits.edges import SIDES, graph_of
from interp.errors import SiteError
from interp.models.binding import take
from interp.models.device import in_memory
from interp.models.fused import is_conv1d
from interp.models.structure import Parts
from interp.models.writes import factor, not_a_sum
from interp.tracing.calls import skip_logits
from interp.tracing.passes import PROBING
from interp.tracing.tracer import trace

Norm = Callable[[Tensor], Tensor]


@contextmanager
def _unseen() -> Iterator[None]:
    """Modules called inside are not part of the pass under way: no trace sees or edits them."""
    token = PROBING.set(True)
    try:
        yield
    finally:
        PROBING.reset(token)


class EdgeParts:
    """A model's graph, and how each of its parts reads and writes.

    Raises:
        SiteError: a family whose blocks do not add up writer by writer, or whose projections are not found.
    """

    def __init__(self, model: Any):
        why = not_a_sum(model.sites)
        if why is not None:
            raise SiteError(f"edges cannot be told apart: {why}")
        self.model, self.sites, self.graph = model, model.sites, graph_of(model)
        self.parallel, self.n_layers = model.sites.structure.parallel, model.sites.n_layers
        self.attention = self.sites.attention_layers()
        self.mlps = tuple(one.layer for one in self.graph.writers if one.kind == "mlp")
        self.last = f"blocks.{self.n_layers - 1}.hook_resid_post"
        parts = Parts(model.hf)
        self.norms: dict[tuple[str, int], Norm] = {}
        for layer in range(self.n_layers):
            first, second = (parts.get(f"blocks.{layer}.{name}") for name in ("ln1", "ln2"))
            self.norms["attn", layer] = first or nn.Identity()
            self.norms["mlp", layer] = (second or first if self.parallel else second) or nn.Identity()
        self._check()

    def weight(self, layer: int, side: str) -> tuple[Tensor, Tensor | None]:
        """A projection: W [d_model, head, d_head] and b [head, d_head] or None."""
        binding = self.sites.binding(f"blocks.{layer}.attn.hook_{side}")
        module, weight = binding.module, getattr(binding.module, "weight", None)
        weight = in_memory(module, "weight") if isinstance(weight, Tensor) else None
        if not isinstance(weight, Tensor) or weight.ndim != 2 or not weight.is_floating_point():
            raise SiteError(
                f"{binding.site}: a {type(module).__name__}; a projection with an unpacked weight is needed"
            )
        rows, bias = (weight if is_conv1d(module) else weight.T), getattr(module, "bias", None)
        of_bias = None if bias is None else take(binding, in_memory(module, "bias").detach()[None, None])[0, 0].float()
        return take(binding, rows.detach()[None])[0].float(), of_bias

    def project(self, layer: int, side: str, states: Tensor) -> Tensor:
        """What the heads' projections make of what each reads: [head, pair, position, d_model] before the norm, ->
        [pair, position, head, d_head]."""
        weight, bias = self.weight(layer, side)
        out = torch.einsum("hpsd,dhk->pshk", self.normed("attn", layer, states), weight)
        return out if bias is None else out + bias

    def normed(self, kind: str, layer: int, states: Tensor) -> Tensor:
        """What attention or the MLP makes of the residual stream first, [..., d_model], float32."""
        with _unseen():
            return self.norms[kind, layer](states.to(self.dtype)).float()

    @property
    def dtype(self) -> torch.dtype:
        """Of the model's residual stream."""
        return self.model.hf.get_input_embeddings().weight.dtype

    def written(self, layer: int, z: Tensor, out: Tensor, added: Tensor) -> Tensor:
        """What each head adds to the residual stream, float32 [head, pair, position, d_model].

        Args:
            z, out, added: ``attn.hook_z``, ``attn.hook_out`` and ``hook_attn_out`` of one run.
        """
        weight, bias = self.sites.output_weight(layer)
        by_head = torch.einsum("pshk,hkd->hpsd", z.float(), weight.detach().float())
        if bias is not None:
            by_head = by_head + bias.detach().float() / len(by_head)
        names = ("attn.hook_out", "hook_attn_out")
        with _unseen():
            scale = factor(self.sites, layer, names, out.detach().flatten(0, 1), added.detach().flatten(0, 1))
        return by_head * (scale.view(*out.shape) if scale.numel() > 1 else scale)

    def read_sites(self) -> list[str]:
        """Where receivers read: the projections, the MLPs' inputs, the last residual."""
        heads = [f"blocks.{layer}.attn.hook_{side}" for layer in self.attention for side in SIDES]
        return [*heads, *(f"blocks.{layer}.mlp.hook_in" for layer in self.mlps), self.last]

    def write_sites(self) -> list[str]:
        """What `written` and the other writers are made of, and the embeddings."""
        names = ("attn.hook_z", "attn.hook_out", "hook_attn_out")
        heads = [f"blocks.{layer}.{name}" for layer in self.attention for name in names]
        return ["blocks.0.hook_resid_pre", *heads, *(f"blocks.{layer}.hook_mlp_out" for layer in self.mlps)]

    def _check(self) -> None:
        """Compare with what the model computes on a few tokens."""
        sites = self.sites.expand(self.read_sites())  # says what a family lacks
        added = [f"blocks.{layer}.hook_attn_out" for layer in self.attention]
        before = [f"blocks.{layer}.hook_resid_pre" for layer in range(self.n_layers)]
        vocabulary = self.model.hf.get_input_embeddings().weight.shape[0]
        ids = torch.arange(1, 6)[None] * 997 % vocabulary
        with trace(self.model, read=[*sites, *added, *before]) as t, torch.no_grad():
            t.run(ids, **skip_logits(self.model))
            for layer in range(self.n_layers):
                states = t[f"blocks.{layer}.hook_resid_pre"].float()
                for side in SIDES if layer in self.attention else ():
                    site = f"blocks.{layer}.attn.hook_{side}"
                    rows = states.expand(t[site].shape[2], *states.shape)
                    self._same(site, self.project(layer, side, rows), t[site])
                if layer in self.mlps:
                    if layer in self.attention and not self.parallel:
                        states = states + t[f"blocks.{layer}.hook_attn_out"].float()
                    site = f"blocks.{layer}.mlp.hook_in"
                    self._same(site, self.normed("mlp", layer, states), t[site])

    def _same(self, site: str, found: Tensor, expected: Tensor) -> None:
        allowed = max(1e-3, 16 * torch.finfo(expected.dtype).eps)
        if (found - expected.float()).norm() > allowed * expected.float().norm():
            raise SiteError(
                f"{site}: {self.sites.family} computes it otherwise than as a norm of the residual stream and a "
                "projection, so it cannot be given an input of its own"
            )
