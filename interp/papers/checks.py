"""A reproduction's own checks: the released rule on the published layer lists, streamed against eager attention, and
what the runs check of themselves."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from interp.finders import sink_wong2025
from interp.finders.norm_law_words import EXACT
from interp.finders.sink_config import Measured, SinksConfig
from interp.findings import Findings
from interp.papers.claims import Check
from probes.base import Prompt

PATTERNS = 2**28
"""Numbers that the eager comparison, which stores every pattern, may store."""
TOLERANCE = {"float32": 1e-4, "float64": 1e-6}
ROUGH = 3e-2
"""Of half precision."""


def wong2025(model: Any, prompts: Sequence[Prompt], findings: Mapping[str, Findings]) -> list[Check]:
    """Everything that has to hold before a verdict on the paper means anything."""
    from interp.papers.wong2025_rules import published

    golden = [golden_counts(run) for run in published()["runs"]]
    return [*golden, eager(model, prompts), *identity(findings), *verified(findings)]


def gu2024(model: Any, prompts: Sequence[Prompt], findings: Mapping[str, Findings]) -> list[Check]:
    """The same without the released rule."""
    return [eager(model, prompts), *verified(findings)]


def golden_counts(run: Mapping[str, Any]) -> Check:
    """The released rule, fed states with the published layer lists, gives the published counts.

    The lists are given as states: the anchor is long in its published layers, and a token points its way in the layers
    in which it was recorded.
    """
    lives = [int(life) for life, n in run["lifetimes"].items() for _ in range(n)]
    (start,) = (int(layer) for layer in run["start_layers"])
    n_layers, first, last = run["layers"], run["primary"]["first_layer"], run["primary"]["last_layer"]
    norm = np.ones((n_layers, 1 + len(lives)), np.float32)
    norm[first : last + 1, 0] = 1000.0
    cosine = np.zeros_like(norm)
    cosine[:, 0] = 1.0
    for token, life in enumerate(lives, start=1):
        cosine[start : start + life, token] = 0.95
    received = np.zeros((n_layers, 1, norm.shape[1]), np.float32)
    anchor = sink_wong2025.anchor(received, norm, SinksConfig(rule="wong2025"))
    taken = Measured(received, norm, cosine, cosine, anchor, anchor or 0)
    found = sink_wong2025.find(taken, SinksConfig(rule="wong2025"))
    primary = [sink for sink in found if sink.position == 0]
    others = [sink for sink in found if sink.position != 0]
    counted = Counter(str(sink.lifetime) for sink in others)
    passed = (
        [(sink.start, sink.lifetime) for sink in primary] == [(first, run["primary"]["lifetime"])]
        and len(others) == run["others"]
        and dict(counted) == run["lifetimes"]
        and dict(Counter(str(sink.start) for sink in others)) == run["start_layers"]
    )
    kinds = Counter(sink.kind for sink in others)
    told = (
        f"{run['model']}: primary layers {first}-{last}, {len(others)} others ({kinds['secondary']} secondary, "
        f"{kinds['transient']} noise), lifetimes {' '.join(f'{life}:{n}' for life, n in counted.most_common())}"
    )
    return Check("released rule on the published layer lists", passed, told)


def eager(model: Any, prompts: Sequence[Prompt]) -> Check:
    """Attention received, streamed, against the model's own eager attention on the longest prompt, cut to what fits."""
    import torch

    from interp.tracing.calls import received
    from interp.tracing.streamed import implementation

    longest = max(prompts, key=len)
    ids = list(longest.ids[: math.isqrt(PATTERNS // (model.n_layers * model.n_heads))])
    streamed = received(model, ids)[:, 0]
    modules = [model.sites.attention(layer) for layer in range(model.n_layers)]
    with torch.no_grad(), implementation(model.hf, modules, "eager"):
        out = model.hf(torch.tensor([ids], device=model.device), output_attentions=True, use_cache=False)
    queries = torch.arange(len(ids), 0, -1)
    plain = torch.stack([pattern[0].float().sum(dim=1).cpu() / queries for pattern in out.attentions])
    gap = float((streamed - plain).abs().max())
    bound = TOLERANCE.get(str(model.dtype).removeprefix("torch."), ROUGH)
    return Check(
        "streamed against eager attention",
        gap <= bound,
        f"largest gap in attention received {gap:.1e} over {len(ids)} tokens of {longest.name!r} (bound {bound:g})",
    )


def identity(findings: Mapping[str, Findings]) -> list[Check]:
    """The norm law's self-test: rescaled to its natural norm, the forming MLP's output leaves the pass as it was."""
    gap = findings["sink-norm-law"].summary.get("identity") if "sink-norm-law" in findings else None
    if gap is None:  # nothing was rescaled
        return []
    told = f"largest difference at multiple 1: {gap:.1e} (bound {EXACT:g})"
    return [Check("rescaling to the natural norm changes nothing", gap <= EXACT, told)]


def verified(findings: Mapping[str, Findings]) -> list[Check]:
    """Whether what the sinks run calls sinks matters to the model; without that no claim about them means anything.

    The causal checks of the other runs are claims of the paper, and judged as such.
    """
    checked = findings["sinks"].verification if "sinks" in findings else None
    if checked is None:
        return []
    return [Check("causal check of the sinks", checked.verdict != "failed", checked.verdict)]
