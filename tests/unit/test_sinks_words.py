"""The sinks finder's verdict: a heading that is short, every fact in it once, and what each rule's kinds mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import pytest

from interp.finders import sink_words
from interp.finders.base import ModelFacts
from interp.finders.sink_config import COLUMNS
from interp.findings import Findings
from interp.report.sections import first_sentence

HEADING = 160  # characters, with the longest name shown
BOS = "'<|im_start|>' (id 1, the tokenizer's BOS, added: --bos add)"
PRIMARY, SECONDARY, TRANSIENT = ("primary", 1), ("secondary", 11), ("transient", 5)


def facts(name: str = "smollm2-135m") -> ModelFacts:
    return ModelFacts(name, "llama", "LlamaForCausalLM", 30, 9, 576, False, BOS)


def findings(
    anchors: list[int | None],
    others: Sequence[tuple[str, int]] = (),
    sizes: tuple[int, ...] = (192,),
    rule: str = "relative",
) -> Findings:
    """Prompts with an anchor at each of `anchors`, and in each of these two more tokens for every (kind, start)."""
    rows = []
    for i, anchor in enumerate(anchors):
        if anchor is not None:
            rows += [_row(i, anchor, "primary", 1), _row(i, anchor, "primary", 11)]
            rows += [_row(i, at, kind, start) for kind, start in others for at in (anchor + start + 20, 99 + start)]
    table = pd.DataFrame(rows, columns=[column.name for column in COLUMNS])
    told = [
        {"name": f"text {i}", "anchor": at, "anchor_spans": [] if at is None else [[1, 8], [11, 18]]}
        for i, at in enumerate(anchors)
    ]
    rate = {"anchor": {"percent": 45.21, "mean_mass": 0.384}}
    return Findings(
        "sinks",
        table.astype({column.name: column.dtype for column in COLUMNS}),
        COLUMNS,
        "",
        summary={"prompts": told, "T": list(sizes), "sink_rate": rate, "eps": 0.3, "rule": rule},
    )


def _row(prompt: int, position: int, kind: str, start: int) -> dict[str, Any]:
    return {"prompt": f"text {prompt}", "position": position, "kind": kind, "start_layer": start, "received": 0.04}


def test_the_first_sentence_is_a_heading_and_the_rest_holds_the_other_facts() -> None:
    said = sink_words.verdict(findings([0] * 8, [PRIMARY, TRANSIENT]), facts())
    heading, rest = first_sentence(said)
    assert heading == (
        "smollm2-135m keeps a primary sink at position 0 in 8 of 8 prompts (T = 192), blocks 1-8 and 11-28, "
        "with 38 % of the attention."
    )
    assert f"Position 0 is {BOS}." in rest
    assert "45.2 % give the sink more than 0.3 (Sink_k)" in rest
    assert rest.endswith(
        " 16 other tokens live and die with it (primary; in 8 prompts, starting at block 1, drawing 4 %), "
        "16 have another span (transient; in 8 prompts, starting at block 5, drawing 4 %), none is secondary."
    )


@pytest.mark.parametrize("name", ["gpt2", "HuggingFaceTB/SmolLM2-1.7B-Instruct", "a/" + "very-long-name-" * 20])
@pytest.mark.parametrize("anchors", [[0] * 8, [6, 0, 3, 6, None]])
def test_headings_are_short_for_any_name(name: str, anchors: list[int | None]) -> None:
    said = sink_words.verdict(findings(anchors, [PRIMARY], (105, 512)), facts(name))
    assert len(first_sentence(said)[0]) <= HEADING
    assert "(T = 105 to 512)" in first_sentence(said)[0]


def test_anchors_elsewhere_and_prompts_without_are_counted() -> None:
    said = sink_words.verdict(findings([6, 6, 0, None]), facts())
    assert said.startswith("smollm2-135m keeps a primary sink at position 6 in 2 of 4 prompts")
    assert " In 1 prompt it stands at another position." in said
    assert said.endswith("No other token is a sink.")
    assert "another position" not in sink_words.verdict(findings([0, 0, None]), facts())


def test_without_sinks_the_verdict_still_says_what_stands_first() -> None:
    said = sink_words.verdict(findings([None, None]), facts())
    assert said == f"No attention sink was found in smollm2-135m, 2 prompts of T = 192 tokens. Position 0 is {BOS}."


def test_what_stands_first_is_told_once() -> None:
    found = findings([0] * 8)
    told = " ".join([sink_words.verdict(found, facts()), *_caveats(found)])
    assert told.count(BOS) == 1 and "((" not in told and f"({BOS}" not in told
    assert "Sinks depend on what stands at position 0" in told


def _caveats(found: Findings) -> list[str]:
    from interp.finders.sink_config import SinksConfig

    return sink_words.caveats(found, [], [], SinksConfig(rule="wong2025"), facts())


def test_tokens_are_counted_not_their_spans() -> None:
    found = findings([0], [("transient", 5)])
    twice = found.table[found.table["kind"] == "transient"].assign(start_layer=14)
    found.table = pd.concat([found.table, twice], ignore_index=True)
    assert "2 other tokens have another span (transient; in 1 prompt, starting at blocks 5 to 14," in sink_words.others(
        found
    )


def test_each_rule_has_its_own_meaning_of_the_kinds() -> None:
    ours = sink_words.others(findings([0], [SECONDARY]))
    assert "2 other tokens start later (secondary; " in ours and ours.endswith("none is primary or transient.")
    released = sink_words.others(findings([0], [PRIMARY, SECONDARY, TRANSIENT], rule="wong2025"))
    for said in ("2 other tokens live long (primary;", ", 2 live shorter (secondary;", ", 2 are noise (transient;"):
        assert said in released
    assert "with it" not in released and "none is" not in released


def test_sinks_that_no_block_reads_draw_nothing_that_could_be_told() -> None:
    found = findings([0], [TRANSIENT])
    found.table.loc[found.table["kind"] == "transient", "received"] = float("nan")
    assert "nan" not in sink_words.others(found)
