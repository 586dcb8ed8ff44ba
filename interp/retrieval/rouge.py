"""Whether a text gives an answer: ROUGE-1 recall, and whether it holds the answer word for word.

Recall is the `rouge-score` library's, with Porter's stemmer, as in the released code of Wu et al. 2024 (arXiv
2404.15574). That library's tokenizer knows a to z and 0 to 9 only; an answer with any other letter is scored by the
same library on words of any script, since that tokenizer would drop such words or tear them apart.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import Any

UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")
"""Scripts that write no space between words, as Unicode names their characters: each character counts as a word."""


def recall(text: str, answer: str) -> float:
    """Share of the answer's words that the text has, repeats counted as often as they occur in both; 0 to 1.

    Args:
        text: what the model wrote (untrusted text).
        answer: what it should have; one without words gives 0.
    """
    return float(_scorer(_mangled(answer)).score(answer, text)["rouge1"].recall)


def exact(text: str, answer: str) -> bool:
    """Whether the answer's words stand in the text one after the other (compared as `words` gives them)."""
    said, wanted = words(text), words(answer)
    return bool(wanted) and any(said[i : i + len(wanted)] == wanted for i in range(len(said) - len(wanted) + 1))


def words(text: str) -> list[str]:
    """Words of any script, with compatibility forms and case made equal; whatever is no letter, mark or digit parts
    them."""
    found: list[str] = []
    inside = grows = False  # the last character belongs to a word; a letter may still join that word
    for character in unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()):
        kind = unicodedata.category(character)[0]
        alone = kind == "L" and unicodedata.name(character, "").startswith(UNSPACED)
        if kind not in "LNM" or (kind == "M" and not inside):
            inside = grows = False
            continue
        if kind == "M" or (grows and not alone):
            found[-1] += character
        else:
            found.append(character)
            grows = not alone
        inside = True
    return found


def _mangled(answer: str) -> bool:
    """Whether the library's tokenizer would drop or tear one of the answer's words."""
    return any(not one.isascii() and unicodedata.category(one)[0] in "LNM" for one in answer)


@cache
def _scorer(any_script: bool) -> Any:
    from rouge_score import rouge_scorer, tokenizers  # half a second, so not at import

    class Words(tokenizers.Tokenizer):
        def tokenize(self, text: str) -> list[str]:
            return words(text)

    return rouge_scorer.RougeScorer(["rouge1"], use_stemmer=True, tokenizer=Words() if any_script else None)
