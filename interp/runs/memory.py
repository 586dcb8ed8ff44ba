"""Memory: as the machine has it, and as this process holds it.

On a CPU, memory is what is resident (RSS): the pages of a weight file that is mapped count once they were read, though
the system could drop them. The share of a process alone (USS) would change with what other processes happen to map.
On CUDA it is what torch has allocated on the device; the CUDA context is not part of it.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any


def held() -> int:
    """Bytes of main memory that this process holds now."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def free(device: Any, spread: bool = False) -> int:
    """Bytes that could be had on a device now, beside what this process holds there.

    Args:
        device: a torch device; the CPU, and GPUs that share its memory, have what the system calls available, or what a
            container leaves of it.
        spread: a model over all CUDA devices: their sum.
    """
    import torch

    if device.type != "cuda":
        return _main_memory()
    devices = range(torch.cuda.device_count()) if spread else [device]
    return sum(
        torch.cuda.mem_get_info(one)[0] + torch.cuda.memory_reserved(one) - torch.cuda.memory_allocated(one)
        for one in devices
    )


def _main_memory() -> int:
    """Available main memory; in a container (cgroup 2) with a limit, no more than that leaves."""
    import psutil

    available = int(psutil.virtual_memory().available)
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        cached = re.search(r"^inactive_file (\d+)$", (group / "memory.stat").read_text(), re.MULTILINE)
    except (OSError, ValueError):  # no such group, or no limit: "max"
        return available
    return max(0, min(available, limit - used + int(cached[1] if cached else 0)))


@functools.lru_cache(maxsize=1)
def warm() -> None:
    """Import what a scan will, and run its steps on a toy, so that `held` counts libraries, their code and buffers."""
    import pandas  # noqa: F401
    import plotly.graph_objects  # noqa: F401
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    import interp.runs.scan  # noqa: F401
    from interp.models.quiet import quiet
    from interp.models.self_check import self_check
    from interp.tracing.calls import next_token_loss
    from interp.tracing.statistics import Received
    from interp.tracing.tracer import trace

    shape: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    with quiet(), torch.random.fork_rng(devices=[]):
        toy = LlamaForCausalLM(
            LlamaConfig(**shape, num_attention_heads=4, vocab_size=64, max_position_embeddings=64)
        ).eval()
    self_check(toy)
    ids = list(range(32))
    with trace(toy, read=["blocks.*.hook_resid_post"], stats=[Received()]) as t:
        next_token_loss(t.run(ids).logits, ids)
        t.stats["received"].sum()
