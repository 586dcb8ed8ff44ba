"""Repeated tokens: one random token over and over (`repeated`), or a random segment twice (`repeated-segment`).

One token repeated is the "repeated tokens" input of Gu et al. 2024, arXiv 2410.10781. Without BOS all its positions
look alike to a model that encodes relative positions only, so a sink that needs a first token of its own disappears;
run it with ``--bos none`` to see that. A segment given twice is what previous-token and induction heads respond to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from probes.base import Prompt
from probes.synthetic import DEFAULT_PROMPTS, body_length, generator, ordinary_ids, prefix, prompt_of

if TYPE_CHECKING:
    from interp.models.model import Model


@dataclass(frozen=True)
class Repeated:
    """`limit` prompts (default 16) of `max_length` tokens (default 512).

    Attributes:
        copies: how often the segment is repeated; None = a segment of one token fills the prompt.
    """

    name: str
    help: str
    copies: int | None = None

    def __post_init__(self) -> None:
        if self.copies is not None and self.copies < 1:
            raise ValueError(f"copies={self.copies}: expected 1 or more, or none")

    def prompts(
        self, model: Model, *, limit: int | None = None, max_length: int | None = None, seed: int = 0
    ) -> list[Prompt]:
        """Prompt i depends on (seed, i) alone; `extra` holds `period`, the length of the segment in tokens.

        With `copies`, the prompt is the longest multiple of `copies` that fits.
        """
        ids, start = ordinary_ids(model), prefix(model)
        length = body_length(model, max_length, start, least=2 if self.copies is None else self.copies)
        copies = length if self.copies is None else self.copies
        period = length // copies
        prompts = []
        for index in range(DEFAULT_PROMPTS if limit is None else limit):
            segment = generator(self.name, seed, index).choice(ids, size=period)
            extra = {"seed": seed, "period": period}
            prompts.append(prompt_of(model, f"{self.name}-{index}", start, np.tile(segment, copies), extra))
        return prompts


probe = Repeated("repeated", "one random token, repeated to the full length")
segment = Repeated("repeated-segment", "a random segment, given twice", copies=2)
