"""One block's MLP on vectors of one's own, its activation function, and its experts.

`feed` runs the model itself and puts the vectors where its MLP reads (``mlp.hook_in``, after the norm), so that gated,
plain, fused, routed and flattened MLPs all work by the code they come with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from interp.errors import SiteError, TraceError
from interp.models.sites import SiteMap
from interp.tracing.calls import skip_logits
from interp.tracing.tracer import trace

AT_ONCE = 64
"""Vectors a call: as many positions, which every model has."""
_ACTIVATIONS = ("act_fn", "activation_fn", "act", "gelu_impl", "activation")
TOLERANCE = 1e-3


@dataclass(frozen=True)
class _Instead:
    """An edit: other vectors [n, d_model] at one site."""

    sites: tuple[str, ...]
    vectors: Tensor

    def apply(self, value: Tensor, site: str, layer: int | None) -> Tensor:
        return self.vectors[None].to(value)


@torch.no_grad()
def feed(model: Any, layer: int, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """What block `layer`'s MLP makes of `vectors` [n, d_model]: ``mlp.hook_out`` (what it returns) and ``hook_mlp_out``
    (what is added of that, after any post-norm), float32 [n, d_model].

    Raises:
        SiteError: the block has no MLP.
    """
    into, *out = (f"blocks.{layer}.{name}" for name in ("mlp.hook_in", "mlp.hook_out", "hook_mlp_out"))
    results: list[list[Tensor]] = [[], []]
    for part in vectors.split(AT_ONCE):
        with trace(model, read=out, edit=[_Instead((into,), part)]) as t:
            t.run([0] * len(part), **skip_logits(model))
            for kept, site in zip(results, out, strict=True):
                kept.append(t[site][0].float())
    return torch.cat(results[0]), torch.cat(results[1])


def activated(sites: SiteMap, layer: int, gate: Tensor, up: Tensor | None, post: Tensor) -> Tensor:
    """act(gate), shaped as `gate`; checked against ``mlp.hook_post``, which is act(gate) or act(gate) * up.

    Raises:
        SiteError: none of the block's callables is that function.
    """
    if up is None:
        return post
    owner = sites.binding(f"blocks.{layer}.mlp.hook_in").module
    for module in (owner, sites.block(layer)):
        for name in _ACTIVATIONS:
            function: Any = getattr(module, name, None)
            if callable(function):
                found: Any = function(gate)
                if _close(found * up, post):
                    return found
    raise SiteError(f"the activation function of {type(owner).__name__} in block {layer} was not recognised")


@dataclass(frozen=True)
class Fired:
    """What the experts of one MLP did with n tokens.

    Attributes:
        index: the experts each token was sent to, [n, k].
        weight: routing weights, [n, k].
        output: what each adds to the MLP's output, weight counted, float32 [n, k, d_model].
        rest: what is added beside the routed experts (a shared expert), float32 [n, d_model]; zero without one.
    """

    index: Tensor
    weight: Tensor
    output: Tensor
    rest: Tensor


@torch.no_grad()
def fired(sites: SiteMap, layer: int, vectors: Tensor) -> Fired:
    """Send `vectors` [n, d_model] (values of ``mlp.hook_in``) through a mixture of experts and take it apart.

    Raises:
        SiteError: the MLP has no experts, or they are not called as (tokens, experts chosen, weights), or cannot be
            called with one choice a token.
        TraceError: the experts' outputs do not add up to the MLP's.
    """
    mlp = sites.binding(f"blocks.{layer}.mlp.hook_in").module
    experts = getattr(mlp, "experts", None)
    if not isinstance(experts, nn.Module):
        raise SiteError(f"{type(mlp).__name__} in block {layer} has no experts")
    calls: list[tuple[Any, ...]] = []

    def note(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        calls.append((*args, *kwargs.values()))

    handle = experts.register_forward_pre_hook(note, with_kwargs=True)
    try:
        whole = mlp(vectors[None])
    finally:
        handle.remove()
    total = (whole[0] if isinstance(whole, tuple) else whole).reshape(vectors.shape).float()
    index, weight = _routing(calls, len(vectors), f"{type(experts).__name__} in block {layer}")
    try:
        one = [experts(vectors, index[:, i : i + 1], weight[:, i : i + 1]) for i in range(index.shape[1])]
    except torch.OutOfMemoryError:
        raise
    except (TypeError, ValueError, RuntimeError, IndexError) as error:  # foreign code, called in a way of our own
        raise SiteError(
            f"{type(experts).__name__} in block {layer} cannot be called with one choice a token: {error}"
        ) from error
    output = torch.stack([each.reshape(vectors.shape).float() for each in one], dim=1)
    rest = total - output.sum(dim=1)
    shared = any(isinstance(part, nn.Module) for part in (getattr(mlp, name, None) for name in _SHARED))
    if not shared:
        if not _close(output.sum(dim=1), total.to(vectors.dtype)):
            raise TraceError(
                f"the experts of block {layer} do not add up to their MLP: off by {float(rest.abs().max())}"
            )
        rest = torch.zeros_like(total)
    return Fired(index, weight, output, rest)


_SHARED = ("shared_experts", "shared_expert")


def _routing(calls: Sequence[tuple[Any, ...]], tokens: int, who: str) -> tuple[Tensor, Tensor]:
    """The experts chosen and their weights, both [token, k], from what the experts were called with."""
    if len(calls) == 1:
        given = [value for value in calls[0][1:] if isinstance(value, Tensor) and value.shape[:1] == (tokens,)]
        chosen = next((value for value in given if not value.is_floating_point()), None)
        weight = next((value for value in given if value.is_floating_point()), None)
        if chosen is not None and weight is not None and chosen.shape == weight.shape:
            return chosen, weight
    raise SiteError(f"{who} is not called with (tokens, experts chosen, weights), so its experts cannot be told apart")


def _close(found: Tensor, expected: Tensor) -> bool:
    allowed = max(TOLERANCE, 8 * torch.finfo(expected.dtype).eps)
    return bool((found.float() - expected.float()).norm() <= allowed * expected.float().norm() + 1e-12)
