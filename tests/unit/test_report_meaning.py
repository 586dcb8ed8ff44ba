"""What a page of head scores says: colour scales, colours by role, the unit of its check, hints of its own columns."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from interp.cli.output import check_line, without_ends
from interp.findings import Chart, Heatmap, Series, Verification
from interp.heads.classes import best_first
from interp.heads.config import SHOWN
from interp.report import scales, sections
from interp.report.charts import chart_data
from interp.report.figures import check_sentence
from interp.retrieval.words import recall_lost
from tests import retrieval_units


def test_known_limits_are_the_ends_of_the_scale_and_an_even_map_begins_at_zero() -> None:
    even = np.full((2, 2), 0.8)
    known = Heatmap("recall", "", even, "", "", "", limits=(0.0, 1.0))
    assert scales.scale(known) == scales.Scale(False, 0.0, 1.0)
    assert scales.scale(Heatmap("other", "", even, "", "", "")) == scales.Scale(False, 0.0, 0.8)


def test_a_role_keeps_its_colour_whatever_its_place() -> None:
    made = [Series(str(role), (0.0,), (1.0,), role=role) for role in ("control", "found", SHOWN.index("sink"), 0, None)]
    colours = [one["colour"] for one in chart_data(Chart("c", "", "", "", tuple(made)))["series"]]
    assert colours[:2] == [scales.CONTROL, scales.FOUND]
    assert colours[2] == scales.steps(len(SHOWN))[2 * SHOWN.index("sink")][1]
    assert colours[3] == scales.CONTROL and colours[4] == scales.CATEGORIES[4]


def test_the_check_counts_its_own_units() -> None:
    check = Verification("too few to say", "recall", "how", prompts=4, effect=-0.5, unit="needle")
    assert check_line(check).endswith("4 needles") and check_sentence(check).endswith("over 4 needles.")


def test_hints_name_columns_of_this_table() -> None:
    heads = pd.DataFrame({"layer": [3], "head": [1], "score": [0.5], "class": ["weak"]}).astype({"class": "string"})
    hints = sections.filter_hints(heads)
    assert (
        hints["example"] == "e.g. class=weak  or  layer=3  or  score&gt;0.1" and "rows of layer 3" in hints["by_layer"]
    )
    sinks = pd.DataFrame({"start_layer": [14], "lifetime": [2]})
    assert "alive in layer 14" in sections.filter_hints(sinks)["by_layer"]
    assert sections.filter_hints(pd.DataFrame({"name": pd.Series([], dtype="string")})) == {
        "example": "",
        "by_layer": "",
    }


def test_printed_rows_leave_out_interval_ends_alone() -> None:
    assert without_ends({"score": 1, "score_low": 0, "score_high": 2, "low": 3, "x_low": 4}) == {
        "score": 1,
        "low": 3,
        "x_low": 4,
    }


def test_heads_of_classes_come_first() -> None:
    rows = pd.DataFrame({"class": ["none", "induction", "retrieval", "retrieval"], "head": [0, 1, 2, 3]})
    for kind in ("previous", "duplicate", "induction", "copy", "sink"):
        rows[kind] = [0.1, 0.9, 0.2, 0.3]
    rows["retrieval"] = [0.0, 0.0, 0.4, 0.6]
    assert list(best_first(rows)["head"]) == [3, 2, 1, 0]


@pytest.mark.parametrize(("needles", "told"), [(8, True), (7, False)])
def test_the_heading_is_silent_on_masking_with_few_needles(needles: int, told: bool) -> None:
    findings = retrieval_units.concluded()[0]
    findings.summary["claims"]["mask.untouched"]["n"] = needles
    assert ("takes recall from" in recall_lost(findings)) == told


def test_internal_facts_are_not_for_readers() -> None:
    assert sections.told({"shape": [3, 4], "heading": "x", "shown": None, "kept": 3}) == {"kept": 3}
