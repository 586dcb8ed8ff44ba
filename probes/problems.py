"""Multi-step arithmetic and algebra, made up from a seed: with worked solutions, or the problem alone.

`problems` strings problems with their worked solutions together until a prompt is full: the kind of text that a
reasoning model writes, in which Wong et al. 2025 (arXiv 2512.22213) saw secondary sinks. `problem-statements` gives one
problem a prompt and leaves the solution to the model: ``interp scan --probe problem-statements --generate 256``.

Every figure is worked out exactly, as an integer or a fraction. All sentences are our own; no problem is copied from
anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Any

from interp.errors import UsageError
from probes import problem_algebra, problem_arithmetic, problem_words
from probes.base import Prompt
from probes.problem_base import LEVELS, Draw, Problem
from probes.synthetic import DEFAULT_LENGTH, DEFAULT_PROMPTS

if TYPE_CHECKING:
    from interp.models.model import Model

TRIES = 1000
"""Draws without a new first problem after which there are taken to be no more."""

KINDS: dict[str, Callable[[Draw, int], Problem]] = {
    "mixed operations": problem_arithmetic.mixed,
    "linear equation": problem_algebra.linear,
    "word problem": problem_words.words,
    "fractions": problem_arithmetic.fractions,
    "system of two equations": problem_algebra.system,
    "long multiplication": problem_arithmetic.multiplication,
    "sequence": problem_algebra.sequence,
    "remainders": problem_arithmetic.remainders,
    "quadratic equation": problem_algebra.quadratic,
    "proportion": problem_algebra.proportion,
    "long division": problem_arithmetic.division,
}


def problem(seed: int, index: int, place: int = 0, level: int | None = None, kind: str | None = None) -> Problem:
    """Problem number `place` of prompt `index`: the same text for the same arguments, everywhere.

    Args:
        level: difficulty, 1 to 3; None = 1, 2 and 3 in turn.
        kind: one of `KINDS`; None = all in turn.

    Raises:
        UsageError: a level or kind that does not exist.
    """
    if level is not None and level not in LEVELS:
        raise UsageError(f"level={level}: problems have the levels {', '.join(map(str, LEVELS))}")
    if kind is not None and kind not in KINDS:
        raise UsageError(f"kind={kind!r}: there are {', '.join(KINDS)}")
    kinds, turn = tuple(KINDS), index + place
    name = kinds[turn % len(kinds)] if kind is None else kind
    grade = LEVELS[(index + turn // len(kinds)) % len(LEVELS)] if level is None else level
    return KINDS[name](Draw("problems", seed, index, place, name, grade), grade)


@dataclass(frozen=True)
class Problems:
    """`limit` prompts (default 16) of at most `max_length` tokens (default 512, or the model's limit).

    Attributes:
        worked: with worked solutions, as many problems as fill a prompt; else one problem a prompt, without solution.
        level, kind: only problems of this difficulty (1 to 3), of this kind (one of `KINDS`); None = all in turn.
    """

    name: str
    help: str
    worked: bool
    level: int | None = None
    kind: str | None = None

    def prompts(
        self, model: Model, *, limit: int | None = None, max_length: int | None = None, seed: int = 0
    ) -> list[Prompt]:
        """Prompts with different first problems; a larger `limit` only adds prompts.

        `extra` holds `kind`, `answer` and `difficulty` of the (first) problem, `seed`, and for worked ones `problems`,
        these facts of each problem that stands there whole. A worked prompt is cut at `max_length` in the middle of a
        problem; under a chat template only whole problems go into the turn, so that the template closes it.

        Raises:
            UsageError: there are fewer different problems of the kind and level than `limit`.
        """
        length = DEFAULT_LENGTH if max_length is None else max_length
        if model.max_positions is not None:
            length = min(length, model.max_positions)
        made, seen = [], set()
        for index in range(DEFAULT_PROMPTS if limit is None else limit):
            problems = self._series(seed, index)
            first = next(problems)
            tries = 1
            while first.statement in seen:
                if tries == TRIES:
                    raise UsageError(
                        f"limit={limit}: {self.name} with kind={self.kind!r} and level={self.level} found no problem "
                        f"number {index + 1} that differs from those before in {TRIES} draws; ask for {index} or fewer"
                    )
                first, tries = next(problems), tries + 1
            seen.add(first.statement)
            build = self._worked if self.worked else self._statement
            made.append(build(model, f"{self.name}-{index}", first, problems, length, seed))
        return made

    def _series(self, seed: int, index: int) -> Iterator[Problem]:
        return (problem(seed, index, place, self.level, self.kind) for place in count())

    def _statement(
        self, model: Model, name: str, first: Problem, _: Iterator[Problem], length: int, seed: int
    ) -> Prompt:
        text = f"{first.statement} Work it out step by step, check the result, and then state the answer."
        text = text if model.chat else f"Problem: {text}\n\nSolution:"
        return replace(model.encode(text, name=name, max_length=length), extra={**facts(first), "seed": seed})

    def _worked(
        self, model: Model, name: str, first: Problem, others: Iterator[Problem], length: int, seed: int
    ) -> Prompt:
        """Problems are added until the prompt is full; then the last number of whole ones that fits is sought."""
        taken = [first]

        def prompt_of(number: int) -> Prompt:
            while len(taken) < number:
                taken.append(next(others))
            texts = [worked_text(one, place) for place, one in enumerate(taken[:number], start=1)]
            return model.encode("\n\n".join(texts), name=name, max_length=length)

        over = 1
        while not prompt_of(over).truncated:
            over *= 2
        fits = over // 2
        while over - fits > 1:
            middle = (fits + over) // 2
            fits, over = (fits, middle) if prompt_of(middle).truncated else (middle, over)
        whole = prompt_of(fits) if fits and (model.chat or len(prompt_of(fits)) == length) else prompt_of(over)
        extra = {**facts(first), "seed": seed, "problems": [facts(one) for one in taken[:fits]]}
        return replace(whole, extra=extra)


def worked_text(one: Problem, place: int) -> str:
    """A problem with its solution, numbered."""
    return f"Problem {place}. {one.statement}\n\nSolution. {one.solution()}"


def facts(one: Problem) -> dict[str, Any]:
    """What `Prompt.extra` says of a problem."""
    return {"kind": one.kind, "answer": one.answer, "difficulty": one.level}


probe = Problems("problems", "arithmetic and algebra problems with worked solutions, to the full length", worked=True)
statements = Problems("problem-statements", "one such problem a prompt, left for the model to solve", worked=False)
