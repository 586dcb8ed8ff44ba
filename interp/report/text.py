"""Untrusted text on its way into a page: tokens, prompt names, model names, verdicts.

Everything that reaches HTML, JSON inside HTML, or a plotly label goes through one of these functions.
"""

from __future__ import annotations

import html
import json
import math
import unicodedata
from typing import Any

import numpy as np

_NAMED = {"\n": "⏎", "\r": "␍", "\t": "⇥"}
_INVISIBLE = {"Cc", "Cf", "Zl", "Zp", "Co", "Cn"}
_KEEP = {"\u200d", "\ufe0f"}  # joiners inside emoji


def clean(text: object) -> str:
    """A string that can be encoded as UTF-8: lone surrogates become U+FFFD."""
    return str(text).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def shown(text: object) -> str:
    """`text` with control, formatting and direction characters made visible; spaces stay spaces."""
    return "".join(_NAMED.get(c) or _escaped(c) for c in clean(text))


def label(token: object) -> str:
    """A token as a label: as `shown`, and spaces made visible, so that ``' the'`` and ``'the'`` differ."""
    return shown(token).replace(" ", "␣") or "∅"


def _escaped(char: str) -> str:
    if char in _KEEP or unicodedata.category(char) not in _INVISIBLE:
        return char
    return f"\\u{ord(char):04x}"


def h(text: object) -> str:
    """`text` for HTML content or a quoted attribute."""
    return html.escape(shown(text), quote=True)


def plotly_text(text: object) -> str:
    """`text` for a plotly label, which plotly would read as pseudo-HTML (``<a href>``) or a template (``%{x}``)."""
    return html.escape(shown(text), quote=False).replace("%{", "%&#123;").replace("$", "&#36;")


def json_in_html(value: Any) -> str:
    """`value` as JSON that may stand inside a ``<script type="application/json">`` element.

    NaN and infinities become null; NumPy and pandas scalars become plain numbers; ``< > &`` and the two line separators
    that JavaScript and JSON disagree about are escaped, so no text can close the element.
    """
    text = json.dumps(jsonable(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def jsonable(value: Any) -> Any:
    """`value` made of dicts, lists, strings, finite numbers, booleans and None only."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {clean(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [jsonable(item) for item in value]
    if isinstance(value, np.ndarray):
        return jsonable(value.tolist())
    if isinstance(value, np.generic):
        return jsonable(value.item())
    if type(value).__name__ in ("NAType", "NaTType"):  # pandas' missing values, without importing pandas here
        return None
    return clean(value)


def plural(count: int, noun: str) -> str:
    """``1 chart``, ``1,200 rows``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def number(value: float | int | None, digits: int = 3) -> str:
    """A number for people: `digits` significant digits, no exponent in the everyday range; ``n/a`` when missing."""
    if value is None or not math.isfinite(value):
        return "n/a"
    if isinstance(value, (int, np.integer)):
        return f"{value:,}"
    size = abs(value)
    if size and not 1e-4 <= size < 1e6:
        return f"{value:.{digits - 1}e}"
    if size >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return (
        f"{value:.{digits}g}"
        if size >= 1 or not size
        else f"{value:.{max(digits, digits - 1 - math.floor(math.log10(size)))}f}"
    )
