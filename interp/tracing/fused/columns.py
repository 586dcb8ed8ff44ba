"""Column sums of attention: by FlexAttention where a GPU can compile it, by the plain kernels elsewhere."""

from __future__ import annotations

from torch import Tensor

from interp.tracing.fused import flex
from interp.tracing.fused.call import Call, wants_flex
from interp.tracing.fused.call import received as by_kernels


def received(call: Call, lse: Tensor, weights: Tensor) -> Tensor:
    """Weighted attention each key gets; see `interp.tracing.fused.call.received`."""
    if wants_flex(call, True):
        mass = flex.received(call, lse, weights)
        return mass if call.valid is None else mass * call.valid[:, None]
    return by_kernels(call, lse, weights)
