"""The sentences about formation. Numbers come from the findings, nothing is measured here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from interp.finders.base import ModelFacts
from interp.finders.formation_config import CONTROLS, MEANING, FormationConfig
from interp.finders.formation_former import is_mlp
from interp.finders.sink_words import LONGEST_NAME, count, lengths, unchecked
from interp.findings import Findings, Verification
from interp.text import printable
from probes.base import Prompt


def verdict(findings: Findings, facts: ModelFacts) -> str:
    """Who formed the sinks; then the anchor apart, and how alike MLP inputs and outputs are to the anchor's."""
    name = printable(facts.name, LONGEST_NAME)
    claims = findings.summary["claims"]
    rows = [row for told in findings.summary["prompts"] for row in told["rows"]]
    if not rows:
        return (
            f"No attention sink was found in {name}, {count(len(findings.summary['T']), 'prompt')} of "
            f"{lengths(findings.summary['T'])}, so nothing was formed."
        )
    others = [row for row in rows if not row["anchor"]]
    said = [f"{name}: {_formed(others or rows, 'sinks beside the anchor' if others else 'spans of the anchor')}."]
    if others:
        anchors = [row for row in rows if row["anchor"]]
        said += [f"The anchor itself: {_formed(anchors, 'spans')}."] if anchors else []
    alike = [_alike(claims, quantity) for quantity in ("mlp_in", "product", "mlp_out", "mlp_added")]
    alike = [text for text in alike if text]
    if alike:
        said.append(f"Cosine with the anchor in the forming block, sinks against controls: {', '.join(alike)}.")
    return " ".join(said)


def _formed(rows: Sequence[dict[str, Any]], what: str) -> str:
    """``the MLPs of blocks 2 and 4 formed 12 of 14 sinks (81 % to 99 % of the gain)``."""
    named = [row for row in rows if row["formed_by"] is not None]
    by_mlp = [row for row in named if is_mlp(row["formed_by"])]
    if not by_mlp:
        return f"no MLP formed any of {len(rows)} {what}"
    blocks = sorted({row["start"] for row in by_mlp})
    listed = f"the MLP of block {blocks[0]}" if len(blocks) == 1 else f"MLPs of blocks {_listed(blocks)}"
    low, high = min(row["mlp"] for row in by_mlp), max(row["mlp"] for row in by_mlp)
    shares = f"{100 * low:.0f}" if round(100 * low) == round(100 * high) else f"{100 * low:.0f} to {100 * high:.0f}"
    return f"{listed} formed {len(by_mlp)} of {len(rows)} {what} ({shares} % of the gain)"


def _listed(blocks: Sequence[int]) -> str:
    if len(blocks) > 6:
        return f"{blocks[0]} to {blocks[-1]}"
    return f"{', '.join(map(str, blocks[:-1]))} and {blocks[-1]}"


def _alike(claims: dict[str, Any], quantity: str) -> str | None:
    sinks, controls = (claims[f"cosine.{quantity}.{side}"]["mean"] for side in ("sinks", "controls"))
    return None if sinks is None else f"{MEANING[quantity]} {sinks:.2f} against {controls:.2f}"


def component_sentence(
    signed: Sequence[dict[str, Any]], secondary: dict[str, Any], config: FormationConfig
) -> str | None:
    """How many of the components that were fed make the MLP write what it writes for the anchor; `secondary`: see
    `formation_pca.directions`."""
    if not signed:
        return None
    effective = [one for one in signed if one["effective"]]
    blocks = sorted({one["block"] for one in effective})
    where = f" (block{'s' * (len(blocks) > 1)} {', '.join(map(str, blocks))})" if blocks else ""
    return (
        f"Of {len(signed)} signed unit components of the MLP inputs, {len(effective)} make their MLP write along its "
        f"own output for the anchor, |cosine| > {config.effective:g}{where}.{_directions(secondary)}"
    )


def _directions(secondary: dict[str, Any]) -> str:
    if secondary["directions"] is None:
        return ""
    return (
        f" Of the inputs of secondary sinks alone, at most {count(secondary['directions'], 'different component')} in "
        f"one block (block {secondary['block']}, {count(secondary['prompts'], 'prompt')}): "
        + ("more than one direction leads there." if secondary["directions"] > 1 else "not several directions.")
    )


def effect_sentence(check: Verification, which: str) -> str:
    """What silencing the named modules did to the attention received."""
    if check.effect is None or check.control is None:
        return unchecked(check)
    found = _share(check.effect, check.effect_low, check.effect_high)
    control = _share(check.control, check.control_low, check.control_high)
    return (
        f"Silencing the named module at {which} takes {found} of the attention received there, at controls "
        f"{control}: {check.verdict} ({count(check.prompts, 'prompt')}, 95 % bootstrap intervals)."
    )


def _share(mean: float, low: float | None, high: float | None) -> str:
    return f"{mean:.0%} ({low:.0%} to {high:.0%})"


def caveats(findings: Findings, prompts: Sequence[Prompt], config: FormationConfig, facts: ModelFacts) -> list[str]:
    """What a reader must know beside the verdict."""
    rows = [row for told in findings.summary["prompts"] for row in told["rows"]]
    said = [
        "Cosines compare a sink with the anchor in the same block; by then the anchor may be a sink already, so that "
        "its MLP may have nothing left to write there.",
        "A share is of the projection on the sink's own new state that its start block added; heads behind a post-norm "
        "are counted at the scale which the norm used for all of them together.",
    ]
    early = sum(row["carried"] is not None and row["carried"] > config.carried for row in rows)
    if early:
        said.append(
            f"{count(early, 'span')} had more than {config.carried:.0%} of the state before the start block, which is "
            "then not said to have formed it."
        )
    unnamed = sum(row["formed_by"] is None for row in rows)
    if unnamed:
        said.append(
            f"{count(unnamed, 'span')} of {len(rows)} {'is' if unnamed == 1 else 'are'} left out of the MLP's mean "
            "share, for nobody is named as having formed them."
        )
    if findings.summary["pca"]:
        said.append(
            "Components are of sinks and controls pooled, so the first is mostly sinks minus controls; different "
            "directions among the sinks would show in the later ones."
        )
    reasons = {row["why"] for row in rows if row["why"]} | {
        row["why_heads"] for row in rows if row["why_heads"] and row["why_heads"] != row["why"]
    }
    said += [
        f"{_sentence(reason)} ({count(sum(reason in (r['why'], r['why_heads']) for r in rows), 'span')})."
        for reason in sorted(reasons)
    ]
    for name, told in findings.summary["lacks"].items():
        if name != "mlp_added":  # a post-norm is no loss
            among = f" in {count(len(told['blocks']), 'forming block')} of {told['of']}"
            said.append(f"No {MEANING[name]}{among if len(told['blocks']) < told['of'] else ''}: {told['why']}")
    kinds = [findings.table["control"].eq(kind).sum() for kind in CONTROLS]
    if len(findings.table):
        said.append(
            f"Controls: the same token in the same prompt for {kinds[0]} spans, in another prompt for {kinds[1]}, a "
            f"nearby ordinary token for {kinds[2]}."
        )
    cut = sum(prompt.truncated for prompt in prompts)
    if cut:
        said.append(
            f"{count(cut, 'prompt')} {'was' if cut == 1 else 'were'} truncated; sinks further on were not seen."
        )
    if config.rule == "wong2025":
        said.append("Rule wong2025 looks at hidden states only: what it calls a sink need not draw attention.")
    if len(findings.summary["pca"]) > config.draw:
        said.append(f"Components are drawn for the {config.draw} blocks with most sinks; the table lists all.")
    said.append("Sinks depend on what stands at position 0, which --bos and --chat decide.")
    return said


def _sentence(reason: str) -> str:
    return reason[:1].upper() + reason[1:].rstrip(".")
