"""Induction on random tokens, as a control: the token that came after the cue the first time comes again.

A random segment, then its beginning again, up to a cue. The twin's cue is another token of the segment, one that has
not come again, so that another token follows. Needs no words, so it serves models without a tokenizer, and with any.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from interp.errors import UsageError
from probes.base import Prompt
from probes.pair_base import DEFAULT_PROMPTS, GROUPS, OwnPairs
from probes.synthetic import body_length, generator, ordinary_ids, prefix, prompt_of

if TYPE_CHECKING:
    from interp.models.model import Model

LEAST = 4
"""Tokens of a segment at the least: a cue and another one, each with what follows it."""


@dataclass(frozen=True)
class Induction(OwnPairs):
    """See the module.

    Attributes:
        segment: tokens of the segment, all different.
        repeated: how many of them come again, the cue last.
    """

    name: str = "induction"
    help: str = "the token after a cue that came before, in random tokens: a control for circuits"
    segment: int = 24
    repeated: int = 8

    def __post_init__(self) -> None:
        if self.segment < LEAST:
            raise ValueError(f"segment={self.segment}: at least {LEAST} tokens are needed")
        if not 1 <= self.repeated <= self.segment - 2:
            raise ValueError(
                f"repeated={self.repeated}: expected 1 to {self.segment - 2}, for a segment of {self.segment}"
            )

    def prompts(
        self, model: Model, *, limit: int | None = None, max_length: int | None = None, seed: int = 0
    ) -> list[Prompt]:
        """`limit` pairs (default 64); pair i depends on (seed, i). Shorter where `max_length` is.

        Raises:
            UsageError: there is room for no segment, or the model has too few tokens.
        """
        from interp.circuits.pairs import Pair
        from interp.circuits.roles import as_extra

        ids, start = ordinary_ids(model), prefix(model)
        room = body_length(model, max_length, start, least=LEAST + 1)
        segment = min(self.segment, room - min(self.repeated, room // 3))
        repeated = min(self.repeated, room // 3)
        if len(ids) < segment:
            raise UsageError(f"segment={segment}: {model.name} has {len(ids)} ordinary tokens; give fewer")
        made = []
        for index in range(DEFAULT_PROMPTS if limit is None else limit):
            draw = generator(self.name, seed, index)
            drawn = draw.choice(ids, size=segment, replace=False)
            cue = repeated - 1
            other = int(draw.choice(range(repeated, segment - 1)))
            facts = {"period": segment, "seed": seed, GROUPS: {"template": "random"}}
            prompt = prompt_of(model, f"{self.name}-{index}", start, np.concatenate([drawn, drawn[:repeated]]), facts)
            corrupt = (*prompt.ids[:-1], int(drawn[other]))
            first, wrong = len(start) + cue, len(start) + other
            roles = as_extra(
                answer=["cue1+1"], wrong=["other+1"], first=["cue1"], after_first=["cue1+1"], repeat=["end"]
            )
            pair = Pair(
                prompt,
                corrupt,
                int(drawn[cue + 1]),
                (int(drawn[other + 1]),),
                {
                    "cue1": first,
                    "cue1+1": first + 1,
                    "other": wrong,
                    "other+1": wrong + 1,
                    "end": len(prompt) - 1,
                },
                "random",
            )
            made.append(replace(prompt, extra={**facts, **pair.as_extra(), **roles}))
        return made


probe = Induction()
