"""Attribution patching: the effect of a change, read off the gradient (Nanda 2023; Syed et al. 2023, arXiv 2310.10348).

heads: (z_corrupt - z_clean) . d(logit difference)/dz, summed over positions; MLPs likewise. One forward and backward
pass a batch in place of one a head. With more than one point the gradient is averaged over inputs on the straight line
between the two prompts' embeddings (integrated gradients on inputs; Hanna et al. 2024, arXiv 2403.17806). Before the
first token that differs there is no change, so that part is run once and without gradients.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from interp.circuits.edits import SetStates
from interp.circuits.effects import Effects, Found
from interp.circuits.rows import Context, Positions, positions_of
from interp.circuits.states import Sides
from interp.errors import UsageError
from interp.tracing.calls import skip_logits
from interp.tracing.partial import passed_over
from interp.tracing.tracer import trace


def attributions(model: Any, sides: Sides, *, points: int = 1, positions: Positions = None) -> Effects:
    """First-order estimate of `interp.circuits.effects.total_effects`.

    Args:
        points: 1 = the gradient of the clean run; m = its mean over inputs at shares 0, 1/m, ... (m - 1)/m of the way
            from the clean to the corrupted embeddings.
        positions: counted at these: ints, or int64 [pair, n] where each pair has its own; None = all.

    Raises:
        UsageError: no point, or a position the prompts do not have.
    """
    if points < 1:
        raise UsageError(f"points={points}: at least 1 is needed")
    ids, n = sides.batch.clean, len(sides.batch)
    z_sites = {layer: f"blocks.{layer}.attn.hook_z" for layer in sides.clean.z}
    mlp_sites = {layer: f"blocks.{layer}.hook_mlp_out" for layer in sides.clean.mlp}
    sites = [*z_sites.values(), *mlp_sites.values()]
    everyone = torch.arange(n)
    context = Context(model, sides.batch, everyone, sides.batch.differs)
    cut = context.cut
    start = sides.clean.resid[0][:, cut]
    way = _embedded(model, sides.batch.corrupt)[:, cut] - start
    by_site: dict[str, Tensor] = {}
    for point in range(points):
        nudge = Nudge(tuple(sites))
        edit = SetStates(0, start + way * (point / points))
        with sides.metric.on(model), torch.enable_grad(), trace(model, edit=[edit, nudge], grad=True) as t:
            out = t.run(ids[:, cut], cache=context.of(everyone), **skip_logits(model))
            difference = sides.metric.of(out, everyone).sum()
        for site, gradient in nudge.gradients(difference).items():
            by_site[site] = by_site.get(site, 0) + gradient / points
    asked = positions_of(sides.batch, positions)
    counted = torch.ones(ids.shape) if asked is None else torch.zeros(ids.shape).scatter(1, asked, 1.0)
    counted = counted[:, cut]
    result = Found(model, n)
    for layer, site in z_sites.items():
        change = (sides.corrupt.z[layer] - sides.clean.z[layer])[:, cut] * by_site[site]
        result.heads[layer, : change.shape[2]] = torch.einsum("pshd,ps->hp", change.float().cpu(), counted).numpy()
    for layer, site in mlp_sites.items():
        change = (sides.corrupt.mlp[layer] - sides.clean.mlp[layer])[:, cut] * by_site[site]
        result.mlps[layer] = torch.einsum("psd,ps->p", change.float().cpu(), counted).numpy()
    return result.effects()


class Nudge:
    """Adds nothing to each site, in a way that leaves the gradient there."""

    def __init__(self, sites: tuple[str, ...]):
        self.sites = sites
        self.zeros: dict[str, Tensor] = {}

    def apply(self, value: Tensor, site: str, layer: int | None) -> Tensor:
        """The value."""
        self.zeros[site] = torch.zeros_like(value, requires_grad=True)
        return value + self.zeros[site]

    def gradients(self, result: Tensor) -> dict[str, Tensor]:
        """Gradient of a number by site, shaped like the site's value."""
        return dict(zip(self.zeros, torch.autograd.grad(result, list(self.zeros.values())), strict=True))


def _embedded(model: Any, ids: Tensor) -> Tensor:
    """What enters the first block [pair, position, d_model]."""
    with passed_over(model, model.n_layers - 1), trace(model, read=["blocks.0.hook_resid_pre"]) as t:
        t.run(ids, **skip_logits(model))
        return t["blocks.0.hook_resid_pre"]
