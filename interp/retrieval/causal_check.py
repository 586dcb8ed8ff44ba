"""The verdict on masking retrieval heads, and what has to hold before there is one. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from interp.finders.base import Unit
from interp.finders.sink_words import count
from interp.findings import Findings, Verification
from interp.retrieval.config import RetrievalConfig
from interp.retrieval.curve_words import HOW, NOTHING, WHEN, answered, best, layers, randoms, unanswered, unblocked
from interp.retrieval.effect import Effect, estimate
from interp.retrieval.sets import elsewhere
from interp.verify import paired

MOST_OTHERS = 0.1
"""Share of the prompts whose untouched answer may differ from the scored one."""
METRIC = "ROUGE-1 recall of the answer"


def proofs_of(checks: Sequence[Unit | None]) -> list[dict[str, Any]]:
    """The proofs of every held-out prompt."""
    ran = [unit.facts["masked"]["proof"] for unit in checks if unit is not None and "masked" in unit.facts]
    return [one for one in ran if one is not None]


def unseen(proofs: Sequence[Mapping[str, Any]]) -> list[int]:
    """Layers in which a mask was not seen in some prompt."""
    return sorted({layer for one in proofs for layer in one["failed"]})


@dataclass(frozen=True)
class Others:
    """Untouched answers of the masking phase that are not those which were scored.

    Attributes:
        prompts: names.
        of: how many were compared.
        exact: whether they were computed in float32, where rounding is no excuse for many.
    """

    prompts: tuple[str, ...]
    of: int
    exact: bool

    @property
    def broken(self) -> bool:
        """Whether nothing can be said; in few prompts two tokens may be as likely as each other."""
        return self.exact and len(self.prompts) > MOST_OTHERS * self.of


def others(findings: Findings, checks: Sequence[Unit | None]) -> Others:
    """Compare the untouched arm of every prompt with its scored answer."""
    ran = [unit.facts["masked"] for unit in checks if unit is not None and "masked" in unit.facts]
    scored = [findings.summary["prompts"][one["index"]]["text"] for one in ran]
    names = tuple(one["prompt"] for one, text in zip(ran, scored, strict=True) if one["arms"][0]["text"] != text)
    return Others(names, len(ran), all(one["dtype"] == "torch.float32" for one in ran))


def verified(
    recall: Effect | None,
    k: int | None,
    proofs: Sequence[Mapping[str, Any]],
    others: Others,
    sets: Mapping[str, Any],
    config: RetrievalConfig,
) -> Verification:
    """The causal check."""
    if recall is None or k is None:
        return Verification("nothing to verify", METRIC, NOTHING)
    if not answered(recall, config):
        return Verification("nothing to verify", METRIC, unanswered(recall, config))
    other = elsewhere(sets, k)
    where = "of the same layers" if not other else f"of the same layers, {other} of them of the nearest others"
    found = paired(
        recall.names,
        list(recall.change("retrieval", k)),
        list(recall.change("random", k)),
        metric=METRIC,
        how=(
            f"On held-out needles, {best(k)} masked ({HOW[config.how]}; {WHEN[config.when]}), and apart from that "
            f"{randoms(k)} {where}, no retrieval head among them (mean of {count(config.draws, 'draw')}). Instances of "
            "one needle are one unit; intervals are over needles, those of random heads over the draws as well. "
            "Verified means that recall falls, and falls below that under random heads, both by their whole intervals."
        ),
        expected="lower",
        seed=config.seed,
        also_alone=True,
    ).verification()
    found = replace(over_draws(found, recall, k, config), unit="needle")
    wrong = broken(proofs, others)
    return replace(found, verdict="failed", how=f"{wrong} {found.how}") if wrong else found


def over_draws(found: Verification, recall: Effect, k: int, config: RetrievalConfig) -> Verification:
    """The check with intervals of random heads and of the difference over their draws too, and its verdict by these."""
    control, apart = (estimate(recall.changes(kind, k), config.seed) for kind in ("random", "difference"))
    verdict = found.verdict
    if verdict == "verified" and apart.high >= 0:
        verdict = "failed"
    return replace(
        found,
        verdict=verdict,
        control_low=control.low,
        control_high=control.high,
        difference_low=apart.low,
        difference_high=apart.high,
    )


def broken(proofs: Sequence[Mapping[str, Any]], others: Others) -> str:
    """Why nothing holds: masks that did not show, or other answers than those that were scored; empty = all is well."""
    missing, nothing = unseen(proofs), unblocked(proofs)
    if missing:
        return f"The masks did not take effect in {layers(missing)}, so nothing holds."
    if proofs and all(set(one["layers"]) == set(one["nothing"]) for one in proofs):
        return f"There was nothing to block in {layers(nothing)}, so no mask was proved."
    if others.broken:
        return (
            f"Without a mask {len(others.prompts)} of {count(others.of, 'prompt')} were answered otherwise than when "
            "they were scored, so nothing holds."
        )
    return ""
