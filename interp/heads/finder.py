"""Head classes: what every attention head does, by six scores.

Previous-token, induction and copying heads after Olsson et al. 2022, arXiv 2209.11895, duplicate-token heads after Wang
et al. 2022, arXiv 2211.00593, sinks after Gu et al. 2024, arXiv 2410.10781, retrieval heads after Wu et al. 2024
(arXiv 2404.15574).

1. Measure. For every prompt, a random segment given twice, drawn from the prompt's own seed: each head's attention to
   the token before, to earlier copies of its own token and to what follows them, and whether it raises the logit of the
   token it attends to (`interp.heads.random_scores`). On the prompt itself: attention on the anchor, the key that
   receives most. Where the prompt hides a needle: the answer, and which heads copied it (`interp.retrieval.measure`).
2. Find. A head belongs to every class whose score, mean over prompts, reaches its threshold; it is shown as the first
   of retrieval + induction, retrieval, induction, previous, duplicate, sink, copy, none.
3. Check. On a fresh random sequence for every prompt, zero all heads of a class and, apart, as many random heads (of
   the same layers, where these have enough others); note the loss on the second copy, which only what reads the first
   copy can lower, and how much the induction heads still attend as they should.
4. Conclude. The verdict rests on the induction heads: verified when zeroing them raises that loss, and more than
   zeroing random heads does, both by a bootstrap interval over sequences. The other classes' changes are shown beside.
   (Retrieval heads have a check of their own, on needles, in the finder `retrieval-heads`.)

``summary["claims"]``: ``loss.first`` and ``loss.second`` (nats, untouched), and for each class ``change.<class>``,
``change_random.<class>``, ``difference.<class>`` (loss on the second copy) and ``induction_change.<class>``,
``induction_change_random.<class>`` (the induction heads' score), each {mean, low, high, n} over fresh sequences; None
with ``why`` where the class is empty or has no random heads to stand against. ``summary["counts"]``: heads by class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from interp.finders.base import ModelFacts, Unit
from interp.findings import Findings
from interp.heads import check, classes, pictures, words
from interp.heads.config import COLUMNS, KINDS, TESTED, HeadsConfig
from interp.heads.measure import effort, measure
from interp.registry import finder
from interp.retrieval import cache
from interp.verify import over_prompts, paired
from probes.base import Prompt


@finder("heads", config=HeadsConfig)
class Heads:
    """The finder; see the module docstring and `interp.finders.base.Finder`."""

    probe = "needle"
    max_length = 1024
    effort = staticmethod(effort)

    def measure(self, model: Any, prompt: Prompt, config: HeadsConfig) -> Unit:
        """1. All scores of one prompt."""
        return measure(model, prompt, config)

    def find(
        self, prompts: Sequence[Prompt], units: Sequence[Unit], config: HeadsConfig, facts: ModelFacts
    ) -> Findings:
        """2. Means, intervals, classes."""
        scores = classes.scores(prompts, units, config)
        sets = classes.members(scores, config)
        table = classes.table(scores, sets)
        distinct = classes.first_of_each(prompts)
        summary = {
            "settings": asdict(config),
            "shape": [int(size) for size in scores["sink"].mean.shape],
            "counts": {kind: len(heads) for kind, heads in sets.items()},
            "shown": {str(name): int(n) for name, n in table["class"].value_counts().items()},
            "sets": {kind: [list(head) for head in heads] for kind, heads in sets.items()},
            "behind": {kind: scores[kind].n for kind in KINDS},
            "prompts": [
                {
                    "name": prompt.name,
                    "T": len(prompt),
                    "anchor": unit.facts["anchor"],
                    "recall": unit.facts["recall"],
                    "checked": index in distinct[: config.checked],
                }
                for index, (prompt, unit) in enumerate(zip(prompts, units, strict=True))
            ],
        }
        arrays = {kind: scores[kind].mean.astype("float32") for kind in (*KINDS, "qr_score") if scores[kind].n}
        findings = Findings("heads", table, COLUMNS, "", arrays, summary)
        findings.verdict = words.found(findings, facts)
        findings.caveats = words.caveats(findings, prompts, config)
        findings.heatmaps = pictures.heatmaps(table, scores)
        findings.charts = pictures.charts(table, config)
        findings.table = classes.best_first(table)
        return findings

    def check(self, model: Any, prompt: Prompt, index: int, findings: Findings, config: HeadsConfig) -> Unit | None:
        """3. Every class taken out, on a fresh sequence."""
        sets = findings.summary["sets"]
        if not findings.summary["prompts"][index]["checked"] or not any(sets.values()):
            return None
        return check.check(model, prompt, index, sets, config)

    def conclude(self, findings: Findings, checks: Sequence[Unit | None], config: HeadsConfig) -> Findings:
        """4. The verdict on the induction heads, and the other classes beside."""
        ran = [
            (told["name"], unit.facts)
            for told, unit in zip(findings.summary["prompts"], checks, strict=True)
            if unit is not None
        ]
        tested = [
            (name, facts["classes"][TESTED])
            for name, facts in ran
            if TESTED in facts["classes"] and facts["classes"][TESTED]["loss_random"] is not None
        ]
        verification = paired(
            [name for name, _ in tested],
            [told["loss"] for _, told in tested],
            [told["loss_random"] for _, told in tested],
            metric=words.METRIC,
            how=words.how(findings, config),
            seed=config.seed,
            also_alone=True,
        ).verification()
        verification = replace(verification, unit="sequence")
        if not tested and findings.summary["counts"][TESTED] and ran:
            verification = replace(verification, verdict="not run", how=words.NO_CONTROL)
        claims = claimed([facts for _, facts in ran], config)
        done = replace(findings, verification=verification, summary={**findings.summary, "claims": claims})
        done.verdict = words.verdict(done)
        done.caveats = [*findings.caveats, *words.unproved(claims)]
        done.charts = [*findings.charts, *pictures.check_charts(claims)]
        done.sheets = pictures.sheets(done)
        return done

    def prepare(self, model: Any) -> None:
        """Remember a prompt for the next one that begins alike."""
        cache.remember(model)

    def release(self, model: Any) -> None:
        """Free what was remembered of the prompts of a model."""
        cache.forget(model)


def claimed(ran: Sequence[dict[str, Any]], config: HeadsConfig) -> dict[str, Any]:
    """See the module docstring."""
    out: dict[str, Any] = {
        f"loss.{copy}": over_prompts([facts[copy] for facts in ran], config.seed, "nothing was checked")
        for copy in ("first", "second")
    }
    names = {"change": "loss", "induction_change": "induction"}
    for kind in KINDS:
        told = [facts["classes"][kind] for facts in ran if kind in facts["classes"]]
        for claim, key in names.items():
            for end in ("", "_random"):
                values = [one[f"{key}{end}"] for one in told if one[f"{key}{end}"] is not None]
                out[f"{claim}{end}.{kind}"] = over_prompts(values, config.seed, words.WHY)
        both = [one["loss"] - one["loss_random"] for one in told if one["loss_random"] is not None]
        out[f"difference.{kind}"] = over_prompts(both, config.seed, words.WHY)
    return out


heads = Heads()
"""What the registry's built-in line points at."""
