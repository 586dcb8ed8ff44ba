"""Greater-than (Hanna et al. 2023, arXiv 2305.00586), as a control: a span of years ends after it begins.

"The war lasted from the year 1732 to the year 17" is to go on with a number above 32. Where the tokenizer has two
digits to a token the next token is the year, else it is the digit of the decade. The twin begins in year 01, after
which any year may follow. ``wrong`` are the tokens below; ``answer`` is one of the next decade, and ``extra["right"]``
has all that are above.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from interp.errors import UsageError
from probes.base import Prompt
from probes.pair_base import DEFAULT_PROMPTS, Draft, OwnPairs, build, fill, requires_text, words
from probes.problem_base import Draw

if TYPE_CHECKING:
    from interp.models.model import Model

SENTENCE = "The {span} lasted from the year {century}{year} to the year {century_again}"
CENTURIES = tuple(range(11, 19))
FIRST, LAST = 21, 79
"""Years of a century that spans begin in: there are decades below and above."""
FEWEST = 20
"""Years of a century that must be one token each."""


@dataclass(frozen=True)
class GreaterThan(OwnPairs):
    """See the module."""

    name: str = "greater-than"
    help: str = "a span of years ends after it begins: a control for circuits (Hanna et al. 2023)"

    def prompts(
        self, model: Model, *, limit: int | None = None, max_length: int | None = None, seed: int = 0
    ) -> list[Prompt]:
        """`limit` pairs (default 64); pair i depends on (seed, i). Decades and centuries take turns.

        Raises:
            UsageError: the tokenizer cuts years otherwise, or a prompt is too long.
        """
        tokenizer = requires_text(model)
        found = {century: _years(tokenizer, century) for century in CENTURIES}
        usable = {century: years for century, years in found.items() if years}
        if not usable:
            seen = tokenizer.convert_ids_to_tokens(_ids(tokenizer, "the year 1732"))
            raise UsageError(
                f"{model.name}: years are to end in a token of two digits or in two of one, but 'the year 1732' is "
                f"{seen}; give pairs made for this tokenizer with --prompts FILE.jsonl"
            )
        return [
            _one(model, index, usable, max_length, seed) for index in range(DEFAULT_PROMPTS if limit is None else limit)
        ]


def _years(tokenizer: Any, century: int) -> dict[str, int]:
    """Digits behind a century -> token: years 01 to 99 that are one token, else the ten digits; else nothing."""
    before = _ids(tokenizer, f"the year {century}")

    def behind(year: str) -> Sequence[int]:
        ids = _ids(tokenizer, f"the year {century}{year}")
        return ids[len(before) :] if ids[: len(before)] == before else []

    tails = {f"{year:02}": behind(f"{year:02}") for year in range(1, 100)}
    pairs = {year: tail[0] for year, tail in tails.items() if len(tail) == 1}
    if "01" in pairs and len(set(pairs.values())) == len(pairs) >= FEWEST:
        return pairs
    digits = {str(digit): tails[f"{digit}{digit}"][0] for digit in range(1, 10) if len(tails[f"{digit}{digit}"]) == 2}
    digits |= {"0": tails["01"][0]} if len(tails["01"]) == 2 else {}
    told_apart = len(digits) == len(set(digits.values())) == 10
    as_digits = all([digits.get(digit) for digit in year] == list(tail) for year, tail in tails.items())
    return digits if told_apart and as_digits else {}


def _ids(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def _one(model: Model, index: int, usable: dict[int, dict[str, int]], max_length: int | None, seed: int) -> Prompt:
    draw = Draw("greater-than", seed, index)
    century = list(usable)[index % len(usable)]
    ids = usable[century]
    decades = range(FIRST // 10, LAST // 10 + 1)
    decade = decades[index % len(decades)]
    by_digit = "0" in ids
    units = [unit for unit in range(1, 10) if by_digit or f"{decade}{unit}" in ids]
    year = f"{decade}{draw.pick(units)}"
    values = {"span": draw.pick(words("spans")), "century": str(century), "century_again": str(century)}
    clean, spans = fill(SENTENCE, {**values, "year": year})
    start = year[0] if by_digit else year
    right = {text: token for text, token in ids.items() if text > start}
    ideal = str(decade + 1) if by_digit else f"{decade + 1}{draw.between(0, 9)}"
    answer = min(right, key=lambda text: (abs(int(text) - int(ideal)), text))
    where = spans["year"]
    spots = {"decade": (where[0], where[0] + 1), "unit": (where[0] + 1, where[1])} if by_digit else {"year": where}
    draft = Draft(
        name=f"greater-than-{index}",
        template="digits" if by_digit else "two digits",
        clean=clean,
        corrupt=fill(SENTENCE, {**values, "year": "01"})[0],
        answer=right[answer],
        wrong=tuple(token for text, token in ids.items() if text < start),
        spots=spots,
        groups={"decade": str(decade), "century": str(century)},
        facts={"right": list(right.values()), "greater_than": {"year": f"{century}{year}", "seed": seed}},
    )
    return _with_roles(build(model, draft, max_length))


def _with_roles(prompt: Prompt) -> Prompt:
    """The century comes again at the end; behind its first occurrence stands what the answer has to be above."""
    from interp.circuits.pairs import pair_of
    from interp.circuits.roles import as_extra

    pair = pair_of(prompt)
    start = "decade" if "decade" in pair.positions else "year"
    pair = replace(pair, positions={"century": pair.positions[start] - 1, **pair.positions})
    roles = as_extra(first=["century"], after_first=[start], repeat=["end"])
    return replace(prompt, extra={**prompt.extra, **pair.as_extra(), **roles})


probe = GreaterThan()
