"""Pairs of a clean and a corrupted prompt, aligned token by token, with the answer and what it is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from interp.errors import UsageError
from probes.base import Prompt

KEY = "pair"
"""Where `Prompt.extra` keeps the pair."""


@dataclass(frozen=True)
class Pair:
    """One task instance; the clean prompt is `prompt`.

    Attributes:
        prompt: the clean prompt.
        corrupt: ids of the corrupted twin, as many as the prompt has.
        answer: id of the right next token.
        wrong: ids it is compared with: the logit difference is logit(answer) minus their mean logit.
        positions: name -> position of a token in both prompts (``S1``, ``IO``, ``end``, ...).
        template: which template it was made from.
    """

    prompt: Prompt
    corrupt: tuple[int, ...]
    answer: int
    wrong: tuple[int, ...]
    positions: Mapping[str, int] = field(default_factory=dict)
    template: str = ""

    def __post_init__(self) -> None:
        if len(self.corrupt) != len(self.prompt):
            raise UsageError(
                f"prompt {self.prompt.name!r}: the corrupted twin has {len(self.corrupt)} tokens, the prompt "
                f"{len(self.prompt)}; they have to line up token by token"
            )
        if not self.wrong or self.answer in self.wrong:
            raise UsageError(
                f"prompt {self.prompt.name!r}: answer {self.answer} against {list(self.wrong)}; at least one other "
                "token is needed"
            )
        beyond = {name: at for name, at in self.positions.items() if not 0 <= at < len(self.prompt)}
        if beyond:
            raise UsageError(f"prompt {self.prompt.name!r}: positions {beyond} in {len(self.prompt)} tokens")

    @property
    def differs(self) -> int:
        """First position at which the two prompts differ; their length where they are the same."""
        both = zip(self.prompt.ids, self.corrupt, strict=True)
        return next((at for at, (one, other) in enumerate(both) if one != other), len(self.prompt))

    def as_extra(self) -> dict[str, Any]:
        """What `pair_of` reads back: JSON-able, for `Prompt.extra`."""
        return {
            KEY: {
                "corrupt": list(self.corrupt),
                "answer": self.answer,
                "wrong": list(self.wrong),
                "positions": dict(self.positions),
                "template": self.template,
            }
        }


def pair_of(prompt: Prompt) -> Pair:
    """The pair of a prompt.

    Raises:
        UsageError: the prompt carries none, or one that does not line up.
    """
    if KEY not in prompt.extra:
        raise UsageError(
            f"prompt {prompt.name!r} has no corrupted twin; use a probe that makes pairs, or --prompts FILE.jsonl with "
            "clean, corrupt, answer and wrong in every line"
        )
    given = prompt.extra[KEY]
    return Pair(
        prompt,
        tuple(given["corrupt"]),
        int(given["answer"]),
        tuple(given["wrong"]),
        dict(given.get("positions", {})),
        str(given.get("template", "")),
    )


@dataclass(frozen=True)
class Batch:
    """Pairs of one length, side by side.

    Attributes:
        clean, corrupt: int64 [pair, position].
        answer: int64 [pair].
        wrong: int64 [pair, wrong], padded by repetition where pairs differ in number; `weight` counts each once.
        weight: float32 [pair, wrong], rows sum to 1.
        differs: first position at which any pair's two prompts differ.
    """

    pairs: tuple[Pair, ...]
    clean: Tensor
    corrupt: Tensor
    answer: Tensor
    wrong: Tensor
    weight: Tensor
    differs: int

    def __len__(self) -> int:
        return len(self.pairs)


def batches(pairs: Sequence[Pair], most: int = 64) -> list[tuple[list[int], Batch]]:
    """Batches of at most `most` pairs of one length, each with the indices of its pairs in `pairs`."""
    if most < 1:
        raise UsageError(f"batches of {most} pairs; at least 1 is needed")
    by_length: dict[int, list[int]] = {}
    for index, pair in enumerate(pairs):
        by_length.setdefault(len(pair.prompt), []).append(index)
    groups = [here[at : at + most] for here in by_length.values() for at in range(0, len(here), most)]
    return [(group, batch_of([pairs[index] for index in group])) for group in groups]


def batch_of(pairs: Sequence[Pair]) -> Batch:
    """One batch.

    Raises:
        UsageError: prompts of different lengths, or a pair whose prompts are equal.
    """
    lengths = sorted({len(pair.prompt) for pair in pairs})
    if len(lengths) != 1:
        raise UsageError(f"pairs of {lengths} tokens in one batch; expected one length")
    for pair in pairs:
        if pair.prompt.ids == pair.corrupt:
            raise UsageError(f"prompt {pair.prompt.name!r}: the corrupted twin is the prompt itself")
    clean = torch.tensor([pair.prompt.ids for pair in pairs])
    corrupt = torch.tensor([pair.corrupt for pair in pairs])
    width = max(len(pair.wrong) for pair in pairs)
    wrong = torch.tensor([[*pair.wrong, *[pair.wrong[0]] * (width - len(pair.wrong))] for pair in pairs])
    counts = torch.tensor([len(pair.wrong) for pair in pairs])
    weight = (torch.arange(width) < counts[:, None]).float() / counts[:, None]
    differs = int((clean != corrupt).any(0).nonzero()[0, 0])
    return Batch(tuple(pairs), clean, corrupt, torch.tensor([p.answer for p in pairs]), wrong, weight, differs)
