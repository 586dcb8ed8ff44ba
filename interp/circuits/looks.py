"""Where heads look, by roles; pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from interp.circuits.config import Head
from interp.circuits.roles import ROLES, RoleFacts

LOOKS = 0.1
"""Attention from which on a head looks somewhere. Most heads rest on the first token for the larger part, so a small
share of the row can be all that matters; below a tenth it is about what a row of ten tokens gives any of them."""
MOST = 0.5
"""Share of the prompts from which on something is said of all: that what is repeated is a wrong token, say."""


@dataclass(frozen=True)
class Looks:
    """Where heads look, by roles.

    Attributes: as `classify`'s arguments.
    """

    attention: np.ndarray
    names: tuple[str, ...]
    roles: RoleFacts
    elsewhere: np.ndarray | None = None

    def at(self, head: Head, query: str, key: str) -> float:
        """Attention, summed over a role's positions; 0 where a role is not there."""
        if query not in self.names or key not in self.names:
            return 0.0
        value = float(self.attention[head][self.names.index(query), self.names.index(key)])
        return 0.0 if np.isnan(value) else value

    def by_place(self, head: Head, query: str) -> dict[str, float]:
        """Name -> attention to one of its positions, on average, other than the query's own."""
        own = {"repeat", "end"} if self.at_end(query) and self.at_repeat(query) else {query}
        return {
            name: self.at(head, query, name) / self.roles.positions.get(name, 1.0)
            for name in self.names
            if name not in own
        }

    def at_end(self, name: str) -> bool:
        """Whether that is the last token."""
        return name == "end" or (name == "repeat" and self.roles.repeat_end >= MOST)

    def at_repeat(self, name: str) -> bool:
        """Whether that is where what was first comes again."""
        return name == "repeat" or (name == "end" and self.roles.repeat_end >= MOST)

    def answer_over_wrong(self, head: Head, query: str) -> bool:
        """Whether it looks at the answer, and more than at a wrong token, on average over these."""
        answer = self.at(head, query, "answer")
        return answer >= LOOKS and answer > self.wrong(head, query)

    def wrong(self, head: Head, query: str) -> float:
        """Attention to a wrong token, wherever it stands, on average over the wrong tokens."""
        return self.at(head, query, "wrong") / self.roles.tokens.get("wrong", 1.0)

    def content(self, head: Head, query: str) -> dict[str, float]:
        """Name -> attention to what is neither answer nor wrong: other named tokens, what is repeated and its
        first occurrence unless these are wrong tokens, and ``elsewhere``."""
        found = {name: self.at(head, query, name) for name in self.names if name not in ROLES}
        if self.roles.repeat_wrong < MOST and not self.at_repeat(query):
            found |= {name: self.at(head, query, name) for name in ("first", "repeat")}
        if self.elsewhere is not None and self.at_end(query):
            value = float(self.elsewhere[head])
            found["elsewhere"] = 0.0 if np.isnan(value) else value
        return found
