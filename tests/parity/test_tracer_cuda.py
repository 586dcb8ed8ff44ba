"""The same numbers on a GPU, at the tolerance of the dtype; ready to run wherever there is one."""

from __future__ import annotations

import pytest
import torch

from interp.tracing.statistics import Entropy, Received, TopKey
from interp.tracing.tracer import trace
from tests import plain
from tests.tiny import ARCHS, tiny

pytestmark = pytest.mark.cuda
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.12, torch.float16: 0.03}


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("arch", ARCHS)
def test_same_numbers_on_cuda(arch: str, dtype: torch.dtype) -> None:
    ids, mask = plain.padded_batch("left")
    reference = tiny(arch).to(dtype)
    if dtype is torch.float32:
        with trace(reference, stats=[Received(), Entropy()]) as expected:
            expected.run(ids, mask)
        reference_received = expected.stats["received"]
    else:  # the device's own eager attention at this dtype is the yardstick
        _, patterns = plain.eager(reference.cuda(), ids.cuda(), mask.cuda())
        reference_received = plain.received([pattern.cpu() for pattern in patterns], mask).float()
    hf = tiny(arch).to(dtype).cuda()
    with trace(hf, stats=[Received(), Entropy(), TopKey()]) as t:
        t.run(ids, mask)
    got = t.stats["received"]
    assert got.dtype == torch.float32 and got.device.type == "cpu"
    torch.testing.assert_close(
        plain.real(got, mask), plain.real(reference_received, mask), atol=TOLERANCE[dtype], rtol=0
    )
