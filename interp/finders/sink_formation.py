"""How sinks are formed.

Wong et al. 2025 (arXiv 2512.22213): particular MLPs map the states of some tokens onto the direction of the primary
sink, the anchor. The sinks are those of the finder `sinks`; a sink's forming block is the first whose output is its
state (column start_layer).

1. Measure. In a second traced pass, at each sink's forming block l, read at the sink, at the anchor and at control
   tokens: MLP input, gate, up, act(gate), act(gate) * up, MLP output, attention output, the states before and after.
   Controls are the same token id where it is no sink, in the same prompt or another (see `formation_rows.controls`);
   else a nearby ordinary token.
2. Compare. The cosine of each quantity with the anchor's in block l, sinks against controls, intervals over prompts.
   As the anchor may be a sink before block l, also the cosine of what the MLP adds with the anchor's state after it.
3. Attribute. With u the sink's state after block l, scaled to length 1, the projection gained there is (resid_post -
   resid_pre) . u = mlp . u + sum over heads of head . u + bias . u. "Formed by" is the MLP where it wrote as much as
   all of attention, else the head with the largest share; nobody, where more than `carried` of the state was there
   before. In a mixture of experts the MLP's part splits further into the experts that fired.
4. Components. PCA of the centred MLP inputs of sinks (and of secondary sinks alone) and as many controls, by block;
   each signed unit component is fed
   through that MLP, at the site it reads: output norm, cosine with its output for the anchor ("effective" beyond 0.98);
   and the same for the component at scales -20 .. 19.
5. Check. Silence the named module at the sink, in block l alone: it has to lose a larger share of the attention it
   receives than control tokens do under the same edit.
6. Conclude. Verified when it does, by an interval over prompts.

``summary["claims"]``: name -> {mean, low, high, n prompts, values, or why}: ``mlp_share.<primary, secondary, transient,
anchor>``, of sinks with a named former (``left_out``: how many without); ``cosine.<quantity>.<sinks, controls,
difference, secondary>``, quantities as in the table, sinks without the anchor, any control; ``cosine.<quantity>.
difference_secondary``, secondary sinks and same-token controls only; ``formed_by`` = {counts, n, unnamed};
``effective_components`` = {effective, n, components, secondary} (`formation_pca.directions`); ``check.<all, anchor,
others, primary, secondary, transient, secondary_mlp>`` = share of attention lost, {verdict, effect, control, ...}, the
last of secondary sinks that an MLP formed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import pandas as pd

from interp.finders import formation_check, formation_measure, formation_pca, formation_pictures, formation_words
from interp.finders.base import ModelFacts, Unit
from interp.finders.formation_config import COLUMNS, FormationConfig
from interp.finders.formation_former import former
from interp.finders.formation_rows import claims, controls, expert_rows, lacking, table_row
from interp.finders.sink_words import effect_facts
from interp.findings import Findings
from interp.registry import finder
from probes.base import Prompt


@finder("sink-formation", config=FormationConfig, version="2")
class SinkFormation:
    """The finder; see the module docstring and `interp.finders.base.Finder`."""

    def measure(self, model: Any, prompt: Prompt, config: FormationConfig) -> Unit:
        """1. Sinks, then what their forming blocks did."""
        return formation_measure.measure(model, prompt, config)

    def find(
        self, prompts: Sequence[Prompt], units: Sequence[Unit], config: FormationConfig, facts: ModelFacts
    ) -> Findings:
        """2 to 4, as far as they need no model."""
        rows = [
            [{**row, "formed_by": former(row, config.carried)} for row in unit.facts["rows"]] for unit in units
        ]  # 3
        control = controls(prompts, units)  # 2
        listed = [
            table_row(prompt, unit, i, told, found)
            for prompt, unit, mine, found in zip(prompts, units, rows, control, strict=True)
            for i, told in enumerate(mine)
        ]
        table = pd.DataFrame(listed, columns=[c.name for c in COLUMNS]).astype({c.name: c.dtype for c in COLUMNS})
        labels = [
            [f"{prompt.name} {row['position']} {prompt.tokens[row['position']]!r}" for row in mine]
            for prompt, mine in zip(prompts, rows, strict=True)
        ]
        inputs = formation_pca.pooled(units, labels, config)  # 4
        inputs.sort(key=lambda one: (-len(one.sinks), one.key))
        summary = {
            "settings": asdict(config),
            "T": [len(prompt) for prompt in prompts],
            "claims": claims(rows, units, control, config),
            "lacks": lacking(units),
            "experts": expert_rows(rows),
            "pca": [],
            "attention_path": sorted({unit.facts["attention_path"] for unit in units}),
            "prompts": [
                {"name": prompt.name, "anchor": unit.facts["anchor"], "rows": mine}
                for prompt, unit, mine in zip(prompts, units, rows, strict=True)
            ],
        }
        findings = Findings("sink-formation", table, COLUMNS, "", {}, summary)
        if any(mine for mine in rows):
            findings.sheets.append(formation_pictures.former_sheet(rows))
            findings.sheets.append(formation_pictures.cosine_sheet(summary["claims"]))
        if summary["claims"]["cosine.mlp_out.sinks"]["mean"] is not None:
            findings.charts.append(formation_pictures.cosine_chart(summary["claims"]))
        if summary["experts"]:
            findings.sheets.append(formation_pictures.expert_sheet(summary["experts"]))
        for number, one in enumerate(inputs):
            axes, explained, scores = formation_pca.components(one, config.components)
            facts_of = {name: getattr(one, name) for name in ("block", "key", "among", "anchors", "prompts")}
            summary["pca"].append({**facts_of, "sinks": len(one.sinks), "explained": explained.tolist()})
            findings.arrays[f"components.{one.key}"] = axes
            findings.arrays[f"anchor_out.{one.key}"] = one.anchor_out
            findings.arrays[f"anchor_state.{one.key}"] = one.direction
            if number < config.draw and len(axes):
                findings.charts.append(formation_pictures.scatter(one, scores, explained.tolist()))
        findings.verdict = formation_words.verdict(findings, facts)
        findings.caveats = formation_words.caveats(findings, prompts, config, facts)
        return findings

    def check(self, model: Any, prompt: Prompt, index: int, findings: Findings, config: FormationConfig) -> Unit | None:
        """5. Attention received with the named modules silent."""
        return formation_check.check(model, prompt, index, findings, config)

    def examine(self, model: Any, findings: Findings, config: FormationConfig) -> Unit:
        """4. Components through their MLPs."""
        return formation_pca.examine(model, findings, config)

    def conclude(
        self, findings: Findings, checks: Sequence[Unit | None], config: FormationConfig, examined: Unit
    ) -> Findings:
        """6. Verdict of the check, and what the components did."""
        effects = {
            group: formation_check.effects(findings, checks, group, config).verification()
            for group in formation_check.GROUPS
        }
        verification = effects["all"]
        if verification.prompts == 0 and any(told["rows"] for told in findings.summary["prompts"]):
            verification = replace(verification, verdict="not run", how=formation_check.NO_CONTROL)
        signed = formation_pca.signed(findings, examined, config)
        secondary = formation_pca.directions(findings, signed, config)
        effective = {
            "effective": sum(one["effective"] for one in signed),
            "n": len(signed),
            "components": signed,
            "secondary": secondary,
        }
        said = [findings.verdict, formation_words.component_sentence(signed, secondary, config)]
        said.append(formation_words.effect_sentence(verification, "the sinks"))
        if effects["anchor"].effect is not None and effects["others"].effect is not None:
            said.append(formation_words.effect_sentence(effects["anchor"], "the anchor alone"))
            said.append(formation_words.effect_sentence(effects["others"], "the sinks beside it alone"))
        concluded = replace(
            findings,
            verification=verification,
            verdict=" ".join(text for text in said if text),
            summary={
                **findings.summary,
                "claims": {
                    **findings.summary["claims"],
                    "effective_components": effective,
                    **{f"check.{group}": effect_facts(effect) for group, effect in effects.items()},
                },
            },
            arrays=dict(findings.arrays),
            charts=list(findings.charts),
            sheets=list(findings.sheets),
        )
        formation_pictures.with_examined(concluded, examined, signed, config)
        return concluded


sink_formation = SinkFormation()
"""What the registry's built-in line points at."""
