"""ROUGE-1 recall and exact match, on cases worked by hand."""

from __future__ import annotations

import pytest

from interp.retrieval.rouge import exact, recall, words


@pytest.mark.parametrize(
    ("text", "answer", "share"),
    [
        ("inside a blue teapot", "inside a blue teapot", 1.0),
        ("a blue teapot, I think", "inside a blue teapot", 3 / 4),
        ("TEAPOTS!", "inside a blue teapot", 1 / 4),  # case, and the stem of the plural
        ("she was running", "he runs", 1 / 2),  # running and runs share a stem
        ("the the the", "the cat the dog", 2 / 4),  # a word counts as often as both have it
        ("the", "the cat the dog", 1 / 4),
        ("a garden", "inside a blue teapot", 1 / 4),
        ("", "inside a blue teapot", 0.0),
        ("inside a blue teapot", "", 0.0),
        ("...", "...", 0.0),
        ("4,096 tokens", "4096", 0.0),  # a comma parts numbers
        ("it was 17 days", "17 days", 1.0),
        ("naïve", "naïve", 1.0),
        # words with a letter that the library's own tokenizer would drop, and with them what is left
        ("Plan D", "Łódź", 0.0),
        ("The caf was shut", "café", 0.0),
        ("the cafe", "café", 0.0),
        ("It was the CAFÉ.", "the café", 1.0),
        ("the old cafés", "the café", 1 / 2),
        ("ﬁve", "ﬁve days", 1 / 2),
        ("“five” days — so", "“five” days", 1.0),
        # scripts the library's own tokenizer has no words of
        ("Ключ лежит в синем чайнике.", "в синем чайнике", 1.0),
        ("Стоит в красном чайнике", "в синем чайнике", 2 / 3),
        ("鑰匙在藍色茶壺", "藍色茶壺裡", 4 / 5),
        ("2024", "Москва 2024", 1 / 2),  # no full marks for the only word in ASCII
        ("", "в синем чайнике", 0.0),
    ],
)
def test_recall(text: str, answer: str, share: float) -> None:
    assert recall(text, answer) == pytest.approx(share, abs=1e-12)


@pytest.mark.parametrize(
    ("text", "answer", "there"),
    [
        ("It stands inside a blue teapot.", "inside a Blue teapot", True),
        ("inside the blue teapot", "inside a blue teapot", False),
        ("a blue", "blue teapot", False),
        ("teapots", "teapot", False),  # no stems
        ("blueteapot", "blue teapot", False),
        ("blue,\n teapot", "blue teapot", True),
        ("no", "", False),
        ("", "blue", False),
        ("сИнем чайнике", "Синем  чайнике!", True),
        ("ﬁve caf\u00e9s", "five cafe\u0301s", True),  # compatibility and composed forms
    ],
)
def test_exact(text: str, answer: str, there: bool) -> None:
    assert exact(text, answer) is there


def test_words_of_any_script() -> None:
    assert words("Don't stop_at 3.5!") == ["don", "t", "stop", "at", "3", "5"]
    assert words("हिन्दी में") == ["हिन्दी", "में"]  # vowel signs are part of a word
    assert words("茶壺 x東京y") == ["茶", "壺", "x", "東", "京", "y"]
    assert words("ที่นี่") == ["ที่", "นี่"]
    assert words("Straße") == words("STRASSE")
