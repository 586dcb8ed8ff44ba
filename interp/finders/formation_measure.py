"""The second traced pass of the formation finder: vectors at the sinks' forming blocks, made cosines and shares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.errors import SiteError, TraceError
from interp.finders.base import Unit
from interp.finders.formation_config import DIRECTION, QUANTITIES, SITES, FormationConfig
from interp.finders.formation_plan import Case, cases
from interp.finders.sink_found import found_sinks
from interp.models import mlp, writes
from interp.tracing.calls import skip_logits
from interp.tracing.partial import up_to
from interp.tracing.tracer import trace
from probes.base import Prompt

Vectors = dict[str, Tensor | None]
WANTED = {**SITES, **{site: site for site in writes.SITES}}
"""Every quantity, and what its attribution takes."""
LENT = 64
"""So many of a prompt's most frequent ordinary token ids lend their cosines to sinks of other prompts."""


def measure(model: Any, prompt: Prompt, config: FormationConfig) -> Unit:
    """Sinks of a prompt, and what their forming blocks did at them, at their controls and at the anchor.

    Arrays, a row a sink (n) and a row a forming block (m): ``cosines``, ``control_cosines`` float32 [n, quantity], NaN
    where there is none; ``mlp_in``, ``control_in`` float32 [n, d_model], NaN without a control; ``anchor_out``,
    ``anchor_state`` float32 [m, d_model]; ``lent`` float32 [k, quantity], cosines of ordinary tokens with the anchor,
    in every forming block, for sinks of other prompts (`formation_rows.controls`). Facts: ``anchor``, ``blocks`` (the m
    forming blocks), ``lacks`` (for each of them, quantity -> reason), ``lent`` (the k pairs of block and token id),
    ``rows`` (see `row`), ``attention_path``.
    """
    found = found_sinks(model, prompt, config)
    planned = cases(prompt, found, config)
    blocks = sorted({case.sink.start for case in planned})
    facts: dict[str, Any] = {
        "anchor": found.anchor,
        "blocks": blocks,
        "lacks": [lacks(model, block) for block in blocks],
        "lent": [],
        "attention_path": found.unit.facts["attention_path"],
        "rows": [],
    }
    if found.anchor is None:
        return Unit(facts=facts)
    lending = lenders(prompt.ids, found.ordinary)
    positions = {
        block: sorted(
            {
                found.anchor,
                *lending.values(),
                *(at for c in planned if c.sink.start == block for at in (c.sink.position, *c.controls)),
            }
        )
        for block in blocks
    }
    taken = vectors(model, prompt.ids, positions)
    size, count = model.d_model, len(planned)
    arrays = {
        "cosines": np.full((count, len(QUANTITIES)), np.nan, np.float32),
        "control_cosines": np.full((count, len(QUANTITIES)), np.nan, np.float32),
        "mlp_in": np.full((count, size), np.nan, np.float32),
        "control_in": np.full((count, size), np.nan, np.float32),
        "anchor_out": np.full((len(blocks), size), np.nan, np.float32),
        "anchor_state": np.full((len(blocks), size), np.nan, np.float32),
        "lent": np.full((len(blocks) * len(lending), len(QUANTITIES)), np.nan, np.float32),
    }
    rows: dict[int, dict[str, Any]] = {}
    for number, block in enumerate(blocks):
        here, place = taken[block], {at: i for i, at in enumerate(positions[block])}
        reference = place[found.anchor]
        facts["lacks"][number].update(activate(model, block, here))
        alike = similarities(here, reference, facts["lacks"][number])  # [position, quantity]
        for token, at in lending.items():
            arrays["lent"][len(facts["lent"])] = alike[place[at]]
            facts["lent"].append([block, token])
        arrays["anchor_out"][number] = numbers(here["mlp_out"], reference)
        arrays["anchor_state"][number] = numbers(here["resid_post"], reference)
        mine = [(i, case) for i, case in enumerate(planned) if case.sink.start == block]
        parts = split(model, block, here, [place[case.sink.position] for _, case in mine])
        for (i, case), part in zip(mine, parts, strict=True):
            at = place[case.sink.position]
            if not case.anchor:
                arrays["cosines"][i] = alike[at]
            arrays["mlp_in"][i] = numbers(here["mlp_in"], at)
            if case.controls:
                others = [place[control] for control in case.controls]
                arrays["control_cosines"][i] = alike[others].mean(axis=0)
                arrays["control_in"][i] = numbers(here["mlp_in"], others[0])
            rows[i] = row(case, found.measured.received, part)
    facts["rows"] = [rows[i] for i in range(count)]
    return Unit(arrays, facts)


def row(case: Case, received: np.ndarray, part: dict[str, Any]) -> dict[str, Any]:
    """Facts of one sink; ``received`` and ``control_received`` are mean alphas over the blocks that read it."""

    def drawn(position: int) -> float | None:
        return float(received[list(case.reading), :, position].mean(dtype=np.float64)) if case.reading else None

    return {
        "position": case.sink.position,
        "kind": case.sink.kind,
        "anchor": case.anchor,
        "start": case.sink.start,
        "reading": list(case.reading),
        "control": case.control,
        "controls": list(case.controls),
        "received": drawn(case.sink.position),
        "control_received": drawn(case.controls[0]) if case.controls else None,
        **part,
    }


def lenders(ids: Sequence[int], ordinary: Sequence[int]) -> dict[int, int]:
    """The `LENT` most frequent ids among ordinary positions, each with its last such position."""
    counts = Counter(ids[at] for at in ordinary)
    last = {ids[at]: at for at in ordinary}
    return {token: last[token] for token, _ in counts.most_common(LENT)}


def lacks(model: Any, block: int) -> dict[str, str]:
    """Quantities that a forming block does not have, and why."""
    missing = {}
    for name, site in SITES.items():
        try:
            model.sites.binding(f"blocks.{block}.{site}")
        except SiteError as error:
            missing[name] = str(error)
    if not model.sites.structure.post_norm:
        missing["mlp_added"] = "no norm stands between the MLP and the residual, so the MLP output is what is added"
    return missing


def activate(model: Any, block: int, here: Vectors) -> dict[str, str]:
    """Make ``activation`` of the gate's values `here`; why not, if the function cannot be told."""
    gate, product = here["gate"], here["product"]
    if gate is None:
        return {}
    if product is None:
        here["activation"] = None
        return {"activation": f"block {block} has no act(gate) * up that would tell the activation function"}
    try:
        here["activation"] = mlp.activated(model.sites, block, gate, here["up"], product)
    except SiteError as error:
        here["activation"] = None
        return {"activation": str(error)}
    return {}


@torch.no_grad()
def vectors(
    model: Any, ids: Sequence[int], positions: Mapping[int, Sequence[int]], names: Mapping[str, str] = WANTED
) -> dict[int, Vectors]:
    """Values at chosen positions of some blocks, in one traced pass that ends with the last of them.

    Args:
        positions: block -> positions.
        names: what to call a value -> the site it is read at.

    Returns:
        block -> name -> [position, ...] in the model's dtype; None where the model lacks it.
    """
    known = set(model.sites.names())
    at = {(b, name): f"blocks.{b}.{site}" for b in positions for name, site in names.items()}
    taken: dict[int, Vectors] = {block: {} for block in positions}
    reads = sorted({site for site in at.values() if site in known})
    with up_to(model, max(positions, default=0), len(ids)), trace(model, read=reads) as traced:
        traced.run(list(ids), **skip_logits(model))
        for (block, name), site in at.items():
            taken[block][name] = traced[site][0, list(positions[block])] if site in known else None
    return taken


def similarities(here: Vectors, reference: int, missing: Collection[str] = ()) -> np.ndarray:
    """float32 [position, quantity]: cosine with the reference's value of the same quantity; NaN where it is missing."""
    columns = []
    for name in QUANTITIES:
        value = here["mlp_added" if name == DIRECTION else name]
        other = here["resid_post"] if name == DIRECTION else value
        if value is None or other is None or name in missing:
            columns.append(np.full(len(columns[0]), np.nan, np.float32))
            continue
        unit, against = (torch.nn.functional.normalize(v.float(), dim=-1) for v in (value, other[reference]))
        columns.append((unit @ against).cpu().numpy())
    return np.stack(columns, axis=1)


def numbers(value: Tensor | None, at: int) -> Any:
    """One row as float32, or NaN."""
    return np.nan if value is None else value[at].float().cpu().numpy()


def split(model: Any, block: int, here: Vectors, at: Sequence[int], heads: bool = True) -> list[dict[str, Any]]:
    """For each position in `at`: ``carried``, ``gain`` (both in units of the new state's length) and the shares of that
    gain: ``mlp``, ``attention``, ``heads``, ``bias``, and ``experts`` (index, weight, share of the MLP's part).

    What cannot be said is None, with ``why``, ``why_heads``, ``why_experts``.
    """
    rows = list(at)
    values = {name: value[rows] for name, value in here.items() if name in writes.SITES and value is not None}
    post = values["hook_resid_post"].float()
    direction = torch.nn.functional.normalize(post, dim=-1)
    wrote = writes.writing(model.sites, block, values, direction, heads)
    experts, why_experts = _experts(model, block, here, rows, direction) if heads else (None, None)
    made = []
    for i in range(len(rows)):
        length, gain = float(wrote.after[i]), float(wrote.after[i] - wrote.before[i])
        # A block that added nothing along the state did not form it: no share of that is anybody's.
        none = f"block {block} added nothing along the state it left" if gain <= 0 else wrote.why
        share = None if none else 1 / gain
        made.append(
            {
                "carried": float(wrote.before[i]) / length if length else None,
                "gain": gain / length if length else None,
                "mlp": _times(wrote.mlp, i, share),
                "attention": _times(wrote.attention, i, share),
                "heads": None if wrote.heads is None or share is None else (wrote.heads[i] * share).tolist(),
                "bias": _times(wrote.bias, i, share),
                "why": none,
                "why_heads": none or wrote.why_heads,
                "experts": None if experts is None else experts[i],
                "why_experts": why_experts,
            }
        )
    return made


def _times(value: Tensor | None, i: int, share: float | None) -> float | None:
    return None if value is None or share is None else float(value[i]) * share


def _experts(
    model: Any, block: int, here: Vectors, rows: list[int], direction: Tensor
) -> tuple[list[list[list[float]]] | None, str | None]:
    """For each row, [expert, routing weight, share of the MLP's projection] a fired expert; -1 = a shared one."""
    value, out, added = here["mlp_in"], here["mlp_out"], here["mlp_added"]
    if value is None or out is None or added is None:
        return None, "this block has no MLP"
    try:
        found = mlp.fired(model.sites, block, value[rows])
        factor = writes.factor(model.sites, block, ("mlp.hook_out", "hook_mlp_out"), out[rows], added[rows])
    except (SiteError, TraceError) as error:  # one unusual block is no reason to end the scan
        return None, str(error)
    seen = factor * direction
    parts = torch.cat([found.output, found.rest[:, None]], dim=1)
    along = torch.einsum("nkd,nd->nk", parts, seen.expand_as(parts[:, 0]))
    total = along.sum(dim=1, keepdim=True)
    shares = torch.where(total.abs() > 0, along / total, torch.nan)
    made = []
    for i in range(len(rows)):
        listed = [
            [int(e), float(w), float(s)] for e, w, s in zip(found.index[i], found.weight[i], shares[i], strict=False)
        ]
        if bool(found.rest[i].abs().max() > 0):
            listed.append([-1, 1.0, float(shares[i, -1])])
        made.append(listed)
    return made, None
