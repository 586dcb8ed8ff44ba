"""Notebook figures and the notebook repr of findings."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from interp.errors import UsageError
from interp.findings import Heatmap, Verification
from interp.report import scales
from interp.report.figures import check_sentence, figure, figure_names
from interp.report.repr import findings_html
from tests import sample_findings


@pytest.fixture(scope="module")
def sample() -> tuple[Any, Any, Any]:
    return sample_findings.sample()


def test_figures_by_name(sample: Any) -> None:
    import plotly.io

    before = plotly.io.templates.default
    findings = sample[0]
    default = figure(findings)
    np.testing.assert_array_equal(default.data[0].z, findings.heatmaps[0].values)
    assert (default.layout.xaxis.title.text, default.layout.yaxis.title.text) == ("head", "layer")
    log = figure(findings, "resid_norm.0")
    np.testing.assert_allclose(log.data[0].z, np.log10(findings.heatmaps[3].values))
    assert figure_names(findings)[-1] == "check"
    check = figure(findings, "check")
    assert [trace.x[0] for trace in check.data[1::2]] == pytest.approx(
        [findings.verification.effect, findings.verification.control, findings.verification.difference]
    )
    assert plotly.io.templates.default == before
    with pytest.raises(UsageError, match=r"'nope'.*anchor, secondary, received\.0.*check"):
        figure(findings, "nope")
    with pytest.raises(UsageError, match="nothing to draw"):
        figure(sample_findings.empty()[0])


def test_figures_escape_what_plotly_would_interpret() -> None:
    findings = sample_findings.sample(heads=2, count=1, length=60, hostile=True)[0]
    hover = "".join(figure(findings, "received.0").data[0].text[0]).replace("<br>", "")
    assert "&lt;script&gt;" in hover and "<" not in hover and "%{" not in hover and "$" not in hover


def test_colour_scales() -> None:
    def of(values: Any, diverging: bool = False) -> scales.Scale:
        return scales.scale(Heatmap("m", "m", np.array([values], dtype=float), "r", "c", "v", diverging=diverging))

    assert of([0.2, 0.9, np.nan]) == scales.Scale(False, 0.0, 0.9)
    assert of([-0.2, 0.9]) == of([0.2, 0.9], diverging=True) == scales.Scale(False, -0.9, 0.9)
    assert of([100.0, 90.0, 110.0, 25_000.0]).log
    assert of([np.nan]) == scales.Scale(False, 0.0, 1.0)
    assert of([5.0, 5.0]).high > of([5.0, 5.0]).low


def test_the_check_in_words() -> None:
    check = Verification(
        "verified", "next-token loss, nats", "Cut.", 8, 0.8, 0.7, 0.9, 0.02, -0.01, 0.05, 0.78, 0.66, 0.88
    )
    assert check_sentence(check) == (
        "Change in next-token loss: +0.800 nats [+0.700, +0.900] for what was found, "
        "+0.0200 nats [-0.0100, +0.0500] for matched controls; "
        "difference +0.780 nats [+0.660, +0.880], over 8 prompts."
    )
    assert (
        check_sentence(Verification("not run", "loss", "No prompt had a sink."))
        == "Causal check: not run. No prompt had a sink."
    )


def test_notebook_repr_is_escaped_and_falls_back_to_text(sample: Any) -> None:
    hostile, provenance, _ = sample_findings.sample(heads=2, count=2, length=60, hostile=True)
    shown = findings_html(hostile, provenance)
    tags = set(re.findall(r"<(\w+)", shown))
    assert not tags & {"script", "img", "a", "iframe"}
    assert "&lt;script&gt;" in shown
    plain = findings_html(*sample[:2])
    assert plain.count("<tr>") == 1 + 20 and "first 20 of 48" in plain
    assert re.search(r'<pre class="interp-text">sinks: 48 sinks .* Causal check: verified\. 48 rows\.</pre>', plain)
    assert "the table is empty" in findings_html(sample_findings.empty()[0], {})
