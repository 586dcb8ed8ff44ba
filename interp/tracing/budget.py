"""How much a trace may hold at once: what the memory plan of a run decides, and every trace inside it keeps to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

MIN_ROWS, MAX_ROWS = 16, 128
LOSS_PIECE = 1 << 24
"""Log-probabilities held at once while losses are taken (float32, 64 MiB). Not less: pieces of up to 32 MiB lie in
glibc's heap, where aligned ones do not find the room of the last and each takes its own."""


@dataclass(frozen=True)
class Budget:
    """Sizes that trade memory for time; they never change a result beyond rounding.

    Attributes:
        block_elements: attention scores held at once, all heads together (float32).
        chunk: tokens of a prompt run at once, the earlier ones kept as a KV cache; None = the whole prompt.
        states: bytes that a finder may fill with states of prompts that run side by side.
    """

    block_elements: int = 1 << 23  # 32 MiB of float32, about a last-level cache
    chunk: int | None = None
    states: int = 1 << 28

    def rows(self, scores: int) -> int:
        """Query rows in one block, where a row has so many scores, all heads and sequences together."""
        rows = self.block_elements // max(1, scores)
        return max(MIN_ROWS, min(MAX_ROWS, rows // 16 * 16))

    def side_by_side(self, tokens: int) -> int:
        """How many of so many tokens, as settings have them, run side by side: fewer by as much as `states` is."""
        return max(1, min(tokens, tokens * self.states // Budget.states))


BUDGET: ContextVar[Budget] = ContextVar("budget", default=Budget())  # noqa: B039 - frozen


@contextmanager
def within(budget: Budget) -> Iterator[None]:
    """Inside, traces keep to `budget`."""
    token = BUDGET.set(budget)
    try:
        yield
    finally:
        BUDGET.reset(token)


@contextmanager
def whole_prompts() -> Iterator[None]:
    """Inside, prompts are read in one piece, whatever the plan: blocks that are passed over fill no KV cache."""
    with within(replace(BUDGET.get(), chunk=None)):
        yield


def loss_rows(vocab: int) -> int:
    """Tokens whose log-probabilities are held at once."""
    return max(1, LOSS_PIECE // vocab)
