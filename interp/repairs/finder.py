"""Repair: what the last token attends to in a few heads is replaced, so that a task the model fails comes right.

The published edit is that of Merullo et al. 2023 (arXiv 2310.08744): in Colored Objects, the rows of inhibition heads
and of a negative mover at the last token are put evenly on the wrong colours. It is told which colours are wrong: an
upper bound, not a fix (``oracle``). Beside it stand edits that are computed without the answer, from the prompt and the
model's own untouched run:

- ``inhibit``: the rows lie evenly on the candidates that the model's own heads speak against. The duplicate and
  induction heads (pointers) attend from where the question names its object to where it stood in the list; the
  candidate whose span they attend to most is the one pointed at. Whether that one is to be spared (Colored Objects) or
  inhibited (IOI), the training prompts say.
- ``point``: the same the other way round, for heads that move what they attend to.
- ``donor``: the mean row of the same head in IOI prompts, role by role.
- ``scale``: the head's output at the last token is multiplied by a factor.

1. Measure. Logit difference and whether the answer comes first, prompt by prompt, untouched.
2. Explore. On a seeded training half: find pointers, movers and what pointing tells; try every edit in every head
   alone, then the best of them together, greedily, as long as more training prompts come right. Named heads are taken
   as they are.
3. Find. One row of the table an edit and its heads, and one for each of its heads alone.
4. Check. On each held-out prompt, every edit, beside the same edit in random heads of the same layers.
5. Conclude. Of the edits without the label, the best on the training prompts is the one that is judged: verified when
   its accuracy on the held-out prompts rises, and more than with random heads, both by a bootstrap interval.

``summary["claims"]``: edit -> figures on held-out prompts, each {mean, low, high, n}.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd

from interp.ablation.choose import control_layers
from interp.ablation.measure import check_origin
from interp.circuits.pairs import pair_of
from interp.finders.base import Kept, ModelFacts, Unit
from interp.findings import Findings
from interp.registry import finder
from interp.repairs import check as checking
from interp.repairs import pictures, words
from interp.repairs.choose import split
from interp.repairs.config import COLUMNS, ORACLE, RepairConfig
from interp.repairs.explore import explore, named
from interp.repairs.table import filled, judged
from probes.base import Prompt


@finder("repair", config=RepairConfig)
class Repair:
    """The finder; see the module docstring and `interp.finders.base.Finder`."""

    probe = "colored-objects"
    passes = 24.0  # forward passes a prompt, for --dry-run: what is tried costs one token each

    def needs(self, prompt: Prompt) -> None:
        """A prompt needs its pair."""
        pair_of(prompt)

    def measure(self, model: Any, prompt: Prompt, config: RepairConfig) -> Unit:
        """1. The untouched model."""
        check_origin(model, config.origin, config.origin_shape)
        for labels in (config.heads, config.pointers, config.movers):
            named(labels, model)
        return checking.untouched(model, prompt, config)

    def explore(
        self, model: Any, prompts: Sequence[Prompt], units: Sequence[Unit], config: RepairConfig, kept: Kept
    ) -> Unit:
        """2. The training prompts."""
        return explore(model, prompts, split(prompts, config)[0], config, kept)

    def find(
        self,
        prompts: Sequence[Prompt],
        units: Sequence[Unit],
        config: RepairConfig,
        facts: ModelFacts,
        explored: Unit,
    ) -> Findings:
        """3. The edits, and what they do on the training prompts."""
        train, test = split(prompts, config)
        found = explored.facts
        variants = []
        for edit, told in found["edits"].items():
            sets = [("all", told["heads"])] if told["heads"] else []
            sets += [("one", [head]) for head in told["heads"]] if len(told["heads"]) > 1 else []
            variants += [{"edit": edit, "part": part, "heads": heads, "factor": told["factor"]} for part, heads in sets]
        rows = [
            {
                "edit": one["edit"],
                "heads": words.listed(one["heads"]),
                "part": one["part"],
                "label_free": one["edit"] != ORACLE,
                "factor": one["factor"],
                "train_top1": found["edits"][one["edit"]]["top1"] if one["part"] == "all" else None,
            }
            for one in variants
        ]
        columns = [column.name for column in COLUMNS]
        table = pd.DataFrame(rows, columns=columns).astype({column.name: column.dtype for column in COLUMNS})
        summary = {
            "settings": asdict(config),
            "shape": [facts.n_layers, facts.n_heads],
            "train": [prompts[i].name for i in train],
            "test": [prompts[i].name for i in test],
            "held_out": [i in test for i in range(len(prompts))],
            "names": [prompt.name for prompt in prompts],
            "untouched": {
                name: float(np.mean([units[i].facts[name] for i in sorted((*train, *test))]))
                for name in ("difference", "choice", "top1")
            },
            "pointers": found["pointers"],
            "movers": found["movers"],
            "spare": found["spare"],
            "train_untouched": found["untouched"],
            "agree": found["agree"],
            "undefined": found["undefined"],
            "edits": found["edits"],
            "variants": variants,
            "judged": judged(found["edits"]),
            "control_layers": {
                edit: control_layers([tuple(head) for head in told["heads"]], (facts.n_layers, facts.n_heads))
                for edit, told in found["edits"].items()
            },
        }
        findings = Findings("repair", table, COLUMNS, "", dict(explored.arrays), summary, table_title="Edits")
        findings.verdict = words.found(findings, config, facts)
        findings.caveats = words.caveats(findings, prompts, config)
        findings.heatmaps = pictures.heatmaps(findings, config)
        findings.sheets = pictures.sheets(findings, config)
        return findings

    def check(self, model: Any, prompt: Prompt, index: int, findings: Findings, config: RepairConfig) -> Unit | None:
        """4. Every edit on a held-out prompt."""
        summary = findings.summary
        if not summary["held_out"][index] or not summary["variants"]:
            return None
        return checking.check(model, prompt, index, summary, findings.arrays, config)

    def examine(self, model: Any, findings: Findings, config: RepairConfig) -> Unit:
        """What scaling the heads at every token does to plain text; the other edits can only be made in the task."""
        told = findings.summary["edits"].get("scale")
        if not told or not told["heads"]:
            return Unit(facts={"texts": []})
        return checking.on_text(model, checking.pairs_in(told["heads"]), told["factor"], config)

    def conclude(
        self, findings: Findings, checks: Sequence[Unit | None], config: RepairConfig, examined: Unit | None
    ) -> Findings:
        """5. The held-out figures and the verdict."""
        texts = examined.facts["texts"] if examined else []
        table, verifications, claims = filled(findings, checks, texts, config)
        chosen = findings.summary["judged"]
        verification = verifications.get(chosen) or words.nothing(findings, config)
        pointed = [unit.facts["pointed"] for unit in checks if unit is not None and unit.facts["pointed"] is not None]
        more = {
            "claims": claims,
            "texts": texts,
            "texts_why": examined.facts.get("why") if examined else None,
            "texts_random": bool(examined and examined.facts.get("random")),
            "pointed": float(np.mean(pointed)) if pointed else None,
        }
        done = replace(findings, table=table, verification=verification, summary={**findings.summary, **more})
        done.verdict = words.verdict(done, config)
        done.charts = pictures.charts(done, config)
        done.caveats = [*findings.caveats, *words.held_out_caveats(done)]
        return done


repair = Repair()
"""What the registry's built-in line points at."""
