"""Where sentences end, found in the text itself: no tokenizer is asked, so a needle is put in alike for every model."""

from __future__ import annotations

import re

_CLOSING = "\"'\u201d\u2019\u00bb)\\]"  # quotation marks and brackets
_WIDE = "\u3002\uff01\uff1f", "\u201d\u2019\u300d\u300f\uff09"  # Chinese and Japanese stops, and what closes there
_STOP = re.compile(rf"(?:[.!?\u2026]+[{_CLOSING}]*(?=\s|$))|(?:[{_WIDE[0]}]+[{_WIDE[1]}]*)")
_ABBREVIATIONS = re.compile(
    "(?:mr|mrs|ms|dr|prof|st|capt|col|gen|lt|sgt|rev|hon|jr|sr|vs|etc|cf|ca|approx|nos?|nr|vol|figs?|eq|pp|eds?|al|inc|"
    "ltd|co|dept|est|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|mon|tue|wed|thu|fri|sat|sun)",
    re.IGNORECASE,
)
_WORD_BEFORE = re.compile(r"[^\s\"'\u201c\u2018\u00ab(\[]*$")
_NUMBER = re.compile(r"\d+(?:\.\d+)*")


def sentence_ends(text: str) -> list[int]:
    """Character offsets right behind every sentence, closing quotes and brackets included, ascending.

    Rather one too few than a false one: no sentence ends at an abbreviation (``Dr.``, ``e.g.``, ``J.``), inside a
    number (``3.5``), at the number of a list item or clause (``2.1.``), inside a quotation that goes on, or where the
    next word begins with a small letter (``"Go." he said``).
    """
    return [match.end() for match in _STOP.finditer(text) if _ends(text, match.start(), match.end())]


def _ends(text: str, stop: int, end: int) -> bool:
    after = text[end:].lstrip()[:1] if end < len(text) else ""
    new_paragraph = re.match(r"[ \t]*\n\s*\n", text[end : end + 40]) is not None
    if after.islower() and not new_paragraph:
        return False
    if text[stop] == "." and text[stop : stop + 2] != "..":
        line = text.rfind("\n", 0, stop) + 1
        word = _WORD_BEFORE.search(text[max(line, stop - 40) : stop])
        before = word.group() if word else ""
        if not before or _ABBREVIATIONS.fullmatch(before) or ("." in before and not _NUMBER.fullmatch(before)):
            return False
        if len(before) == 1 and before.isalpha():
            return False
        if _NUMBER.fullmatch(before) and not text[line : stop - len(before)].strip(" \t-*>#("):
            return False
    return not _in_quotation(text, end)


def _in_quotation(text: str, end: int) -> bool:
    """Whether a quotation that began in this paragraph is still open."""
    paragraph = text[text.rfind("\n\n", 0, end) + 1 : end]
    opened = (
        paragraph.count("\u201c") + paragraph.count("\u00ab") - paragraph.count("\u201d") - paragraph.count("\u00bb")
    )
    return opened > 0 or paragraph.count('"') % 2 == 1
