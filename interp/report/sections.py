"""The parts of the page that are plain HTML: they are there without a script, and in print."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from interp.findings import Column, Findings, Verification
from interp.report.figures import check_sentence
from interp.report.text import h, label, number, plural
from probes.base import Prompt

STATIC_ROWS = 50
TEXT_CHARACTERS = 1_000_000  # of all prompts' texts together
_TEXT = 20_000  # of one prompt's text
_LONG = 140  # characters of a heading that still reads well in large type
_INTERNAL = {"shape", "heading", "shown"}
"""Facts of a summary that say nothing to a reader: sizes, half sentences, and what a strip is drawn from."""
_BADGES = {
    "verified": ("good", "✓"),
    "failed": ("bad", "✗"),
    "too few to say": ("open", "?"),
    "nothing to verify": ("open", "·"),
    "not run": ("open", "·"),
}


def verdict(text: str) -> str:
    """The first sentence as the page's heading, the others as its lead: some finders need more than one."""
    first, rest = first_sentence(text)
    size = ' class="long"' if len(first) > _LONG else ""
    lead = f'<p class="lead" dir="auto">{h(rest)}</p>' if rest else ""
    return f'<h1{size} dir="auto">{h(first)}</h1>{lead}'


def first_sentence(text: str) -> tuple[str, str]:
    """A verdict's first sentence, and the rest (often empty)."""
    first, *others = re.split(r"(?<=[.!?])\s+(?=[A-Z])", text, maxsplit=1)
    return first, others[0] if others else ""


def badge(check: Verification | None) -> str:
    """The causal check's outcome in words and shape, not in colour alone."""
    verdict = check.verdict if check else "not run"
    tone, mark = _BADGES.get(verdict, ("open", "?"))
    return f'<span class="badge {tone}"><span aria-hidden="true">{mark}</span> causal check: {h(verdict)}</span>'


def check_text(check: Verification | None) -> str:
    if check is None:
        return '<p class="empty">No causal check was run, so nothing here is shown to matter to the model.</p>'
    how = f'<p class="caption">{h(check.how)}</p>' if check.effect is not None else ""
    return f"<p>{h(check_sentence(check))}</p>{how}"


def facts(findings: Findings, provenance: dict[str, Any], prompts: Sequence[Prompt]) -> str:
    """The few facts a reader needs beside the verdict."""
    model = provenance.get("model")
    model = model if isinstance(model, dict) else {"name": model}
    hub = " @ ".join(str(model[key]) for key in ("hub_id", "revision") if model.get(key))
    lengths = sorted({len(prompt) for prompt in prompts})
    span = f"{lengths[0]:,}" if len(lengths) == 1 else f"{lengths[0]:,} to {lengths[-1]:,}" if lengths else ""
    commit = str(provenance.get("commit") or "")[:12]
    rows = (
        ("Model", hub or model.get("name")),
        ("Weights", f"sha256 {str(model['weight_hash'])[:12]}…" if model.get("weight_hash") else None),
        ("Position 0", provenance.get("position0")),
        ("Prompts", f"{len(prompts):,} of {span} tokens" if prompts else None),
        ("Table", plural(len(findings.table), "row")),
        ("Ran on", ", ".join(str(provenance[k]) for k in ("device", "dtype") if provenance.get(k))),
        ("Attention read", provenance.get("attention_path")),
        ("Finished", provenance.get("finished")),
        ("Code", commit + (" with uncommitted changes" if provenance.get("dirty") else "") if commit else None),
    )
    cells = "".join(f"<div><dt>{h(key)}</dt><dd>{h(value)}</dd></div>" for key, value in rows if value)
    return f'<dl class="facts">{cells}</dl>'


def sentences(items: Sequence[str], empty: str) -> str:
    if not items:
        return f'<p class="empty">{h(empty)}</p>'
    return "<ul>" + "".join(f"<li>{h(item)}</li>" for item in items) + "</ul>"


def tree(value: Any, name: str | None = None) -> str:
    """Nested facts as definition lists; a nested one is collapsed under its name."""
    if isinstance(value, dict) and value:
        inner = "".join(
            tree(item, str(key)) if _nested(item) else f"<div><dt>{h(key)}</dt><dd>{_leaf(item)}</dd></div>"
            for key, item in value.items()
        )
        body = f'<dl class="tree">{inner}</dl>'
        count = len(value)
    elif isinstance(value, (list, tuple)) and value:
        items = "".join(
            f"<li>{tree(item, f'{i}') if _nested(item) else _leaf(item)}</li>" for i, item in enumerate(value[:200])
        )
        more = f"<li>… {len(value) - 200:,} more</li>" if len(value) > 200 else ""
        body = f'<ol start="0" class="tree">{items}{more}</ol>'
        count = len(value)
    else:
        body, count = _leaf(value), 0
    if name is None:
        return body
    return f"<details><summary>{h(name)} <small>({count})</small></summary>{body}</details>"


def _nested(value: Any) -> bool:
    if (
        isinstance(value, (list, tuple))
        and len(value) <= 64
        and not any(isinstance(item, (dict, list, tuple)) for item in value)
    ):
        return False
    return isinstance(value, (dict, list, tuple)) and bool(value)


def _leaf(value: Any) -> str:
    if value is None:
        return '<span class="none">none</span>'
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return format(value, ".6g")
    if isinstance(value, (list, tuple)):
        return ", ".join(_leaf(item) for item in value) or '<span class="none">none</span>'
    return h(value) or '<span class="none">empty</span>'


def told(summary: dict[str, Any]) -> dict[str, Any]:
    """The summary's facts for readers: without those that the page alone is built from."""
    return {name: value for name, value in summary.items() if name not in _INTERNAL}


def filter_hints(table: pd.DataFrame) -> dict[str, str]:
    """What the filter of this very table takes: ``example`` terms of its own columns, and ``by_layer``."""
    names = [str(name) for name in table.columns]
    numeric = [n for n in names if pd.api.types.is_float_dtype(table[n]) and table[n].notna().any()]
    spelled = [n for n in names if pd.api.types.is_string_dtype(table[n]) and table[n].notna().any()]
    terms = [str(table[n].dropna().iloc[0]).split(maxsplit=1) for n in spelled]
    whole = next(
        (n for n in ("start_layer", "layer", "head", "position") if n in names and table[n].notna().any()), None
    )
    first = next((f"{n}={t[0]}" for n, t in zip(spelled, terms, strict=True) if len(t) == 1 and len(t[0]) < 20), None)
    examples = [
        first,
        f"{whole}={table[whole].dropna().iloc[0]}" if whole else None,
        f"{numeric[0]}>0.1" if numeric else None,
    ]
    lives = {"start_layer", "lifetime"} <= set(names)
    layer = next(
        (table[n].dropna().iloc[0] for n in ("layer", "start_layer") if n in names and table[n].notna().any()), 0
    )
    by_layer = (
        f"; <code>layer:{layer}</code> keeps the rows {'of' if 'layer' in names else 'alive in'} layer {layer}"
        if lives or "layer" in names
        else ""
    )
    return {
        "example": h("e.g. " + "  or  ".join(filter(None, examples))) if any(examples) else "",
        "by_layer": by_layer,
    }


def table_head(findings: Findings) -> str:
    known = {column.name: column for column in findings.columns}
    cells = []
    for name in map(str, findings.table.columns):
        column = known.get(name, Column(name, "", name, ""))
        cells.append(f'<th scope="col" title="{h(column.help)}">{h(column.label)}</th>')
    return f"<tr>{''.join(cells)}</tr>"


def table_rows(findings: Findings, most: int = STATIC_ROWS) -> str:
    """The first rows as HTML; text as labels, numbers short."""
    names = [str(name) for name in findings.table.columns]
    rows = (map(_cell, names, values) for values in findings.table.head(most).itertuples(index=False))
    return "".join(f"<tr>{''.join(cells)}</tr>" for cells in rows)


def _cell(column: str, value: Any) -> str:
    if pd.isna(value):
        return "<td></td>"
    if isinstance(value, float):
        return f'<td class="num">{h(number(value))}</td>'
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return f'<td class="num">{value}</td>'
    return f"<td>{h(label(value) if column.startswith('token') else value)}</td>"


def prompt_list(prompts: Sequence[Prompt], budget: int = TEXT_CHARACTERS) -> tuple[str, list[str]]:
    """The prompts with at most `budget` characters of text together, and a sentence where texts had to be cut."""
    if not prompts:
        return '<p class="empty">The prompts were not stored with this report.</p>', []
    longest = _fair([len(prompt.text) for prompt in prompts], budget)
    long = sum(len(prompt.text) > longest for prompt in prompts)
    items = []
    for i, prompt in enumerate(prompts):
        text = prompt.text if len(prompt.text) <= longest else prompt.text[:longest] + " …"
        cut = ", cut at the maximum length" if prompt.truncated else ""
        body = "\n".join(h(line) for line in text.splitlines())
        items.append(
            f"<details><summary>{i}. {h(prompt.name)} "
            f"<small>{len(prompt):,} tokens{cut}; ids sha256 {prompt.hash[:12]}…</small></summary>"
            f'<pre dir="auto">{body}</pre></details>'
        )
    said = f"Prompts: the first {longest:,} characters of {long:,} longer texts are shown; all of them are in run.json."
    return "".join(items), [said] if long else []


def _fair(lengths: Sequence[int], budget: int) -> int:
    """The most characters a text may have so that all of them, cut to it, keep within `budget`."""
    low, high = 0, _TEXT
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if sum(min(n, middle) for n in lengths) <= budget else (low, middle - 1)
    return low
