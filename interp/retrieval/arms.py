"""One prompt answered under many masks at once: the context is read once, then every arm decodes in one batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from interp.ablation.config import Head
from interp.errors import NumbersError
from interp.retrieval.cache import CHUNK, feed, prefixes, shares, widened
from interp.retrieval.config import RetrievalConfig
from interp.retrieval.decode import Ends
from interp.retrieval.masks import Mask, edits
from interp.retrieval.task import Task
from interp.tracing.calls import skip_logits
from interp.tracing.passes import cache_of
from interp.tracing.tracer import Trace, trace

Phase = Literal["prefill", "decode"]
"""The prompt is read up to the token before its last; or tokens of the answer are made."""
Traced = Callable[[Mask], AbstractContextManager[Trace]]
"""Opens a trace of the arms that are left, under their masks."""


class Watch(Protocol):
    """Something that looks on while a mask is applied; see `interp.retrieval.proof`."""

    def begin(self, phase: Phase, mask: Mask) -> None:
        """A trace of these arms, which are those of its batch, is about to be opened."""
        ...

    def stats(self) -> list[Any]:
        """Statistics for a trace."""
        ...

    def attach(self, model: Any, stack: ExitStack) -> None:
        """Hooks of its own, inside a trace."""
        ...


def answers(
    model: Any,
    task: Task,
    mask: Mask,
    config: RetrievalConfig,
    means: Mapping[Head, Tensor] | None = None,
    watch: Watch | None = None,
    most: Sequence[int] | None = None,
) -> list[tuple[int, ...]]:
    """The ids each arm generates greedily (the one that ended its answer is the last).

    ``config.when``: ``decode`` masks from the last prompt token on, so in every step that makes a token; ``prefill``
    every prompt token before that one; ``both`` all of them. `config.at_once` arms run side by side.

    Args:
        means: for ``mean``.
        watch: looks on wherever a mask is applied.
        most: by arm, so many tokens are made, whatever they are; None = up to the end of the answer.

    Raises:
        NumbersError: an arm's logits are not finite.
    """

    def masking(phase: Phase) -> Traced:
        def traced(rows: Mask) -> AbstractContextManager[Trace]:
            if watch is not None:
                watch.begin(phase, rows)
            return under(model, edits(model, config.how, rows, means, keys_of(task)), watch)

        return traced

    def untraced(rows: Mask) -> AbstractContextManager[Trace]:
        return under(model, [], None)

    ids, context = task.prompt.ids, None
    if config.when == "decode":
        context = prefixes(model).read(ids[: task.tail], config.share_prefix)
        if task.tail < len(ids) - 1:
            context, _ = feed(model, ids[task.tail : -1], context)
    traced = untraced if config.when == "prefill" else masking("decode")
    out: list[tuple[int, ...]] = []
    for part in mask.split(config.at_once):
        cache = (
            read_masked(model, ids[:-1], part, masking("prefill")) if context is None else widened(context, len(part))
        )
        limits = None if most is None else most[len(out) : len(out) + len(part)]
        out += decoded(model, task, part, cache, config, traced, limits)
    return out


@contextmanager
def under(model: Any, changes: list[Any], watch: Watch | None) -> Iterator[Trace]:
    """A trace with edits, and whoever looks on."""
    with ExitStack() as stack:
        t = stack.enter_context(trace(model, edit=changes, stats=[] if watch is None else watch.stats()))
        if watch is not None:
            watch.attach(model, stack)
        yield t


def keys_of(task: Task) -> tuple[int, int] | None:
    """What ``block`` hides: the needle's sentence, and the answer in it; None without a needle."""
    start, stop = min(task.sentence[0], task.span[0]), max(task.sentence[1], task.span[1])
    return (start, stop) if start < stop else None


def read_masked(model: Any, ids: tuple[int, ...], mask: Mask, traced: Traced) -> Any:
    """A cache of the same tokens in every arm, read under its mask, in the chunks in which prompts are read."""
    cache, rows = None, torch.tensor(ids, device=model.device).expand(len(mask), -1)
    with traced(mask) as t:
        for start in range(0, len(ids), CHUNK):
            cache = cache_of(t.run(rows[:, start : start + CHUNK], cache=cache, use_cache=True, **skip_logits(model)))
    return cache


def decoded(
    model: Any,
    task: Task,
    mask: Mask,
    cache: Any,
    config: RetrievalConfig,
    traced: Traced,
    most: Sequence[int] | None = None,
) -> list[tuple[int, ...]]:
    """Greedy answers of a batch behind the same tokens; arms that are done leave it once half of them are.

    Args:
        most: see `answers`.
    """
    ends = Ends(model, config, task)
    generated: list[list[int]] = [[] for _ in mask]
    alive = list(range(len(mask)))  # the arm of each row of the batch
    fed = torch.full((len(mask), 1), task.prompt.ids[-1], device=model.device)
    done: set[int] = set()
    while len(done) < len(mask):
        with traced(mask[alive]) as t:
            while len(done) < len(mask):
                out = t.run(fed, cache=cache, **skip_logits(model))
                cache, fed = cache_of(out), next_ids(out.logits[:, -1], task, len(generated[alive[0]]))
                for arm, one in zip(alive, fed[:, 0].tolist(), strict=True):
                    if arm not in done:
                        generated[arm].append(one)
                        if ends(generated[arm]) if most is None else len(generated[arm]) >= most[arm]:
                            done.add(arm)
                if sum(arm in done for arm in alive) * 2 >= len(alive) and shares(cache):
                    break
        rows = [row for row, arm in enumerate(alive) if arm not in done]
        if rows and len(rows) < len(alive):
            kept = torch.tensor(rows, device=fed.device)
            cache.batch_select_indices(kept)
            fed, alive = fed[kept], [alive[row] for row in rows]
    return [tuple(one) for one in generated]


def next_ids(logits: Tensor, task: Task, step: int) -> Tensor:
    """Likeliest id of each arm [arm, 1].

    Raises:
        NumbersError: logits that are not finite.
    """
    if not bool(torch.isfinite(logits).all()):
        raise NumbersError(
            f"prompt {task.prompt.name!r}: the logits under a mask are not finite after {step} generated tokens; try "
            "--dtype float32, or another how"
        )
    return logits.argmax(-1, keepdim=True)
