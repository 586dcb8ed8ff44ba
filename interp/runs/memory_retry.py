"""When memory runs out in the middle of a scan: free what can be freed, halve the pieces, measure the unit again.

A unit is measured by traces of its own, so nothing of the failed try is left in what the next one counts. Sizes stay
halved for the units that follow.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from interp.errors import InterpError
from interp.runs.memory_plan import LEAST_CHUNK, Sizes, sizes_told, smaller_block
from interp.tracing.budget import Budget, within

PHRASES = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "cannot allocate memory",
    "buffer size",
    "alloc_failed",
)
"""Of what torch raises as a plain RuntimeError: on the CPU, on MPS, and where cuBLAS or cuDNN find no room."""


class OutOfMemoryError(InterpError):
    """Memory ran out even with the smallest pieces."""


@dataclass
class Retry:
    """Measures units within a budget, and with half of it after each time that memory runs out.

    Attributes:
        sizes: the plan.
        say: told once a halving.
        release: frees what the finder remembers.
        budget: the sizes now.
        halvings: what was said at each.
    """

    sizes: Sizes
    say: Callable[[str], None]
    release: Callable[[], None] = lambda: None
    budget: Budget = field(init=False)
    halvings: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.budget = self.sizes.budget

    def __call__(self, make: Callable[[], Any]) -> Any:
        """What `make` makes.

        Raises:
            OutOfMemoryError: memory runs out with the smallest pieces too.
        """
        while True:
            try:
                with within(self.budget):
                    made = make()
                break
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                told = " ".join(str(error).split())[:160] or type(error).__name__
            # outside of `except`: the traceback would hold every tensor of the failed try
            self.release()
            freed()
            self.halve(told)
        return made

    def halve(self, told: str) -> None:
        """Take smaller pieces from now on."""
        longest = self.sizes.longest
        smaller = smaller_block(self.budget, self.sizes.heads, longest)
        chunk = min(longest, self.budget.chunk or longest) // 2
        if chunk >= LEAST_CHUNK:
            smaller = replace(smaller or replace(self.budget, states=self.budget.states // 2), chunk=chunk)
        if smaller is None:
            raise OutOfMemoryError(self.failure(told))
        self.budget = smaller
        said = f"out of memory ({told}); going on with {sizes_told(smaller)}"
        self.halvings.append(said)
        self.say(said)

    def failure(self, told: str) -> str:
        """What was tried, and what would help."""
        tried = f" after {len(self.halvings)} halvings" if self.halvings else ""
        return (
            f"out of memory ({told}){tried}, with {sizes_told(self.budget)}, the smallest. Estimated were "
            f"{self.sizes.parts.told()}. A shorter --max-length, --dtype bfloat16, or a machine with more memory would "
            "help; what is finished is kept, and the same command goes on from there"
        )

    def caveat(self) -> str | None:
        """For the findings; None where memory sufficed."""
        count = len(self.halvings)
        if not count:
            return None
        times = "once" if count == 1 else f"{count} times"
        return (
            f"Memory ran out {times}; what was being measured was measured again, and what followed, with "
            f"{sizes_told(self.budget)} (the same numbers to rounding)."
        )

    def as_dict(self) -> dict[str, Any]:
        """For run.json: the sizes in effect at the end."""
        chosen = {"block_elements": self.budget.block_elements, "chunk": self.budget.chunk}
        return {**self.sizes.as_dict(), **chosen, "halvings": list(self.halvings)}


@contextmanager
def plainly(doing: str) -> Iterator[None]:
    """Out of memory outside of any unit, as an error that says what was being done.

    Raises:
        OutOfMemoryError: memory ran out inside.
    """
    told = None
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        told = " ".join(str(error).split())[:160] or type(error).__name__
    if told is not None:
        freed()
        raise OutOfMemoryError(
            f"out of memory while {doing} ({told}); --dtype bfloat16, a shorter --max-length or a machine with more "
            "memory would help (--dry-run estimates it)"
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory could not be had."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(phrase in str(error).lower() for phrase in PHRASES)


def freed() -> None:
    """Free what nothing refers to any more, and give it back to the device."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()
