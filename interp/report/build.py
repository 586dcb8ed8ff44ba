"""The report: findings, their provenance and their prompts as one offline HTML page.

The page loads nothing: scripts, styles, plotly.js and arrays are inside it, the last two compressed (the browser
inflates them), and a content security policy with the hashes of the two scripts forbids everything else. It knows no
finder: it draws whatever graphs, charts, heatmaps, strips, tables, causal check, caveats and summary the findings hold.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from string import Template
from typing import Any

from interp.findings import Findings
from interp.report import charts, graphs, sections, sheets
from interp.report.pack import squeeze
from interp.report.payload import payload
from interp.report.text import h, json_in_html
from probes.base import Prompt

MAX_BYTES = 6_000_000  # STYLE, "The CLI and the page"
_ASSETS = Path(__file__).parent / "assets"
_SCRIPTS = (
    "data.js",
    "text.js",
    "state.js",
    "plots.js",
    "charts.js",
    "graphs.js",
    "heads.js",
    "maps.js",
    "levels.js",
    "overall.js",
    "table.js",
    "sheets.js",
    "strip.js",
    "check.js",
    "main.js",
)


def build_report(findings: Findings, provenance: dict[str, Any], prompts: Sequence[Prompt]) -> str:
    """One self-contained HTML page.

    Args:
        findings: what a finder returned.
        provenance: the run's ``run.json``; whatever is there is shown.
        prompts: the prompts, by index; may be empty.

    Returns:
        The page, UTF-8 encodable, under `MAX_BYTES` unless the table alone is larger: patterns, layer x position
        maps and the prompts' texts are reduced until it fits, and the page says so.
    """
    page = ""
    for share in (1.0, 0.5, 0.25, 0.1, 0.0):
        page = _page(findings, provenance, prompts, share)
        if len(page.encode()) <= MAX_BYTES:
            break
    return page


def _page(findings: Findings, provenance: dict[str, Any], prompts: Sequence[Prompt], share: float) -> str:
    data, pack, reduced = payload(findings, prompts, share)
    drawn, charts_cut = charts.fit(findings.charts, int(charts.POINTS * share))
    layered, graphs_cut = graphs.fit(findings.graphs)
    rows, sheets_cut = sheets.fit(findings.sheets, share)
    data |= {
        "charts": [charts.chart_data(chart) for chart in drawn],
        "chartRows": charts.STATIC_ROWS,
        "graphs": [graphs.graph_data(graph) for graph in layered],
        "graphRows": graphs.STATIC_ROWS,
        "sheets": [sheets.sheet_data(*each) for each in zip(findings.sheets, rows, strict=True)],
    }
    prompt_list, cut = sections.prompt_list(prompts, int(sections.TEXT_CHARACTERS * share))
    plotly, plotly_hash = _plotly()
    script = _script()
    model = provenance.get("model")
    name = model.get("name") if isinstance(model, dict) else model
    table = Template(_asset("table.html")).substitute(
        title=h(findings.table_title or "Everything found"),
        where="" if findings.table_title is None else "leading",
        head=sections.table_head(findings),
        rows=sections.table_rows(findings),
        **sections.filter_hints(findings.table),
    )
    link = f'<a href="#table">{h(findings.table_title or "Table")}</a>'
    early = findings.table_title is not None
    unchecked = early and (findings.verification is None or findings.verification.effect is None)
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}' '{plotly_hash}'; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    return Template(_asset("page.html")).substitute(
        policy=policy,
        title=h(f"{findings.finder} in {name}" if name else findings.finder),
        style=_asset("page.css"),
        finder=h(findings.finder),
        model=h(name or "unnamed model"),
        verdict=sections.verdict(findings.verdict),
        badge="" if unchecked else f"<p>{sections.badge(findings.verification)}</p>",
        facts=sections.facts(findings, provenance, prompts),
        caveats=sections.sentences(findings.caveats, "The finder states no caveat."),
        check=sections.check_text(findings.verification),
        graphs_link='<a href="#graphs">Graph</a>' if layered else "",
        graphs=graphs.graphs_section(layered),
        charts_link='<a href="#charts">Charts</a>' if drawn else "",
        charts=charts.charts_section(drawn),
        sheets_link='<a href="#sheets">Further tables</a>' if findings.sheets else "",
        sheets=sheets.sheets_section(findings.sheets, rows),
        table_early=table if early else "",
        table_early_link=link if early else "",
        table_late="" if early else table,
        table_late_link="" if early else link,
        units=h("prompt" if findings.verification is None else findings.verification.unit),
        check_hidden=" hidden" if unchecked else "",
        summary=sections.tree(shown)
        if (shown := sections.told(findings.summary))
        else '<p class="empty">No further numbers.</p>',
        prompts=prompt_list,
        provenance=sections.tree(provenance)
        if provenance
        else '<p class="empty">No provenance was stored with this report.</p>',
        reduced=sections.sentences(
            [*reduced, *graphs_cut, *charts_cut, *sheets_cut, *cut], "Nothing was reduced to fit this page."
        ),
        data=json_in_html(data | {"provenance": provenance, "summary": findings.summary, "verdict": findings.verdict}),
        arrays=pack.text(),
        plotly=plotly,
        script=script,
    )


@cache
def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8").replace("\r\n", "\n")


@cache
def _script() -> str:
    return '"use strict";\n(() => {\n' + "\n".join(_asset(name) for name in _SCRIPTS) + "\n})();"


@cache
def _plotly() -> tuple[str, str]:
    """plotly.js as base64 of gzip, and the hash of its text."""
    from plotly.offline import get_plotlyjs

    source = get_plotlyjs()
    return squeeze(source.encode()), _hash(source)


def _hash(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
