"""The answer to one needle task by ordinary greedy generation, and what every head looked at at each step of it.

Of a step only each head's top key, its weight and the mass of its best keys inside the answer span are kept: numbers
of shape [layer, head, step], never a pattern.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from interp.errors import NumbersError
from interp.retrieval.cache import fork, prefixes
from interp.retrieval.config import RetrievalConfig
from interp.retrieval.task import Task
from interp.runs.generate import stop_ids
from interp.tracing.calls import skip_logits
from interp.tracing.passes import cache_of
from interp.tracing.statistics import MassOn, TopKey, TopMass
from interp.tracing.tracer import trace


@dataclass(frozen=True)
class Decoded:
    """One instance.

    Attributes:
        ids: generated ids; the one that ended the answer is the last.
        text: what they say, up to that one (untrusted text).
        top_key: int64 [layer, head, step]: position of each head's most attended key while it made token `step`; -1
            where a learned sink (gpt-oss) took more than any key, so that the head rests and copies nothing.
        top_weight: float32 [layer, head, step]: its attention weight, or that sink's.
        span_mass: float32 [layer, head, step]: mass on the answer span among the n largest weights (n = its length).
        query_mass: float32 [layer, head]: mass on the needle's sentence, mean over the question's tokens.
        null_mass: the same for the null question.
    """

    ids: tuple[int, ...]
    text: str
    top_key: np.ndarray
    top_weight: np.ndarray
    span_mass: np.ndarray
    query_mass: np.ndarray
    null_mass: np.ndarray


def decode(model: Any, task: Task, config: RetrievalConfig) -> Decoded:
    """Generate the answer and note what the heads look at.

    Raises:
        NumbersError: the model's logits are not finite.
    """
    ids, context = task.prompt.ids, prefixes(model).read(task.prompt.ids[: task.tail], config.share_prefix)
    sentence, span = range(*task.sentence), range(*task.span)
    with trace(model, stats=[MassOn({"needle": sentence})]) as t:
        t.run(list(task.null_tail), cache=fork(context), **skip_logits(model))
        null = t.stats["mass_on"]["needle"]
    ends = Ends(model, config, task)
    generated: list[int] = []
    fed, cache = ids[task.tail :], context
    stats = [MassOn({"needle": sentence}), TopKey(rest=True), TopMass(span, len(span))]
    with trace(model, stats=stats) as t:
        while not generated or not ends(generated):
            out = t.run(list(fed), cache=cache, **skip_logits(model))
            generated.append(next_id(out.logits[0, -1], task, len(generated)))
            fed, cache = generated[-1:], cache_of(out)
        asked, top, mass = t.stats["mass_on"]["needle"], t.stats["top_key"], t.stats["top_mass"]
    steps = slice(-len(generated), None)  # the row that makes a token is the one before it
    return Decoded(
        tuple(generated),
        ends.text(generated),
        top["position"][:, 0, :, steps].numpy(),
        top["weight"][:, 0, :, steps].numpy(),
        mass[:, 0, :, steps].numpy(),
        mean_over(asked, task.query, task.tail),
        mean_over(null, task.null_query, task.tail),
    )


def mean_over(mass: torch.Tensor, queries: tuple[int, int], start: int) -> np.ndarray:
    """[layer, head] mean over some queries of [layer, 1, head, query], whose first query stands at `start`."""
    return mass[:, 0, :, queries[0] - start : queries[1] - start].mean(-1).numpy()


def next_id(logits: torch.Tensor, task: Task, step: int) -> int:
    """The likeliest id.

    Raises:
        NumbersError: logits that are not finite.
    """
    if not torch.isfinite(logits).all():
        raise NumbersError(
            f"prompt {task.prompt.name!r}: the model's logits are not finite after {step} generated tokens; try "
            "--dtype float32, or check the weights"
        )
    return int(logits.argmax())


class Ends:
    """When an answer is over: at an end token, at the end of a line that holds text, or at the most tokens allowed."""

    def __init__(self, model: Any, config: RetrievalConfig, task: Task):
        self.stops, self.newline, self.most = stop_ids(model), config.stop_at_newline, task.max_new_tokens
        self.decode: Callable[[Sequence[int]], str] = (
            (lambda ids: "".join(model.decode_tokens(ids)))
            if model.tokenizer is None
            else (lambda ids: model.tokenizer.decode(list(ids), skip_special_tokens=True))
        )

    def __call__(self, generated: Sequence[int]) -> bool:
        if len(generated) >= self.most or generated[-1] in self.stops:
            return True
        return self.newline and "\n" in self.decode(generated).lstrip()

    def text(self, generated: Sequence[int]) -> str:
        """The answer: what stands before its end."""
        kept = generated[:-1] if generated and generated[-1] in self.stops else generated
        said = self.decode(kept).strip()
        return said.split("\n", 1)[0] if self.newline else said
