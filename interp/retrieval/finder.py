"""Retrieval heads: which heads copy what is asked for out of a long text, and whether the model needs them.

Wu et al. 2024, Retrieval Head Mechanistically Explains Long-Context Factuality, arXiv 2404.15574, sections 2 to 4.

1. Measure. A needle stands in a text, and the model is asked for it. While it writes its answer, greedily, every head's
   most attended key is noted at each step. A head copies when that key lies in the answer span and holds the very token
   that is written; its score on the instance is the share of the span's tokens that it copied. (Also noted: the score
   as the released code counts it, with repeats; HeadKV's mass in the needle, arXiv 2410.19258; QRHead's mass from the
   question, less that from a null question, arXiv 2506.09944; and induction on repeated random tokens.)
2. Find. An instance counts when ROUGE-1 recall of the answer is above one half. A head's score is its mean over these,
   with a bootstrap interval over needles; from 0.1 on it is a retrieval head. Half of the needles that were answered
   at least once, seeded, choose the heads that are masked; random heads that exclude the retrieval heads, as many a
   layer, stand against them.
3. Check. On each prompt of the other half: the answer with the best K heads masked, and with K random ones. (Needles
   that were never answered neither choose nor judge.)
4. Examine. The same on plain text (next-token loss), and on questions asked with and without the text that answers
   them.
5. Conclude. Change of recall by K, retrieval against random heads, with intervals over needles.

``summary["claims"]``: see `interp.retrieval.claims.claims` and `interp.retrieval.curves.curves`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from interp.finders.base import ModelFacts, Unit
from interp.findings import Findings
from interp.interventions.uniform_heads import query_site
from interp.registry import finder
from interp.retrieval import cache, causal, event, measure, pictures, published, sets, stability, words
from interp.retrieval.causal_check import broken, others, proofs_of
from interp.retrieval.claims import claims
from interp.retrieval.config import RetrievalConfig
from interp.retrieval.curves import curves
from interp.retrieval.effort import effort
from interp.retrieval.examine import examined
from interp.retrieval.instances import Instances
from interp.retrieval.split import split
from interp.retrieval.table import COLUMNS, Head, label, ranked, scores, sparsity, table
from interp.retrieval.task import one_line, task_of
from probes.base import Prompt


@finder("retrieval-heads", config=RetrievalConfig)
class RetrievalHeads:
    """The finder; see the module docstring and `interp.finders.base.Finder`."""

    probe = "needle"
    max_length = 2048
    needs = staticmethod(task_of)
    suits = staticmethod(one_line)
    effort = staticmethod(effort)

    def measure(self, model: Any, prompt: Prompt, config: RetrievalConfig) -> Unit:
        """1. One answer, and what every head looked at.

        Raises:
            UsageError: the prompt holds no needle.
        """
        if config.how == "uniform" and any(config.ks):
            query_site(model, 0)  # a family in which it cannot be done is refused before anything is measured
        return measure.measured(model, prompt, config)

    def find(
        self, prompts: Sequence[Prompt], units: Sequence[Unit], config: RetrievalConfig, facts: ModelFacts
    ) -> Findings:
        """2. Scores of all heads, and which of them are masked."""
        instances = Instances.of(prompts, units, config)
        found = scores(instances, config)
        rows, retrieval = table(found, config), found.heads(config.threshold)
        choosing, judging = split(instances.answered, config)
        halves = stability.halves(found.per_instance, found.which, config.seed)
        known = published.published(facts) if found.kept else None
        summary = {
            "settings": asdict(config),
            "shape": list(instances.shape),
            "total": len(instances),
            "kept": found.kept,
            "sparsity": sparsity(found, config),
            "retrieval": [label(head) for head in retrieval],
            "published": None if known is None else published.compared(known, found),
            "forms": words.forms_of(instances),
            "choosing": sorted(choosing),
            "judging": sorted(judging),
            "prompts": told_of(instances, judging),
            "masks": masks_of(instances, choosing, retrieval, config),
            "shown": event.shown(instances, found.copying()),
            "claims": claims(instances, found, halves, config),
        }
        findings = Findings(
            "retrieval-heads",
            rows,
            COLUMNS,
            "",
            arrays={
                **{name: found.by_head(name) for name, *_ in pictures.MAPS},
                "score.instances": found.per_instance.reshape(-1, *found.shape).astype(np.float32),
            },
            summary=summary,
            caveats=words.caveats(instances, found, choosing, judging, config),
            heatmaps=pictures.heatmaps(instances, found),
            charts=pictures.charts(found, halves, config),
            sheets=[
                *([] if known is None else [published.sheet(known, found)]),
                *pictures.sheets(instances, choosing, judging),
            ],
        )
        findings.summary["heading"] = words.heading(findings, instances, config, facts)
        findings.verdict = words.verdict(findings, "")
        return findings

    def check(self, model: Any, prompt: Prompt, index: int, findings: Findings, config: RetrievalConfig) -> Unit | None:
        """3. The answer under every mask, for a prompt that judges; and the event the report shows."""
        summary, parts = findings.summary, []
        if summary["masks"] and summary["prompts"][index]["judging"]:
            parts.append(causal.masked(model, prompt, index, summary["masks"], config))
        if summary["shown"] is not None and summary["shown"]["prompt"] == index:
            parts.append(event.event(model, prompt, summary["shown"]))
        if not parts:
            return None
        arrays = {name: array for part in parts for name, array in part.arrays.items()}
        return Unit(arrays, {name: fact for part in parts for name, fact in part.facts.items()})

    def examine(self, model: Any, findings: Findings, config: RetrievalConfig) -> Unit:
        """4. Plain text, and questions with and without the text that answers them, under the same masks."""
        return examined(model, findings, config)

    def conclude(
        self, findings: Findings, checks: Sequence[Unit | None], config: RetrievalConfig, examined: Unit | None
    ) -> Findings:
        """5. What masking does, and the final verdict."""
        summed = curves(findings, checks, examined, config)
        done = replace(
            findings,
            verification=summed.verification,
            summary={
                **findings.summary,
                "claims": {**findings.summary["claims"], **summed.claims},
                "broken": broken(proofs_of(checks), others(findings, checks)),
            },
            caveats=[*findings.caveats, *summed.caveats],
            charts=[*summed.charts, *findings.charts],
            sheets=[*summed.sheets, *findings.sheets],
        )
        done.verdict = words.verdict(done, summed.said)
        return event.drawn(done, checks)

    def prepare(self, model: Any) -> None:
        """Remember a prompt for the next one that begins alike."""
        cache.remember(model)

    def release(self, model: Any) -> None:
        """Free what was remembered of the prompts of a model."""
        cache.forget(model)


def masks_of(
    instances: Instances, choosing: frozenset[str], retrieval: Sequence[Head], config: RetrievalConfig
) -> dict[str, Any]:
    """The heads that are masked (`interp.retrieval.sets.mask_sets`); none where there is nothing to choose them by, or
    no head retrieves."""
    if not retrieval:
        return {}
    found = sets.mask_sets(ranked(instances, choosing), retrieval, instances.shape, config)
    return found if any(int(k) for k in found) else {}


def told_of(instances: Instances, judging: frozenset[str]) -> list[dict[str, Any]]:
    """What `check` and a reader need of each prompt."""
    return [
        {
            "name": task.prompt.name,
            "T": len(task.prompt),
            "needle": task.needle,
            "length": task.length,
            "depth": task.depth,
            "depth_achieved": task.depth_achieved,
            "form": task.form,
            "recall": float(recall),
            "exact": bool(exact),
            "kept": bool(kept),
            "text": unit.facts["text"],
            "judging": task.needle in judging,
        }
        for task, unit, recall, exact, kept in zip(
            instances.tasks, instances.units, instances.recall, instances.exact, instances.kept, strict=True
        )
    ]


retrieval_heads = RetrievalHeads()
"""What the registry's built-in line points at."""
