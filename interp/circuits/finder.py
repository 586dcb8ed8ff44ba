"""Circuits: which heads a model answers a task with, what each of them does, and whether that explains the answer.

After Wang et al. 2022 (arXiv 2211.00593: indirect object identification) and Merullo et al. 2023 (arXiv 2310.08744:
Colored Objects reuses that circuit). Prompts are pairs of a clean prompt and a corrupted twin
(`interp.circuits.pairs`).

1. Measure. For every pair: whether the model answers rightly, where each head looks between the named positions,
   what it adds to the logit difference and whether it raises the token it looks at (`interp.circuits.evidence`).
1b. Explore. A model that does not prefer the answer is refused, unless told otherwise. Then, on all pairs: the total
   and direct effect of every head and their first-order estimates (`interp.circuits.measured`); a search backwards from
   the logits, stage by stage, by path patching, in which one half of the prompts chooses (`interp.circuits.stages`);
   classes of the heads found (`interp.circuits.classes`); and on the other half how the circuit does without all other
   heads, what is missing and what is superfluous in it (`interp.circuits.faithful`).
2. Find. The table of all heads: effects as shares of the gap between clean and corrupted prompts, with bootstrap
   intervals over the prompts that choose, tests with corrections for the number of heads, and how surely a head would
   be found again (on resamples, and on the other half).
3. Check. On each held-out prompt the outputs of the circuit's heads that support the answer (their effect in the stage
   that found them is positive) come from the corrupted twin, and apart those of as many random heads of the same layers
   outside the circuit. Heads that work against the answer are left alone: without them it would rise again.
4. Conclude. Verified when the logit difference falls, and by more than with random heads, by a bootstrap interval over
   the held-out prompts.

``summary["claims"]``: figures {mean, low, high, n} of the behaviour (all prompts) and of what the check measured
(``knocked_out``, ``knocked_out_random``, ``knocked_out_difference``), for `interp reproduce` and `interp compare`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from math import ceil
from typing import Any

import numpy as np

from interp.ablation.choose import numbered, random_heads
from interp.circuits import pictures, sheets, words
from interp.circuits.behaviour import FIGURES
from interp.circuits.config import CLASSES, COLUMNS, CircuitConfig
from interp.circuits.evidence import evidence
from interp.circuits.explore import explore
from interp.circuits.knockout import Knockout, places
from interp.circuits.measured import KINDS, task_of
from interp.circuits.pairs import pair_of
from interp.circuits.roles import ROLES
from interp.circuits.stages import AUTO
from interp.circuits.table import best_first, first_stages, mlps, table
from interp.finders.base import Effort, Kept, ModelFacts, Unit
from interp.findings import Findings
from interp.registry import finder
from interp.verify import over_prompts, paired
from probes.base import Prompt


@finder("circuit", config=CircuitConfig)
class Circuit:
    """The finder; see the module docstring and `interp.finders.base.Finder`."""

    probe = "ioi"

    def needs(self, prompt: Prompt) -> None:
        """`UsageError` for a prompt without a pair."""
        pair_of(prompt)

    def suits(self, prompt: Prompt, config: CircuitConfig) -> None:
        """Refuse a prompt that has not the positions that the settings speak of."""
        if config.position != "all":
            places(prompt, config.position)
        for stage in config.stages[1:]:
            position = stage.partition("@")[2]
            if position != AUTO and position not in ROLES:
                places(prompt, position)

    def effort(self, config: CircuitConfig, prompts: Sequence[Prompt], shape: tuple[int, int]) -> Effort:
        """For ``--dry-run``: patching is nearly all of it. A head's total effect takes half of the blocks on average,
        from the first token on that differs; a path the same."""
        layers, heads = shape
        senders = layers * (heads + 1)
        later = np.mean([1 - pair_of(prompt).differs / len(prompt) for prompt in prompts])
        longest = max(map(len, prompts))
        return Effort(
            passes=8 + 2 * config.points + 0.5 * float(later) * senders * (len(config.stages)),
            caches=ceil(config.tokens / longest),  # every row has one of what stands before
            at_once=max(config.tokens, longest),
            reads=5.0,  # states, MLPs and heads' outputs of the clean side, the latter two of the other
            bounded=True,
            logits=0,
            edits=False,  # part of what runs side by side
        )

    def measure(self, model: Any, prompt: Prompt, config: CircuitConfig) -> Unit:
        """1. Behaviour, and every head's look, on one pair."""
        return evidence(model, prompt)

    def explore(
        self, model: Any, prompts: Sequence[Prompt], units: Sequence[Unit], config: CircuitConfig, kept: Kept
    ) -> Unit:
        """1b. See `interp.circuits.explore`."""
        return explore(model, prompts, units, config, kept)

    def find(
        self,
        prompts: Sequence[Prompt],
        units: Sequence[Unit],
        config: CircuitConfig,
        facts: ModelFacts,
        explored: Unit,
    ) -> Findings:
        """2. The table, the circuit, the pictures."""
        told = explored.facts
        sequences = numbered([prompt.hash for prompt in prompts])
        made = table(explored, sequences, config)
        circuit = [tuple(head) for head in told["circuit"]]
        summary = {
            "settings": asdict(config),
            "model": facts.name,
            "shape": [facts.n_layers, facts.n_heads],
            "heads": len(made),
            "task": task_of(prompts),
            "behaviour": told["behaviour"],
            "select": [prompts[index].name for index in told["select"]],
            "held_out": [prompts[index].name for index in told["held_out"]],
            "stages": told["stages"],
            "circuit": told["circuit"],
            "supporting": supporting(told["stages"]),
            "classes": classes_of(made, circuit),
            "backups": told["backups"],
            "evidence": told["told"],
            "evaluation": told["evaluation"],
            "mlps": mlps(explored, sequences),
            "prompts": [
                {"name": prompt.name, "T": len(prompt), "held_out": index in told["held_out"], "sequence": sequence}
                for index, (prompt, sequence) in enumerate(zip(prompts, sequences, strict=True))
            ],
        }
        arrays = {name: explored.arrays[name] for kind in KINDS for name in (kind, f"{kind}_mlps")}
        arrays |= {"gap": explored.arrays["gap"], "backup": explored.arrays["backup"]}
        arrays |= {name: values for name, values in explored.arrays.items() if name.startswith("stage.")}
        findings = Findings("circuit", made, COLUMNS, "", arrays, summary)
        findings.verdict = words.found(findings)
        findings.caveats = words.caveats(findings, prompts, config)
        findings.heatmaps = pictures.heatmaps(made, (facts.n_layers, facts.n_heads))
        drawn = pictures.graph(summary)
        findings.graphs = [] if drawn is None else [drawn]
        findings.charts = pictures.charts(summary)
        findings.sheets = sheets.sheets(summary, made)
        findings.table = best_first(made)
        return findings

    def check(self, model: Any, prompt: Prompt, index: int, findings: Findings, config: CircuitConfig) -> Unit | None:
        """3. The circuit's heads from the corrupted twin, and random ones.

        Facts: the logit difference: ``clean``, ``circuit`` (without its supporting heads) and ``random`` (mean over the
        draws; None where the model has too few other heads).
        """
        told: dict[str, Any] = findings.summary
        circuit, heads = ([(layer, head) for layer, head in told[key]] for key in ("circuit", "supporting"))
        if not heads or not findings.summary["prompts"][index]["held_out"]:
            return None
        shape = (model.n_layers, model.n_heads)
        draws = [random_heads(heads, shape, (config.seed, index, draw), circuit) for draw in range(config.controls)]
        sets = [[], heads, *(draw for draw in draws if draw is not None)]
        clean, without, *random = Knockout(model, [prompt], "resample", tokens=config.tokens).differences(sets)[:, 0]
        return Unit(
            facts={
                "clean": float(clean),
                "circuit": float(without),
                "random": float(np.mean(random)) if random else None,
            }
        )

    def conclude(self, findings: Findings, checks: Sequence[Unit | None], config: CircuitConfig) -> Findings:
        """4. Whether the answer hangs on these heads more than on others."""
        ran = [
            (told["name"], told["sequence"], unit.facts)
            for told, unit in zip(findings.summary["prompts"], checks, strict=True)
            if unit is not None
        ]
        once = {sequence: (name, facts) for name, sequence, facts in reversed(ran)}.values()  # equal prompts count once
        both = [(name, facts) for name, facts in reversed(once) if facts["random"] is not None]
        verification = paired(
            [name for name, _ in both],
            [facts["circuit"] - facts["clean"] for _, facts in both],
            [facts["random"] - facts["clean"] for _, facts in both],
            metric=words.METRIC,
            how=words.how(findings, config),
            expected="lower",
            seed=config.seed,
            also_alone=True,
        ).verification()
        if ran and not both:
            verification = replace(verification, verdict="not run", how=words.NO_CONTROL)
        claims = claimed(findings, [facts for _, facts in both], config)
        done = replace(findings, verification=verification, summary={**findings.summary, "claims": claims})
        done.verdict = words.verdict(done)
        return done


def supporting(stages: Sequence[dict[str, Any]]) -> list[list[int]]:
    """The heads whose effect in the first stage that took them supports the answer, in order."""
    return sorted([*head] for head, (_, effect) in first_stages(stages).items() if effect > 0)


def classes_of(made: Any, circuit: Sequence[Any]) -> dict[str, list[list[int]]]:
    """Class -> the circuit's heads of it."""
    rows = made[[head in set(circuit) for head in zip(made["layer"], made["head"], strict=True)]]
    return {
        name: rows.loc[rows["class"] == name, ["layer", "head"]].astype(int).to_numpy().tolist()
        for name in CLASSES
        if (rows["class"] == name).any()
    }


def claimed(findings: Findings, checked: Sequence[dict[str, Any]], config: CircuitConfig) -> dict[str, Any]:
    """See the module docstring."""
    told, why = findings.summary, "nothing was checked: no held-out prompt, no circuit, or too few other heads"
    out: dict[str, Any] = {name: told["behaviour"][name] for name in FIGURES}
    for name in ("circuit", "random"):
        changes = [facts[name] - facts["clean"] for facts in checked]
        out["knocked_out" + "_random" * (name == "random")] = over_prompts(changes, config.seed, why)
    more = [facts["circuit"] - facts["random"] for facts in checked]
    return {**out, "knocked_out_difference": over_prompts(more, config.seed, why)}


circuit = Circuit()
"""What the registry's built-in line points at."""
