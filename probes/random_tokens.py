"""Random tokens: sequences of ordinary tokens drawn uniformly and independently.

The "random tokens" input of Gu et al. 2024, arXiv 2410.10781: a sink that depends on position and not on content is
still there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from probes.base import Prompt
from probes.synthetic import DEFAULT_PROMPTS, body_length, generator, ordinary_ids, prefix, prompt_of

if TYPE_CHECKING:
    from interp.models.model import Model


@dataclass(frozen=True)
class RandomTokens:
    """`limit` prompts (default 16) of `max_length` tokens (default 512)."""

    name: str = "random"
    help: str = "ordinary tokens drawn uniformly at random"

    def prompts(
        self, model: Model, *, limit: int | None = None, max_length: int | None = None, seed: int = 0
    ) -> list[Prompt]:
        """Prompt i depends on (seed, i) alone, so a larger `limit` only adds prompts."""
        ids, start = ordinary_ids(model), prefix(model)
        length = body_length(model, max_length, start, least=1)
        prompts = []
        for index in range(DEFAULT_PROMPTS if limit is None else limit):
            drawn = generator(self.name, seed, index).choice(ids, size=length)
            prompts.append(prompt_of(model, f"random-{index}", start, drawn, {"seed": seed}))
        return prompts


probe = RandomTokens()
