"""The notebook repr of findings: CSS only, everything escaped, and plain text where a front end strips styles."""

from __future__ import annotations

from typing import Any

from interp.findings import Findings
from interp.report import sections
from interp.report.text import h

ROWS = 20

# Where a front end drops <style>, the text stays and the inline style hides the rest (the way xarray does it). Colours
# follow the notebook's theme: inherited ink, JupyterLab's variables where they exist.
_STYLE = """
.interp-text { display: none; }
.interp-findings { display: block !important; font: 14px/1.5 system-ui, sans-serif; max-width: 60rem; }
.interp-findings { color: var(--jp-ui-font-color1, inherit); }
.interp-findings .verdict { font-size: 1.1em; font-weight: 600; margin: 0 0 .4em; overflow-wrap: anywhere; }
.interp-findings .badge { border: 1.5px solid currentColor; border-radius: 1em; padding: .05em .6em; font-size: .9em; }
.interp-findings .facts { display: flex; flex-wrap: wrap; gap: .2em 1.6em; margin: .6em 0; }
.interp-findings dt { opacity: .7; font-size: .85em; font-weight: 400; padding: 0; }
.interp-findings dd { margin: 0; padding: 0; overflow-wrap: anywhere; }
.interp-findings summary { cursor: pointer; }
.interp-findings .scroll { overflow-x: auto; }
.interp-findings table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9em; }
.interp-findings th, .interp-findings td { padding: .15em .6em; text-align: left; white-space: nowrap; }
.interp-findings tr { border-bottom: 1px solid rgba(128, 128, 128, .35); }
.interp-findings td.num { text-align: right; }
"""


def findings_html(findings: Findings, provenance: dict[str, Any]) -> str:
    """Verdict, causal check, facts, caveats and the table's first rows, for ``_repr_html_``."""
    count = len(findings.table)
    shown = min(count, ROWS)
    more = f" (first {shown} of {count:,})" if count > shown else f" ({count:,})"
    table = (
        f'<details open><summary>Rows{more}</summary><div class="scroll"><table>'
        f"<thead>{sections.table_head(findings)}</thead>"
        f"<tbody>{sections.table_rows(findings, ROWS)}</tbody></table></div></details>"
        if count
        else "<p>Nothing was found: the table is empty.</p>"
    )
    caveats = ""
    if findings.caveats:
        listed = sections.sentences(findings.caveats, "")
        caveats = f"<details><summary>Caveats ({len(findings.caveats)})</summary>{listed}</details>"
    first, rest = sections.first_sentence(findings.verdict)
    lead = f"<p>{h(rest)}</p>" if rest else ""
    return (
        f'<style>{_STYLE}</style><pre class="interp-text">{h(findings_text(findings))}</pre>'
        f'<div class="interp-findings" style="display:none"><p class="verdict">{h(first)}</p>{lead}'
        f"<p>{sections.badge(findings.verification)}</p>{sections.facts(findings, provenance, ())}"
        f"{sections.check_text(findings.verification)}{caveats}{table}</div>"
    )


def findings_text(findings: Findings) -> str:
    """The same in one line of plain text."""
    check = findings.verification.verdict if findings.verification else "not run"
    count = len(findings.table)
    return f"{findings.finder}: {findings.verdict} Causal check: {check}. {count:,} row{'s' * (count != 1)}."
